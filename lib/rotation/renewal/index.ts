// The CAs that merely expire: the same keys, certified for a longer time.
export { newClients, oldClients, openServices, plan, sign, type Variables, variables } from './authorities.ts'
export { filesOf as filesToKeep, place, restart, stage, verifyAllLeaves, verifyStaged } from './files.ts'
export { look } from './leaves.ts'
export { whole as report } from './report.ts'
export * as verify from './verify.ts'
export { steps as wayBack } from './way-back.ts'
