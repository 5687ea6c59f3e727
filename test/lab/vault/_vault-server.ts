// A real Vault for one test file: TLS, raft storage in a folder of its own, initialised and unsealed, on loopback.
import { type BinaryName, findBinary } from '../../../lib/lab/binaries.ts'
import 'reflect-metadata'
import { type ChildProcess, spawn } from 'node:child_process'
import { webcrypto } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import * as x509 from '@peculiar/x509'
import { freePort } from '../../ssh/sshd.ts'

/** The path of one of the lab’s programs. Throws where it has not been built. */
export function labBinary(name: BinaryName): string {
  const path = findBinary(name)
  if (path) return path
  throw new Error(`${name} is not built yet: run the lab tests with 'npm run test:lab', which builds it first`)
}

export interface VaultServer {
  readonly address: string
  readonly caFile: string
  readonly rootToken: string
  readonly folder: string
  /** Any call of Vault's API with the root token, past rekey's own client; its answer wrapped for so long, where that is said. */
  api(
    method: string,
    path: string,
    body?: unknown,
    wrapped?: string,
  ): Promise<{ status: number; body: Record<string, unknown> }>
  seal(): Promise<void>
  unseal(): Promise<void>
  /** Ended as by a crash, with everything that it keeps still there. */
  kill(): Promise<void>
  /** Started again after `kill`, at the same address, and unsealed. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** Start `vault server`, wait until it answers, initialise and unseal it. */
export async function startVault(binary: string): Promise<VaultServer> {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-vault-'))
  const port = await freePort()
  const address = `https://127.0.0.1:${port}`
  const ca = await writeServingCertificate(folder)
  mkdirSync(join(folder, 'raft'))
  writeFileSync(
    join(folder, 'vault.json'),
    JSON.stringify({
      storage: { raft: { path: join(folder, 'raft'), node_id: 'test' } },
      listener: {
        tcp: {
          address: `127.0.0.1:${port}`,
          cluster_address: `127.0.0.1:${await freePort()}`,
          tls_cert_file: join(folder, 'vault.crt'),
          tls_key_file: join(folder, 'vault.key'),
        },
      },
      api_addr: address,
      cluster_addr: `https://127.0.0.1:${await freePort()}`,
      disable_mlock: true,
      log_level: 'error',
    }),
  )
  const start = () => spawn(binary, ['server', `-config=${join(folder, 'vault.json')}`], { stdio: 'ignore' })
  let server = start()
  const stop = async () => {
    await killServer(server)
    rmSync(folder, { recursive: true, force: true })
  }

  const call = async (method: string, path: string, token?: string, body?: unknown, wrapped?: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: Record<string, unknown> }>()
    const wrap = wrapped === undefined ? {} : { 'X-Vault-Wrap-TTL': wrapped }
    const headers = { ...(token ? { 'X-Vault-Token': token } : {}), ...wrap }
    const request = https.request(`${address}/v1/${path}`, { method, ca, headers, timeout: 10_000 }, response => {
      const chunks: Buffer[] = []
      response.on('data', chunk => chunks.push(chunk))
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        resolve({ status: response.statusCode!, body: text ? JSON.parse(text) : {} })
      })
    })
    request.on('error', reject)
    request.end(body === undefined ? undefined : JSON.stringify(body))
    return promise
  }

  try {
    await until(async () => (await call('GET', 'sys/health')).status === 501, server)
    const { body } = await call('PUT', 'sys/init', undefined, { secret_shares: 1, secret_threshold: 1 })
    const [key] = body['keys'] as string[]
    const rootToken = body['root_token'] as string
    const unseal = async () => {
      await call('PUT', 'sys/unseal', undefined, { key })
      await until(async () => (await call('GET', 'sys/health')).status === 200, server)
    }
    await unseal()
    return {
      address,
      caFile: join(folder, 'ca.crt'),
      rootToken,
      folder,
      api: (method, path, body, wrapped) => call(method, path, rootToken, body, wrapped),
      seal: async () => void (await call('PUT', 'sys/seal', rootToken)),
      unseal,
      kill: () => killServer(server),
      restart: async () => {
        server = start()
        await until(async () => (await call('GET', 'sys/health')).status === 503, server)
        await unseal()
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function until(condition: () => Promise<boolean>, server: ChildProcess): Promise<void> {
  const deadline = Date.now() + 30_000
  while (Date.now() < deadline) {
    if (server.exitCode !== null) throw new Error(`vault server ended with ${server.exitCode}`)
    if (await condition().catch(() => false)) return
    await wait(50)
  }
  throw new Error('vault server was not ready within 30 s')
}

async function killServer(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const ended = new Promise(resolve => server.once('exit', resolve))
  server.kill('SIGKILL')
  await ended
}

/** Writes ca.crt, vault.crt and vault.key; returns the CA's PEM. */
async function writeServingCertificate(folder: string): Promise<string> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const makeKeys = async () =>
    (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const [authority, leaf] = [await makeKeys(), await makeKeys()]
  const validity = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 86_400_000) }
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=Vault test CA',
    keys: authority,
    signingAlgorithm: algorithm,
    ...validity,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  })
  const certificate = await x509.X509CertificateGenerator.create({
    subject: 'CN=vault',
    issuer: ca.subject,
    publicKey: leaf.publicKey,
    signingKey: authority.privateKey,
    signingAlgorithm: algorithm,
    ...validity,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }])],
  })
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', leaf.privateKey))
  writeFileSync(join(folder, 'ca.crt'), ca.toString('pem'))
  writeFileSync(join(folder, 'vault.crt'), certificate.toString('pem'))
  writeFileSync(join(folder, 'vault.key'), x509.PemConverter.encode(key, 'PRIVATE KEY'), { mode: 0o600 })
  return ca.toString('pem')
}
