// What rekey's own CA issues, before Kubernetes: an etcd and an API server that have every certificate from it, and clients
// that the API server knows by their CN and O.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import anyTest, { type TestFn } from 'ava'
import { type EmbeddedIssuer, openEmbeddedIssuer } from '../../../lib/pki/issuer/embedded-issuer.ts'
import type { IssueRequest, RoleSettings } from '../../../lib/pki/vault/contract.ts'
import { freePort } from '../../ssh/sshd.ts'
import { labBinary } from '../vault/_vault-server.ts'

const binary = labBinary('kubernetes')
const test = anyTest.serial as TestFn
const folder = mkdtempSync(join(tmpdir(), 'rekey-embedded-kubernetes-'))
const running: ChildProcess[] = []
let issuer: EmbeddedIssuer
let server: string

interface Files {
  readonly certificate: string
  readonly key: string
}

function write(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text, { mode: 0o600 })
  return path
}

/** A mount with a root of its own; the root's file. */
async function authority(mount: string, commonName: string): Promise<string> {
  await issuer.ensureMount(mount, { maxLeaseTtl: '1000h' })
  const { certificate } = await issuer.generateRoot(mount, {
    commonName,
    type: 'internal',
    ttl: '1000h',
    keyType: 'ec',
  })
  return write(`${mount}.crt`, certificate)
}

/** A role for one certificate, and the certificate. */
async function certificate(mount: string, name: string, role: RoleSettings, ask: IssueRequest): Promise<Files> {
  const defaults: RoleSettings = { allow_any_name: true, cn_validations: ['disabled'], key_type: 'ec', key_bits: 256 }
  await issuer.ensureRole(mount, name, { ...defaults, ...role })
  const issued = await issuer.issue(mount, name, { ttl: '100h', ...ask })
  return { certificate: write(`${name}.crt`, issued.certificate), key: write(`${name}.key`, issued.privateKey!) }
}

/** The binary is each of its programs by the name that it is called with. */
function program(name: string): string {
  const path = join(folder, name)
  if (!existsSync(path)) symlinkSync(binary, path)
  return path
}

/** One of the binary's programs, its output in a file beside the certificates. */
function start(name: string, flags: Readonly<Record<string, string>>): void {
  const log = openSync(join(folder, `${name}.log`), 'a')
  const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)
  running.push(spawn(program(name), args, { stdio: ['ignore', log, log], cwd: folder }))
  closeSync(log)
}

function ready(ca: string, { certificate, key }: Files): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const files = { ca: readFileSync(ca), cert: readFileSync(certificate), key: readFileSync(key) }
  https
    .get(`${server}/readyz`, { ...files, timeout: 5000, agent: false }, response => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    .on('error', () => resolve(false))
    .on('timeout', () => resolve(false))
  return promise
}

anyTest.before(async () => {
  issuer = await openEmbeddedIssuer(join(folder, 'ca.sealed'), { passphrase: 'for this test only' })
  const [etcdCa, ca, frontCa] = await Promise.all([
    authority('pki_etcd', 'etcd-ca'),
    authority('pki_k8s', 'kubernetes'),
    authority('pki_front', 'front-proxy-ca'),
  ])
  await authority('pki_other', 'kubernetes')
  const here = { ipAddresses: ['127.0.0.1'] }
  const etcd = await certificate(
    'pki_etcd',
    'etcd-server',
    {},
    { commonName: 'm1', dnsNames: ['localhost', 'm1'], ...here },
  )
  const etcdClient = await certificate(
    'pki_etcd',
    'etcd-client',
    { server_flag: false },
    { commonName: 'kube-apiserver' },
  )
  const front = await certificate('pki_front', 'front', { server_flag: false }, { commonName: 'front-proxy-client' })
  const names = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local']
  const serving = await certificate(
    'pki_k8s',
    'apiserver',
    { client_flag: false },
    { commonName: 'kube-apiserver', dnsNames: names, ipAddresses: ['127.0.0.1', '10.96.0.1'] },
  )
  const admin = await certificate(
    'pki_k8s',
    'admin',
    { server_flag: false, organization: ['system:masters'] },
    { commonName: 'kubernetes-admin' },
  )
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const accounts = write('sa.key', privateKey.export({ type: 'pkcs8', format: 'pem' }) as string)

  const [client, peer, port] = [await freePort(), await freePort(), await freePort()]
  const [etcdAddress, peerAddress] = [`https://127.0.0.1:${client}`, `https://127.0.0.1:${peer}`]
  server = `https://127.0.0.1:${port}`
  start('etcd', {
    ...{ name: 'm1', 'data-dir': join(folder, 'etcd-data') },
    ...{ 'listen-client-urls': etcdAddress, 'advertise-client-urls': etcdAddress },
    ...{ 'listen-peer-urls': peerAddress, 'initial-advertise-peer-urls': peerAddress },
    ...{ 'initial-cluster': `m1=${peerAddress}` },
    ...{ 'cert-file': etcd.certificate, 'key-file': etcd.key, 'trusted-ca-file': etcdCa, 'client-cert-auth': 'true' },
    ...{ 'peer-cert-file': etcd.certificate, 'peer-key-file': etcd.key, 'peer-trusted-ca-file': etcdCa },
    'peer-client-cert-auth': 'true',
  })
  start('kube-apiserver', {
    ...{ 'bind-address': '127.0.0.1', 'advertise-address': '127.0.0.1', 'secure-port': String(port) },
    ...{ 'etcd-servers': etcdAddress, 'etcd-cafile': etcdCa },
    ...{ 'etcd-certfile': etcdClient.certificate, 'etcd-keyfile': etcdClient.key },
    ...{ 'tls-cert-file': serving.certificate, 'tls-private-key-file': serving.key, 'client-ca-file': ca },
    ...{ 'requestheader-client-ca-file': frontCa, 'requestheader-allowed-names': 'front-proxy-client' },
    ...{ 'proxy-client-cert-file': front.certificate, 'proxy-client-key-file': front.key },
    ...{ 'service-account-issuer': 'https://kubernetes.default.svc', 'service-account-key-file': accounts },
    ...{ 'service-account-signing-key-file': accounts, 'service-cluster-ip-range': '10.96.0.0/16' },
    ...{ 'authorization-mode': 'Node,RBAC', 'cert-dir': folder },
  })
  const deadline = Date.now() + 180_000
  while (!(await ready(ca, admin))) {
    const ended = running.find(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null)
    if (ended || Date.now() > deadline) {
      const said = readFileSync(join(folder, `${basename(ended?.spawnfile ?? 'kube-apiserver')}.log`), 'utf8')
      throw new Error(`the API server was not ready: ${said.slice(-2000)}`)
    }
    await wait(250)
  }
})
anyTest.after.always(async () => {
  for (const child of running.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    const ended = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }
  issuer?.close()
  rmSync(folder, { recursive: true, force: true })
})

