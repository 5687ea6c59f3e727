// Secrets of a kOps cluster: the three that its page has, and what kOps does silently wrong with each.
import { createHash } from 'node:crypto'
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import { misfitOf } from '../../../lib/encryption/replacement.ts'
import { ipsecKeysBack, ipsecMisfits } from '../../../lib/kops/secret/ipsec-keys.ts'
import { cluster, openCluster, settled } from '../_cluster.ts'
import { backThroughKills, killing, throughKills } from '../_kills.ts'

const key = (name: string) => ({ name, secret: createHash('sha256').update(name).digest('base64') })
/** An EncryptionConfiguration with these keys, the first of which writes. */
const configuration = (...names: string[]) =>
  JSON.stringify({
    ...{ kind: 'EncryptionConfiguration', apiVersion: 'apiserver.config.k8s.io/v1' },
    resources: [{ resources: ['secrets'], providers: [{ secretbox: { keys: names.map(key) } }] }],
  })

test('an encryptionconfig replaces the control plane, goes over stdin alone, and goes back to the one of before', async t => {
  const bench = await openCluster(t)
  const file = join(bench.folder, 'new.yaml')
  const stored = join(bench.folder, cluster, 'secrets', 'encryptionconfig')
  const give = (text: string, ...more: string[]) => {
    writeFileSync(file, text)
    return bench.run('rotate-kops-secret', '-e', 'secret=encryptionconfig', '-e', `file=${file}`, ...more)
  }
  const unknown = await give(configuration('one', 'two'))
  t.is(unknown.code, 2)
  t.regex(unknown.out, /the one of before can’t be read/)
  mkdirSync(join(bench.folder, cluster, 'secrets'), { recursive: true })
  writeFileSync(stored, JSON.stringify({ Data: Buffer.from(configuration('one')).toString('base64') }))
  t.regex((await give('kind: [garbage')).out, /new encryptionconfig/)
  t.regex((await give(configuration('two', 'one'))).out, /secretbox two, under which it would be written, is not read/)
  t.deepEqual(
    bench.calls().filter(call => /^create|--yes/.test(call)),
    [],
  )
  const { code, out } = await give(configuration('one', 'two'))
  t.is(code, 0, out)
  t.true(bench.calls().includes('create secret encryptionconfig --f=- --force'))
  t.regex(out, /under the key of before still/)
  const ids = bench.state().instances.map(({ id }) => id)
  t.deepEqual(ids.slice(1), ['i-a', 'i-b'])
  settled(t, bench)
  const events = readFileSync(join(bench.kubeconfig('before'), '..', '..', 'events.jsonl'), 'utf8')
  t.false(events.includes(key('two').secret))
  const now = bench.state().secrets['encryptionconfig']
  // Somebody had it written with by now.
  const there = readFileSync(stored, 'utf8')
  writeFileSync(stored, JSON.stringify({ Data: Buffer.from(configuration('two', 'one')).toString('base64') }))
  const refused = await bench.rekey('rollback', 'last')
  t.is(refused.code, 2)
  t.regex(refused.out, /secretbox two, under which it was written until now, is not read by the other/)
  writeFileSync(stored, there)
  const undone = await bench.rekey('rollback', 'last')
  t.is(undone.code, 0, undone.out)
  t.not(bench.state().secrets['encryptionconfig'], now)
  settled(t, bench)
})

test('two encryptionconfigs are held against each other by resource, and keys by their bytes', t => {
  const fits = (before: string, next: string) => {
    const { unreadable, dropped } = misfitOf(before, next)
    return [unreadable.length, dropped.length]
  }
  t.deepEqual(fits(configuration('one'), configuration('one', 'two')), [0, 0])
  t.deepEqual(fits(configuration('one', 'two'), configuration('two', 'one')), [0, 0])
  t.deepEqual(fits(configuration('two', 'one'), configuration('two')), [0, 1])
  t.deepEqual(fits(configuration('one'), configuration('two')), [2, 0])
  const another = configuration('one').replace(key('one').secret, key('two').secret)
  t.deepEqual(fits(configuration('one'), another), [2, 0])
  // What was not encrypted can't be read by one that has no identity.
  t.deepEqual(fits(configuration('one'), configuration('one').replace('"secrets"', '"secrets","configmaps"')), [2, 0])
})

