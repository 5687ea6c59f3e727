// One etcd and several API servers on loopback, without any node: what encryption at rest is tried on. Each API server has a file of its own to
// encrypt by, in a folder of its own.
import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type KubernetesApi, kubernetesApi } from '../../../lib/kubernetes/api/api.ts'
import type { EtcdAccess } from '../../../lib/kubernetes/components/etcd-access.ts'
import { openEmbeddedIssuer } from '../../../lib/pki/issuer/embedded-issuer.ts'
import { freePort } from '../../ssh/sshd.ts'
import { labBinary } from '../vault/_vault-server.ts'

export interface ApiServer {
  readonly port: number
  /** Its EncryptionConfiguration. */
  readonly file: string
  readonly api: KubernetesApi
  /** Its own flags, as a layout would find them. */
  readonly flags: Readonly<Record<string, string>>
  /** Ended, and started again. */
  restart(): Promise<void>
}

export interface Servers {
  readonly folder: string
  readonly etcd: EtcdAccess
  readonly servers: readonly ApiServer[]
  /** The binary's program of a name, e.g. `etcdctl`. */
  program(name: string): string
  stop(): Promise<void>
}

/**
 * Starts them, and waits until all are ready.
 * @param configuration what each API server encrypts by
 * @param more flags of all API servers
 */
export async function startServers(
  count: number,
  configuration: string,
  more: Record<string, string> = {},
): Promise<Servers> {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-servers-'))
  const running = new Set<ChildProcess>()
  const stop = async () => {
    for (const child of running) await ended(child)
    rmSync(folder, { recursive: true, force: true })
  }
  const program = (name: string) => {
    const path = join(folder, name)
    if (!existsSync(path)) symlinkSync(labBinary('kubernetes'), path)
    return path
  }
  const start = (name: string, log: string, flags: Readonly<Record<string, string>>): ChildProcess => {
    const output = openSync(join(folder, `${log}.log`), 'a')
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)
    const child = spawn(program(name), args, { stdio: ['ignore', output, output], cwd: folder })
    closeSync(output)
    running.add(child)
    child.once('exit', () => running.delete(child))
    return child
  }
  try {
    const pki = await certificates(folder)
    const [client, peer] = [await freePort(), await freePort()]
    const [etcdAddress, peerAddress] = [`https://127.0.0.1:${client}`, `https://127.0.0.1:${peer}`]
    start('etcd', 'etcd', {
      ...{ name: 'm1', 'data-dir': join(folder, 'etcd-data'), 'initial-cluster': `m1=${peerAddress}` },
      ...{ 'listen-client-urls': etcdAddress, 'advertise-client-urls': etcdAddress },
      ...{ 'listen-peer-urls': peerAddress, 'initial-advertise-peer-urls': peerAddress },
      ...{
        'cert-file': pki.serving.certificate,
        'key-file': pki.serving.key,
        'trusted-ca-file': pki.ca,
        'client-cert-auth': 'true',
      },
      ...{
        'peer-cert-file': pki.serving.certificate,
        'peer-key-file': pki.serving.key,
        'peer-trusted-ca-file': pki.ca,
      },
    })
    const servers: ApiServer[] = []
    for (let number = 1; number <= count; number++) {
      const own = join(folder, `api-${number}`)
      mkdirSync(own)
      const file = join(own, 'encryption.yaml')
      writeFileSync(file, configuration, { mode: 0o600 })
      const port = await freePort()
      const flags = { ...apiServerFlags(port, etcdAddress, pki, own), 'encryption-provider-config': file, ...more }
      const credentials = {
        ca: readFileSync(pki.ca, 'utf8'),
        certificate: readFileSync(pki.admin.certificate, 'utf8'),
        key: readFileSync(pki.admin.key, 'utf8'),
      }
      const open = async () => connect(port, '127.0.0.1')
      const api = kubernetesApi(open, credentials)
      let child = start('kube-apiserver', `api-${number}`, flags)
      const ready = () => readiness(api, () => child.exitCode !== null, join(folder, `api-${number}.log`))
      servers.push({
        ...{ port, file, api, flags },
        restart: async () => {
          await ended(child)
          child = start('kube-apiserver', `api-${number}`, flags)
          await ready()
        },
      })
      await ready()
    }
    const [certificate, key] = [pki.admin.certificate, pki.admin.key]
    const etcd: EtcdAccess = {
      client: { tls: true, address: '127.0.0.1', port: client },
      peer: { tls: true, address: '127.0.0.1', port: peer },
      ...{ ca: pki.ca, identities: [{ certificate, key }], data: join(folder, 'etcd-data') },
    }
    const close = async () => {
      for (const { api } of servers) api.close()
      await stop()
    }
    return { folder, etcd, servers, program, stop: close }
  } catch (error) {
    await stop()
    throw error
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGKILL')
  await exit
}

