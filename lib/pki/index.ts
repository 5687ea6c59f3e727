// The door `rekey/pki`: certificates, and the Vault that issues them, for playbooks.
export { parseCertificate, parseCertificates, verifyChain } from './certificate.ts'
export { refusedByRole } from './role-check.ts'
export { createRunToken, type RunToken, type RunTokenRecord, revokeRunToken, runTokenPolicy } from './run-token.ts'
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
export { connectVault, type Vault, vaultSecrets } from './vault.ts'