test('where kOps sees no change all instances are replaced by force; killed before and after each step: undone from there, and gone on with', async t => {
  const bench = await openCluster(t)
  const file = join(bench.kept, 'docker.json')
  writeFileSync(file, '{"auths":{}}')
  const first = bench.state().instances.map(({ id }) => id)
  const isReplaced = () => t.false(bench.state().instances.some(({ id }) => first.includes(id)))
  const begin = () => bench.run('rotate-kops-secret', '-e', 'secret=dockerconfig', '-e', `file=${file}`)
  // The export of before, what kops is given, the update, the rolling update: before and after each.
  const isNone = (where?: string) => t.false('dockerconfig' in bench.state().secrets, where)
  t.is(await throughKills(t, bench, begin, isNone), 8)
  const run = dirname(dirname(bench.kubeconfig('any')))
  const said = globSync('output/**/*.log', { cwd: run }).map(file => readFileSync(join(run, file), 'utf8'))
  t.regex(said.join(''), /there was no dockerconfig before: the way back deletes the new one/)
  t.is(bench.state().secrets['dockerconfig'], createHash('sha256').update('{"auths":{}}').digest('hex'))
  isReplaced()
  t.true(bench.calls().includes('rolling-update cluster --force --yes'))
  first.push(...bench.state().instances.map(({ id }) => id))
  const undone = await bench.rekey('rollback', 'last')
  t.is(undone.code, 0, undone.out)
  t.true(bench.calls().includes('delete secret dockerconfig'))
  isNone()
  isReplaced()
  settled(t, bench)
})

test('where the cluster does not use the secret, nothing is done', async t => {
  const bench = await openCluster(t)
  const file = join(bench.kept, 'file')
  writeFileSync(file, '{}')
  bench.change(state => {
    state.spec = {}
  })
  for (const [secret, message] of [
    ['ciliumpassword', /whose spec\.networking\.cilium has enableEncryption/],
    ['encryptionconfig', /no instance of test\.k8s\.local is given the encryptionconfig/],
  ] as const) {
    const { code, out } = await bench.run('rotate-kops-secret', '-e', `secret=${secret}`, '-e', `file=${file}`)
    t.is(code, 2, out)
    t.regex(out, message)
  }
  t.false(bench.calls().some(call => /^create|--yes/.test(call)))
})

const ipsec = (id: string, key: string, algorithm = 'rfc4106(gcm(aes))') =>
  `keys: ${id} ${algorithm} ${createHash('sha256').update(key).digest('hex').slice(0, 40)} 128\n`

test('IPsec keys of Cilium are held against those of before: the next id, the same algorithm and lengths, another key', t => {
  const told = (next: string, before: string | undefined = ipsec('3+', 'one')) => ipsecMisfits(before, next).join('\n')
  t.is(told(ipsec('4+', 'two')), '')
  t.is(told(ipsec('1+', 'two'), ipsec('15+', 'one')), '')
  t.is(told(ipsec('4+', 'two').replace('keys: ', '')), '')
  for (const id of ['3+', '5+', '2+']) t.regex(told(ipsec(id, 'two')), /after 3 comes 4/)
  t.regex(told(ipsec('4+', 'one')), /a key of before/)
  t.regex(told(ipsec('4', 'two')), /keys for each tunnel/)
  t.regex(told(ipsec('4+', 'two').replace(/ 128/, 'abcd 128')), /lengths of its keys/)
  for (const bad of ['', 'keys: x', ipsec('16+', 'two'), ipsec('0+', 'two'), ipsec('4+', 'two', 'gcm(aes)')])
    t.regex(told(bad), /it is no line/)
  t.regex(told(ipsec('4+', 'two'), 'something'), /nobody knows which id follows/)
  t.regex(ipsecMisfits(undefined, ipsec('4+', 'two')).join(), /nobody knows which id follows/)
  t.is(ipsecKeysBack(ipsec('3+', 'one'), ipsec('4+', 'two')), ipsec('5+', 'one'))
  t.is(ipsecKeysBack(ipsec('3+', 'one'), ipsec('5+', 'one')), ipsec('5+', 'one'))
  t.is(ipsecKeysBack(ipsec('14+', 'one'), ipsec('15+', 'two')), ipsec('1+', 'one'))
  t.is(ipsecKeysBack('something', ipsec('4+', 'two')), 'something')
})

