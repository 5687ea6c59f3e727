// Encryption at rest on real API servers and a real etcd: what rekey counts is what etcdctl shows, every stage of a rotation is read by every server,
// and everything is written anew without a change that anybody sees.
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import anyTest, { type TestFn } from 'ava'
import { secret } from '../../../lib/connection/shell.ts'
import { takeCensus } from '../../../lib/encryption/census.ts'
import { namedProviders, readConfiguration } from '../../../lib/encryption/configuration.ts'
import { addReader, drop, promote } from '../../../lib/encryption/edit.ts'
import { etcdValues } from '../../../lib/encryption/etcd-values.ts'
import { readInForce } from '../../../lib/encryption/in-force.ts'
import { reencrypt } from '../../../lib/encryption/rewrite/reencrypt.ts'
import { apiResources } from '../../../lib/encryption/rewrite/resources.ts'
import { tellingApart } from '../../../lib/encryption/stored.ts'
import { localSession } from '../../kubernetes/_local.ts'
import { found, unit } from '../../kubernetes/components/_host.ts'
import { type Servers, startServers } from './_servers.ts'

const test = anyTest.serial as TestFn
const all = () => true
const key = (bytes = 32) => randomBytes(bytes).toString('base64')
/** k3s gives its keys such names. */
const old = 'aescbckey-2022-08-02T16:02:40Z'
const configuration = `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources: [secrets]
    providers:
      - aescbc:
          keys:
            - name: ${old}
              secret: ${key()}
      - identity: {}
`
const next = { kind: 'secretbox', name: 'box-1', secret: secret(key()) } as const
const count = 60
let bed: Servers

test.before(async () => {
  bed = await startServers(2, configuration)
  const [api] = bed.servers.map(one => one.api)
  for (let i = 0; i < count; i++)
    await api!.post('/api/v1/namespaces/default/secrets', {
      metadata: { name: `s-${i}` },
      immutable: i === 0,
      stringData: { i: `${i}` },
    })
})
test.after.always(() => bed?.stop())

/** What etcdctl shows of Secrets: how many begin so. */
function byEtcdctl(prefix: string): number {
  const { client, ca, identities } = bed.etcd
  const files = [`--cacert=${ca}`, `--cert=${identities[0]!.certificate}`, `--key=${identities[0]!.key}`]
  const args = [
    `--endpoints=https://127.0.0.1:${client.port}`,
    ...files,
    'get',
    '--prefix',
    '/registry/secrets/',
    '-w',
    'json',
  ]
  const { kvs } = JSON.parse(execFileSync(bed.program('etcdctl'), args, { encoding: 'utf8', maxBuffer: 1e9 }))
  return kvs.filter((one: { value: string }) => Buffer.from(one.value, 'base64').toString('latin1').startsWith(prefix))
    .length
}

/** What rekey counts of Secrets. */
async function counted() {
  const names = namedProviders(readConfiguration(readFileSync(bed.servers[0]!.file, 'utf8'), 'f').rules)
  const pages = etcdValues(await localSession(), bed.etcd, '/registry/secrets/')
  const { rows } = await takeCensus(pages, '/registry/', tellingApart(names))
  return rows.map(({ stored, count }) => `${stored.kind === 'key' ? stored.name : stored.kind} ${count}`)
}

/** The next stage, on one API server after the other. */
async function stage(edit: (text: string) => string): Promise<void> {
  for (const { file, restart } of bed.servers) {
    writeFileSync(file, edit(readFileSync(file, 'utf8')))
    await restart()
  }
}

test('what is counted is what etcdctl shows, for a key whose name has colons', async t => {
  t.deepEqual(await counted(), [`${old} ${count}`])
  t.is(byEtcdctl(`k8s:enc:aescbc:v1:${old}:`), count)
})

test('a server says the hash of its file, and that it is another one when it was changed', async t => {
  const { file, api, flags } = bed.servers[0]!
  const session = await localSession()
  const runs = unit('kube-apiserver')
  const files = [{ role: 'encryption', by: '', path: file, real: file }] as const
  const component = found({
    component: 'kube-apiserver',
    runs,
    flags: { ...Object.fromEntries(Object.entries(flags).map(([name, value]) => [name, [value]])) },
    files,
  })
  t.like(await readInForce(session, component, api), { agrees: 'yes', reloads: false })
  const text = readFileSync(file, 'utf8')
  writeFileSync(file, `${text}# changed\n`)
  t.is((await readInForce(session, component, api)).agrees, 'no')
  writeFileSync(file, text)
})

test('rotated stage by stage: each server reads what the other writes, and nothing but the key of what is stored has changed', async t => {
  const [a, b] = bed.servers.map(one => one.api) as [(typeof bed.servers)[0]['api'], (typeof bed.servers)[0]['api']]
  const path = '/api/v1/namespaces/default/secrets'
  const before = await a.list('/api/v1/secrets')
  await stage(text => addReader(text, 'f', next, all))
  await stage(text => promote(text, 'f', next, all))
  await a.post(path, { metadata: { name: 'by-a' }, stringData: { by: 'a' } })
  await b.post(path, { metadata: { name: 'by-b' }, stringData: { by: 'b' } })
  t.is(Buffer.from((await b.get(`${path}/by-a`))['data'].by, 'base64').toString(), 'a')
  t.is(Buffer.from((await a.get(`${path}/by-b`))['data'].by, 'base64').toString(), 'b')
  t.deepEqual((await counted()).sort(), [`${old} ${count}`, 'box-1 2'].sort())
  const resources = await apiResources(a, name => name === 'secrets')
  t.is((await reencrypt(a, resources)).done, count + 2)
  t.deepEqual(await counted(), [`box-1 ${count + 2}`])
  t.is(byEtcdctl('k8s:enc:secretbox:v1:box-1:'), count + 2)
  const again = await a.list('/api/v1/secrets')
  const versions = (all: typeof before) => all.map(({ metadata }) => metadata.resourceVersion)
  await reencrypt(a, resources)
  t.deepEqual(versions(await a.list('/api/v1/secrets')), versions(again), 'what is written anew is left alone')
  await stage(text => drop(text, 'f', { kind: 'aescbc', name: old }, all))
  const after = (await b.list('/api/v1/secrets')).filter(({ metadata }) => !metadata.name.startsWith('by-'))
  const plain = (all: typeof before) =>
    all.map(({ metadata: { resourceVersion: _, ...metadata }, ...rest }) => ({ ...rest, metadata }))
  t.deepEqual(plain(after), plain(before))
})

test('an object whose key is gone stops a re-encryption by its name', async t => {
  const lost = { kind: 'aescbc', name: 'lost', secret: secret(key()) } as const
  const [{ file, api, restart }] = bed.servers as [Servers['servers'][number]]
  const text = readFileSync(file, 'utf8')
  writeFileSync(file, promote(addReader(text, 'f', lost, all), 'f', lost, all))
  await restart()
  await api.post('/api/v1/namespaces/default/secrets', { metadata: { name: 'unreadable' } })
  const list = [{ name: 'secrets', list: '/api/v1/secrets', namespaced: true }]
  // Its own server still has the key: from the other one the value can't be read, and a list of its cache shows nothing of that.
  const error = await t.throwsAsync(reencrypt({ ...bed.servers[1]!.api, each: api.each }, list, { pause: 10 }))
  t.like(error, { code: 'encryption.unreadable' })
  t.regex(error!.message, /secrets\/unreadable can't be read/)
})
