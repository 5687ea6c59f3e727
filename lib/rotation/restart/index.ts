// Every component started anew.
export * from './api.ts'
export * from './controllers.ts'
export * from './drained.ts'
export * from './kubelets.ts'
export { quorumStays } from './members.ts'
export { requireGapAccepted } from './traffic.ts'
