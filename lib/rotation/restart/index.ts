// Every component started anew.
export * from './api.ts'
export * from './nodes.ts'
