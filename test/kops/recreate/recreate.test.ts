// The legacy procedure: every credential made anew, over the stand-in, an API with tokens and pods, and a real sshd where the certificates of etcd lie.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { sshdMissing } from '../../ssh/sshd.ts'
import { readObjects } from '../_api.ts'
import { type Bench, cluster, openCluster, settled } from '../_cluster.ts'
import { controlPlaneOf } from '../_control-plane.ts'
import { throughKills } from '../_kills.ts'
import { etcdKeysets, makeEtcdCertificates, signersOfEtcd } from '../stand-in/etcd-manager.ts'

const [first, second] = ['7713272286921921551637815766', '7713272286921922551637815766']
const missing = sshdMissing()
const withSshd = missing === undefined ? test : test.skip

/** A cluster whose control plane lets one in by SSH, and what its run is started with. */
async function opened(t: ExecutionContext): Promise<Bench & { recreate(...more: string[]): ReturnType<Bench['run']> }> {
  const bench = await openCluster(t, ['kubernetes-ca', 'service-account', ...etcdKeysets])
  const inventory = await controlPlaneOf(t, bench)
  const recreate = (...more: string[]) =>
    bench.run('recreate-kops-credentials', '-i', inventory, '-e', `etcd_volumes=${bench.folder}/mnt`, ...more)
  return { ...bench, recreate }
}

const objectsIn = ({ folder }: Bench) => readObjects(folder)
const tokenIn = (bench: Bench, name: string) =>
  Buffer.from(objectsIn(bench)[`secrets/shop/${name}`]?.data?.['token'] ?? '', 'base64').toString()
const uids = (bench: Bench) =>
  new Map(
    Object.entries(objectsIn(bench))
      .filter(([key]) => key.startsWith('pods/'))
      .map(([, { metadata }]) => [metadata.ownerReferences?.[0]?.name ?? metadata.name, metadata.uid]),
  )
const secretOf = ({ folder }: Bench, name: string) => readFileSync(join(folder, cluster, 'secrets', name), 'utf8')

/** Everything is as it was made at first, but for the ids of instances. */
function isAsBefore(t: ExecutionContext, bench: Bench, where?: string): void {
  t.deepEqual(bench.trusted(), ['1*'], where)
  t.is(bench.state().keysets['service-account']?.primary, first, where)
  t.is(secretOf(bench, 'admin'), '{"Data":"first admin"}', where)
  t.deepEqual(new Set(signersOfEtcd(bench.folder)), new Set([first]), where)
  settled(t, bench)
}

