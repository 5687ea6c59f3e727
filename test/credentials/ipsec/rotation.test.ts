// Cilium's IPsec key is rotated there and back over a stand-in for its agents (they load what the Secret has, then publish it), and what speaks against that is
// found before the first change. Kernels are a program `ip` and a file of counters.
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { ipsec } from '../../../lib/credentials/index.ts'
import type { Context, Variables } from '../../../lib/credentials/ipsec/given.ts'
import { parseDuration } from '../../../lib/playbook/duration.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { startApiServer } from '../../kubernetes/api/_api-server.ts'
import { localHost } from '../../kubernetes/components/_host.ts'

const key = '0a'.repeat(20)
const line = (id: string, own = key) => `${id} rfc4106(gcm(aes)) ${own} 128`
const base64 = (text: string) => Buffer.from(text).toString('base64')
const system = '/api/v1/namespaces/kube-system'
const daemonSets = '/apis/apps/v1/namespaces/kube-system/daemonsets'
const agentsOf = (template: object = {}) => ({
  kind: 'DaemonSet',
  metadata: { name: 'cilium', generation: 1 },
  spec: { template },
  status: { observedGeneration: 1, desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 2 },
})

async function scene(t: ExecutionContext, first = line('3+'), settings: object = {}, vars: Partial<Variables> = {}) {
  const { session, folder } = await localHost(t)
  const server = await startApiServer()
  t.teardown(server.close)
  const program = (name: string, text: string) => {
    writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${text}\n`)
    chmodSync(join(folder, 'bin', name), 0o755)
  }
  const drops = join(folder, 'drops')
  program('ip', `cat ${folder}/states`)
  program('cat', `case $1 in /proc/net/xfrm_stat) exec /bin/cat ${drops} ;; *) exec /bin/cat "$@" ;; esac`)
  /** A state of a node for an id, as the kernel tells it: with the key, which must not leave it. */
  const states = (...ids: number[]) =>
    writeFileSync(
      join(folder, 'states'),
      ids
        .map(
          id =>
            `src 10.0.0.1 dst 10.0.0.2\n\tproto esp spi 0x0000000${id.toString(16)} reqid 1 mode tunnel\n\taead rfc4106(gcm(aes)) 0x${key} 128\nsrc 10.0.0.1 dst 10.0.0.9\n\tproto esp spi 0xc1234567 reqid 9 mode tunnel\n`,
        )
        .join(''),
    )
  const dropped = (noStates: number, other = 0) =>
    writeFileSync(drops, `XfrmInError             \t${other}\nXfrmInNoStates          \t${noStates}\n`)
  const publishes = (id: number, ...nodes: string[]) => {
    for (const name of nodes)
      server.put('/apis/cilium.io/v2/ciliumnodes', { metadata: { name }, spec: { encryption: { key: id } } })
  }
  const secret = () => Buffer.from(server.get(`${system}/secrets/cilium-ipsec-keys`)!['data'].keys, 'base64').toString()
  const give = (text: string, more: object = {}) =>
    server.put(`${system}/secrets`, { metadata: { name: 'cilium-ipsec-keys' }, data: { keys: base64(text) }, ...more })
  server.put(`${system}/configmaps`, {
    metadata: { name: 'cilium-config' },
    data: {
      'enable-ipsec': 'true',
      'ipsec-key-file': '/etc/ipsec/keys',
      'ipsec-key-rotation-duration': '0s',
      ...settings,
    },
  })
  server.put(daemonSets, agentsOf())
  for (const name of ['m1', 'n1']) server.put('/api/v1/nodes', { metadata: { name } })
  give(first)
  const id = Number.parseInt(first, 10)
  publishes(id, 'm1', 'n1')
  states(id)
  dropped(7)
  /** What agents do once they see another key: by themselves when the Secret is changed, or when they are restarted. */
  const takeUp = () => {
    const next = Number.parseInt(secret(), 10)
    states(next)
    publishes(next, 'm1', 'n1')
  }
  const agents = { watch: true, takeUp }
  server.instead = async asked => {
    // Right after it was answered.
    if (asked.startsWith('PATCH') && (agents.watch ? asked.includes('/secrets/') : asked.includes('/daemonsets/')))
      setTimeout(() => agents.takeUp(), 20)
    return false
  }
  const registered = new Map<string, unknown>()
  const said: string[] = []
  const hosts = ['m1', 'n1'].map(name => ({ ...session.host, name }))
  const ctx = {
    ...session,
    ...{ check: false, signal: new AbortController().signal, log: (text: string) => void said.push(text) },
    vars: {
      ...{ cilium_namespace: 'kube-system', cilium_daemonset: 'cilium', ipsec_secret: 'cilium-ipsec-keys' },
      ...{ ipsec_within: 20_000, ipsec_drops: 0, accept: [], ...vars },
    },
    hosts: () => hosts,
    on: async () => session,
    registered: (step: string) => registered.get(step),
    cluster: { api: async () => server.api, nodes: async () => server.api.list('/api/v1/nodes') },
  } as unknown as Context
  const run = async (...steps: readonly StepDefinition<Context>[]) => {
    for (const one of steps)
      if (!one.when || (await one.when(ctx))) registered.set(one.id!, returnedBy(await one.run(ctx)))
  }
  return { server, ctx, run, said, states, dropped, publishes, secret, give, agents, registered, folder }
}

const returnedBy = (returned: unknown) => (returned as { value?: unknown } | undefined)?.value ?? returned
const before = [ipsec.find((_, host) => ({ nodeName: host }) as never), ipsec.settled, ipsec.noteErrors]
const change = [ipsec.make, ipsec.put, ipsec.restart, ipsec.loaded]
const after = [ipsec.alone, ipsec.noDrops]

for (const [from, next, last] of [
  ['3+', '4+', '5+'],
  ['14', '15', '1'],
] as const)
  test(`the key ${from} goes to ${next} with another key, and back to its own as ${last}`, async t => {
    const { run, secret, server, ctx, publishes } = await scene(t, line(from))
    // It outlives its node, and nobody publishes by it.
    publishes(9, 'gone')
    await run(...before, ...change, ...after)
    t.regex(secret(), new RegExp(`^${next.replace('+', '\\+')} rfc4106\\(gcm\\(aes\\)\\) [0-9a-f]{40} 128$`))
    t.false(secret().includes(key))
    const made = secret()
    await run(ipsec.put, ipsec.restart, ipsec.loaded)
    t.is(secret(), made, 'done is done')
    await run(...ipsec.wayBack)
    t.is(secret(), line(last))
    await run(...ipsec.wayBack)
    t.is(secret(), line(last), 'undone is undone')
    t.false(server.asked.some(asked => asked.startsWith('PATCH') && asked.includes('daemonsets')))
    t.is(
      ipsec.report({ ...ctx, mode: 'run', outcome: 'done' } as never)[0]!.rows[0]![1],
      `${Number.parseInt(from, 10)} → ${Number.parseInt(next, 10)}`,
    )
  })

test('agents that do not watch are restarted, there and on the way back', async t => {
  const { run, secret, server, agents } = await scene(t, line('3+'), { 'enable-ipsec-key-watcher': 'false' })
  agents.watch = false
  await run(...before, ...change, ...after)
  const restarts = () => server.asked.filter(asked => asked.startsWith('PATCH') && asked.includes('daemonsets')).length
  t.is(restarts(), 1)
  await run(ipsec.restart)
  t.is(restarts(), 1, 'begun since, it is gone on with')
  await run(...ipsec.wayBack)
  t.is(secret(), line('5+'))
  t.is(restarts(), 2)
})

test('a run that was killed before the Secret was changed has nothing to undo', async t => {
  const { run, secret, server } = await scene(t)
  await run(...before, ipsec.make, ...ipsec.wayBack)
  t.is(secret(), line('3+'))
  t.false(server.asked.some(asked => asked.startsWith('PATCH')))
})

test('a node whose kernel has the key and whose agent says nothing of it is waited for, and named; and the other way round', async t => {
  const { run, agents, publishes, states, server } = await scene(t, line('3+'), {}, { ipsec_within: 300 })
  agents.takeUp = () => states(3, 4)
  await run(...before)
  await t.throwsAsync(run(...change), {
    code: 'wait.timeout',
    message: /publish the id 4: not yet: m1 \(3\), n1 \(3\)/,
  })
  publishes(4, 'm1')
  await t.throwsAsync(run(ipsec.loaded), { message: /not yet: n1 \(3\)/ })
  states(3)
  publishes(4, 'n1')
  await t.throwsAsync(run(ipsec.loaded), { message: /states for the id 4: not yet: m1, n1/ })
  states(3, 4)
  publishes(3, 'n1')
  server.remove('/apis/cilium.io/v2/ciliumnodes/n1')
  await run(ipsec.loaded)
})

test('packets that are dropped for want of a key fail the run by node and counter; others are told', async t => {
  const { run, ctx, dropped, said } = await scene(t)
  await run(...before, ...change)
  dropped(7, 3)
  await run(ipsec.noDrops)
  t.true(said.includes('m1: XfrmInError +3'))
  dropped(9)
  await t.throwsAsync(run(ipsec.noDrops), { code: 'ipsec.drops', message: /n1 \(XfrmInNoStates \+2\)/ })
  Object.assign(ctx.vars, { ipsec_drops: 2 })
  await run(ipsec.noDrops)
  dropped(0)
  await run(ipsec.noDrops)
  t.true(said.some(one => one.includes('started anew')))
})

type Scene = Awaited<ReturnType<typeof scene>>
const refusals: Record<string, { code: string; set?: (s: Scene) => void; first?: string; settings?: object }> = {
  'an agent that publishes another id': { code: 'ipsec.under-way', set: ({ publishes }) => publishes(2, 'n1') },
  'a kernel that has the key of before still': { code: 'ipsec.under-way', set: ({ states }) => states(2, 3) },
  'a kernel that has not the key of now': { code: 'ipsec.under-way', set: ({ states }) => states() },
  'Cilium without IPsec': { code: 'ipsec.off', settings: { 'enable-ipsec': 'false' } },
  'agents that are being replaced': {
    code: 'ipsec.agents',
    set: ({ server }) =>
      void server.put(daemonSets, { ...agentsOf(), status: { ...agentsOf().status, updatedNumberScheduled: 1 } }),
  },
  'agents that nobody restarts': {
    code: 'ipsec.agents',
    settings: { 'enable-ipsec-key-watcher': 'false' },
    set: ({ server }) => void server.put(daemonSets, { ...agentsOf(), spec: { updateStrategy: { type: 'OnDelete' } } }),
  },
  'a mesh': {
    code: 'ipsec.mesh',
    set: ({ server }) =>
      void server.put(`${system}/secrets`, {
        metadata: { name: 'cilium-clustermesh' },
        data: { other: '', 'other.etcd-client.key': '', default: '' },
      }),
  },
  'an owner': {
    code: 'ipsec.owned',
    set: ({ give }) =>
      void give(line('3+'), {
        metadata: { name: 'cilium-ipsec-keys', annotations: { 'meta.helm.sh/release-name': 'x' } },
      }),
  },
  'an immutable Secret': { code: 'ipsec.immutable', set: ({ give }) => void give(line('3+'), { immutable: true }) },
  'a node without an agent': {
    code: 'ipsec.no-agent',
    set: ({ server }) => void server.put('/api/v1/nodes', { metadata: { name: 'n2' } }),
  },
  'a node that is not in the run': {
    code: 'ipsec.unknown-nodes',
    set: ({ publishes, server }) => {
      server.put('/api/v1/nodes', { metadata: { name: 'n2' } })
      publishes(3, 'n2')
    },
  },
  'a kernel that can not be asked': {
    code: 'ipsec.kernel',
    set: ({ folder }) => writeFileSync(join(folder, 'bin/ip'), '#!/bin/sh\nexit 1\n'),
  },
  'two lines of keys': { code: 'ipsec.keys', first: `${line('3+')}\n${line('4+')}` },
  'no line of keys': { code: 'ipsec.keys', first: 'something' },
}
for (const [title, { code, set, first, settings }] of Object.entries(refusals))
  test(`${title} is found before anything is changed`, async t => {
    const one = await scene(t, first, settings)
    set?.(one)
    await t.throwsAsync(one.run(...before), { code })
    t.false(one.server.asked.some(asked => asked.startsWith('PATCH')))
  })

test('a key that somebody has put there meanwhile is not written over', async t => {
  const { run, give, secret } = await scene(t)
  await run(...before, ipsec.make)
  const theirs = line('4+', '0b'.repeat(20))
  give(theirs)
  await t.throwsAsync(run(ipsec.put), { code: 'ipsec.changed-meanwhile' })
  await t.throwsAsync(run(...ipsec.wayBack), { code: 'ipsec.changed-meanwhile' })
  t.is(secret(), theirs)
})

test('nor is one that somebody puts there at the same moment', async t => {
  const { run, give, secret, server } = await scene(t)
  await run(...before, ipsec.make)
  const theirs = line('4+', '0b'.repeat(20))
  server.instead = asked => {
    if (asked.startsWith('PATCH')) give(theirs)
    return false
  }
  await t.throwsAsync(run(ipsec.put), { code: 'ipsec.changed-meanwhile' })
  t.is(secret(), theirs)
})

test('no key leaves a node, and a duration of Go is one here', async t => {
  const { run, folder, registered } = await scene(t)
  await run(...before)
  t.true(readFileSync(join(folder, 'states'), 'utf8').includes(key))
  t.false(JSON.stringify(registered.get('note-dropped-packets')).includes(key))
  t.true(existsSync(join(folder, 'drops')))
  t.is(parseDuration('5m0s'), 300_000)
})
