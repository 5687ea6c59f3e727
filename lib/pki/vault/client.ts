// A Vault client, once there is something to send with: each call of the contract as requests.
import { RekeyError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import { parseCertificate, parseCertificates } from '../certificates/certificate.ts'
import { issuerPart, requireNames } from '../issuer/issuer.ts'
import type { IssueRequest, Vault, VaultResponse } from './contract.ts'
import { durationSeconds } from './duration.ts'
import { requireLifetime } from './lifetimes.ts'
import { may, policyText } from './policy.ts'
import { sealed, standby } from './vault-errors.ts'

/** Sends a request, and gives what came back. */
export type Send = (method: string, path: string, json?: unknown) => Promise<unknown>

/** What a client is made of. */
export interface Client {
  readonly address: string
  readonly loggedIn: boolean
  readonly send: Send
  withToken(token: string): Vault
  close(): void
}

/** The calls of the contract. */
export function vaultClient({ address, loggedIn, send, withToken, close }: Client): Vault {
  const read = async (path: string) => (await orUndefined(send('GET', path))) as VaultResponse | undefined
  const write = async (path: string, data: Readonly<Record<string, unknown>> = {}) =>
    ((await send('POST', path, data)) ?? { data: {} }) as VaultResponse
  const list = async (path: string) => {
    const answer = (await orUndefined(send('LIST', path))) as VaultResponse | undefined
    return answer?.data['keys'] as string[] | undefined
  }
  const remove = async (path: string) => void (await send('DELETE', path))

  const health = async () => {
    const body = (await send('GET', 'sys/health')) as Record<string, unknown> | undefined
    if (typeof body?.['sealed'] !== 'boolean') {
      throw new RekeyError(`${address} does not answer as a Vault does`, { code: 'vault.bad-response' })
    }
    return {
      initialized: body['initialized'] === true,
      sealed: body['sealed'],
      standby: body['standby'] === true,
      version: foreignWords(String(body['version']), 60),
      serverTime: new Date(Number(body['server_time_utc']) * 1000),
    }
  }

  const capabilities = async (paths: readonly string[]) => {
    const { data } = await write('sys/capabilities-self', { paths })
    return new Map(paths.map(path => [path, (data[path] as string[] | undefined) ?? ['deny']]))
  }

  const readIssuer = async (path: string, reference: string) => {
    const data = (await read(`${path}/issuer/${reference}`).catch(noDefaultIssuer))?.data
    if (!data) return undefined
    return {
      id: String(data['issuer_id']),
      keyId: String(data['key_id']),
      certificate: String(data['certificate']),
    }
  }

  const readRole = async (path: string, name: string) => (await read(`${path}/roles/${name}`))?.data

  const ask = async (path: string, request: IssueRequest, more: Record<string, unknown> = {}) => {
    const { data, warnings } = await write(path, {
      common_name: request.commonName,
      alt_names: request.dnsNames?.join(','),
      ip_sans: request.ipAddresses?.join(','),
      ttl: request.ttl,
      exclude_cn_from_sans: request.excludeCommonName ?? true,
      ...more,
    })
    const issued = {
      certificate: pem(data['certificate'], path),
      issuingCa: pem(data['issuing_ca'], path),
      caChain: ((data['ca_chain'] as string[] | undefined) ?? []).map(one => pem(one, path)),
      serialNumber: String(data['serial_number']),
      privateKey: data['private_key'] === undefined ? undefined : pem(data['private_key'], path),
    }
    const facts = parseCertificate(issued.certificate, `answer of ${path}`)
    if (request.ttl) requireLifetime(facts, request.ttl, path, warnings)
    // A request for signing brings names of its own.
    if (!more['csr']) {
      const { commonName, dnsNames = [], ipAddresses = [] } = request
      requireNames(facts, { commonName, dnsNames, ipAddresses }, path)
    }
    return issued
  }

  return {
    address,
    loggedIn,
    health,
    requireUnsealed: async () => {
      const state = await health()
      if (!state.initialized) {
        throw new RekeyError(`Vault at ${address} is not initialised`, { code: 'vault.not-initialised' })
      }
      if (state.sealed) throw sealed(address)
      if (state.standby) throw standby(address)
      return state
    },
    lookupSelf: async () => {
      const data = (await read('auth/token/lookup-self'))?.data ?? {}
      const ttl = Number(data['ttl'])
      return {
        policies: (data['policies'] as string[] | undefined) ?? [],
        displayName: String(data['display_name'] ?? ''),
        ttl: ttl > 0 ? ttl : undefined,
        renewable: data['renewable'] === true,
      }
    },
    capabilities,
    requireCapabilities: async lines => {
      const has = await capabilities(lines.map(line => line.path))
      const missing = lines
        .map(line => ({
          path: line.path,
          capabilities: line.capabilities.filter(one => !may(has.get(line.path), one)),
        }))
        .filter(line => line.capabilities.length > 0)
      if (missing.length === 0) return
      const paths = missing.map(line => `${line.path} (${line.capabilities.join(', ')})`).join('; ')
      throw new RekeyError(`The Vault token may not do what this needs: ${paths}`, {
        code: 'vault.permission-denied',
        hint: `Add to its policy:\n${policyText(missing)}`,
      })
    },
    ensureMount: async (path, { maxLeaseTtl, description }) => {
      const mounts = (await read('sys/mounts'))?.data ?? {}
      const mount = mounts[`${path}/`] as { type?: string; config?: { max_lease_ttl?: number } } | undefined
      if (!mount) {
        await write(`sys/mounts/${path}`, { type: 'pki', description, config: { max_lease_ttl: maxLeaseTtl } })
        return { changed: true }
      }
      if (mount.type !== 'pki') {
        throw new RekeyError(`The mount ${path}/ in Vault is a "${mount.type}" engine, not "pki"`, {
          code: 'issuer.wrong-mount',
          hint: 'Choose another path for the PKI engine.',
        })
      }
      if (mount.config?.max_lease_ttl === durationSeconds(maxLeaseTtl)) return { changed: false }
      await write(`sys/mounts/${path}/tune`, { max_lease_ttl: maxLeaseTtl })
      return { changed: true }
    },
    generateRoot: async (path, request) => {
      const where = `${path}/issuers/generate/root/${request.type}`
      const { data, warnings } = await write(where, {
        common_name: request.commonName,
        ttl: request.ttl,
        key_type: request.keyType,
        key_bits: request.keyBits,
        issuer_name: request.issuerName,
        exclude_cn_from_sans: true,
        not_before_duration: request.notBeforeDuration,
      })
      const certificate = pem(data['certificate'], where)
      requireLifetime(parseCertificate(certificate, `answer of ${where}`), request.ttl, where, warnings)
      return {
        certificate,
        issuerId: String(data['issuer_id']),
        keyId: String(data['key_id']),
        privateKey: request.type === 'exported' ? pem(data['private_key'], where) : undefined,
      }
    },
    generateIntermediate: async (path, request) => {
      const type = request.existingKey === undefined ? request.type : 'existing'
      const where = `${path}/issuers/generate/intermediate/${type}`
      const { data } = await write(where, {
        common_name: request.commonName,
        exclude_cn_from_sans: true,
        key_type: request.existingKey === undefined ? request.keyType : undefined,
        key_bits: request.existingKey === undefined ? request.keyBits : undefined,
        key_ref: request.existingKey,
      })
      return {
        csr: pem(data['csr'], where),
        keyId: String(data['key_id']),
        privateKey: type === 'exported' ? pem(data['private_key'], where) : undefined,
      }
    },
    signIntermediate: async (path, csr, { ttl, issuer = 'default', maxPathLength }) => {
      const where = `${path}/issuer/${issuer}/sign-intermediate`
      const { data, warnings } = await write(where, {
        ...{ csr, ttl, format: 'pem', use_csr_values: true, exclude_cn_from_sans: true },
        max_path_length: maxPathLength,
      })
      const certificate = pem(data['certificate'], where)
      requireLifetime(parseCertificate(certificate, `answer of ${where}`), ttl, where, warnings)
      const chain = (data['ca_chain'] as string[] | undefined) ?? [String(data['issuing_ca'])]
      return { certificate, caChain: chain.map(one => pem(one, where)).filter(one => one !== certificate) }
    },
    importIssuers: async (path, bundle) => {
      const where = `${path}/issuers/import/cert`
      await write(where, { pem_bundle: bundle })
      // Vault tells what is new, not what it had: the ids are looked up by what was given.
      const ids = (await list(`${path}/issuers`)) ?? []
      const issuers = await Promise.all(ids.map(id => readIssuer(path, id)))
      const known = new Map(
        issuers.flatMap(one => (one ? [[parseCertificate(one.certificate).fingerprint, one.id]] : [])),
      )
      return parseCertificates(bundle, 'issuers to import').map(({ fingerprint, subject }) => {
        const id = known.get(fingerprint)
        if (id) return id
        throw new RekeyError(`Vault did not take "${subject}" for an issuer`, { code: 'vault.bad-response' })
      })
    },
    setUrls: async (path, { issuing = [], crl = [], ocsp = [] }) =>
      void (await write(`${path}/config/urls`, {
        issuing_certificates: issuing.join(','),
        crl_distribution_points: crl.join(','),
        ocsp_servers: ocsp.join(','),
      })),
    listIssuers: async path => (await list(`${path}/issuers`)) ?? [],
    readIssuer,
    setDefaultIssuer: async (path, issuerId) => void (await write(`${path}/config/issuers`, { default: issuerId })),
    deleteIssuer: (path, reference) => remove(`${path}/issuer/${reference}`),
    deleteKey: (path, reference) => remove(`${path}/key/${reference}`),
    ensureRole: async (path, name, settings) => {
      const role = await readRole(path, name)
      if (role && Object.entries(settings).every(([key, value]) => sameSetting(role[key], value))) {
        return { changed: false }
      }
      await write(`${path}/roles/${name}`, { ...settings })
      return { changed: true }
    },
    readRole,
    writePolicy: async (name, lines) => void (await write(`sys/policies/acl/${name}`, { policy: policyText(lines) })),
    deletePolicy: name => remove(`sys/policies/acl/${name}`),
    createChildToken: async ({ policies, ttl, renewable = false, displayName = 'rekey', numUses = 0, longest }) => {
      const { auth } = await write('auth/token/create', {
        policies,
        ttl,
        explicit_max_ttl: longest ?? (renewable ? undefined : ttl),
        renewable,
        display_name: displayName,
        num_uses: numUses,
      })
      return { token: String(auth?.['client_token']), accessor: String(auth?.['accessor']) }
    },
    renewSelf: async () => Number((await write('auth/token/renew-self')).auth?.['lease_duration'] ?? 0),
    revokeSelf: async () => void (await write('auth/token/revoke-self')),
    revokeAccessor: async accessor => void (await write('auth/token/revoke-accessor', { accessor })),
    issue: (path, role, request) => ask(`${path}${issuerPart(request)}/issue/${role}`, request),
    signCsr: (path, role, csr, request) => ask(`${path}${issuerPart(request)}/sign/${role}`, request, { csr }),
    list,
    read,
    write,
    withToken: token => withToken(token),
    close,
  }
}

/** 404 means that there is nothing; whatever else went wrong stays an error. */
async function orUndefined(answer: Promise<unknown>): Promise<unknown> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof RekeyError && error.code === 'vault.nothing-there') return undefined
    throw error
  }
}

/** A mount without any issuer answers 500 when asked for its default one: to us there is none. */
function noDefaultIssuer(error: unknown): undefined {
  if (error instanceof RekeyError && /no default issuer/.test(error.message)) return undefined
  throw error
}

function pem(value: unknown, path: string): string {
  if (typeof value === 'string' && value.includes('-----BEGIN ')) return `${value.trim()}\n`
  throw new RekeyError(`Vault's answer of ${path} lacks what was asked of it`, { code: 'vault.bad-response' })
}

/** Whether a role's setting, as Vault gives it back, is what was written: durations come back in seconds. */
function sameSetting(has: unknown, wanted: unknown): boolean {
  if (wanted === undefined) return true
  if (typeof has === 'number' && typeof wanted === 'string') return has === durationSeconds(wanted)
  return JSON.stringify(has) === JSON.stringify(wanted)
}
