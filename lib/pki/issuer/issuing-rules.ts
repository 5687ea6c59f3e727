// The rules by which a role of a PKI engine allows names: those of Vault, for the CA that rekey keeps itself.
import { matchesWildcards } from '../../wildcard.ts'
import type { RoleSettings } from '../vault/contract.ts'

const label = '[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?'
const hostname = new RegExp(`^${label}(\\.${label})*\\.?$`)
const wildcardLabel = /^([A-Za-z0-9_-]*\*[A-Za-z0-9_-]*)$/

/** The first of the DNS names or mail addresses that the role does not allow; undefined where it allows all. */
export function refusedName(role: RoleSettings, names: readonly string[]): string | undefined {
  return names.find(name => !allows(role, name))
}

/** Whether the role takes a CN: `cn_validations: ['disabled']` takes any, else it must be an allowed name. */
export function allowsCommonName(role: RoleSettings, commonName: string): boolean {
  const { cn_validations: validations = ['email', 'hostname'] } = role
  if (validations.length === 1 && validations[0] === 'disabled') return true
  const kind = commonName.includes('@') ? 'email' : 'hostname'
  return validations.includes(kind) && allows(role, commonName)
}

function allows(role: RoleSettings, name: string): boolean {
  const parts = name.split('@')
  if (parts.length > 2) return false
  const isEmail = parts.length === 2
  const domain = parts.at(-1)!
  const isWildcard = domain.includes('*')
  const base = isWildcard ? domain.split('.').slice(1).join('.') : domain
  if (isWildcard) {
    if (role.allow_wildcard_certificates === false || isEmail || base === '') return false
    if (!wildcardLabel.test(domain.split('.')[0]!)) return false
  }
  if (role.enforce_hostnames !== false && !hostname.test(base)) return false
  if (role.allow_any_name) return true

  const below = (suffix: string) => base.endsWith(`.${suffix}`) || (isWildcard && base === suffix)
  if (role.allow_localhost !== false) {
    const locals = ['localhost', 'localdomain']
    if (!isWildcard && locals.includes(base)) return true
    if (role.allow_subdomains && locals.some(below)) return true
  }
  return (role.allowed_domains ?? []).some(allowed => {
    const same = (one: string) => one.toLowerCase() === allowed.toLowerCase()
    if (role.allow_bare_domains && (same(name) || (isEmail && same(domain)))) return true
    if (role.allow_subdomains && below(allowed)) return true
    return Boolean(role.allow_glob_domains) && allowed.includes('*') && matchesGlob(allowed, name)
  })
}

/** `*` stands for any characters, and small letters for large ones. */
export function matchesGlob(pattern: string, name: string): boolean {
  return matchesWildcards(pattern.toLowerCase(), name.toLowerCase())
}
