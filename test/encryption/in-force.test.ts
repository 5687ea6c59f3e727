// What an API server has in force is what it says, held against its file; where it says nothing, it is not claimed.
import { createHash } from 'node:crypto'
import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { readConfiguration } from '../../lib/encryption/configuration.ts'
import { disagreementOf, isMountedItself, metricsOf, readInForce } from '../../lib/encryption/in-force.ts'
import { requireFit } from '../../lib/encryption/key-rotation/prepare.ts'
import { standingOf } from '../../lib/encryption/standing.ts'
import type { Stored } from '../../lib/encryption/stored.ts'
import { ApiError } from '../../lib/kubernetes/api/api.ts'
import type { FoundComponent } from '../../lib/kubernetes/layout/host-layout.ts'
import { found, localHost, unit } from '../kubernetes/components/_host.ts'
import { base64Key, configuration } from './_configuration.ts'

const sha = (text: string) => createHash('sha256').update(text).digest('hex')
const plugins =
  '      - kms:\n          apiVersion: v2\n          name: hsm\n          endpoint: unix:///run/hsm.sock\n      - identity: {}\n'
const keys = () => `      - aescbc:\n          keys:\n            - name: k\n              secret: ${base64Key()}\n`

/** An API server with a file on this machine. */
async function server(t: ExecutionContext, text: string, flags: FoundComponent['flags'] = {}) {
  const { session, folder } = await localHost(t)
  const path = join(folder, 'encryption.yaml')
  writeFileSync(path, text)
  const component = found({
    ...{ component: 'kube-apiserver', runs: unit('kube-apiserver'), flags },
    files: [{ role: 'encryption', by: '--encryption-provider-config', path, real: path }],
  })
  return { session, component, path }
}

/** An API server that answers with these texts. */
const answering = (answers: Record<string, string>) => ({
  getText: async (path: string) => {
    const answer = answers[path]
    if (answer === undefined) throw new ApiError(`GET ${path}: 500 [-]kms-provider-0 failed`, 500)
    return answer
  },
})

const info = (hash: string) =>
  `apiserver_encryption_config_controller_last_config_info{apiserver_id_hash="sha256:a",hash="sha256:${hash}"} 1\n`

test('a server that says its hash agrees with its file, or does not', async t => {
  const text = configuration('secrets', keys())
  const { session, component } = await server(t, text, { 'encryption-provider-config-automatic-reload': ['true'] })
  const same = await readInForce(session, component, answering({ '/metrics': info(sha(text)) }))
  t.like(same, { agrees: 'yes', reloads: true, failures: 0, hash: sha(text), serverHash: sha(text) })
  const failures =
    'apiserver_encryption_config_controller_automatic_reloads_total{apiserver_id_hash="sha256:a",status="failure"} 13\n'
  const other = await readInForce(session, component, answering({ '/metrics': info(sha('before')) + failures }))
  t.like(other, { agrees: 'no', failures: 13 })
  const broken = await server(t, 'kind: [')
  t.regex((await readInForce(broken.session, broken.component)).problem!, /^m1:.*encryption\.yaml:1: this is not YAML$/)
})

test('of one that says none, the file must be older than its start or its last reload', async t => {
  const { session, component, path } = await server(t, configuration('secrets', keys()))
  await session.$`systemctl restart kube-apiserver.service`
  const state = async (metrics = '') =>
    (await readInForce(session, component, answering({ '/metrics': metrics }))).agrees
  utimesSync(path, Date.now() / 1_000 + 60, Date.now() / 1_000 + 60)
  t.is(await state(), 'unknown')
  const reloaded = (at: number) =>
    `apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds{apiserver_id_hash="a",status="success"} ${at}\n`
  t.is(await state(reloaded(Date.now() / 1_000 + 90)), 'presumably')
  utimesSync(path, 1_000, 1_000)
  t.is(await state(), 'presumably')
  t.is((await readInForce(session, component)).agrees, 'unknown')
})

