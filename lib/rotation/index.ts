// The door `rekey/rotation`: what procedures that change the trust of a cluster are made of, a namespace a phase. A piece is what a step
// does (`step('Compare the clocks', preflight.compareClocks)`), or a function that makes it; each says by its type which variables and
// services it needs, `variables` of its namespace declares them.

export * as caKey from './as-found/ca-key.ts'
export * as drift from './as-found/drift.ts'
export * as extra from './as-found/extra.ts'
export * as machineTrust from './as-found/machine-trust.ts'
export * as tokenKey from './as-found/token-key.ts'
export * as authorities from './authorities.ts'
export * as backup from './backup.ts'
export * as conditions from './conditions.ts'
export * as copies from './copies.ts'
export type { OnCluster, OnHost } from './given/context.ts'
export * as found from './given/found.ts'
export {
  etcd,
  etcdHosts,
  etcdOnly,
  everyMachine,
  isEtcd,
  isMaster,
  machines,
  masters,
  onEtcd,
  onMasters,
} from './given/hosts.ts'
export { openFoundCluster, openServices, openWithProbes, type Services } from './given/services.ts'
export * as vault from './given/vault.ts'
export * as issue from './issue.ts'
export * as keysets from './keysets/index.ts'
export * as leaves from './leaves/index.ts'
export * as leftBehind from './left-behind.ts'
export type { WithProbes } from './observe.ts'
export * as observe from './observe.ts'
export * as place from './place.ts'
export * as preflight from './preflight.ts'
export * as recreate from './recreate/index.ts'
export * as renewal from './renewal/index.ts'
export * as report from './report.ts'
export * as rescue from './rescue/index.ts'
export * as restart from './restart/index.ts'
export * as restore from './restore/index.ts'
export * as tokens from './tokens.ts'
export * as verify from './verify.ts'
export * as wayBack from './way-back.ts'
export * as workloads from './workloads.ts'
