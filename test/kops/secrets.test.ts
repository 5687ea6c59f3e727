// Secrets of a kOps cluster: the three that its page has, and what kOps does silently wrong with each.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { cluster, openCluster, settled } from './_cluster.ts'

test('an encryptionconfig replaces the control plane, goes over stdin alone, and goes back to the one of before', async t => {
  const bench = await openCluster(t)
  const word = 'resources of the new key'
  const file = join(bench.folder, 'new.yaml')
  writeFileSync(file, word)
  mkdirSync(join(bench.folder, cluster, 'secrets'))
  const before = JSON.stringify({ Data: Buffer.from('of before').toString('base64') })
  writeFileSync(join(bench.folder, cluster, 'secrets', 'encryptionconfig'), before)
  const { code, out } = await bench.run('rotate-kops-secret', '-e', 'secret=encryptionconfig', '-e', `file=${file}`)
  t.is(code, 0, out)
  t.true(bench.calls().includes('create secret encryptionconfig --f=- --force'))
  t.regex(out, /under the key of before still/)
  const ids = bench.state().instances.map(({ id }) => id)
  t.deepEqual(ids.slice(1), ['i-a', 'i-b'])
  settled(t, bench)
  const events = readFileSync(join(bench.kubeconfig('before'), '..', '..', 'events.jsonl'), 'utf8')
  t.notRegex(events, new RegExp(word))
  const now = bench.state().secrets['encryptionconfig']
  const undone = await bench.rekey('rollback', 'last')
  t.is(undone.code, 0, undone.out)
  t.not(bench.state().secrets['encryptionconfig'], now)
  settled(t, bench)
})

test('where kOps sees no change all instances are replaced by force; where the cluster does not use the secret, nothing is done', async t => {
  const bench = await openCluster(t)
  const file = join(bench.folder, 'docker.json')
  writeFileSync(file, '{}')
  const run = (secret: string) => bench.run('rotate-kops-secret', '-e', `secret=${secret}`, '-e', `file=${file}`)
  const { code, out } = await run('dockerconfig')
  t.is(code, 0, out)
  t.deepEqual(
    bench.state().instances.filter(({ id }) => !id.startsWith('i-made')),
    [],
  )
  t.regex(out, /there is no way back from the new one/)
  t.regex((await run('ciliumpassword')).out, /whose spec\.networking is cilium/)
  bench.change(state => {
    state.spec = {}
  })
  const unused = await run('encryptionconfig')
  t.is(unused.code, 2)
  t.regex(unused.out, /no instance of test\.k8s\.local is given the encryptionconfig/)
  t.deepEqual(bench.calls().filter(call => call.startsWith('create secret')).length, 1)
})
