// What is behind a KMS plugin rotated on real API servers, a real etcd, the lab's plugin and a token of SoftHSM: another key in the token, there and
// back; and a second plugin beside the first. Judged by etcdctl: every value says behind its ciphertext which key it lies under.
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { quote } from '../../../lib/connection/shell.ts'
import { addReader, drop, promote } from '../../../lib/encryption/edit.ts'
import type { Plan } from '../../../lib/encryption/key-rotation/given.ts'
import * as stages from '../../../lib/encryption/key-rotation/stages.ts'
import * as hsm from '../../../lib/encryption/kms/hsm.ts'
import * as kmsKey from '../../../lib/encryption/kms/key.ts'
import * as plugin from '../../../lib/encryption/kms/plugin.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { localSession } from '../../kubernetes/_local.ts'
import { found, unit } from '../../kubernetes/components/_host.ts'
import { freePort } from '../../ssh/sshd.ts'
import { labBinary } from '../vault/_vault-server.ts'
import { type Servers, startServers } from './_servers.ts'

const test = anyTest.serial as TestFn
const count = 40
const library = '/usr/lib/softhsm/libsofthsm2.so'
const folder = mkdtempSync(join(tmpdir(), 'rekey-kms-'))
const endpointOf = (name: string) => `unix://${join(folder, `${name}.sock`)}`
const configuration = `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources: [secrets]
    providers:
      - kms:
          apiVersion: v2
          name: first
          endpoint: ${endpointOf('first')}
`
const keys: Record<string, string> = {}
const ports: Record<string, number> = {}
let bed: Servers

const tool = (program: string, ...args: string[]) =>
  execFileSync(program, args, { env: { ...process.env, SOFTHSM2_CONF: join(folder, 'softhsm2.conf') }, stdio: 'pipe' })

/** Makes a key in the token, as the runbook says. */
function makeKey(label: string, id = randomUUID()): void {
  keys[label] = id
  const made = ['--keygen', '--key-type', 'AES:32', '--label', label, '--id', id.replaceAll('-', ''), '--sensitive']
  tool('pkcs11-tool', '--module', library, '--token-label', 'kms', '--login', '--pin', '1234', ...made)
}

/** What systemd does of the units of plugins, as far as it is asked; a plugin's log is its journal. */
function placeSystemd(): void {
  mkdirSync(join(folder, 'bin'))
  const program = (name: string, text: string) => writeFileSync(join(folder, 'bin', name), text, { mode: 0o755 })
  program(
    'systemctl',
    `#!/bin/sh
cd ${folder} || exit
unit=\${2%.service}
end() { [ -s "$unit.pid" ] && kill "$(cat "$unit.pid")" 2>/dev/null; while [ -s "$unit.pid" ] && kill -0 "$(cat "$unit.pid")" 2>/dev/null; do sleep 0.05; done; }
case $1 in
restart) end; setsid sh "$unit.start" >>"$unit.log" 2>&1 </dev/null & echo $! >"$unit.pid" ;;
stop) end ;;
is-active) kill -0 "$(cat "$unit.pid")" && echo active ;;
*) exit 9 ;;
esac
`,
  )
  program(
    'journalctl',
    `#!${process.execPath}
const text = require('node:fs').readFileSync('${folder}/' + process.argv[2].replace('_SYSTEMD_UNIT=', '').replace('.service', '.log'), 'utf8')
for (const line of text.trim().split('\\n')) {
  const [day, time] = line.split(' ')
  console.log((Date.parse(day.replaceAll('/', '-') + 'T' + time + 'Z') / 1000).toFixed(6) + ' m kms[1]: ' + line)
}
`,
  )
}

/** A plugin's file and unit. */
async function placePlugin(name: string, primary: string): Promise<void> {
  ports[name] = await freePort()
  const file = `Library = ${library}\nToken = kms\nPin_file = ${join(folder, 'pin')}\nPrimary_key = ${primary}\n`
  writeFileSync(join(folder, `${name}.conf`), file, { mode: 0o600 })
  const flags = [
    `--listen=${endpointOf(name)}`,
    `--config=${join(folder, `${name}.conf`)}`,
    `--healthz-port=${ports[name]}`,
  ]
  const start = `export SOFTHSM2_CONF=${folder}/softhsm2.conf; exec ${[labBinary('kms'), ...flags].map(quote).join(' ')}\n`
  writeFileSync(join(folder, `${name}.start`), start)
}

