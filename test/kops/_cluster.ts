// A kOps cluster for a test: its state store in a folder, the stand-in for kops, an API server that presents and trusts what the instances were
// told last, and rekey run over it.
import 'reflect-metadata'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type ServerOptions } from 'node:https'
import { createServer as createTcp } from 'node:net'
import { dirname, join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import type { ExecutionContext } from 'ava'
import { eventually } from '../_eventually.ts'
import { servers } from '../_served.ts'
import { temporaryFolder } from '../_temporary.ts'
import { type Issued, issue } from '../pki/certificates/_certificates.ts'
import { answerOf, seedObjects } from './_api.ts'
import { answer } from './stand-in/call.ts'
import { etcdKeysets, leafFile, makeEtcdCertificates } from './stand-in/etcd-manager.ts'
import { serveStandIn } from './stand-in/server.ts'
import {
  authorityFile,
  isKilledAt,
  type Live,
  readState,
  type State,
  writeKeysetObjects,
  writeState,
} from './stand-in/state.ts'

/** What rekey starts as kops. */
const standIn = join(import.meta.dirname, 'stand-in', 'kops')
export const cluster = 'test.k8s.local'

/** Runs of this file, each by a process that does no other meanwhile: a hundred calls take their time on a busy machine. */
const byServers = servers(600_000)

/** What came of a command of rekey. */
export interface Called {
  readonly code: number | null
  readonly out: string
}

export interface Bench {
  readonly folder: string
  /** Where it may be copied from, and put back: the state store and rekey's own state. */
  readonly kept: string
  state(): State
  change(change: (state: State) => void): void
  /** What the API was asked so far. */
  readonly asked: readonly string[]
  /** Lines of what rekey prints at which it is killed, each once, where kills come: steps that ask nobody by kops or the API. */
  readonly killLines: RegExp[]
  /** The calls of kops so far, with their flags. */
  calls(): string[]
  rekey(...args: string[]): Promise<Called>
  run(playbook: string, ...args: string[]): Promise<Called>
  /** What is trusted of a keyset, the primary marked by a star, oldest first. */
  trusted(keyset?: string): string[]
  /** The file of a kubeconfig of the last run. */
  kubeconfig(name: string): string
  authoritiesIn(name: string): number
  /** Has every admin credential of the last run end, as if days had gone by. */
  endCredentials(): Promise<void>
  /** What lies in a folder of the state store. */
  stored(path: string): string[]
  /** Resolves once kops was called with these words. */
  called(words: string): Promise<void>
  close(): void
}

/** Every instance has what was applied, nothing is pending, and the API goes by the keysets. */
export function settled(t: ExecutionContext, bench: Bench): void {
  const { instances, keysets, ...state } = bench.state()
  for (const { id, role, hash } of instances) t.is(hash, state.applied[role] ?? '', id)
  const set = keysets['kubernetes-ca']
  const trusted = set?.items.filter(item => !item.distrusted).map(({ id }) => id)
  t.deepEqual(state.live, { primary: set?.primary, trusted })
}

const first = 7_713_272_286_921_920_551_637_815_766n
const idOf = (index: number) => (first + BigInt(index) * 1_000_000_000_000n).toString()

interface Authority {
  readonly id: string
  readonly ca: Issued
  readonly server: Issued
  readonly admin: Issued
}
/** An admin of a CA, for so many hours from now: the stand-in gives a day, whatever is asked. */
const admin = (issuer: Issued, hours: number) => {
  const [notBefore, notAfter] = [Date.now() - 86_400_000, Date.now() + hours * 3_600_000].map(at => new Date(at))
  return issue({ name: 'O=system:masters, CN=admin', issuer, notBefore, notAfter })
}
let authorities: Promise<Authority[]> | undefined

const authorityOf = (name: string, id: string) => {
  const hex = BigInt(id).toString(16)
  return issue({ name, ca: true, serial: hex.length % 2 ? `0${hex}` : hex })
}

/** CAs by the ids that the stand-in gives: the oldest is for a clock that is behind. Made once for all tests of a file. */
function makeAuthorities(): Promise<Authority[]> {
  authorities ??= Promise.all(
    [0, 1, 2, 3, 4].map(async index => {
      const id = idOf(index)
      const ca = await authorityOf('CN=kubernetes-ca', id)
      const names = new SubjectAlternativeNameExtension([
        { type: 'dns', value: 'kubernetes.default.svc' },
        { type: 'ip', value: '127.0.0.1' },
      ])
      const server = await issue({ name: 'CN=kubernetes-master', issuer: ca, extensions: [names] })
      return { id, ca, server, admin: await admin(ca, 25) }
    }),
  )
  return authorities
}

/** CAs of etcd, and what they will have signed, where the stand-in finds them. */
async function makeEtcdAuthorities(store: string, keyset: string): Promise<void> {
  mkdirSync(join(store, 'cas', keyset))
  for (const id of [1, 2, 3].map(idOf)) {
    const issuer = await authorityOf(`CN=${keyset}`, id)
    writeFileSync(authorityFile(store, keyset, id), issuer.pem)
    writeFileSync(leafFile(store, keyset, id), (await issue({ name: 'CN=etcd', issuer })).pem)
  }
}

/** Makes a cluster with the given keysets at rest, and one control plane and two nodes. */
export async function openCluster(t: ExecutionContext, keysets = ['kubernetes-ca', 'service-account']): Promise<Bench> {
  const all = await makeAuthorities()
  const kept = temporaryFolder('kops')
  const store = join(kept, 'store')
  for (const folder of ['cas/kubernetes-ca', 'admins', cluster]) mkdirSync(join(store, folder), { recursive: true })
  writeFileSync(join(store, cluster, 'kops-version.txt'), '1.36.2')
  for (const { id, ca, admin } of all) {
    writeFileSync(authorityFile(store, 'kubernetes-ca', id), ca.pem)
    writeFileSync(join(store, 'admins', `${id}.pem`), admin.pem)
    writeFileSync(join(store, 'admins', `${id}.key`), admin.keyPem)
  }
  for (const keyset of keysets.filter(name => etcdKeysets.includes(name))) await makeEtcdAuthorities(store, keyset)
  const state = () => readState(store)
  const asked: string[] = []
  const killLines: RegExp[] = []
  let pid: number | undefined
  /** Ends the rekey that was begun last, by its id, while it does what it was asked for. */
  const kill = () => {
    try {
      if (pid !== undefined) process.kill(pid, 'SIGKILL')
    } catch {
      // Two requests were under way, and the other one has ended it.
    }
  }
  const api = await startApi(all, { store, state, asked, kill })
  const kops = await serveStandIn(kill)
  seedObjects(store)
  const primary = idOf(1)
  const begun: State = {
    version: '1.36.2',
    clock: idOf(5),
    keysets: Object.fromEntries(keysets.map(name => [name, { primary, items: [{ id: primary }] }])),
    pool: Object.fromEntries(['kubernetes-ca', ...etcdKeysets].map(name => [name, [0, 2, 3, 4].map(idOf)])),
    instances: [
      { id: 'i-cp', group: 'control-plane-test', role: 'control-plane', hash: '', address: '127.0.0.1' },
      { id: 'i-a', group: 'nodes-test', role: 'nodes', hash: '', address: '10.0.0.2' },
      { id: 'i-b', group: 'nodes-test', role: 'nodes', hash: '', address: '10.0.0.3' },
    ],
    applied: {},
    live: { primary, trusted: [primary] },
    liveTokens: primary,
    knobs: {},
    spec: { encryptionConfig: true },
    groups: [{ metadata: { name: 'nodes-test' }, spec: { role: 'Node', minSize: 2, maxSize: 2 } }],
    secrets: {},
    server: `https://127.0.0.1:${api.port}`,
  }
  for (const name of ['admin', 'kube']) {
    mkdirSync(join(store, cluster, 'secrets'), { recursive: true })
    writeFileSync(join(store, cluster, 'secrets', name), JSON.stringify({ Data: `first ${name}` }))
  }
  mkdirSync(join(store, cluster, 'pki', 'ssh', 'public'), { recursive: true })
  writeFileSync(join(store, cluster, 'pki', 'ssh', 'public', 'admin'), 'ssh-ed25519 AAAA')
  makeEtcdCertificates(store, begun)
  writeKeysetObjects(store, cluster, begun)
  writeState(store, begun)
  const env = {
    ...process.env,
    ...{ XDG_STATE_HOME: join(kept, 'state'), NO_COLOR: '1', FORCE_COLOR: undefined, KOPS_STAND_IN: String(kops.port) },
    // Where nothing else is said it is the kops that is on PATH.
    PATH: `${dirname(standIn)}:${process.env['PATH']}`,
  }
  // As it was brought up: nothing pending, nothing behind.
  const update = ['update', 'cluster', '--yes', '--name', cluster, '--state', `file://${store}`]
  await answer({ args: update, kubeconfig: '', input: Buffer.alloc(0), isGone: () => false })
  const change = (how: (state: State) => void) => {
    const next = state()
    const before = JSON.stringify(next.keysets)
    how(next)
    // What somebody has deleted from the store is not put back by a change of something else.
    if (JSON.stringify(next.keysets) !== before) writeKeysetObjects(store, cluster, next)
    writeState(store, next)
  }
  change(next => {
    for (const one of next.instances) one.hash = next.applied[one.role] ?? ''
  })
  writeFileSync(join(store, 'calls.log'), '')
  const rekey = async (...args: string[]): Promise<Called> => {
    const { code, stdout, stderr } = await byServers(
      { args: [...args, '--output', 'plain'], cwd: kept, env },
      {
        begins: id => {
          pid = id
        },
        says: text => {
          const at = state().killing ? killLines.findIndex(line => line.test(text)) : -1
          if (at < 0) return
          change(next => next.killed?.push(String(killLines.splice(at, 1))))
          kill()
        },
      },
    )
    pid = undefined
    return { code, out: stdout + stderr }
  }
  const runFolder = () => {
    const runs = join(kept, 'state', 'rekey', 'runs')
    const last =
      readdirSync(runs)
        .filter(name => /^\d{8}-/.test(name))
        .sort()
        .at(-1) ?? ''
    return join(runs, last)
  }
  const bench: Bench = {
    ...{ folder: store, kept, state, change, rekey, asked, killLines },
    calls: () => readFileSync(join(store, 'calls.log'), 'utf8').split('\n').filter(Boolean),
    run: (playbook, ...args) =>
      rekey(
        ...['run', playbook, '-e', `cluster=${cluster}`, '-e', `state=file://${store}`],
        ...['-e', `rekey_directory=${kept}/host`, ...args],
      ),
    trusted: (keyset = 'kubernetes-ca') => {
      const set = state().keysets[keyset]!
      return set.items
        .filter(item => !item.distrusted)
        .map(
          ({ id }) =>
            `${keyset === 'kubernetes-ca' ? all.findIndex(one => one.id === id) : id}${id === set.primary ? '*' : ''}`,
        )
        .sort()
    },
    kubeconfig: name => join(runFolder(), 'kubeconfigs', `${name}.conf`),
    authoritiesIn: name => {
      const config = JSON.parse(readFileSync(bench.kubeconfig(name), 'utf8')) as {
        clusters: [{ cluster: { 'certificate-authority-data': string } }]
      }
      const text = Buffer.from(config.clusters[0].cluster['certificate-authority-data'], 'base64').toString('utf8')
      return text.split('-----BEGIN CERTIFICATE-----').length - 1
    },
    endCredentials: async () => {
      const folder = join(runFolder(), 'kubeconfigs')
      for (const file of readdirSync(folder).map(name => join(folder, name))) {
        const config = JSON.parse(readFileSync(file, 'utf8'))
        const { ca } = all.find(({ id }) => config.users[0].name === `admin-${id}`)!
        const { pem, keyPem } = await admin(ca, -1)
        const [certificate, key] = [pem, keyPem].map(text => Buffer.from(text).toString('base64'))
        config.users[0].user = { 'client-certificate-data': certificate, 'client-key-data': key }
        writeFileSync(file, JSON.stringify(config))
      }
    },
    stored: path => (existsSync(join(store, path)) ? readdirSync(join(store, path)).sort() : []),
    called: words => eventually(() => bench.calls().some(call => call.startsWith(words)), words),
    close: () => {
      api.close()
      kops.close()
    },
  }
  t.teardown(bench.close)
  return bench
}

/** An API server as instances run it: it presents a certificate of the CA that signs, and knows clients of those that are trusted. */
async function startApi(
  all: readonly Authority[],
  { store, state, asked, kill }: { store: string; state(): State; asked: string[]; kill(): void },
): Promise<{ port: number; close(): void }> {
  const optionsOf = ({ primary, trusted }: Live): ServerOptions => {
    const own = all.find(({ id }) => id === primary)!
    return {
      ...{ cert: own.server.pem, key: own.server.keyPem, requestCert: true, rejectUnauthorized: false },
      ca: all.filter(({ id }) => trusted.includes(id)).map(({ ca }) => ca.pem),
    }
  }
  const live = () => state().live!
  const bundle = (ids: readonly string[]) =>
    all
      .filter(({ id }) => ids.includes(id))
      .map(({ ca }) => ca.pem)
      .join('')
  /** As the stand-in does it: rekey is killed once at each request that changes something, before it is acted upon, and after. */
  const killed = (where: string) => {
    // What pods and their successors are called differs each time.
    const isKilled = isKilledAt(store, where.replace(/-[0-9a-f]{5}$/, ''))
    if (isKilled) kill()
    return isKilled
  }
  const server = createServer({ requestCert: true, rejectUnauthorized: false }, (request, response) => {
    const { method = '', url = '' } = request
    asked.push(`${method} ${url}`)
    const say = (status: number, body: object) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    let body = ''
    request.on('data', chunk => (body += chunk))
    request.on('end', () => {
      if (!(request.socket as TLSSocket).authorized) return say(401, { kind: 'Status', message: 'Unauthorized' })
      const isChange = /^(PATCH|DELETE)$/.test(method) && !url.includes('rekey-probe')
      if (isChange && killed(`before ${method} ${url}`)) return request.socket.destroy()
      // What it has in force: its file, unless a test says otherwise.
      if (url === '/metrics')
        return response.end(
          `apiserver_encryption_config_controller_last_config_info{hash="sha256:${createHash('sha256')
            .update(String(state().knobs['inForce'] ?? readFileSync(join(store, 'encryptionconfig.yaml'))))
            .digest('hex')}"} 1\n`,
        )
      const running = { ca: bundle(live().trusted), tokens: String(state().liveTokens) }
      const { status, body: answer } = answerOf(store, method, url, body, running)
      if (isChange && killed(`after ${method} ${url}`)) return request.socket.destroy()
      return say(status, answer)
    })
  })
  const sockets = new Set<{ destroy(): void }>()
  const outside = createTcp(socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    server.setSecureContext(optionsOf(live()))
    server.emit('connection', socket)
  })
  server.on('tlsClientError', () => {})
  await new Promise<void>(resolve => outside.listen(0, '127.0.0.1', resolve))
  outside.unref()
  return {
    port: (outside.address() as { port: number }).port,
    close: () => {
      for (const socket of sockets) socket.destroy()
      outside.close()
    },
  }
}
