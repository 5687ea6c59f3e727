// What a rotation does to the file of a master, there and back, and what it refuses before it changes anything.
import { strict as assert } from 'node:assert'
import { lstatSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readInForce } from '../../../lib/encryption/in-force.ts'
import type { Context, Plan } from '../../../lib/encryption/key-rotation/given.ts'
import { count, keepFile, plan, planned as planTo, requireFit } from '../../../lib/encryption/key-rotation/prepare.ts'
import {
  type Restarting,
  restartLast,
  restartOne,
  standIn,
  startAnew,
} from '../../../lib/encryption/key-rotation/restarts.ts'
import { everyServer } from '../../../lib/encryption/key-rotation/servers.ts'
import * as stages from '../../../lib/encryption/key-rotation/stages.ts'
import { wayBack, wayBackToTheFile } from '../../../lib/encryption/key-rotation/way-back.ts'
import { ApiError } from '../../../lib/kubernetes/api/api.ts'
import type { FoundComponent } from '../../../lib/kubernetes/layout/host-layout.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { startApiServer } from '../../kubernetes/api/_api-server.ts'
import { configuration } from '../_configuration.ts'

import { keys, master, run, sha } from './_master.ts'

const ofNone = keys('aescbc', 'none-key1')
const before: Record<string, string> = {
  'another key of the same provider': configuration('secrets', `${keys('aescbc', 'key1')}      - identity: {}\n`),
  'another provider': configuration('secrets', `${keys('aesgcm', 'key1')}      # plain values\n      - identity: {}\n`),
  'no encryption any more': configuration('secrets', keys('secretbox', 'key1')),
  'encryption from none': configuration('secrets', '      - identity: {}\n'),
  'none, where one of its rules let plain values in': `${configuration('secrets', `${ofNone}      - identity: {}\n`)}  - resources: [configmaps]
    providers:
${ofNone}`,
}
const wanted: Record<string, Context['vars']['encryption_provider']> = {
  'another provider': 'secretbox',
  'no encryption any more': 'identity',
  'encryption from none': 'aescbc',
  'none, where one of its rules let plain values in': 'identity',
}

for (const [name, text] of Object.entries(before))
  test(`a file goes to ${name} and back, byte for byte, and keeps its mode`, async t => {
    const provider = wanted[name]
    const { ctx, file, text: now } = await master(t, text, provider && { encryption_provider: provider })
    await run(ctx, keepFile, stages.addKey, stages.promoteKey, stages.dropKey)
    t.notRegex(now(), /key1/)
    t.is(statSync(file).mode & 0o777, 0o640)
    const done = now()
    await run(ctx, stages.addKey, stages.promoteKey, stages.dropKey)
    t.is(now(), done, 'what is done is not done again')
    await run(ctx, stages.oldKeyBack, stages.oldKeyFirst)
    await stages.addKey.rollback!(ctx)
    t.is(now(), text)
    await stages.addKey.rollback!(ctx)
    t.is(now(), text)
  })

test('a run is not undone over one that has rotated further since', async t => {
  const { ctx, file, text } = await master(t, before['another provider']!, { encryption_provider: 'secretbox' })
  await run(ctx, keepFile, stages.addKey, stages.promoteKey, stages.dropKey)
  const later = configuration('secrets', keys('aescbc', 'later'))
  writeFileSync(file, later)
  t.like(await t.throwsAsync(async () => run(ctx, stages.oldKeyBack)), { code: 'encryption.changed-meanwhile' })
  t.is(text(), later)
})

test('a file that somebody else changed meanwhile is not put back over that', async t => {
  const { ctx, file, text } = await master(t, before['another key of the same provider']!)
  await run(ctx, keepFile, stages.addKey)
  writeFileSync(file, text().replace('[secrets]', '[secrets, configmaps]'))
  t.like(await t.throwsAsync(async () => stages.addKey.rollback!(ctx)), { code: 'encryption.changed-meanwhile' })
  t.regex(text(), /configmaps/)
})

test('a file that a link leads to is changed where it lies, and back', async t => {
  const text = before['another key of the same provider']!
  const { ctx, file, folder } = await master(t, text, {}, { linked: true })
  await run(ctx, keepFile, stages.addKey)
  t.true(lstatSync(file).isSymbolicLink())
  t.not(readFileSync(join(folder, 'real.yaml'), 'utf8'), text)
  await stages.addKey.rollback!(ctx)
  t.true(lstatSync(file).isSymbolicLink())
  t.is(readFileSync(join(folder, 'real.yaml'), 'utf8'), text)
})