withSshd('every credential is another one, etcd’s certificates, tokens and pods too; and back', async t => {
  const bench = await opened(t)
  const before = uids(bench)
  const given = join(bench.folder, cluster, 'secrets', 'dockerconfig')
  writeFileSync(given, '{"Data":"e30="}')
  // Somebody else's key, and a token of an account that was deleted and made again.
  const foreign = join(bench.folder, 'mnt', 'a', 'pki', 'server.key')
  writeFileSync(foreign, 'of a website')
  const objects = objectsIn(bench)
  const strange = structuredClone(objects['secrets/shop/robot-token']!)
  // An object of its own: a list gives each uid once, however many objects say that it is theirs.
  strange.metadata = { ...strange.metadata, name: 'strange-token', uid: 'strange' }
  strange.metadata.annotations!['kubernetes.io/service-account.uid'] = 'of before'
  writeFileSync(join(bench.folder, 'api.json'), JSON.stringify({ ...objects, 'secrets/shop/strange-token': strange }))
  bench.change(state => {
    state.knobs['failsOnce'] = 1
  })
  const { code, out } = await bench.recreate('-e', `confirm=${cluster}`)
  t.is(code, 0, out)
  t.deepEqual(bench.trusted(), ['2*'])
  t.not(bench.state().keysets['service-account']?.primary, first)
  t.not(secretOf(bench, 'admin'), '{"Data":"first admin"}')
  t.is(readFileSync(given, 'utf8'), '{"Data":"e30="}')
  t.is(readFileSync(join(bench.folder, cluster, 'pki', 'ssh', 'public', 'admin'), 'utf8'), 'ssh-ed25519 AAAA')
  t.deepEqual(new Set(signersOfEtcd(bench.folder)), new Set([second]))
  t.true(bench.calls().includes('rolling-update cluster --cloudonly --force --yes'))
  const [lastOther = ''] = bench
    .calls()
    .filter(call => !call.startsWith('get '))
    .slice(-1)
  t.true(lastOther.startsWith('validate cluster --wait'))
  t.deepEqual(
    bench.state().instances.filter(({ id }) => !id.startsWith('i-made')),
    [],
  )
  settled(t, bench)
  t.is(tokenIn(bench, 'robot-token'), `token-of-${bench.state().keysets['service-account']?.primary}`)
  t.is(tokenIn(bench, 'orphan-token'), 'first')
  t.regex(out, /shop\/orphan-token: its service account is gone/)
  t.regex(out, /shop\/strange-token: its service account is another one/)
  t.is(tokenIn(bench, 'strange-token'), 'first')
  t.is(readFileSync(foreign, 'utf8'), 'of a website')
  t.true(existsSync(join(bench.folder, 'mnt', 'a', 'pki', 'x', 'peers', 'me.key.before-rekey')))
  const after = uids(bench)
  for (const owner of ['cni', 'coredns-5d', 'web-77']) t.not(after.get(owner), before.get(owner), owner)
  for (const owner of ['cp', 'once']) t.is(after.get(owner), before.get(owner), owner)
  t.regex(out, /Pods that are nobody's stay as they are.*: shop\/once/)
  // The pod network comes before the DNS, and both before all others.
  const deleted = bench.asked.filter(one => one.startsWith('DELETE /api/v1/namespaces/') && one.includes('/pods/'))
  t.deepEqual(
    deleted.map(one => one.split('/').at(-1)?.split('-')[0]),
    ['cni', 'coredns', 'web'],
  )
  t.regex(out, /The API answers nobody/)
  t.regex(out, /dockerconfig stays/)
  const undone = await bench.rekey('rollback', 'last')
  t.is(undone.code, 0, undone.out)
  t.regex(undone.out, /to be handed out: .*back\.conf/)
  isAsBefore(t, bench)
  t.is(tokenIn(bench, 'robot-token'), `token-of-${first}`)
  t.not(uids(bench).get('web-77'), after.get('web-77'))
})

withSshd(
  'nothing is changed before the name was typed, the control plane lets one in, and everything can be kept',
  async t => {
    const bench = await opened(t)
    const changes = () => bench.calls().filter(call => /^(create|delete)|--yes/.test(call))
    const endsWith = async (expected: number, message: RegExp, ...more: string[]) => {
      const { code, out } = await bench.recreate(...more)
      t.is(code, expected, out)
      t.regex(out, message)
      return out
    }
    const refused = (message: RegExp, ...more: string[]) => endsWith(2, message, ...more)
    const said = await refused(/nobody has confirmed that test\.k8s\.local may be interrupted/)
    t.true(said.indexOf('What users will notice') < said.indexOf('nobody has confirmed'))
    await refused(/was to be confirmed, and "test" was/, '-e', 'confirm=test')
    const yes = ['-e', `confirm=${cluster}`]
    for (const path of ['/', '/etc', '/var/../etc'])
      await endsWith(1, /etcd_volumes/, ...yes, '-e', `etcd_volumes=${path}`)
    await refused(/has no certificate of etcd below/, ...yes, '-e', `etcd_volumes=${bench.folder}/mnt/a/pki/x/none`)
    const without = await bench.run('recreate-kops-credentials', ...yes)
    t.regex(without.out, /nothing says how to log in to the control plane: i-cp/)
    t.regex(without.out, /Now: 127\.0\.0\.1/)
    bench.change(state => {
      state.knobs['givenCa'] = 'kubernetes-ca'
    })
    await refused(/kubernetes-ca: a CA that another one has signed/, ...yes)
    t.deepEqual(changes(), [])
    isAsBefore(t, bench)
    const checked = await bench.recreate('--check')
    t.regex(checked.out, /The API answers nobody/)
    t.deepEqual(changes(), [])
  },
)

withSshd('killed before and after each step that changes something: undone from there, and gone on with', async t => {
  const bench = await opened(t)
  bench.killLines.push(/changed +Keep every/, /changed +1\. Delete/, /changed +3\. Remove/)
  const begin = () => bench.recreate('-e', `confirm=${cluster}`)
  const kills = await throughKills(t, bench, begin, where => isAsBefore(t, bench, where))
  // The export of before, the update, the rolling update, the new kubeconfig, one token, three pods: before and after each; and those lines.
  t.true(kills >= 16, String(kills))
  t.deepEqual(bench.trusted(), ['2*'])
  t.deepEqual(new Set(signersOfEtcd(bench.folder)), new Set([second]))
})

withSshd('what was kept is gone or is another file: the way back stops before it changes anything', async t => {
  const bench = await opened(t)
  bench.change(state => {
    state.knobs['idle'] = true
  })
  const { code } = await bench.recreate('-e', `confirm=${cluster}`)
  t.is(code, 2)
  const kept = join(bench.kubeconfig('before'), '..', '..', 'credentials-before.json')
  const calls = bench.calls().length
  const text = readFileSync(kept, 'utf8')
  const refused = async (message: RegExp) => {
    const undone = await bench.rekey('rollback', 'last')
    t.is(undone.code, 2, undone.out)
    t.regex(undone.out, message)
    t.is(bench.calls().length, calls)
    t.deepEqual(bench.trusted(), ['2*'])
  }
  writeFileSync(kept, text.replace(/"[^"]*pki/, '"../pki'))
  await refused(/credentials-before\.json is not what was kept there/)
  rmSync(kept)
  await refused(/credentials-before\.json is gone/)
})

