// The way back from a backup: files of hosts and etcd, verified, told and confirmed first; all put in place while the control plane stands still,
// and started again in the order in which its parts need each other. Works without an API.
export { type Variables, variables } from './given.ts'
export {
  allMembers,
  canRestore,
  encryptionOf,
  encryptionThen,
  keepsFiles,
  read,
  readMachineId,
  sameCluster,
  sameTools,
  verifyBackup,
} from './look.ts'
export { encryptionNow, mustFit, runsAlike, sameTrust } from './now.ts'
export { bringFiles, forgetFiles, keepFiles, makeData, placeData, placeFiles, placeNodeFiles } from './place.ts'
export { report } from './report.ts'
export {
  apiServersReady,
  clientsOnTheWayBack,
  controllers,
  kubelets,
  kubeProxies,
  members,
  nodesReady,
  quorum,
  rest,
  stop,
  well,
} from './start.ts'
export { compareFiles, confirmed, noneEnded, tell } from './tell.ts'