test('a copy that was cut off in the middle is not taken for the one that was kept', async t => {
  const { ctx, folder, text } = await master(t, before['another key of the same provider']!)
  const cp = join(folder, 'bin/cp')
  writeFileSync(cp, '#!/bin/sh\nhead -c 20 "$1" >"$2"; exit 1\n', { mode: 0o755 })
  await t.throwsAsync(async () => run(ctx, keepFile))
  renameSync(cp, join(folder, 'cp'))
  const { path } = (await run(ctx, keepFile)) as { path: string }
  t.is(readFileSync(path, 'utf8'), text())
})

test('files are the same as far as a stage has come: one that was put back, or changed, is told; one that is further is not', async t => {
  const first = await master(t, before['another key of the same provider']!)
  const { ctx, apiServer, folder } = first
  const other = join(folder, 'm2.yaml')
  const files = [{ role: 'encryption', by: '', path: other, real: other }] as const
  const hosts = [ctx.host, { ...ctx.host, name: 'm2' }]
  const registered = (step: string, host: string) => {
    if (step === 'gate') return { hash: sha(readFileSync(host === 'm2' ? other : first.file)) }
    const seen = { layout: { host, components: { 'kube-apiserver': { ...apiServer, files } } }, file: other }
    return host === 'm2' ? seen : ctx.registered(step, host)
  }
  const both = { ...ctx, hosts: () => hosts, registered } as unknown as Context
  const same = async (stage: 'read' | 'write', gate = 'gate') => {
    try {
      await stages.equal('same', gate, stage).run(both)
      return true
    } catch (error) {
      t.like(error, { code: 'encryption.servers-differ' })
      return false
    }
  }
  const put = (text: string) => writeFileSync(other, text)
  const texts = [first.text()]
  for (const one of [stages.addKey, stages.promoteKey, stages.dropKey]) {
    await run(ctx, one)
    texts.push(first.text())
  }
  const [old, added, promoted, dropped] = texts as [string, string, string, string]
  const at = async (text: string, theirs: string, ...stage: ['read' | 'write', string?]) => {
    writeFileSync(first.file, text)
    put(theirs)
    return await same(...stage)
  }
  t.true(await at(added, added, 'read'))
  t.true(await at(promoted, added, 'read'), 'a promotion was cut off')
  t.true(await at(dropped, promoted, 'read'), 'so was a drop')
  t.true(await at(dropped, promoted, 'write'))
  t.false(await at(promoted, added, 'write'), 'it writes with the old key still')
  t.false(await at(promoted, old, 'write'))
  t.false(await at(promoted, old, 'read'))
  t.false(await at(promoted, `${promoted}# changed\n`, 'write'))
  t.false(await at(promoted, promoted, 'write', 'another-gate'), 'it is not what their servers took up')
})

test('what lies in etcd is judged by all rules, and counted where one of the rotation is for it', async t => {
  const text = `${configuration('secrets', keys('aescbc', 'key1'))}  - resources: ["*.*"]
    providers:
${keys('secretbox', 'key2')}      - identity: {}\n`
  const all = { encryption_resources: ['*.*'] }
  const values = {
    '/registry/secrets/a/s': 'k8s:enc:aescbc:v1:key1:x',
    '/registry/configmaps/a/c': 'k8s:enc:secretbox:v1:key2:x',
    '/registry/masterleases/m1': 'k8s\0',
  }
  const { ctx } = await master(t, text, all, { values })
  t.deepEqual(await run(ctx, count, stages.counted('gate')), { covered: 1 })
  const refused = async (more: Record<string, string>) => {
    const { ctx: with_ } = await master(t, text, all, { values: { ...values, ...more } })
    return (await t.throwsAsync(async () => run(with_, count)))!
  }
  const lost = await refused({ '/registry/configmaps/a/d': 'k8s:enc:aescbc:v1:key1:x' })
  t.like(lost, { code: 'encryption.unreadable-values' })
  t.regex(lost.message, /1 configmaps under aescbc key1 \(\/registry\/configmaps\/a\/d\)$/)
  t.like(await refused({ '/registry/podsecuritypolicy/p': 'k8s\0' }), { code: 'encryption.not-served' })
})

