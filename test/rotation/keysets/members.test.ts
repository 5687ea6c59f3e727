// Members of etcd that have certificates of their own, in files of their own, as Kubespray names them: each is asked by one that is named for its host,
// since a member hangs up on a peer that is named for another one.
import 'reflect-metadata'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import type { TLSSocket } from 'node:tls'
import * as x509 from '@peculiar/x509'
import test, { type ExecutionContext } from 'ava'
import { discoveredFrom } from '../../../lib/kubernetes/layout/discover.ts'
import { planOfCluster } from '../../../lib/kubernetes/layout/plan.ts'
import { type MachineReading, machineFacts, readingFrom } from '../../../lib/kubernetes/trust/machine.ts'
import { placePath } from '../../../lib/pki/specs.ts'
import { planStep, readingStep } from '../../../lib/rotation/given/found.ts'
import { acceptedEverywhere, noteUnknowing, oldOf, refusedEverywhere } from '../../../lib/rotation/keysets/gates.ts'
import { keepOld } from '../../../lib/rotation/keysets/index.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'
import { foundText, kubesprayEtcd, type Machine } from '../../kubernetes/layout/_found.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'

const ssl = '/etc/ssl/etcd/ssl'
const hosts = ['m1', 'm2', 'm3']
const ca = await issue({ name: 'CN=etcd-ca', ca: true })
const foreign = await issue({ name: 'CN=another', ca: true })
const serving = await issue({ name: 'CN=etcd', issuer: ca })
const forHost = (value: string) => [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value }])]
const files: Record<string, Issued> = {}
for (const host of hosts) {
  for (const kind of ['member', 'admin'])
    files[`${kind}-${host}`] = await issue({ name: `CN=etcd-${kind}-${host}`, issuer: ca, extensions: forHost(host) })
}

/** What is read of a host of etcd: the first one keeps what all have. */
function read(host: string): MachineReading {
  const { files: named, ...etcd } = JSON.parse(JSON.stringify(kubesprayEtcd).replaceAll('m1', host)) as Machine
  const kept = Object.entries(files).filter(([name]) => host === 'm1' || name.endsWith(host))
  const texts = kept.map(([name, { pem }]) => [`${ssl}/${name}.pem`, { text: pem }] as const)
  const machine = { ...etcd, files: { ...named, [`${ssl}/ca.pem`]: { text: ca.pem }, ...Object.fromEntries(texts) } }
  return readingFrom(discoveredFrom(foundText(machine), host), true)
}

const readings = new Map(hosts.map(host => [host, read(host)]))
const { specs } = planOfCluster([...readings.values()].map(reading => machineFacts(reading, ['10.0.0.1'])))

