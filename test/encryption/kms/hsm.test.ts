// The key of plugins in a token, with two masters that are folders of this machine: what is refused before the first change, and a plugin that turns
// out not to decrypt once it was promoted. The whole way, with a real token, is in test/lab/embedded/kms.test.ts.
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import * as hsm from '../../../lib/encryption/kms/hsm.ts'
import { plan } from '../../../lib/encryption/kms/key.ts'
import type { HostSession, StepDefinition } from '../../../lib/playbook/model.ts'
import { localSession } from '../../kubernetes/_local.ts'
import { found, unit } from '../../kubernetes/components/_host.ts'
import { configuration } from '../_configuration.ts'
import { gatewayOf } from '../_gateway.ts'
import { pluginAt } from '../_plugin.ts'

const ids: Record<string, string> = { 'kek-0': randomUUID(), 'kek-1': randomUUID(), 'kek-2': randomUUID() }
const provider = (name: string, endpoint: string) =>
  `      - kms:\n          apiVersion: v2\n          name: ${name}\n          endpoint: ${endpoint}\n`

interface Around {
  /** Whether plugins decrypt with their Secondary_key as well. */
  readonly knowsSecondary?: boolean
  /** What a plugin runs with, whatever its file says. */
  readonly runs?: string
  /** Further rules of the file. */
  readonly more?: (endpoint: string) => string
}

async function masters(t: ExecutionContext, { knowsSecondary = true, runs, more }: Around = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-hsm-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'bin'))
  writeFileSync(join(folder, 'bin/systemctl'), '#!/bin/sh\necho active\n', { mode: 0o755 })
  const endpoint = `unix://${join(folder, 'here/kms.sock')}`
  const config = join(folder, 'here/kms.conf')
  const all: (HostSession & { own: string; primary: () => string })[] = []
  for (const name of ['m1', 'm2']) {
    mkdirSync(join(folder, name))
    const own = join(folder, name, 'kms.conf')
    writeFileSync(own, 'Primary_key = kek-1\n')
    const key = (which: string) => new RegExp(`^${which}_key = (.*)$`, 'm').exec(readFileSync(own, 'utf8'))?.[1] ?? ''
    const primary = () => ids[runs ?? key('Primary')]!
    await pluginAt(t, join(folder, name, 'kms.sock'), {
      Status: () => [
        [1, 'v2'],
        [2, 'ok'],
        [3, primary()],
      ],
      Encrypt: asked => [
        [1, Buffer.from(asked.get(1)!).reverse()],
        [2, primary()],
      ],
      Decrypt: asked => {
        const known = [primary(), ...(knowsSecondary ? [ids[key('Secondary')]] : [])]
        return known.includes(asked.get(3)!.toString())
          ? [[1, Buffer.from(asked.get(1)!).reverse()]]
          : 'no%20such%20key'
      },
    })
    const machine = await localSession(
      line => `export PATH=${join(folder, 'bin')}:$PATH; ${line.replaceAll(`${folder}/here/`, `${folder}/${name}/`)}`,
    )
    all.push({ ...machine, host: { ...machine.host, name }, own, primary })
  }
  const file = join(folder, 'encryption.yaml')
  writeFileSync(file, `${configuration('secrets', provider('first', endpoint))}${more?.(endpoint) ?? ''}`)
  const gateway = await gatewayOf(t, [])
  const listens = [`http://127.0.0.1:${gateway.access.client.port}`]
  const components = {
    'kube-apiserver': found({
      ...{ component: 'kube-apiserver', runs: unit('kube-apiserver'), flags: {} },
      files: [{ role: 'encryption', by: '', path: file, real: file }],
    }),
    etcd: found({ component: 'etcd', runs: unit('etcd'), flags: { 'listen-client-urls': listens } }),
  }
  const registered = new Map<string, unknown>()
  const hosts = all.map(({ host }) => host)
  const of = (name: string) => all.find(one => one.host.name === name)!
  const sha = (text: string | Buffer) => createHash('sha256').update(text).digest('hex')
  for (const { name } of hosts) {
    registered.set(`read-encryption ${name}`, { layout: { host: name, components }, file, hash: 'same' })
    registered.set(`look-into-the-token ${name}`, {
      old: ids['kek-1']!.replaceAll('-', ''),
      next: ids['kek-2']!.replaceAll('-', ''),
    })
  }
  const core = ['secrets', 'configmaps'].map(name => ({ name, namespaced: true, verbs: ['list', 'patch'] }))
  const getText = (name: string) => async (path: string) =>
    path.startsWith('/healthz')
      ? 'ok'
      : `apiserver_encryption_config_controller_last_config_info{hash="sha256:${sha(readFileSync(file))}"} 1
apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{provider_name="first",key_id_hash="sha256:${sha(of(name).primary())}"} ${Date.now() / 1_000}\n`
  const context = ({ host, $, files }: (typeof all)[number]) =>
    ({
      ...{ host, $, files, run: 'r', signal: new AbortController().signal, log: () => {}, check: false },
      vars: {
        backup_directory: join(folder, 'backups', host.name),
        ...{ hsm_key: 'kek-2', hsm_config: config, hsm_unit: 'kms.service', encryption_resources: ['secrets'] },
      },
      hosts: () => hosts,
      on: async (one: string | { name: string }) => of(typeof one === 'string' ? one : one.name),
      registered: (step: string, name = '') => registered.get(`${step} ${name}`) ?? registered.get(`${step} `),
      cluster: {
        apiOf: async ({ name }: { name: string }) => ({ getText: getText(name) }),
        api: async () => ({
          list: async () => [],
          get: async (path: string) => (path === '/apis' ? { groups: [] } : { resources: core }),
        }),
      },
    }) as never
  const run = async (...steps: StepDefinition<never>[]) => {
    for (const one of steps)
      for (const own of one.runOnce ? all.slice(0, 1) : all)
        registered.set(`${one.id} ${one.runOnce ? '' : own.host.name}`, await one.run(context(own)))
  }
  await run({ ...(plan as StepDefinition<never>), id: 'plan-the-key' })
  return {
    run,
    text: (name: string) => readFileSync(of(name).own, 'utf8'),
    write: (name: string, text: string) => writeFileSync(of(name).own, text),
  }
}

