// Every component started anew.
export * from './api.ts'
export * from './drained.ts'
export * from './nodes.ts'
