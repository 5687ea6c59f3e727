// The lab's Vault: its certificate, its initialisation, its unsealing, and a token that may do what a rotation needs.
import { chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { request } from 'node:https'
import { dirname, join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { command, waitFor } from '../command.ts'
import { labFolder, privateFolder, writeWhole } from '../folders.ts'
import { fileOf } from '../machines/machine.ts'
import { type Shape, vaultMachine } from '../shape.ts'

export const vaultFolder = (lab: string) => join(labFolder(lab), 'vault')

/** The CA that signed the certificate of the lab's Vault. */
export const vaultCaFile = (lab: string): string => join(vaultFolder(lab), 'ca.crt')
/** The token that rekey works with. */
export const vaultTokenFile = (lab: string): string => join(vaultFolder(lab), 'token')
/** The token that may do anything; for whoever wants to look around. */
export const vaultRootTokenFile = (lab: string): string => join(vaultFolder(lab), 'root-token')
const unsealKeysFile = (lab: string) => join(vaultFolder(lab), 'unseal-keys')

export const vaultAddress = (shape: Shape): string => `https://${vaultMachine(shape).address}:8200`

/** Puts a certificate and a configuration for Vault onto its machine's disk, before that boots. */
export async function prepareVault(shape: Shape): Promise<void> {
  const lab = shape.name
  const machine = vaultMachine(shape)
  const folder = privateFolder(vaultFolder(lab))
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await command('openssl', [
    ...['req', '-x509', ...key, '-days', '3650', '-subj', `/CN=rekey lab ${lab} vault CA`],
    ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    ...['-keyout', join(folder, 'ca.key'), '-out', join(folder, 'ca.crt')],
  ])
  await command('openssl', [
    ...['req', '-x509', ...key, '-days', '3650', '-subj', `/CN=${machine.name}`],
    ...['-CA', join(folder, 'ca.crt'), '-CAkey', join(folder, 'ca.key')],
    ...['-addext', `subjectAltName=DNS:${machine.name},DNS:localhost,IP:${machine.address},IP:127.0.0.1`],
    ...['-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'extendedKeyUsage=serverAuth'],
    ...['-keyout', join(folder, 'server.key'), '-out', join(folder, 'server.crt')],
  ])
  const write = (path: string, content: string | Buffer) => {
    const file = fileOf(lab, machine.name, path)
    mkdirSync(dirname(file), { recursive: true })
    writeWhole(file, content, { mode: 0o600 })
  }
  write('/etc/vault.d/tls.crt', readFileSync(join(folder, 'server.crt')))
  write('/etc/vault.d/tls.key', readFileSync(join(folder, 'server.key')))
  write(
    '/etc/vault.d/vault.hcl',
    `storage "raft" {
  path    = "/var/lib/vault"
  node_id = "${machine.name}"
}

listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/vault.d/tls.crt"
  tls_key_file  = "/etc/vault.d/tls.key"
}

api_addr      = "https://${machine.address}:8200"
cluster_addr  = "https://${machine.address}:8201"
disable_mlock = true
`,
  )
}

/**
 * Initialises Vault if it is new, unseals it if it is sealed, and makes the token that rekey works with if there is
 * none that still holds. Returns when Vault is active.
 */
export async function startVault(shape: Shape): Promise<void> {
  const lab = shape.name
  const health = await waitFor('Vault to answer', 240, async () => {
    try {
      return await callVault(shape, 'GET', 'sys/seal-status')
    } catch {
      return undefined
    }
  })
  if (!health.initialized) {
    const made = await callVault(shape, 'PUT', 'sys/init', { secret_shares: 3, secret_threshold: 2 })
    secretFile(unsealKeysFile(lab), `${(made.keys_base64 as string[]).join('\n')}\n`)
    secretFile(vaultRootTokenFile(lab), `${made.root_token}\n`)
  }
  if (!health.initialized || health.sealed) {
    const keys = readFileSync(unsealKeysFile(lab), 'utf8').trim().split('\n')
    for (const key of keys.slice(0, 2)) await callVault(shape, 'PUT', 'sys/unseal', { key })
  }
  await waitFor('Vault to become active', 240, async () => {
    try {
      return (await callVault(shape, 'GET', 'sys/health')).sealed === false || undefined
    } catch {
      return undefined
    }
  })
  const root = readFileSync(vaultRootTokenFile(lab), 'utf8').trim()
  if (existsSync(vaultTokenFile(lab))) {
    const token = readFileSync(vaultTokenFile(lab), 'utf8').trim()
    const holds = await callVault(shape, 'POST', 'auth/token/renew-self', {}, token).then(
      () => true,
      () => false,
    )
    if (holds) return
  }
  await callVault(shape, 'PUT', 'sys/policies/acl/rekey-operator', { policy: operatorPolicy }, root)
  const { auth } = await callVault(
    shape,
    'POST',
    'auth/token/create-orphan',
    { policies: ['rekey-operator'], period: '768h', display_name: 'rekey' },
    root,
  )
  secretFile(vaultTokenFile(lab), `${(auth as { client_token: string }).client_token}\n`)
}

/** What a rotation needs of Vault, and nothing beyond: engines named pki_…, keys of plugins, policies named rekey-…, its own tokens. */
const operatorPolicy = `
path "sys/mounts" { capabilities = ["read", "list"] }
path "sys/mounts/pki_*" { capabilities = ["create", "read", "update", "delete"] }
path "pki_*" { capabilities = ["create", "read", "update", "delete", "list", "patch", "sudo"] }
path "sys/policies/acl" { capabilities = ["list"] }
path "sys/policies/acl/rekey-*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "transit/*" { capabilities = ["create", "read", "update", "list"] }
path "auth/token/create" { capabilities = ["create", "update", "sudo"] }
path "auth/token/create-orphan" { capabilities = ["create", "update", "sudo"] }
path "auth/token/lookup*" { capabilities = ["create", "read", "update"] }
path "auth/token/renew*" { capabilities = ["create", "update"] }
path "auth/token/revoke*" { capabilities = ["create", "update"] }
path "sys/capabilities-self" { capabilities = ["create", "update"] }
path "sys/health" { capabilities = ["read"] }
path "sys/seal-status" { capabilities = ["read"] }
`

export function secretFile(path: string, content: string): void {
  writeWhole(path, content, { mode: 0o600 })
  chmodSync(path, 0o600)
}

/** One request to the lab's Vault. Throws a `RekeyError` (`lab.vault`) with its errors when it says no. */
export async function callVault(
  shape: Shape,
  method: string,
  path: string,
  body?: unknown,
  token?: string,
): Promise<Record<string, unknown>> {
  const content = body === undefined ? undefined : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const sent = request(
      `${vaultAddress(shape)}/v1/${path}`,
      {
        method,
        ca: readFileSync(vaultCaFile(shape.name)),
        headers: { ...(content && { 'content-type': 'application/json' }), ...(token && { 'x-vault-token': token }) },
        timeout: 20_000,
        agent: false,
      },
      response => {
        const chunks: Buffer[] = []
        response.on('data', chunk => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          const answer = text ? (JSON.parse(text) as Record<string, unknown>) : {}
          if (response.statusCode && response.statusCode < 300) return resolve(answer)
          const errors = Array.isArray(answer.errors) ? answer.errors.join('; ') : ''
          reject(
            new RekeyError(`Vault answered ${method} ${path} with ${response.statusCode}: ${errors}`, {
              code: 'lab.vault',
            }),
          )
        })
      },
    )
    sent.on('timeout', () => sent.destroy(new Error('no answer within 20 s')))
    sent.on('error', reject)
    sent.end(content)
  })
}
