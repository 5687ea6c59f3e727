// Keysets rotated gracefully: staged, promoted, distrusted, and trusted again. What each stage is made of, for its playbook.
export {
  beginning,
  type Context,
  etcdIsWhole,
  lookAround,
  openServices,
  type Services,
  variables,
} from './beginning.ts'
export * as cluster from './cluster/index.ts'
export { makeStaged, noneForeign, promote } from './issuers.ts'
export {
  issueAndStage,
  keepOld,
  pairReread,
  presented,
  swapRestarts,
  verifyIssued,
} from './leaves.ts'
export { reportOf } from './report.ts'
export * as stages from './stages.ts'
export * as tokens from './tokens/stages.ts'
export * as again from './trust/again.ts'
export { allPresentTheNew } from './trust/clients.ts'
export { extensionsAnswer, noteExtensions } from './trust/extensions.ts'
export { swapInWatched } from './trust/swap-watched.ts'
export * as whole from './whole/ends.ts'
export * as finish from './whole/finish.ts'
export { inStage } from './whole/in-stage.ts'