async function readiness(api: KubernetesApi, over: () => boolean, log: string): Promise<void> {
  const deadline = Date.now() + 180_000
  for (;;) {
    if ((await api.getText('/readyz').catch(() => '')) === 'ok') return
    if (over() || Date.now() > deadline)
      throw new Error(`the API server was not ready: ${readFileSync(log, 'utf8').slice(-2_000)}`)
    await wait(100)
  }
}

type Pki = Awaited<ReturnType<typeof certificates>>

/** One CA for all of them: what is tried here is not who trusts whom. */
async function certificates(folder: string) {
  const issuer = await openEmbeddedIssuer(join(folder, 'ca.sealed'), { passphrase: 'for this test only' })
  const write = (name: string, text: string) => {
    const path = join(folder, name)
    writeFileSync(path, text, { mode: 0o600 })
    return path
  }
  await issuer.ensureMount('pki', { maxLeaseTtl: '1000h' })
  const root = await issuer.generateRoot('pki', { commonName: 'all', type: 'internal', ttl: '1000h', keyType: 'ec' })
  const names = ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc']
  const pair = async (name: string, commonName: string, organization: string[]) => {
    const role = {
      allow_any_name: true,
      cn_validations: ['disabled'],
      key_type: 'ec',
      key_bits: 256,
      organization,
    } as const
    await issuer.ensureRole('pki', name, role as unknown as Parameters<typeof issuer.ensureRole>[2])
    const request = { commonName, dnsNames: names, ipAddresses: ['127.0.0.1', '10.96.0.1'], ttl: '100h' }
    const issued = await issuer.issue('pki', name, request)
    return { certificate: write(`${name}.crt`, issued.certificate), key: write(`${name}.key`, issued.privateKey!) }
  }
  const serving = await pair('serving', 'kube-apiserver', [])
  const admin = await pair('admin', 'kubernetes-admin', ['system:masters'])
  issuer.close()
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const accounts = write('sa.key', privateKey.export({ type: 'pkcs8', format: 'pem' }) as string)
  return { ca: write('ca.crt', root.certificate), serving, admin, accounts }
}

const apiServerFlags = (port: number, etcd: string, { ca, serving, admin, accounts }: Pki, folder: string) => ({
  ...{ 'bind-address': '127.0.0.1', 'advertise-address': '127.0.0.1', 'secure-port': String(port), 'cert-dir': folder },
  ...{ 'etcd-servers': etcd, 'etcd-cafile': ca, 'etcd-certfile': admin.certificate, 'etcd-keyfile': admin.key },
  ...{ 'tls-cert-file': serving.certificate, 'tls-private-key-file': serving.key, 'client-ca-file': ca },
  ...{ 'service-account-issuer': 'https://kubernetes.default.svc', 'service-account-key-file': accounts },
  ...{ 'service-account-signing-key-file': accounts, 'service-cluster-ip-range': '10.96.0.0/16' },
  ...{ 'authorization-mode': 'Node,RBAC', 'endpoint-reconciler-type': 'none' },
})