withSshd('certificates that etcd-manager has made by the CA of before are named, wherever it keeps them', async t => {
  const bench = await opened(t)
  bench.change(state => {
    state.knobs['etcdUntold'] = true
  })
  const { code, out } = await bench.recreate('-e', `confirm=${cluster}`)
  t.is(code, 2, out)
  t.regex(out, /certificates of etcd are not of the CA that signs now/)
  t.regex(out, /cp: ".*\/clients\/server\.crt" is of the etcd-clients-ca of before/)
  t.regex(out, /cp: ".*\/peers\/me\.crt" is of the etcd-peers-ca-main of before/)
  t.deepEqual(new Set(signersOfEtcd(bench.folder)), new Set([first]))
  // One is mended as the hint has it; in place of the other there is something else.
  bench.change(state => {
    state.knobs = {}
  })
  const own = (name: string) => join(bench.folder, 'mnt', 'a', 'pki', 'x', name)
  rmSync(own('clients/server.crt'))
  makeEtcdCertificates(bench.folder, bench.state())
  writeFileSync(own('peers/me.crt'), '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n')
  const half = await bench.rekey('resume', 'last')
  t.is(half.code, 2, half.out)
  t.regex(half.out, /cp: ".*\/peers\/me\.crt" is no certificate/)
  t.notRegex(half.out, /clients\/server\.crt" is/)
  rmSync(own('peers/me.crt'))
  makeEtcdCertificates(bench.folder, bench.state())
  const done = await bench.rekey('resume', 'last')
  t.is(done.code, 0, done.out)
  t.deepEqual(new Set(signersOfEtcd(bench.folder)), new Set([second]))
  settled(t, bench)
})

withSshd('no step that changes something is come to by leaving out those before it', async t => {
  const bench = await opened(t)
  const changing = [
    ...['delete-the-credentials', 'make-the-credentials', 'remove-the-certificates-of-etcd'],
    ...['replace-every-instance', 'write-the-tokens-anew'],
  ]
  for (const step of changing) {
    const unconfirmed = await bench.recreate('--start-at-step', step)
    t.is(unconfirmed.code, 2, step)
    t.regex(unconfirmed.out, /nobody has confirmed/, step)
    const { code, out } = await bench.recreate('--start-at-step', step, '-e', `confirm=${cluster}`)
    t.is(code, 2, out)
    t.regex(out, /the run has not done what comes before: read-the-credentials/, step)
  }
  t.false(bench.calls().some(call => /--yes/.test(call)))
  t.false(bench.asked.some(one => /^(PATCH|DELETE)/.test(one)))
  isAsBefore(t, bench)
})
