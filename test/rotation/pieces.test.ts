// The pieces of procedures, with no more than each of them asks for.
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { openCluster } from '../../lib/kubernetes/api/cluster.ts'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import type { RunContext, StepContext } from '../../lib/playbook/model.ts'
import { stepsOf } from '../../lib/playbook/steps.ts'
import { conditions, copies, found, onMasters, preflight, restart, wayBack } from '../../lib/rotation/index.ts'

const hosts = ['m1', 'n1'].map(name => ({ name, groups: [name === 'm1' ? 'masters' : 'nodes'] }))
const context = (more: Record<string, unknown>) =>
  ({ hosts: () => hosts, host: hosts[0], check: false, log: () => {}, ...more }) as unknown as StepContext<never> & {
    readonly cluster: never
  }

const clocks = (offsets: Record<string, number>) =>
  context({
    vars: { clock_tolerance: 60_000 },
    registered: (step: string, host: string) => (step === preflight.readClock.id ? offsets[host] : undefined),
  })

test('clocks that are apart by less than the tolerance pass', t => {
  t.notThrows(() => preflight.compareClocks.run(clocks({ m1: 29_000, n1: -29_000 })))
})

test('one that is ahead is named, and by how much', t => {
  const error = t.throws<RekeyError>(() => preflight.compareClocks.run(clocks({ m1: 0, n1: 90_000 })))
  t.is(error?.code, 'preflight.clock')
  t.regex(error?.message ?? '', /: n1 is 90 s ahead$/)
})

test('one of a host that has etcd and nothing else counts as well', t => {
  const all = [...hosts, { name: 'e1', groups: ['etcd'] }]
  const within = (pattern: string) =>
    all.filter(({ groups }) => groups.some(group => pattern.split(':').includes(group)))
  const error = t.throws(() =>
    preflight.compareClocks.run({ ...clocks({ m1: 0, n1: 0, e1: -90_000 }), hosts: within } as never),
  )
  t.regex(error?.message ?? '', /: e1 is 90 s behind$/)
})

test('two that are each near enough, and too far from each other, are both named', t => {
  const error = t.throws(() => preflight.compareClocks.run(clocks({ m1: 40_000, n1: -40_000 })))
  t.regex(error?.message ?? '', /: m1 is 40 s ahead, n1 is 40 s behind$/)
})

test('a step for masters is left out on others, and where its own condition says so', async t => {
  const on = (host: number, own?: boolean) => {
    const piece = { run: () => {}, ...(own === undefined ? {} : { when: () => own }) }
    return onMasters(piece).when?.(context({ host: hosts[host] }))
  }
  t.true(await on(0))
  t.true(await on(0, true))
  t.false(await on(0, false))
  t.false(await on(1))
  t.false(await on(1, true))
})

test('a step of the way back does the same under another id', t => {
  const piece = { id: 'restart-etcd', runOnce: true, run: () => 'restarted' }
  const undone = wayBack.undo('etcd', piece)
  t.like(undone, { id: 'undo-etcd', runOnce: true })
  t.is(undone.run({}), 'restarted')
})

test('what an earlier step did not find is said, with what to do', t => {
  const error = t.throws<RekeyError>(() => found.planOf({ registered: () => undefined }))
  t.like(error, { code: 'rotation.missing', message: 'the certificates were not planned' })
  t.truthy(error?.hint)
})

test('the old credentials are forgotten once for each occasion, however many hosts come to it', async t => {
  let reads = 0
  const kubeconfig = async () => {
    reads++
    await delay(1)
    throw new Error('no kubeconfig')
  }
  const run = context({
    on: async () => ({ files: { readText: kubeconfig } }),
    signal: new AbortController().signal,
  }) as unknown as RunContext
  const cluster = openCluster(run)
  const master = hosts[0] as never
  const first = cluster.apiOf(master)
  t.is(cluster.apiOf(master), first)
  cluster.forget('one')
  const second = cluster.apiOf(master)
  t.not(second, first)
  cluster.forget('one')
  t.is(cluster.apiOf(master), second)
  cluster.forget('another')
  const third = cluster.apiOf(master)
  t.not(third, second)
  await Promise.allSettled([first, second, third])
  t.is(reads, 3)
})

test('what was to be noted before the first change is not looked for after it, in a run that was begun without it', async t => {
  const after = (...milestones: string[]) =>
    context({ timeline: { milestones: new Map(milestones.map(one => [one, 0])) } })
  const { when, remember } = copies.note(() => ({ kubernetes: '', frontProxy: '' }))
  t.true(remember)
  t.true(await when?.(after()))
  t.false(await when?.(after('first change')))
})

test('etcd’s members are restarted so that the ones of before keep their quorum for as long as can be', t => {
  const order = (count: number) => {
    const { spared, deciding } = restart.orderOfMembers(Array.from({ length: count }, (_, index) => index + 1))
    return [spared.length, deciding.length]
  }
  t.deepEqual([1, 2, 3, 4, 5, 7].map(order), [
    [0, 1],
    [0, 2],
    [1, 2],
    [1, 3],
    [2, 3],
    [3, 4],
  ])
})

test('what is accepted is named, with * for anything, and nothing else is', t => {
  const accepts = (accept: string[], name: string) => conditions.isAccepted({ vars: { accept } }, name)
  t.true(accepts(['node/n7'], 'node/n7'))
  t.true(accepts(['node/x', 'certificate/*:/etc/*/etcd.crt'], 'certificate/m1:/etc/calico/etcd.crt'))
  t.false(accepts(['node/n7'], 'node/n77'))
  t.false(accepts(['node/n*'], 'certificate/n1:/x'))
  t.false(accepts(['certificate/*:/etc/*/etcd.crt'], 'certificate/m1:/etc/calico/etcd.crt.old'))
  t.false(accepts([], 'node/n7'))
})

test('a backup looks for room and for the tools of etcd before it writes anything', async t => {
  const { playbook } = await loadPlaybook('backup')
  const steps = playbook.plays.flatMap(play => stepsOf(play))
  const before = steps.slice(
    0,
    steps.findIndex(({ readOnly }) => !readOnly),
  )
  const checks = [preflight.readCertificates, preflight.checkSpace, preflight.checkEtcdTools]
  t.deepEqual(
    before.map(({ run }) => run),
    checks.map(({ run }) => run) as unknown[] as (typeof before)[number]['run'][],
  )
  const on = async (host: unknown) => ({ host, $: () => async () => ({ stdout: 'etcdutl\n' }) })
  const missing = await t.throwsAsync<RekeyError>(async () => preflight.checkEtcdTools.run(context({ on })))
  t.like(missing, { code: 'etcd.no-tools', host: 'm1' })
  t.regex(missing?.message ?? '', /^m1 has no etcdutl/)
  const none = { on, hosts: () => [] }
  await t.throwsAsync(async () => preflight.checkEtcdTools.run(context(none)), { code: 'preflight.etcd-members' })
})
