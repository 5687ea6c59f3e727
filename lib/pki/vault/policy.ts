// ACL policies in Vault's HCL, and what requests need of them.
import type { PolicyLine } from './contract.ts'

/** An ACL policy in Vault's HCL. */
export function policyText(lines: readonly PolicyLine[]): string {
  return lines.map(policyLine).join('\n')
}

/** What a request needs. Where engines keep values, a write to a path that is not there yet is a `create`. */
export function capabilitiesFor(method: string, path: string): string[] {
  const other = { GET: ['read'], LIST: ['list'], DELETE: ['delete'] }[method]
  if (other) return other
  const isCall =
    /^(sys|auth|identity)\/|\/(issue|sign|sign-verbatim|sign-intermediate|roles|issuers?|keys?|config|generate|tune)(\/|$)/
  return isCall.test(path) ? ['update'] : ['create', 'update']
}

/** A line of a policy in HCL. */
export function policyLine({ path, capabilities }: PolicyLine): string {
  return `path "${path}" { capabilities = [${capabilities.map(one => `"${one}"`).join(', ')}] }`
}

/** Whether what a token was granted on a path holds a capability. */
export function may(granted: readonly string[] | undefined, capability: string): boolean {
  return granted?.includes('root') || granted?.includes(capability) || false
}