test('plugins are told with the key that they named last, and with what is wrong with their health', async t => {
  const text = configuration('secrets', plugins)
  const { session, component } = await server(t, text)
  const status = (key: string, at: string) =>
    `apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{apiserver_id_hash="a",key_id_hash="sha256:${sha(key)}",provider_name="hsm"} ${at}\n`
  const metrics = info(sha(text)) + status('old', '1.7e+09') + status('new', '1.700000060e+09')
  const well = await readInForce(session, component, answering({ '/metrics': metrics, '/healthz/kms-providers': 'ok' }))
  t.is(well.health, 'ok')
  t.deepEqual(well.plugins, [{ name: 'hsm', asked: 1_700_000_060, keyIdHash: sha('new') }])
  const ill = await readInForce(session, component, answering({ '/metrics': metrics }))
  t.regex(ill.health!, /kms-provider-0 failed/)
  t.notThrows(() => requireFit(well, 'm1'))
  t.throws(() => requireFit(ill, 'm1'), { code: 'encryption.plugin-not-well', message: /kms-provider-0 failed/ })
})

test('a server without the flag encrypts nothing, and servers with different files are named', async t => {
  const { session, component } = await server(t, 'x')
  const none = await readInForce(session, { ...component, files: [] })
  t.like(none, { agrees: 'yes', plugins: [] })
  const of = (hash: string, agrees: 'yes' | 'no') => ({ ...none, hash, agrees })
  const servers = (...all: [string, ReturnType<typeof of>][]) => disagreementOf(new Map(all))
  t.is(servers(['m1', of('a', 'yes')], ['m2', of('a', 'yes')]), undefined)
  t.regex(
    servers(['m1', of('a', 'yes')], ['m2', of('b', 'yes')], ['m3', of('a', 'yes')])!,
    /different files to encrypt by: m1, m3 \| m2$/,
  )
  t.regex(servers(['m1', of('a', 'yes')], ['m2', of('a', 'no')])!, /not what the file says on m2$/)
  t.regex(servers(['m1', of('a', 'yes')], ['m2', none as ReturnType<typeof of>])!, /m1 \| m2$/)
})

test('a file that is mounted by itself is told from one in a folder', async t => {
  const { session, component, path } = await server(t, configuration('secrets', keys()))
  const at = (file: string) =>
    isMountedItself(session, {
      ...component,
      ...{ processes: [process.pid], flags: { 'encryption-provider-config': [file] } },
    })
  t.true(await at('/proc'))
  t.false(await at(path))
})

test('samples are read whatever their labels hold', t => {
  t.deepEqual(metricsOf('# HELP a b\na_total 3\na{x="1",y="q\\"},{"} 2e+09\na 1\n', 'a'), [
    { labels: { x: '1', y: 'q"},{' }, value: 2e9 },
    { labels: {}, value: 1 },
  ])
})

test('a value stands by the rules for its resource: written so, behind, plain where nothing is said, or read by none', t => {
  const key = (name: string): Stored => ({ kind: 'key', provider: 'aescbc', name, known: true })
  const kms = (keyId: string): Stored => ({ kind: 'kms', version: 'v2', name: 'hsm', known: true, keyId })
  const plain: Stored = { kind: 'plain', form: 'protobuf' }
  const two = `${keys()}            - name: l\n              secret: ${base64Key()}\n      - identity: {}\n`
  const read = readConfiguration(configuration('secrets', two), 'f')
  const stand = (stored: Stored, resource = 'secrets') => standingOf(resource, stored, read)
  t.deepEqual(
    [key('k'), key('l'), plain, key('gone'), kms('a')].map(one => stand(one)),
    ['current', 'behind', 'behind', 'unreadable', 'unreadable'],
  )
  t.is(stand({ kind: 'unknown', why: '' }), 'unreadable')
  t.deepEqual(
    [plain, key('k')].map(one => stand(one, 'configmaps')),
    ['unencrypted', 'unreadable'],
  )
  const hsm = readConfiguration(configuration('"*.*"', plugins), 'f')
  const now = new Map([['hsm', sha('new')]])
  t.deepEqual(
    [kms('new'), kms('old'), plain].map(one => standingOf('pods', one, hsm, now)),
    ['current', 'behind', 'behind'],
  )
  t.is(standingOf('masterleases', plain, hsm, now), 'unencrypted')
})