test('IPsec keys follow those of before by the next id, on the way back, too; killed before and after each step, there and back', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.spec['networking'] = { cilium: { enableEncryption: true } }
  })
  const [file, stored] = [join(bench.kept, 'keys'), join(bench.folder, cluster, 'secrets', 'ciliumpassword')]
  const data = () => Buffer.from(JSON.parse(readFileSync(stored, 'utf8')).Data, 'base64').toString('utf8')
  writeFileSync(stored, JSON.stringify({ Data: Buffer.from(ipsec('3+', 'one')).toString('base64') }))
  const said: string[] = []
  const give = async (text: string) => {
    writeFileSync(file, text)
    const called = await bench.run('rotate-kops-secret', '-e', 'secret=ciliumpassword', '-e', `file=${file}`)
    said.push(called.out)
    return called
  }
  const refused = await give(ipsec('3+', 'two'))
  t.is(refused.code, 2, refused.out)
  t.regex(refused.out, /its id is 3: after 3 comes 4/)
  t.false(bench.calls().some(call => /^create|--yes/.test(call)))
  // Where agents may have had the new ones, those of before come back under the id that follows.
  const isBack = (where = '') => {
    const isGiven = /^after create secret|update/.test(where)
    t.is(data(), isGiven ? ipsec('5+', 'one') : ipsec('3+', 'one'), where)
  }
  t.is(await throughKills(t, bench, () => give(ipsec('4+', 'two')), isBack), 8)
  t.is(data(), ipsec('4+', 'two'))
  t.false(said.join('').includes(ipsec('4+', 'two').split(' ')[3]!))
  const first = bench.state().instances.map(({ id }) => id)
  t.is(await backThroughKills(t, bench), 6)
  t.is(data(), ipsec('5+', 'one'))
  t.false(bench.state().instances.some(({ id }) => first.includes(id)))
})

test('a rolling update whose update was left out is none that is done', async t => {
  const bench = await openCluster(t)
  const file = join(bench.folder, 'docker.json')
  writeFileSync(file, '{}')
  const start = ['--start-at-step', 'roll-secret']
  const { code, out } = await bench.run(
    'rotate-kops-secret',
    '-e',
    'secret=dockerconfig',
    '-e',
    `file=${file}`,
    ...start,
  )
  t.is(code, 2, out)
  t.regex(out, /'update-secret' was left out/)
})

test('a run that is gone on with gives kOps the file that was looked at, whatever lies there by now', async t => {
  const bench = await openCluster(t)
  const file = join(bench.folder, 'new.yaml')
  const stored = join(bench.folder, cluster, 'secrets', 'encryptionconfig')
  writeFileSync(stored, JSON.stringify({ Data: Buffer.from(configuration('one')).toString('base64') }))
  writeFileSync(file, configuration('one', 'two'))
  killing(bench, true)
  const killed = await bench.run('rotate-kops-secret', '-e', 'secret=encryptionconfig', '-e', `file=${file}`)
  t.is(killed.code, null, killed.out)
  killing(bench, false)
  writeFileSync(file, configuration('three'))
  const { code, out } = await bench.rekey('resume', 'last')
  t.is(code, 0, out)
  const hash = createHash('sha256').update(configuration('one', 'two')).digest('hex')
  t.is(bench.state().secrets['encryptionconfig'], hash)
  settled(t, bench)
})
