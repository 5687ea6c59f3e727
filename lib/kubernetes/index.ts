// The door `rekey/kubernetes`: a cluster's API, its components and what they trust, for playbooks.
export { ApiError, type KubernetesApi, kubernetesApi } from './api.ts'
export { authorityCopies } from './authority-copies.ts'
export { authorityFiles, type NewAuthority, renderHostFiles, verifyStaged } from './certificate-files.ts'
export { type ClientAuthorities, clientTrustName, tightenClientTrust } from './client-trust.ts'
export { type Cluster, isReady, openCluster } from './cluster.ts'
export { kubeletHealthy, presentedCertificates, type TlsEndpoint } from './endpoints.ts'
export { etcdHealthy, etcdMembers, etcdServes, saveSnapshot } from './etcd.ts'
export { forgetUdpFlows, kubeProxySynced } from './kube-proxy.ts'
export { readKubeconfig } from './kubeconfig.ts'
export { kubeletWentRound, restartKubelet } from './kubelet.ts'
export * as kubeadm from './layout/kubeadm/index.ts'
export type { MachineFacts } from './layout/layout.ts'
export { type MachineReading, machineFacts, readMachine } from './machine.ts'
export {
  apiServerOf,
  type CanaryCounts,
  canaryReport,
  type GapReport,
  type Probes,
  probeApis,
  readCanaries,
} from './probes.ts'
export { killStaticPod, type ManifestEditor, plannedManifest, startedAnew, updateManifest } from './static-pods.ts'
export {
  backupForm,
  namespacesWithOtherCa,
  regenerateToken,
  serviceAccountKeyPair,
  type TokenSecret,
  tokenSecrets,
} from './tokens.ts'
export {
  readyAddresses,
  replaceDaemonPods,
  restartWorkload,
  type Workload,
  workload,
  workloadName,
} from './workloads.ts'