test('a Secret is tried and looked for in etcd as most members have it, and one that is deleted while others are read is no failure', async t => {
  let there = false
  const answers = {
    post: async () => {
      there = true
    },
    delete: async () => {},
    get: async (path: string) => {
      if (path.endsWith('/gone') || (path.endsWith('/rekey-encryption-canary') && !there))
        throw new ApiError(`GET ${path}: 404 not found`, 404)
      return { data: { by: Buffer.from('m1').toString('base64') } }
    },
    patch: async () => {},
    each: async function* () {
      for (const name of ['gone', 'there']) yield { metadata: { name, namespace: 'kube-system' } }
    },
  }
  const { port, close } = await startApiServer()
  t.teardown(close)
  const values = { '/registry/secrets/kube-system/rekey-encryption-canary': 'k8s\0' }
  const text = before['no encryption any more']!
  const { ctx, etcd } = await master(t, text, { encryption_provider: 'identity' }, { answers, values, port })
  const told: string[] = []
  const telling = { ...ctx, log: (line: string) => told.push(line) } as unknown as Context
  await run(telling, stages.addKey, stages.promoteKey, stages.canary, restartOne(noOther))
  t.deepEqual(
    etcd.asked.map(({ serializable }) => serializable),
    [false],
  )
  t.regex(told.at(-1)!, /read 1 Secrets/)
})

test('a Secret to try keys with that a killed run left is removed by the way back, and one of somebody else is left alone', async t => {
  const { ctx } = await master(t, before['another key of the same provider']!)
  const { api, put, get, close } = await startApiServer()
  t.teardown(close)
  const on = { ...ctx, cluster: { api: async () => api, apiOf: async () => api } } as unknown as Context
  const path = '/api/v1/namespaces/kube-system/secrets'
  const name = 'rekey-encryption-canary'
  const undo = async () => stages.canary.rollback!(on)
  await undo()
  put(path, { metadata: { name, labels: { 'app.kubernetes.io/managed-by': 'rekey' } } })
  await undo()
  t.is(get(`${path}/${name}`), undefined)
  put(path, { metadata: { name } })
  for (const one of [undo, async () => stages.canary.run(on)])
    t.like(await t.throwsAsync(one), { code: 'encryption.canary-taken' })
  t.truthy(get(`${path}/${name}`))
})

test('a kept file without the old key ends the way back with a word of it', async t => {
  const { ctx, file } = await master(t, before['another key of the same provider']!)
  await run(ctx, keepFile)
  const kept = join(ctx.vars.backup_directory, 'r', 'encryption-configuration')
  writeFileSync(kept, readFileSync(file, 'utf8').replace('key1', 'key9'))
  t.like(await t.throwsAsync(run(ctx, stages.oldKeyBack)), { code: 'encryption.no-such-key' })
})

/** There is one master: it is restarted in its place. */
const noOther: Restarting<Context> = {
  restartDrained: async () => assert.fail('there is nobody to hand its traffic to'),
  backInTraffic: async () => {},
  requireGapAccepted: () => {},
}

test('an API server that reads its file only when it starts is started anew at each stage and on the way back, and read through; one that has it stays', async t => {
  const answers = {
    get: async () => ({}),
    each: async function* () {
      yield { metadata: { name: 'one', namespace: 'default' } }
    },
  }
  const text = before['another key of the same provider']!
  const { ctx, says, text: now } = await master(t, text, {}, { reloads: false, answers })
  const done: string[] = []
  const told: string[] = []
  const telling = { ...ctx, log: (line: string) => told.push(line) } as unknown as Context
  const restarting: Restarting<Context> = {
    restartDrained: async (_, { host }, wanted) => {
      done.push(`${wanted} of ${host.name} restarted`)
      says.hash = sha(now())
    },
    backInTraffic: async (_, { host }) => void done.push(`${host.name} in traffic`),
    requireGapAccepted: (_, { name }) => void done.push(`${name} may be away`),
  }
  says.hash = sha(text)
  const only = async (...steps: StepDefinition<Context>[]) => {
    done.length = 0
    await run(telling, ...steps)
    return [...done]
  }
  const restarted = ['kube-apiserver of m1 restarted']
  t.deepEqual(await only(standIn(restarting)), ['m1 may be away'])
  t.deepEqual(await only(keepFile, stages.addKey, startAnew('read', restarting)), restarted)
  t.deepEqual(await only(startAnew('read', restarting)), ['m1 in traffic'], 'it has its file')
  t.regex(told.at(-1)!, /read 1 Secrets by their names/)
  t.deepEqual(await only(stages.promoteKey, startAnew('write', restarting)), restarted)
  t.deepEqual(await only(stages.oldKeyFirst, startAnew('write', restarting)), restarted)
  t.deepEqual(await only(...wayBackToTheFile(restarting)), restarted)
  t.is(now(), text)
  t.is(says.hash, sha(text))
  t.false(restartOne(restarting).when!(telling), 'none is left to be the proof')
  const { ctx: reloading } = await master(t, text)
  t.false(standIn(restarting).when!(reloading))
  t.false(startAnew('read', restarting).when!(reloading))
})

