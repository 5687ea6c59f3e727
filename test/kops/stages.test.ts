// A rotation through its stages: in one go, stage by stage, taken up from where the keysets stand.
import test from 'ava'
import { openCluster } from './_cluster.ts'

test('all stages in one run: each verb by id, an update and a rolling update after each, and one CA at the end', async t => {
  const bench = await openCluster(t, ['kubernetes-ca', 'service-account', 'etcd-clients-ca'])
  const { code, out } = await bench.run('rotate-kops')
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['2*'])
  t.is(bench.trusted('service-account').length, 1)
  const changing = bench.calls().filter(call => /^(create|promote|distrust|trust|rolling|export)|--yes/.test(call))
  const verbs = changing.map(call => call.replace(/ --admin=.*| [\d]{20,}$/, ''))
  const each = (verb: string) =>
    ['kubernetes-ca', 'service-account', 'etcd-clients-ca'].map(name => `${verb} keypair ${name}`)
  const rolled = ['update cluster --yes', 'rolling-update cluster --yes', 'export kubecfg']
  t.deepEqual(verbs, [
    'export kubecfg',
    ...[...each('create'), ...rolled],
    ...[...each('promote'), ...rolled],
    ...[...each('distrust'), ...rolled],
  ])
  t.is(bench.authoritiesIn('before'), 1)
  t.is(bench.authoritiesIn('both'), 2)
  t.is(bench.authoritiesIn('after'), 1)
  t.regex(out, /the API was asked \d+ times meanwhile/)
})
