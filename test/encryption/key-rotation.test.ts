// What a rotation does to the file of a master, there and back, and what it refuses before it changes anything.
import { createHash } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { secret } from '../../lib/connection/shell.ts'
import type { Context, Plan } from '../../lib/encryption/key-rotation/given.ts'
import { keepFile, plan } from '../../lib/encryption/key-rotation/prepare.ts'
import * as stages from '../../lib/encryption/key-rotation/stages.ts'
import type { StepDefinition } from '../../lib/playbook/model.ts'
import { found, localHost, unit } from '../kubernetes/components/_host.ts'
import { base64Key, configuration } from './_configuration.ts'

const keys = (kind: string, ...names: string[]) =>
  `      - ${kind}:\n          keys:\n${names.map(name => `            - name: ${name}   # of mine\n              secret: ${base64Key()}\n`).join('')}`

interface Master {
  readonly ctx: Context
  readonly file: string
  readonly text: () => string
  /** What the server says of its reloads, and of the hash that it has; that of the file where nothing is said. */
  says: { failures: number; hash?: string; asked?: () => void }
}

/** A master with a file, and an API server that has it in force at once. */
async function master(t: ExecutionContext, text: string, vars: Partial<Context['vars']> = {}): Promise<Master> {
  const { session, folder } = await localHost(t)
  const file = join(folder, 'encryption.yaml')
  writeFileSync(file, text, { mode: 0o640 })
  const hash = () => createHash('sha256').update(readFileSync(file)).digest('hex')
  const says: Master['says'] = { failures: 0 }
  const getText = async () => {
    says.asked?.()
    return `apiserver_encryption_config_controller_last_config_info{hash="sha256:${says.hash ?? hash()}"} 1
apiserver_encryption_config_controller_automatic_reloads_total{status="failure"} ${says.failures}\n`
  }
  const apiServer = found({
    ...{ component: 'kube-apiserver', runs: unit('kube-apiserver') },
    files: [{ role: 'encryption', by: '', path: file, real: file }],
  })
  const registered = new Map<string, unknown>([
    [
      'read-encryption',
      { layout: { host: 'm1', components: { 'kube-apiserver': apiServer } }, file, hash: hash() },
    ],
    ['make-the-key', { secret: secret(base64Key()) }],
  ])
  const ctx = {
    ...session,
    ...{ run: 'r', vars: { backup_directory: join(folder, 'backups'), ...vars }, signal: new AbortController().signal },
    hosts: () => [session.host],
    on: async () => session,
    log: () => {},
    registered: (step: string) => registered.get(step),
    cluster: { apiOf: async () => ({ getText }) },
  } as unknown as Context
  registered.set('plan-the-key', await plan.run(ctx))
  return { ctx, file, text: () => readFileSync(file, 'utf8'), says }
}

const run = (ctx: Context, ...steps: StepDefinition<Context>[]) =>
  steps.reduce<Promise<unknown>>((before, one) => before.then(() => one.run(ctx)), Promise.resolve())

const before: Record<string, string> = {
  'another key of the same provider': configuration('secrets', `${keys('aescbc', 'key1')}      - identity: {}\n`),
  'another provider': configuration('secrets', `${keys('aesgcm', 'key1')}      # plain values\n      - identity: {}\n`),
  'no encryption any more': configuration('secrets', keys('secretbox', 'key1')),
  'encryption from none': configuration('secrets', '      - identity: {}\n'),
}
const wanted: Record<string, Context['vars']['encryption_provider']> = {
  'another provider': 'secretbox',
  'no encryption any more': 'identity',
  'encryption from none': 'aescbc',
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

test('a file that somebody else changed meanwhile is not put back over that', async t => {
  const { ctx, file, text } = await master(t, before['another key of the same provider']!)
  await run(ctx, keepFile, stages.addKey)
  writeFileSync(file, text().replace('[secrets]', '[secrets, configmaps]'))
  t.like(await t.throwsAsync(async () => stages.addKey.rollback!(ctx)), { code: 'encryption.changed-meanwhile' })
  t.regex(text(), /configmaps/)
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
  const { ctx } = await master(t, configuration('secrets', two), { encryption_resources: ['configmaps'] })
  const { old, resources } = (await plan.run(ctx)) as Plan
  t.deepEqual([old, resources], [{ kind: 'aescbc', name: 'key2' }, [['configmaps']]])
})