async function kubectl(client: Files, ca: string, ...args: string[]): Promise<string> {
  const files = [
    `--certificate-authority=${ca}`,
    `--client-certificate=${client.certificate}`,
    `--client-key=${client.key}`,
  ]
  const run = promisify(execFile) as (file: string, args: string[], options: object) => Promise<{ stdout: string }>
  // An empty kubeconfig: whoever runs the test may have one.
  const env = { HOME: folder, KUBECONFIG: '/dev/null' }
  return (await run(program('kubectl'), [`--server=${server}`, ...files, ...args], { env, timeout: 60_000 })).stdout
}

const ca = () => join(folder, 'pki_k8s.crt')
const kinds = [
  ['rsa', 2048],
  ['ec', 256],
  ['ed25519', 0],
] as const

for (const [keyType, keyBits] of kinds) {
  test(`the API server knows a client with a key of ${keyType} by its CN and O`, async t => {
    const role = { server_flag: false, organization: ['developers', 'testers'], key_type: keyType, key_bits: keyBits }
    const client = await certificate('pki_k8s', `jane-${keyType}`, role, { commonName: `jane-${keyType}` })
    const review = JSON.parse(await kubectl(client, ca(), 'auth', 'whoami', '--output=json'))
    t.is(review.status.userInfo.username, `jane-${keyType}`)
    t.deepEqual(review.status.userInfo.groups.toSorted(), ['developers', 'system:authenticated', 'testers'])
  })
}

test('a client in system:masters may do everything, and a node what nodes may', async t => {
  const admin = { certificate: join(folder, 'admin.crt'), key: join(folder, 'admin.key') }
  t.is(await kubectl(admin, ca(), 'create', 'namespace', 'made', '--output=name'), 'namespace/made\n')
  const role = { server_flag: false, organization: ['system:nodes'] }
  const node = await certificate('pki_k8s', 'node', role, { commonName: 'system:node:m1' })
  const review = JSON.parse(await kubectl(node, ca(), 'auth', 'whoami', '--output=json'))
  t.is(review.status.userInfo.username, 'system:node:m1')
  t.is(await kubectl(node, ca(), 'auth', 'can-i', 'create', 'nodes').catch(error => error.stdout), 'yes\n')
  t.is(await kubectl(node, ca(), 'auth', 'can-i', 'create', 'namespaces').catch(error => error.stdout), 'no\n')
})

test('neither a client of another CA nor a server of another CA is taken', async t => {
  const role = { server_flag: false, organization: ['system:masters'] }
  const stranger = await certificate('pki_other', 'stranger', role, { commonName: 'kubernetes-admin' })
  const refused = await t.throwsAsync(kubectl(stranger, ca(), 'get', 'namespaces'))
  t.regex(refused!.message, /Unauthorized|must be logged in/)
  const admin = { certificate: join(folder, 'admin.crt'), key: join(folder, 'admin.key') }
  const untrusted = await t.throwsAsync(kubectl(admin, join(folder, 'pki_other.crt'), 'get', 'namespaces'))
  t.regex(untrusted!.message, /certificate signed by unknown authority/)
})