test('a server that fails to take its file up ends the wait, by its name', async t => {
  const { ctx, says } = await master(t, before['another key of the same provider']!)
  await run(ctx, stages.converged('gate'))
  Object.assign(says, { hash: 'other', asked: () => says.failures++ })
  const error = await t.throwsAsync(async () => run(ctx, stages.converged('gate', 1)))
  t.like(error, { code: 'encryption.not-taken-up', host: 'm1' })
})

test('a failure of before does not end a later wait: the server takes up what a resumed run, or the way back, wrote', async t => {
  const { ctx, says } = await master(t, before['another key of the same provider']!)
  let asked = 0
  const asking = () => {
    if (++asked === 3) says.hash = undefined
  }
  Object.assign(says, { failures: 3, hash: 'other', asked: asking })
  await t.notThrowsAsync(async () => run(ctx, stages.converged('gate', 1)))
  t.is(asked, 3)
})

test('a Secret that is left under the old key stops what would drop it, by its name', async t => {
  const values = {
    '/registry/secrets/default/done': 'k8s:enc:secretbox:v1:key1:x',
    '/registry/secrets/default/left': 'k8s:enc:aescbc:v1:key1:x',
  }
  const text = configuration('secrets', keys('aescbc', 'key1'))
  const { ctx } = await master(t, text, { encryption_provider: 'secretbox' }, { values })
  const next = { kind: 'secretbox', name: 'key1' } as const
  const called = { ...ctx, registered: (step: string) => planned(ctx, step, { next }) } as unknown as Context
  await run(called, stages.addKey, stages.promoteKey)
  const error = await t.throwsAsync(async () => run(called, stages.counted('count')))
  t.like(error, { code: 'encryption.left-behind' })
  t.regex(error!.message, /: 1 secrets under aescbc key1 \(\/registry\/secrets\/default\/left\)$/)
})

/** What is registered, the plan with another key. */
function planned(ctx: Context, step: string, change: Partial<Plan>): unknown {
  const found = ctx.registered<object>(step)
  return step === 'plan-the-key' ? { ...found, ...change } : found
}

test('masters with different files are refused, and named', async t => {
  const { ctx } = await master(t, configuration('secrets', keys('aescbc', 'key1')))
  const hosts = [{ name: 'm1' }, { name: 'm2' }]
  const registered = (step: string, host: string) => {
    const found = ctx.registered<object>(step)
    return step === 'read-encryption' && host === 'm2' ? { ...found, hash: 'another' } : found
  }
  const error = await t.throwsAsync(async () =>
    plan.run({ ...ctx, hosts: () => hosts, registered } as unknown as Context),
  )
  t.like(error, { code: 'encryption.servers-differ' })
  t.regex(error!.message, /m1 \| m2/)
})

test('a file that no server would take, and one by which keys can not be told apart, are refused with their place', async t => {
  const refused = async (text: string) => {
    const { ctx, file, apiServer } = await master(t, configuration('secrets', keys('aescbc', 'key1')))
    writeFileSync(file, text)
    const state = await readInForce(ctx, apiServer, await ctx.cluster.apiOf(ctx.host))
    const { code, message } = t.throws(() => requireFit(state, 'm1')) as Error & { code: string }
    return `${code} ${message.slice(message.indexOf('encryption.yaml'))}`
  }
  t.regex(await refused('\0\0 nothing of this: is\n a file'), /^encryption\.configuration encryption\.yaml/)
  const masked = `${configuration('"*.*"', keys('aescbc', 'key1'))}  - resources: [secrets]\n    providers:\n      - identity: {}\n`
  t.regex(
    await refused(masked),
    /^encryption\.configuration encryption\.yaml:\d+: secrets is masked by the earlier \*\.\*/,
  )
  const twice = configuration('secrets', keys('aescbc', 'key1', 'key1'))
  t.regex(await refused(twice), /^encryption\.doubt encryption\.yaml:\d+: aescbc has another key of the name 'key1'/)
})

