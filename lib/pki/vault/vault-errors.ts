// What Vault refused, in words of ours; and whether it is worth asking again.
import { RekeyError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import { issuerRefuses, noSuchMount, noSuchRole, roleRefuses } from '../issuer/issuer.ts'
import { capabilitiesFor, policyLine } from './policy.ts'

interface ApiError extends Error {
  response?: { statusCode: number; body?: { errors?: unknown } }
}

/** What would be there twice if it was done, although its answer says otherwise. */
const makesAnother = /(^|\/)(generate|rotate|import)\/|^auth\/.*(create|login)|^sys\/wrapping\/|cross-sign$/

/**
 * Whether to ask again. 412 (not yet replicated), 429 (rate limit) and a refused connection were turned away before
 * anything was done. After any other 5xx, and where the connection ended without an answer (a restart), a request may have
 * been done: it is made again unless that would leave something twice. What Vault explains (sealed, no such role, …) stays as it
 * is, however often one asks.
 */
export function worthAnotherTry(
  error: unknown,
  told: { code?: string; cause?: unknown },
  method: string,
  path: string,
): boolean {
  if (path === 'sys/health') return false
  const repeatable = method === 'GET' || method === 'LIST' || !makesAnother.test(path)
  if (told.code === 'vault.unreachable') {
    const reason = (told.cause as NodeJS.ErrnoException).code
    return reason === 'ECONNREFUSED' || (repeatable && (reason === 'ECONNRESET' || reason === 'EPIPE'))
  }
  const status = (error as ApiError).response?.statusCode ?? 0
  // While another Vault takes over, a standby does nothing.
  if (status === 412 || status === 429 || told.code === 'vault.standby') return true
  return status >= 500 && status !== 501 && told.code === 'vault.refused' && repeatable
}

/** Turn what came back into one error of ours: what was asked, what Vault said, what to do. */
export function explain(error: unknown, method: string, path: string, address: string): Error & { code?: string } {
  // node-vault's error holds the whole response, so it is never passed on as a cause.
  const { response, message } = error as ApiError
  if (error instanceof RekeyError || !response) return error as Error
  const status = response.statusCode
  const list = Array.isArray(response.body?.errors) ? response.body.errors.map(String) : []
  const said = foreignWords(list.join('; ') || message, 1_000)

  if (status === 503 && said.includes('Vault is sealed')) return sealed(address)
  if (said.includes('local node not active')) return standby(address)
  if (status === 403) return forbidden(said, method, path)
  if (said.startsWith('no handler for route') || said.includes('No secret engine mount')) {
    return noSuchMount(path)
  }
  const role = /^unknown role:? ?(.*)$/.exec(said)
  if (role) {
    return noSuchRole(path.split('/').slice(0, -2).join('/'), role[1] || path.split('/').at(-1)!)
  }
  if (/ not allowed (by|in) this role|not valid for this role/.test(said)) {
    return roleRefuses(path, said)
  }
  if (said.includes('child policies must be subset of parent')) {
    return new RekeyError("Vault: the token may not make a child token with a policy that it doesn't have itself", {
      code: 'vault.permission-denied',
      hint: `Add to the token's policy: ${policyLine({ path, capabilities: ['update', 'sudo'] })}`,
    })
  }
  if (/no default issuer currently configured|beyond the expiration of the CA|[Kk]ey in [Uu]se by/.test(said)) {
    return issuerRefuses(path, said)
  }
  if (status === 404 || said.includes('unable to find PKI issuer for reference'))
    return new RekeyError(`Vault has nothing at ${path}`, { code: 'vault.nothing-there' })
  return new RekeyError(`Vault refused ${method} ${path} (status ${status}): ${said}`, { code: 'vault.refused' })
}

export function sealed(address: string): RekeyError {
  return new RekeyError(`Vault at ${address} is sealed`, {
    code: 'vault.sealed',
    hint: 'Unseal it (vault operator unseal), then start again.',
  })
}

export function standby(address: string): RekeyError {
  return new RekeyError(`Vault at ${address} is a standby`, {
    code: 'vault.standby',
    hint: 'Give the address of the active Vault, or of a load balancer in front of it.',
  })
}

function forbidden(said: string, method: string, asked: string): RekeyError {
  // A policy knows nothing of queries.
  const [path = ''] = asked.split('?')
  if (said.includes('invalid token') || said.includes('bad token')) {
    return new RekeyError('Vault does not know the token: it expired, was revoked, or belongs to another Vault', {
      code: 'vault.bad-token',
      hint: 'Log in again, and give the new token.',
    })
  }
  const capabilities = capabilitiesFor(method, path)
  return new RekeyError(`Vault: permission denied for ${capabilities.at(-1)} on ${path}`, {
    code: 'vault.permission-denied',
    hint: `Add to the token's policy: ${policyLine({ path, capabilities })}`,
  })
}
