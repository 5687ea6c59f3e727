// Whether a role that somebody else wrote would issue what is planned.
import { allowsCommonName, refusedName } from './issuer/issuing-rules.ts'
import { type AuthorityPlan, type CertificateSpec, mountOf, roleName } from './specs.ts'
import type { RoleSettings, Vault } from './vault/contract.ts'
import { durationSeconds } from './vault/duration.ts'

/**
 * What a role would refuse of a certificate, in an operator's words (`DNS name "m1"`). Empty where it would issue it as it is.
 * @param role the role as Vault returns it
 * @param ttl how long the certificate shall hold
 */
export function refusedByRole(spec: CertificateSpec, role: Readonly<Record<string, unknown>>, ttl: string): string[] {
  const rules = role as RoleSettings
  const organizations = rules.organization ?? []
  const longest = Number(role['max_ttl'] ?? 0)
  return [
    ...(allowsCommonName(rules, spec.commonName) ? [] : [`CN "${spec.commonName}"`]),
    ...spec.dnsNames.filter(name => refusedName(rules, [name])).map(name => `DNS name "${name}"`),
    ...(rules.allow_ip_sans === false ? spec.ipAddresses.map(address => `IP address "${address}"`) : []),
    ...spec.organizations.filter(name => !organizations.includes(name)).map(name => `O "${name}"`),
    ...spec.usages
      .filter(usage => role[usage === 'serverAuth' ? 'server_flag' : 'client_flag'] === false)
      .map(usage => `usage ${usage}`),
    ...(longest > 0 && longest < durationSeconds(ttl) ? [`a TTL of ${ttl}`] : []),
  ]
}

/** A certificate that its role in Vault would not issue. */
interface Refusal {
  readonly spec: CertificateSpec
  /** `MOUNT/roles/NAME`. */
  readonly role: string
  /** What of it the role refuses; undefined where there is no such role. */
  readonly refused?: readonly string[]
}

/** Asks roles in Vault, each once, whether they would issue certificates. Gives those that would not be issued, in their order. */
export async function* refusals(
  vault: Vault,
  specs: readonly CertificateSpec[],
  plans: readonly AuthorityPlan[],
  ttl: string,
): AsyncGenerator<Refusal> {
  const roles = new Map<string, Awaited<ReturnType<Vault['readRole']>>>()
  for (const spec of specs) {
    const [mount, name] = [mountOf(spec, plans), roleName(spec)]
    const role = `${mount}/roles/${name}`
    if (!roles.has(role)) roles.set(role, await vault.readRole(mount, name))
    const settings = roles.get(role)
    const refused = settings && refusedByRole(spec, settings, ttl)
    if (refused?.length !== 0) yield { spec, role, refused }
  }
}