const steps = (...all: unknown[]) => all as StepDefinition<never>[]
const checks = steps(hsm.read, hsm.compare)

test('keys are exchanged on all masters, and back', async t => {
  const { run, text, write } = await masters(t)
  await run(...checks, ...steps(hsm.keepConfig, hsm.addKey, hsm.promoteKey))
  for (const name of ['m1', 'm2']) t.is(text(name), 'Primary_key = kek-2\nSecondary_key = kek-1\n')
  await run(hsm.wayBack[0] as never)
  for (const name of ['m1', 'm2']) t.is(text(name), 'Primary_key = kek-1\nSecondary_key = kek-2\n')
  const undo = { ...hsm.addKey, run: hsm.addKey.rollback } as never
  await run(undo)
  for (const name of ['m1', 'm2']) t.is(text(name), 'Primary_key = kek-1\n')
  write('m1', 'Primary_key = kek-1\nLog_level = 9\n')
  t.like(await t.throwsAsync(run(undo)), { code: 'encryption.changed-meanwhile', host: 'm1' })
  t.is(text('m1'), 'Primary_key = kek-1\nLog_level = 9\n', 'what somebody else wrote stays')
})

test('a plugin that has another name in the file is refused before anything is changed', async t => {
  const more = (endpoint: string) => `  - resources: [configmaps]\n    providers:\n${provider('again', endpoint)}`
  const { run } = await masters(t, { more })
  t.like(await t.throwsAsync(run(...checks)), { code: 'encryption.shared-plugin' })
})

test('a plugin that does not run by its file is refused before anything is changed', async t => {
  const { run } = await masters(t, { runs: 'kek-0' })
  t.like(await t.throwsAsync(run(...checks)), { code: 'encryption.not-in-force', host: 'm1' })
})

test('where Secondary_key is ignored the first master goes back to the old key at once, and the next is left alone', async t => {
  const { run, text } = await masters(t, { knowsSecondary: false })
  await run(...checks, ...steps(hsm.keepConfig, hsm.addKey))
  t.like(await t.throwsAsync(run(...steps(hsm.promoteKey))), { code: 'encryption.does-not-decrypt', host: 'm1' })
  for (const name of ['m1', 'm2']) t.is(text(name), 'Primary_key = kek-1\nSecondary_key = kek-2\n')
})

test('the way back goes over the masters one after the other', t => {
  t.true(hsm.wayBack.every(one => 'runOnce' in one && one.runOnce))
})
