// The bad day: certificates have ended and the API does not answer. What is there is learnt from the hosts; new certificates under the CAs that are
// there, these signed anew first where they have ended, and everything started in the order in which it needs the others.
export { issueAndStage, verifyIssued, writeRoles } from '../leaves/issue.ts'
export { presented } from '../leaves/place.ts'
export { look } from './look.ts'
export * from './place.ts'
export { plan, planAuthorities, tell, type Variables, variables } from './plan.ts'
export { refuse } from './refuse.ts'
export { whole as report } from './report.ts'
export {
  apiServers,
  apiServersReady,
  controllerManagers,
  etcd,
  extraUnits,
  kubelets,
  kubeletsOfMasters,
  kubeProxies,
  nodesReady,
  quorum,
  schedulers,
} from './start.ts'
export { adminKubeconfig, allGoByTheNew, lookForWorkloads, well } from './well.ts'
