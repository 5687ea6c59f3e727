// A rotation through its stages: in one go, stage by stage, taken up from where the keysets stand.
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { answersOf } from '../../lib/kops/update.ts'
import { eventually } from '../_eventually.ts'
import { cluster, openCluster, settled } from './_cluster.ts'

test('all stages in one run: each verb by id, an update and a rolling update after each, and one CA at the end', async t => {
  const keysets = ['kubernetes-ca', 'service-account', 'etcd-clients-ca']
  const bench = await openCluster(t, keysets)
  const { code, out } = await bench.run('rotate-kops')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['2*'])
  t.is(bench.trusted('service-account').length, 1)
  const changing = bench.calls().filter(call => /^(create|promote|distrust|trust|rolling|export)|--yes/.test(call))
  const verbs = changing.map(call => call.replace(/ --create-kube-config=false| --admin=.*| [\d]{20,}$/, ''))
  const each = (verb: string) => keysets.map(name => `${verb} keypair ${name}`)
  const rolled = ['update cluster --yes', 'rolling-update cluster --yes', 'export kubecfg']
  t.deepEqual(verbs, [
    'export kubecfg',
    ...[...each('create'), ...rolled],
    ...[...each('promote'), ...rolled],
    ...[...each('distrust'), ...rolled],
  ])
  for (const call of changing) if (/^(promote|distrust)/.test(call)) t.regex(call, / \d{28}$/)
  t.deepEqual([bench.authoritiesIn('before'), bench.authoritiesIn('both'), bench.authoritiesIn('after')], [1, 2, 1])
  const probe = '/api/v1/namespaces/kube-system/configmaps/rekey-probe'
  t.is(bench.asked.filter(one => one === `DELETE ${probe}`).length, 3)
  settled(t, bench)
  // Nobody but its user reads a credential, and none is anywhere else.
  t.is(statSync(bench.kubeconfig('admin')).mode & 0o777, 0o600)
  const events = readFileSync(join(bench.kubeconfig('admin'), '..', '..', 'events.jsonl'), 'utf8')
  t.notRegex(events + out, /PRIVATE KEY/)
  // The lock is given back, and two lines are left: who, from where, and how it ended.
  t.deepEqual(bench.stored('rekey/test.k8s.local'), ['audit'])
  const audit = join(bench.folder, 'rekey', cluster, 'audit')
  const lines = bench.stored(`rekey/${cluster}/audit`).map(name => readFileSync(join(audit, name), 'utf8'))
  for (const [at, what] of ['started', 'done'].entries())
    t.regex(
      lines[at] ?? '',
      new RegExp(`^\\d{4}-\\S+Z run=\\S+-rotate-kops-\\S+ operator=.+ from=\\S+ run ${what}\\n$`),
    )
  t.is(lines.length, 2)
})

test('stage by stage: a run ends where it is told to, and the next one takes up what stands in the state store', async t => {
  const bench = await openCluster(t)
  const staged = await bench.run('rotate-kops', '-e', 'until=staged')
  t.is(staged.code, 0, staged.out)
  t.deepEqual(bench.trusted(), ['1*', '2'])
  t.regex(staged.out, /both\.conf/)
  settled(t, bench)
  const promoted = await bench.run('rotate-kops', '-e', 'until=promoted')
  t.is(promoted.code, 0, promoted.out)
  t.deepEqual(bench.trusted(), ['1', '2*'])
  t.is(bench.calls().filter(call => call.startsWith('create')).length, 2)
  settled(t, bench)
  const distrusted = await bench.run('rotate-kops', '-e', 'soak=1s')
  t.is(distrusted.code, 0, distrusted.out)
  t.deepEqual(bench.trusted(), ['2*'])
  settled(t, bench)
  // And the next rotation begins where this one has ended.
  const again = await bench.run('rotate-kops', '-e', 'until=staged', '-e', 'keysets=kubernetes-ca')
  t.is(again.code, 0, again.out)
  t.deepEqual(bench.trusted(), ['2*', '3'])
  t.is(bench.trusted('service-account').length, 1)
})