/** This machine as two masters, one for each API server, with what steps are given. */
async function given(plan: StepDefinition<never>, vars: object) {
  const machine = await localSession(
    line => `export SOFTHSM2_CONF=${folder}/softhsm2.conf PATH=${quote(join(folder, 'bin'))}:$PATH; ${line}`,
  )
  const hosts = bed.servers.map((_, index) => ({ ...machine.host, name: `m${index + 1}` }))
  const registered = new Map<string, unknown>()
  for (const [index, { file, flags, port }] of bed.servers.entries()) {
    const apiServer = found({
      ...{ component: 'kube-apiserver', runs: unit('kube-apiserver') },
      flags: Object.fromEntries(Object.entries(flags).map(([name, value]) => [name, [value]])),
      endpoints: [{ address: '127.0.0.1', port, role: 'serving' }],
      files: [{ role: 'encryption', by: '', path: file, real: file }],
    })
    const { client, ca, identities } = bed.etcd
    const [{ certificate, key }] = identities as [(typeof identities)[number]]
    const etcd = found({
      ...{ component: 'etcd', runs: unit('etcd') },
      flags: { 'listen-client-urls': [`https://127.0.0.1:${client.port}`] },
      files: [
        { role: 'etcd-ca', by: '', path: ca!, real: ca! },
        { role: 'etcd-client', by: '', path: certificate, real: certificate, key: { path: key, real: key } },
      ],
    })
    registered.set(`read-encryption m${index + 1}`, {
      layout: { host: `m${index + 1}`, components: { 'kube-apiserver': apiServer, etcd } },
      file,
      hash: 'same',
    })
  }
  const context = (host: (typeof hosts)[number]) =>
    ({
      ...machine,
      host,
      ...{ run: 'r', mode: 'run', signal: new AbortController().signal, log: () => {}, check: false },
      vars: { backup_directory: join(folder, 'backups', host.name), ...vars },
      hosts: () => hosts,
      on: async (one: { name: string }) => ({ ...machine, host: one }),
      registered: (step: string, name = '') => registered.get(`${step} ${name}`) ?? registered.get(`${step} `),
      cluster: {
        api: async () => bed.servers[0]!.api,
        apiOf: async (one: { name: string }) => bed.servers[Number(one.name.slice(1)) - 1]!.api,
        apiServerReady: async () => {},
      },
    }) as never
  /** A step on all masters, one after the other. */
  const run = async (...steps: StepDefinition<never>[]) => {
    for (const one of steps)
      for (const host of one.runOnce ? hosts.slice(0, 1) : hosts) {
        const result = await one.run(context(host))
        registered.set(`${one.id} ${one.runOnce ? '' : host.name}`, result)
      }
  }
  await run({ ...plan, id: 'plan-the-key' })
  return {
    run,
    undo: async (one: StepDefinition<never>) => {
      for (const host of hosts) await one.rollback!(context(host))
    },
    plan: registered.get('plan-the-key ') as Plan,
  }
}

/** How many values of Secrets etcdctl shows, and in how many of them something is found. */
function byEtcdctl(...what: string[]): number[] {
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
  const values = kvs.map((one: { value: string }) => Buffer.from(one.value, 'base64').toString('latin1')) as string[]
  return [values.length, ...what.map(text => values.filter(value => value.includes(text)).length)]
}

/** What users see of Secrets, through an API server. */
const seen = async (index: number) =>
  (await bed.servers[index]!.api.list('/api/v1/secrets')).map(({ metadata, ...rest }) => ({
    name: metadata.name,
    uid: metadata['uid'],
    data: rest['data'],
  }))

test.before(async () => {
  mkdirSync(join(folder, 'tokens'))
  writeFileSync(
    join(folder, 'softhsm2.conf'),
    `directories.tokendir = ${folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n`,
  )
  writeFileSync(join(folder, 'pin'), '1234\n', { mode: 0o600 })
  tool('softhsm2-util', '--init-token', '--free', '--label', 'kms', '--pin', '1234', '--so-pin', '5678')
  makeKey('kek-1')
  placeSystemd()
  await placePlugin('first', 'kek-1')
  execFileSync(join(folder, 'bin/systemctl'), ['restart', 'first.service'])
  bed = await startServers(2, configuration, {})
  for (let i = 0; i < count; i++)
    await bed.servers[i % 2]!.api.post('/api/v1/namespaces/default/secrets', {
      metadata: { name: `s-${i}` },
      immutable: i === 0,
      stringData: { i: `${i}` },
    })
})
test.after.always(async () => {
  await bed?.stop()
  for (const name of Object.keys(ports)) execFileSync(join(folder, 'bin/systemctl'), ['stop', `${name}.service`])
  rmSync(folder, { recursive: true, force: true })
})

const vars = {
  ...{ hsm_key: 'kek-2', hsm_config: join(folder, 'first.conf'), hsm_unit: 'first.service' },
  ...{ hsm_module: library, hsm_token: 'kms', hsm_pin_file: join(folder, 'pin') },
}
const plan = kmsKey.plan as StepDefinition<never>
const steps = (...all: unknown[]) => all as StepDefinition<never>[]

