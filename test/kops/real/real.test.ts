// The same procedure with a real kops, offline: REKEY_KOPS=/path/to/kops REKEY_MOTO=/path/to/moto_server npm run test:kops. docs/testing.md says how
// to have both.
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { isOfKeypairs, pendingOf } from '../../../lib/kops/asked/pending.ts'
import { openRealCluster, type RealCluster } from './_real.ts'

const keysets = 8

/** What of each keyset is trusted, and which of them signs, oldest first: all must be alike. */
async function standing(t: ExecutionContext, bench: RealCluster): Promise<string> {
  const sets = Object.values(await bench.trusted())
  t.is(sets.length, keysets)
  return [...new Set(sets.map(ids => ids.map(id => (id.endsWith('*') ? 'signs' : 'trusted')).join(', ')))].join(' | ')
}

/** Sees that every instance is another one than when it was asked last. */
async function watchInstances(t: ExecutionContext, bench: RealCluster): Promise<() => Promise<void>> {
  let before = await bench.instances()
  t.is(before.length, 3)
  return async () => {
    const now = await bench.instances()
    t.is(now.length, 3)
    t.deepEqual(
      now.filter(id => before.includes(id)),
      [],
    )
    before = now
  }
}

const stages = [
  { until: 'staged', all: 'signs, trusted', file: 'both' },
  { until: 'promoted', all: 'trusted, signs', file: 'admin' },
  { until: 'distrusted', all: 'signs', file: 'after' },
]

test('stage by stage without an API, each seen by ids, every instance replaced in each; and back from each', async t => {
  const bench = await openRealCluster(t)
  const begun = await bench.trusted()
  t.is(await standing(t, bench), 'signs')
  const allReplaced = await watchInstances(t, bench)
  for (const { until, all, file } of stages) {
    const run = await bench.run('rotate-kops', '-e', `until=${until}`, '-e', 'cloudonly=true')
    t.is(run.code, 0, run.all)
    t.is(await standing(t, bench), all, until)
    await allReplaced()
    const trusted = (await bench.trusted())['kubernetes-ca']!.map(id => id.replace('*', ''))
    t.deepEqual(bench.authoritiesIn(join(bench.runs().at(-1)!, 'kubeconfigs', `${file}.conf`)), trusted)
  }
  const after = await bench.trusted()
  for (const [keyset, ids] of Object.entries(begun)) t.notDeepEqual(after[keyset], ids)
  const runs = bench.runs()
  for (const [index, all] of ['trusted, signs', 'signs, trusted', 'signs'].entries()) {
    const undone = await bench.rekey('rollback', runs[2 - index]!)
    t.is(undone.code, 0, undone.all)
    t.is(await standing(t, bench), all)
    await allReplaced()
  }
  t.deepEqual(await bench.trusted(), begun)
})

test('all stages with an API that goes by what the control plane was told: drained, let in, and refused in the end', async t => {
  const bench = await openRealCluster(t)
  const begun = await bench.trusted()
  const allReplaced = await watchInstances(t, bench)
  const run = await bench.run('rotate-kops')
  t.is(run.code, 0, run.all)
  t.is(await standing(t, bench), 'signs')
  await allReplaced()
  const after = await bench.trusted()
  for (const [keyset, ids] of Object.entries(begun)) t.notDeepEqual(after[keyset], ids)
  // Each of the three was drained in each stage, and whom the old CA had signed for was refused in the end.
  const cordoned = bench.asked
    .filter(one => /^PATCH \/api\/v1\/nodes\/i-\w+ 200$/.test(one))
    .map(one => one.split(' ')[1])
  t.is(new Set(cordoned).size, 9)
  t.true(bench.asked.includes('GET /api/v1/nodes 401'))
  // The probes have asked in each stage, and what they make is removed.
  t.is(bench.asked.filter(one => /^DELETE .*\/rekey-probe /.test(one)).length, 3)
})

test('what a real kops has pending is read: what key pairs bring with them, and what somebody else changed', async t => {
  const { kops, run, trusted } = await openRealCluster(t)
  const pending = async () => pendingOf((await kops('update', 'cluster')).stdout)
  t.deepEqual(await pending(), [])
  t.is((await kops('create', 'keypair', 'all')).code, 0)
  const brought = await pending()
  t.true(brought.some(({ kind }) => kind === 'LaunchTemplate'))
  t.deepEqual(
    brought.filter(one => !isOfKeypairs(one)),
    [],
  )
  const before = await trusted()
  t.is((await kops('edit', 'instancegroup', 'nodes-us-east-1a', '--set', 'spec.machineType=t3.large')).code, 0)
  const refused = await run('rotate-kops')
  t.is(refused.code, 2, refused.all)
  t.regex(refused.all, /modify LaunchTemplate\/nodes-us-east-1a\.rotated\.k8s\.local: .*InstanceType/)
  t.deepEqual(await trusted(), before)
})
