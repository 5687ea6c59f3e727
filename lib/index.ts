// What a playbook may import.

export { quote, raw, Secret, secret } from './connection/shell.ts'
export { CancelledError, HostFailedError, RekeyError, UnknownOutcomeError, UnreachableError } from './errors.ts'
export { ApiError, type KubernetesApi, kubernetesApi } from './kubernetes/api.ts'
export { authorityCopies } from './kubernetes/authority-copies.ts'
export { authorityFiles, type NewAuthority, renderHostFiles, verifyStaged } from './kubernetes/certificate-files.ts'
export { type ClientAuthorities, clientTrustName, tightenClientTrust } from './kubernetes/client-trust.ts'
export { adminKubeconfig, type Cluster, isReady, openCluster } from './kubernetes/cluster.ts'
export { kubeletEndpoint, kubeletHealthy, masterEndpoints, presentedCertificates } from './kubernetes/endpoints.ts'
export { etcdHealthy, etcdMembers, etcdServes, saveSnapshot } from './kubernetes/etcd.ts'
export { forgetUdpFlows, kubeProxySynced } from './kubernetes/kube-proxy.ts'
export { readKubeconfig } from './kubernetes/kubeconfig.ts'
export { kubeletWentRound, restartKubelet } from './kubernetes/kubelet.ts'
export { type MachineReading, machineFacts, readMachine } from './kubernetes/machine.ts'
export {
  apiServerOf,
  type CanaryCounts,
  canaryReport,
  type GapReport,
  type Probes,
  probeApis,
  readCanaries,
} from './kubernetes/probes.ts'
export {
  killStaticPod,
  type ManifestEditor,
  manifestDirectory,
  plannedManifest,
  startedAnew,
  updateManifest,
} from './kubernetes/static-pods.ts'
export {
  backupForm,
  namespacesWithOtherCa,
  regenerateToken,
  serviceAccountKeyPair,
  type TokenSecret,
  tokenSecrets,
} from './kubernetes/tokens.ts'
export {
  readyAddresses,
  replaceDaemonPods,
  restartWorkload,
  type Workload,
  workload,
  workloadName,
} from './kubernetes/workloads.ts'
export { archive, type Backup, fetchFile, freeKilobytes } from './operations/backup.ts'
export { type Copied, type CopiedFile, copy, differingFiles, wouldCopy } from './operations/copy.ts'
export { changedAfterSwap, restoreFiles } from './operations/restore.ts'
export { type StagedFile, type Swap, stagedPath, stageFiles, swapFiles } from './operations/staging.ts'
export { waitFor } from './operations/wait.ts'
export { parseCertificate, parseCertificates, verifyChain } from './pki/certificate.ts'
export { refusedByRole } from './pki/role-check.ts'
export { createRunToken, type RunToken, type RunTokenRecord, revokeRunToken, runTokenPolicy } from './pki/run-token.ts'
export {
  type AuthorityPlan,
  authorityPlans,
  type CertificateSpec,
  issuingPolicy,
  kubeadmAuthorities,
  kubeadmCertificates,
  mountOf,
  preparingPolicy,
  roleName,
  unplannedCertificates,
  vaultRoles,
} from './pki/specs.ts'
export { connectVault, type Vault, vaultSecrets } from './pki/vault.ts'
export { duration, formatDuration } from './playbook/duration.ts'
export type { Host } from './playbook/host.ts'
export {
  type Block,
  block,
  type HostSession,
  type Play,
  play,
  playbook,
  type ReportSection,
  type RunContext,
  type Step,
  type StepContext,
  step,
  unchanged,
  wouldWrite,
} from './playbook/model.ts'
export { createRenderer } from './template/render.ts'