test('a key in the token that is missing, that is there twice, or a wrong PIN is told before anything is changed', async t => {
  const code = async (...more: object[]) => {
    const { run } = await given(plan, Object.assign({ ...vars }, ...more))
    return (await t.throwsAsync(run(...steps(hsm.read, hsm.look)))) as Error & { code: string }
  }
  t.regex((await code()).message, /no key kek-2/)
  makeKey('twice')
  makeKey('twice')
  t.regex((await code({ hsm_key: 'twice' })).message, /2 keys with the label twice/)
  writeFileSync(join(folder, 'wrong-pin'), '9999\n')
  t.regex((await code({ hsm_pin_file: join(folder, 'wrong-pin') })).message, /CKR_PIN_INCORRECT/)
  t.like(await code({ hsm_key: 'kek-1' }), { code: 'encryption.nothing-to-do' })
})

test('the key in the token is rotated, every value is under the new one, and back', async t => {
  makeKey('kek-2')
  const file = join(folder, 'first.conf')
  const text = readFileSync(file, 'utf8')
  const before = await seen(0)
  const { run, undo } = await given(plan, { ...vars, hsm_health_port: ports['first'] })
  await run(...steps(hsm.read, hsm.look, hsm.compare, hsm.keepConfig, hsm.addKey))
  t.deepEqual(byEtcdctl(keys['kek-1']!, keys['kek-2']!), [count, count, 0])
  await run(...steps(hsm.promoteKey, hsm.sameKey, stages.canary))
  t.deepEqual(byEtcdctl(keys['kek-1']!), [count, count], 'nothing was written anew yet')
  const early = await t.throwsAsync(run(...steps(stages.counted('gate'))))
  t.regex(early!.message, new RegExp(`40 secrets under kms first '${keys['kek-1']}'`))
  await run(...steps(stages.reencrypt, stages.counted('gate'), hsm.logged))
  t.deepEqual(byEtcdctl(keys['kek-1']!, keys['kek-2']!), [count, 0, count])
  t.deepEqual(await seen(1), before)
  t.regex(readFileSync(file, 'utf8'), /Primary_key = kek-2\nSecondary_key = kek-1\n/)
  await run(...(hsm.wayBack as unknown as StepDefinition<never>[]))
  await undo(...(steps(hsm.addKey) as [StepDefinition<never>]))
  t.deepEqual(byEtcdctl(keys['kek-1']!, keys['kek-2']!), [count, count, 0])
  t.is(readFileSync(file, 'utf8'), text)
  const nothing = await given(plan, {})
  t.like(await t.throwsAsync(nothing.run(...steps(kmsKey.count))), { code: 'encryption.nothing-to-do' })
})

test('a second plugin takes the place of the first, and the first one’s log says that nobody asks it', async t => {
  makeKey('kek-3')
  await placePlugin('second', 'kek-3')
  execFileSync(join(folder, 'bin/systemctl'), ['restart', 'second.service'])
  const before = await seen(0)
  const own = {
    ...{ kms_name: 'second', kms_endpoint: endpointOf('second'), kms_health_port: ports['second'], kms_timeout: '3s' },
    ...{ kms_old: 'first.service', kms_asked: 'status|encrypt|decrypt' },
  }
  const same = given(plugin.plan as StepDefinition<never>, { ...own, kms_endpoint: endpointOf('first') })
  t.like(await t.throwsAsync(same), { code: 'encryption.same-plugin' })
  const { run, plan: planned } = await given(plugin.plan as StepDefinition<never>, own)
  await run(...steps(plugin.tried, plugin.sameKey))
  const stage = async (edit: (text: string) => string) => {
    for (const { file, restart } of bed.servers) {
      writeFileSync(file, edit(readFileSync(file, 'utf8')))
      await restart()
    }
  }
  const { next, old } = planned
  await stage(text => addReader(text, 'f', next as never, () => true))
  await run(...steps(plugin.seen))
  await stage(text => promote(text, 'f', next, () => true))
  await run(...steps(stages.canary, stages.reencrypt, stages.counted('gate')))
  t.deepEqual(byEtcdctl('k8s:enc:kms:v2:second:', keys['kek-3']!), [count, count, count])
  await run(...steps(plugin.oldIsLogged))
  await stage(text => drop(text, 'f', old, () => true))
  await run(...steps(plugin.unaskedFor(3)))
  execFileSync(join(folder, 'bin/systemctl'), ['stop', 'first.service'])
  await run(...steps(plugin.wellWithout, stages.counted('gate')))
  t.deepEqual(await seen(1), before)
})