test('half of the keysets done, as "all" leaves them after an error: each goes on from its own stage', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted', '-e', 'keysets=kubernetes-ca')).code, 0)
  // What rests beside what was promoted was not begun with, and one that was distrusted in an earlier rotation says nothing of this one.
  bench.change(({ keysets: { 'service-account': set } }) => {
    set!.items.push({ id: '7713272286921920000000000000', distrusted: '2025-01-01T00:00:00Z' })
  })
  const refused = await bench.run('rotate-kops')
  t.is(refused.code, 2)
  t.regex(refused.out, /service-account: not begun with, where others are further/)
  t.regex(refused.out, /-e keysets=service-account/)
  const begun = await bench.run('rotate-kops', '-e', 'keysets=kubernetes-ca')
  t.is(begun.code, 0, begun.out)
  t.deepEqual(bench.trusted(), ['2*'])
  t.is(bench.calls().filter(call => call.startsWith('create keypair service-account')).length, 0)
  const other = await openCluster(t)
  t.is((await other.run('rotate-kops', '-e', 'until=staged', '-e', 'keysets=kubernetes-ca')).code, 0)
  const both = await other.run('rotate-kops', '-e', 'until=staged')
  t.is(both.code, 0, both.out)
  t.deepEqual(other.trusted(), ['1*', '2'])
  t.is(other.trusted('service-account').length, 2)
})

test('what was distrusted and not rolled out is brought to its end by a run of its own', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  bench.change(state => {
    for (const set of Object.values(state.keysets))
      for (const item of set.items) if (item.id !== set.primary) item.distrusted = '2026-11-28T10:00:00Z'
  })
  // Nobody can tell it from what somebody else left pending: the operator says so.
  const refused = await bench.run('rotate-kops')
  t.is(refused.code, 2)
  t.regex(refused.out, /would apply what is pending, before anything was begun/)
  t.regex(refused.out, /-e unfinished=distrusted/)
  const { code, out } = await bench.run('rotate-kops', '-e', 'unfinished=distrusted')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['2*'])
  t.deepEqual(bench.calls().filter(call => call.startsWith('create')).length, 2)
  settled(t, bench)
  t.regex((await bench.run('rotate-kops', '-e', 'unfinished=distrusted')).out, /no distrust is unfinished/)
  // What was distrusted once stays so for ever: a machine that is behind may be anybody's.
  bench.change(state => {
    state.instances[1]!.hash = 'of another image'
  })
  const rolled = () => bench.calls().filter(call => call.startsWith('rolling-update')).length
  const before = rolled()
  const behind = await bench.run('rotate-kops')
  t.is(behind.code, 2)
  t.regex(behind.out, /1 instances run with another configuration/)
  t.is(rolled(), before)
})

test('a check calls nothing that changes, and takes no lock', async t => {
  const bench = await openCluster(t)
  const { code, out } = await bench.run('rotate-kops', '--check')
  t.is(code, 0, out)
  t.regex(out, /kops create keypair kubernetes-ca/)
  t.deepEqual(
    bench.calls().filter(call => /^(create|promote|distrust|trust|rolling|export)|--yes/.test(call)),
    [],
  )
  t.deepEqual(bench.stored('rekey'), [])
})

test('a soak that outlives the admin credential: another one is exported before it is needed, and what was handed out stays', async t => {
  const bench = await openCluster(t, ['kubernetes-ca'])
  bench.change(state => {
    state.knobs['hangs'] = 'distrust keypair'
  })
  const going = bench.run('rotate-kops')
  await bench.called('distrust keypair')
  await bench.endCredentials()
  const handedOut = readFileSync(bench.kubeconfig('admin'), 'utf8')
  const probes = () => bench.asked.filter(one => one.includes('rekey-probe')).length
  const before = probes()
  bench.change(state => {
    state.knobs['hangs'] = 'rolling-update cluster'
  })
  await eventually(() => probes() > before + 3, 'the API to be probed')
  bench.change(state => {
    state.knobs = {}
  })
  const { code, out } = await going
  t.is(code, 0, out)
  t.regex(out, /the API was asked [1-9]\d* times meanwhile/)
  t.regex(out, /the admin credential would end in the middle: another one is exported/)
  t.regex(out, /the admin credential of before has ended by itself/)
  t.is(readFileSync(bench.kubeconfig('admin'), 'utf8'), handedOut)
  t.regex(answersOf({ calls: 0, failures: 0, longest: 0 }), /was not asked/)
  settled(t, bench)
})