test('what must not be rotated is refused before anything is changed', async t => {
  const code = async (providers: string, vars: Partial<Context['vars']> = {}) => {
    const error = (await t.throwsAsync(master(t, configuration('secrets', providers), vars))) as Error & {
      code: string
    }
    return error.code
  }
  t.is(await code(keys('aescbc', 'key1', 'key2')), 'encryption.half-way')
  t.is(await code(keys('aescbc', 'key1') + keys('secretbox', 'key2')), 'encryption.half-way')
  t.is(
    await code('      - kms:\n          apiVersion: v2\n          name: a\n          endpoint: unix:///a\n'),
    'encryption.kms',
  )
  t.is(await code('      - identity: {}\n'), 'encryption.no-provider')
  t.is(await code('      - identity: {}\n', { encryption_provider: 'identity' }), 'encryption.nothing-to-do')
  t.is(await code(keys('aescbc', 'key1'), { encryption_resources: ['configmaps'] }), 'encryption.no-rule')
  const two = `${keys('aescbc', 'key1')}  - resources: [configmaps]\n    providers:\n${keys('aescbc', 'key2')}`
  t.is(await code(two), 'encryption.several-writers')
  const flags = { 'etcd-servers-overrides': ['/events#https://e:2379,/secrets#https://s:2379;https://t:2379'] }
  const elsewhere = master(t, configuration('secrets', keys('aescbc', 'key1')), {}, { flags })
  t.like(await t.throwsAsync(elsewhere), { code: 'encryption.other-etcd' })
  const { ctx } = await master(t, configuration('secrets', two), { encryption_resources: ['configmaps'] })
  const { old, resources } = (await plan.run(ctx)) as Plan
  t.deepEqual([old, resources], [{ kind: 'aescbc', name: 'key2' }, [['configmaps']]])
})

const lease = (address: string) => ({ [`/registry/masterleases/${address}`]: 'k8s' })

test('an API server that is not one of this run’s masters stops it before anything is changed', async t => {
  const text = before['another key of the same provider']!
  const of = async (values: Record<string, string>, flags: FoundComponent['flags'] = {}) =>
    (await master(t, text, {}, { values, flags })).ctx
  await everyServer.run(await of(lease('10.0.0.1')))
  await everyServer.run(await of(lease('10.0.0.1'), { 'advertise-address': ['10.0.0.1'] }))
  const wrong = {
    'one of two': await of({ ...lease('10.0.0.1'), ...lease('10.0.0.2') }),
    'another one': await of(lease('10.0.0.2'), { 'advertise-address': ['10.0.0.1'] }),
    'no lease': await of({}),
  }
  for (const [name, ctx] of Object.entries(wrong))
    t.like(await t.throwsAsync(async () => everyServer.run(ctx), undefined, name), {
      code: 'encryption.unknown-servers',
    })
})

test('a plugin of before is tried before API servers hear of it again', t => {
  const order = wayBack({} as Restarting<Context>).map(one => ('id' in one ? one.id : ''))
  t.deepEqual(order.slice(0, 3), ['undo-try-the-old-plugin', 'undo-old-key-everywhere', 'undo-old-key-back'])
})

test('where a run restarts nobody, a server that reads its file only when it starts is restarted as the proof as well', async t => {
  const { ctx } = await master(t, before['another key of the same provider']!, {}, { reloads: false })
  t.false(await restartOne({} as Restarting<Context>).when!(ctx))
  t.true(await restartLast({} as Restarting<Context>).when!(ctx))
})

test('a file that can not be edited, or rules that can not have one plugin, are refused by the plan', async t => {
  const none = before['encryption from none']!
  const { ctx, file } = await master(t, none, { encryption_provider: 'secretbox' })
  const toPlugin = planTo<Context>(() => ({ kind: 'kms', name: 'second', endpoint: 'unix:///s', timeout: '3s' }))
  await toPlugin.run(ctx)
  writeFileSync(file, `${none}  - resources: [configmaps]\n    providers:\n      - identity: {}\n`)
  t.like(await t.throwsAsync(async () => toPlugin.run(ctx)), { code: 'encryption.several-rules' })
  await plan.run(ctx)
  writeFileSync(file, none.replace(/providers:\n[\s\S]*$/, 'providers: [{ identity: {} }]\n'))
  for (const one of [plan, toPlugin])
    t.like(await t.throwsAsync(async () => one.run(ctx)), { code: 'yaml.not-editable' })
})
