// The door `rekey/kubernetes`: a cluster's API, its components and what they trust, for playbooks.
export { ApiError, type KubernetesApi, kubernetesApi } from './api/api.ts'
export { type Cluster, isReady, openCluster } from './api/cluster.ts'
export { readKubeconfig } from './api/kubeconfig.ts'
export { comparePods, type PodsBefore, podsBefore } from './before/pods.ts'
export { compareSecrets, type SecretsBefore, secretsBefore } from './before/secrets.ts'
export {
  componentServes,
  endComponent,
  killComponent,
  processesOf,
  restartComponent,
  restartUnit,
  startedAnew,
} from './components/control.ts'
export { presentedCertificates, type TlsEndpoint } from './components/endpoints.ts'
export { etcdHealthy, etcdMembers, etcdServes, saveSnapshot } from './components/etcd.ts'
export { type EtcdAccess, etcdAccess } from './components/etcd-access.ts'
export { fileOf, readComponentFile, writeComponentFile } from './components/files.ts'
export { flagFilesOf, plannedFlags, updateFlags } from './components/flags.ts'
export { forgetUdpFlows, kubeProxySynced } from './components/kube-proxy.ts'
export { kubeletWentRound, restartKubelet } from './components/kubelet.ts'
export type { FlagEditor } from './components/static-pods.ts'
export { authoritySignsTokens } from './layout/authorities.ts'
export type { FoundComponent, HostLayout } from './layout/host-layout.ts'
export * as kubeadm from './layout/kubeadm/index.ts'
export type { MachineFacts } from './layout/layout.ts'
export {
  apiServerOf,
  type CanaryCounts,
  canaryReport,
  type GapReport,
  type Probes,
  probeApis,
  readCanaries,
} from './probes/probes.ts'
export { type AuthorityCopy, authorityCopies, replaceCopies, restoreCopies } from './trust/authority-copies.ts'
export { authorityFiles, type NewAuthority, renderHostFiles, verifyStaged } from './trust/certificate-files.ts'
export { type ClientAuthorities, clientTrustName, tightenClientTrust } from './trust/client-trust.ts'
export { type MachineReading, machineFacts, readMachine } from './trust/machine.ts'
export {
  backupForm,
  namespacesWithOtherCa,
  regenerateToken,
  serviceAccountKeyPair,
  type TokenSecret,
  tokenSecrets,
} from './trust/tokens.ts'
export {
  readyAddresses,
  replaceDaemonPods,
  restartWorkload,
  type Workload,
  workload,
  workloadName,
} from './workloads.ts'
