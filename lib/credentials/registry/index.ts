// What `rotate-registry-credentials` is made of.
export { read } from './credential.ts'
export { type Context, type Variables, variables } from './given.ts'
export { everyNode, find } from './holders.ts'
export { forgotten, note as noteLog, quiet } from './log.ts'
export { lookAtNode, noneHasIt, plan as planFiles, put as putIntoFiles } from './nodes.ts'
export { old, proven, without } from './pull.ts'
export { report } from './report.ts'
export { counted, put as putIntoSecrets } from './secrets.ts'
