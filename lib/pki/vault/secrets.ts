// What templates ask of a Vault: `secret` and `secrets`, for the versions of its engine for key and value.
import { RekeyError } from '../../errors.ts'
import { tellSecret } from '../../secrets/index.ts'
import { parseCertificate } from '../certificates/certificate.ts'
import { requireNames } from '../issuer/issuer.ts'
import type { Vault, VaultResponse } from './contract.ts'
import { requireLease, requireLifetime } from './lifetimes.ts'

/**
 * Vault as the source of a template's `secret`: reads, and writes with the template's `k=v` data. What a template would
 * put into a file without anyone noticing is an error: an empty certificate or key, one that holds shorter than was asked, as any
 * lease that does, and one that lacks a name.
 * Paths into a key-value engine of version 2 may leave out `data/`, as consul-template's may; what is written there is wrapped as that
 * engine wants it.
 */
export function vaultSecrets(vault: Pick<Vault, 'read' | 'write'>) {
  return async (path: string, data?: Readonly<Record<string, string>>): Promise<VaultResponse | undefined> => {
    if (!data) {
      const response = await vault.read((await pathWithin(vault, path, valueParts)) ?? path)
      tellOf(response?.data, path)
      return checked(isDeleted(response) ? undefined : response, path)
    }
    const isIssuing = /\/(issue|sign|sign-verbatim)\//.test(path)
    const valuePath = isIssuing ? undefined : await pathWithin(vault, path, valueParts)
    const response = await (valuePath === undefined ? vault.write(path, data) : vault.write(valuePath, { data }))
    tellOf(response?.data, path)
    const { certificate } = checked(response, path)!.data ?? {}
    if (!isIssuing) requireLease(response, data['ttl'], path)
    if (typeof certificate === 'string' && isIssuing) {
      const facts = parseCertificate(certificate, `answer of ${path}`)
      if (data['ttl']) requireLifetime(facts, data['ttl'], path, response.warnings)
      // A request for signing brings names of its own.
      if (data['csr']) return response
      const list = (names = '') => names.split(',').flatMap(name => name.trim() || [])
      const asked = {
        dnsNames: list(data['alt_names']),
        ipAddresses: list(data['ip_sans']),
        uris: list(data['uri_sans']),
      }
      requireNames(facts, { commonName: data['common_name'], ...asked }, path)
    }
    return response
  }
}

/** What of an answer must show nowhere: the key of a certificate, of which its client tells; of anything else, all that it says. */
function tellOf(data: Readonly<Record<string, unknown>> | null | undefined, path: string): void {
  if (typeof data?.['certificate'] === 'string') return
  for (const [name, value] of Object.entries(data ?? {})) {
    // Version 2 of the key-value engine says when it was written beside what was.
    if (name === 'metadata' && data?.['data']) continue
    if (typeof value === 'string') tellSecret(value, `${name} of ${path}`)
    else if (value !== null && typeof value === 'object') tellOf(value as Record<string, unknown>, path)
  }
}

/** Vault as the source of a template's `secrets`: the names below a path, in order. Undefined where there are none. */
export function vaultLists(vault: Pick<Vault, 'read' | 'list'>) {
  return async (path: string): Promise<string[] | undefined> =>
    (await vault.list((await pathWithin(vault, path, ['metadata'])) ?? path))?.sort()
}

/** What may stand after the mount of a key-value engine of version 2; the first of them where none does. */
const valueParts = ['data', 'metadata', 'subkeys']

/** The path with the part that version 2 of the key-value engine has after its mount; undefined where there is no such engine. */
async function pathWithin(
  vault: Pick<Vault, 'read'>,
  path: string,
  parts: readonly string[],
): Promise<string | undefined> {
  const [plain] = path.split('?')
  const mount = await vault.read(`sys/internal/ui/mounts/${plain}`).catch((error: RekeyError) => {
    // Not every token may ask; then the path is taken as it stands.
    if (error.code === 'vault.permission-denied' || error.code === 'issuer.no-such-mount') return undefined
    throw error
  })
  const { path: told = '', options } = (mount?.data ?? {}) as { path?: string; options?: { version?: string } | null }
  if (options?.version !== '2') return undefined
  // The mount is told with the namespace before it, which the request has in its header.
  let prefix = told
  while (prefix && !`${path}/`.startsWith(prefix)) prefix = prefix.slice(prefix.indexOf('/') + 1)
  if (!prefix) return undefined
  const rest = path.slice(prefix.length)
  return parts.some(part => rest.startsWith(`${part}/`)) ? path : `${prefix}${parts[0]}${rest && '/'}${rest}`
}

/** A version of a secret that was deleted still answers, with metadata alone. */
function isDeleted(response: VaultResponse | undefined): boolean {
  const { deletion_time: time } = (response?.data?.['metadata'] ?? {}) as { deletion_time?: string }
  return Boolean(time) && new Date(time!) < new Date()
}

function checked(response: VaultResponse | undefined, path: string): VaultResponse | undefined {
  for (const field of ['certificate', 'private_key', 'issuing_ca']) {
    // Version 2 of the key-value engine has what was written one level deeper.
    const { data: within } = (response?.data ?? {}) as { data?: Record<string, unknown> | null }
    if (response?.data?.[field] === '' || within?.[field] === '') {
      throw new RekeyError(`the answer of ${path} has an empty ${field}`, {
        code: 'vault.bad-response',
        hint: 'A PKI mount without a root CA answers like this: generate or import one first.',
      })
    }
  }
  return response
}