/** A member, where its clients or where its peers ask: who comes there, by the name in his certificate. */
async function member(t: ExecutionContext, host: string, { peers, trusts }: { peers: boolean; trusts: Issued }) {
  const seen: string[] = []
  const server = createServer(
    { cert: serving.pem, key: serving.keyPem, ca: trusts.pem, requestCert: true, rejectUnauthorized: false },
    ({ socket }, answer) =>
      answer.writeHead((socket as TLSSocket).authorized ? 200 : 401).end('{"etcdserver":"3.6.4"}'),
  )
  server.on('secureConnection', socket => {
    const { subject, subjectaltname } = socket.getPeerCertificate()
    seen.push(String(subject.CN))
    if (peers && subjectaltname !== `DNS:${host}`) socket.destroy()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return { seen, port: (server.address() as AddressInfo).port }
}

const folder = '/var/backups/rekey/keysets/etcd-ca/0ld'
const old = { id: '0ld', key: 'k', state: 'trusted', certificate: ca.pem }

/** A cluster of three members, and whoever came to each; its masters keep what the old CA signed for each. */
async function cluster(t: ExecutionContext, trusts = ca) {
  const members = new Map<string, Awaited<ReturnType<typeof member>>>()
  for (const host of hosts)
    for (const [port, peers] of [
      [2379, false],
      [2380, true],
    ] as const)
      members.set(`${host}:${port}`, await member(t, host, { peers, trusts }))
  const textOf = (host: string, path: string) => {
    const name = path.startsWith(folder)
      ? path.includes('etcd-client')
        ? `admin-${host}`
        : `member-${host}`
      : path.slice(ssl.length + 1).replace(/(-key)?\.pem$/, '')
    const found = files[name]
    return /\.key$|-key\.pem$/.test(path) ? found?.keyPem : found?.pem
  }
  const session = (name: string) => ({
    host: { name, groups: ['masters', 'etcd'] },
    forward: async (_: string, port: number) => connect(members.get(`${name}:${port}`)?.port ?? 0, '127.0.0.1'),
    files: {
      exists: async (path: string) => !path.endsWith('ca.key') && textOf(name, path) !== undefined,
      readText: async (path: string) => textOf(name, path),
    },
  })
  const said: string[] = []
  const state = { name: 'etcd-ca', authority: 'etcd', items: [old], bundles: {}, uses: [], unread: [] }
  const ctx = {
    ...session('m1'),
    ...{ vars: { backup_directory: '/var/backups/rekey' }, signal: new AbortController().signal, visitors: new Map() },
    ...{ redact: () => {}, log: (line: string) => said.push(line) },
    hosts: () => hosts.map(name => ({ name, groups: ['masters', 'etcd'] })),
    on: async ({ name }: { name: string }) => session(name),
    registered: (step: string, host = 'm1') =>
      ({ [lookStep]: [state], [planStep]: { specs }, [readingStep]: readings.get(host) })[step],
  } as never
  const seenBy = (port: number) => hosts.map(host => [...new Set(members.get(`${host}:${port}`)?.seen)].sort())
  return { ctx, said, seenBy, state }
}

test('each member is asked as a peer by what lies on its own host, though the first one keeps what all have', async t => {
  t.is(specs.filter(one => one.hosts.includes('m1') && one.id === 'etcd-server').length, 3, 'copies are replaced, too')
  const { ctx, seenBy } = await cluster(t)
  t.deepEqual(await noteUnknowing.run(ctx), [])
  t.deepEqual(
    seenBy(2380),
    hosts.map(host => [`etcd-admin-${host}`]),
  )
})

test('what masters keep of the old CA is shown to all members as clients, and as a peer to the one that it is named for', async t => {
  const { ctx, seenBy, said } = await cluster(t, foreign)
  const visitors = oldOf(ctx, () => [old] as never)
  await refusedEverywhere(ctx, visitors)
  const all = hosts.map(host => `etcd-admin-${host}`)
  t.deepEqual(seenBy(2379), [all, all, all])
  t.deepEqual(
    seenBy(2380),
    all.map(name => [name]),
  )
  t.is(said.at(-1)?.split(', ').length, 6)
  const letting = await cluster(t)
  await acceptedEverywhere(
    letting.ctx,
    oldOf(letting.ctx, () => [old] as never),
  )
})

test('of what the old CA signed a host keeps its own under a name, and not the copy of another one’s', async t => {
  const { ctx, state } = await cluster(t)
  const scripts: string[] = []
  const uses = specs.flatMap(({ hosts: those, place }) =>
    those.map(host => ({ where: `${host}:${placePath(place)}`, key: 'k' })),
  )
  const next = { id: 'n', key: 'n', state: 'staged', certificate: foreign.pem, issuer: 'i', kept: true }
  Object.assign(state, {
    uses,
    items: [{ ...old, state: 'primary' }, next],
    bundles: { m1: { [`${ssl}/ca.pem`]: [] } },
  })
  const $ = () => async (_: TemplateStringsArray, script: string) => scripts.push(script)
  await keepOld.run({ ...(ctx as object), $, host: { name: 'm1', groups: ['masters', 'etcd'] } } as never)
  const lines = scripts.join('\n').match(/^cat .*/gm) ?? []
  t.deepEqual(lines.filter(line => line.includes(ssl)).sort(), [
    `cat ${ssl}/admin-m1-key.pem >etcd-client.key`,
    `cat ${ssl}/admin-m1.pem >etcd-client.crt`,
    `cat ${ssl}/member-m1-key.pem >etcd-server.key`,
    `cat ${ssl}/member-m1.pem >etcd-server.crt`,
  ])
})
