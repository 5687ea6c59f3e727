// The door `rekey/pki`: certificates, and the Vault that issues them, for playbooks.
export { parseCertificate, parseCertificates, verifyChain } from './certificates/certificate.ts'
export { refusedByRole } from './role-check.ts'
export {
  type AuthorityPlan,
  authorityPlans,
  type CertificateSpec,
  issuingPolicy,
  mountOf,
  preparingPolicy,
  roleName,
  vaultRoles,
} from './specs.ts'
export type { Vault } from './vault/contract.ts'
export {
  createRunToken,
  type RunToken,
  type RunTokenRecord,
  revokeRunToken,
  runTokenPolicy,
} from './vault/run-token.ts'
export { vaultSecrets } from './vault/secrets.ts'
export { connectVault } from './vault/vault.ts'
