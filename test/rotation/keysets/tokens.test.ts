// The keyset without certificates: keys that sign tokens of service accounts. What is common to keysets of both kinds goes over it, what is
// about certificates leaves it out. Hosts are folders of this machine.
import { generateKeyPairSync } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { backUpFiles } from '../../../lib/operations/backup.ts'
import { digestOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { loadPlaybook } from '../../../lib/playbook/load.ts'
import { type HostSession, type StepDefinition, Unchanged } from '../../../lib/playbook/model.ts'
import { variables as conditionVariables } from '../../../lib/rotation/conditions.ts'
import { firstChange } from '../../../lib/rotation/given/context.ts'
import { planStep, readingStep } from '../../../lib/rotation/given/found.ts'
import { masters } from '../../../lib/rotation/given/hosts.ts'
import * as keysets from '../../../lib/rotation/keysets/index.ts'
import { finish, makeStaged, promote, stages } from '../../../lib/rotation/keysets/index.ts'
import { keptTokenKeys } from '../../../lib/rotation/keysets/kept.ts'
import {
  everyKeyset,
  type Key,
  lookStep,
  statesOf,
  type TokenKeys,
  tokenKeysOf,
} from '../../../lib/rotation/keysets/state.ts'
import { keysIn } from '../../../lib/rotation/keysets/tokens/pem.ts'
import { refuseOtherMasters, refuseUntriedTokens } from '../../../lib/rotation/keysets/which/untried.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { localSession } from '../../kubernetes/_local.ts'

const pair = () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return {
    key: digestOf(publicKey),
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    privateKey: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
  }
}
const [old, next] = [pair(), pair()]

const item = ({ key }: { key: string }, state: Key['state'], kept?: true): Key => ({
  ...{ id: key.slice(0, 8), key, state },
  ...(kept && { kept }),
})
const tokens = (...items: Key[]): TokenKeys => ({ name: 'service-account', items, files: {}, uses: [], unread: [] })

const context = (state: TokenKeys, more: Record<string, unknown> = {}) =>
  ({
    vars: { accept: [], items: [] },
    registered: (step: string) =>
      step === lookStep ? [state] : step === planStep ? { specs: [], oldAuthorities: {} } : undefined,
    ...{ log: () => {}, check: false, host: { name: 'm1', groups: ['masters'] } },
    ...more,
  }) as never

test('it is a keyset, and none of a CA: what asks Vault, or is about certificates, is left out', async t => {
  const ctx = context(tokens(item(old, 'primary')))
  t.is(everyKeyset(ctx).length, 1)
  t.deepEqual(statesOf(ctx), [])
  t.is(tokenKeysOf(ctx)?.name, 'service-account')
  for (const step of [
    makeStaged,
    promote,
    stages.stage,
    stages.noteStaged,
    stages.untold,
    finish.destroyIssuers,
    stages.stagedEverywhere,
  ])
    t.false(await step.when?.(ctx))
})

test('a second rotation of it is refused while one rests', t => {
  const resting = tokens(item(next, 'primary'), item(old, 'trusted'))
  const error = t.throws<RekeyError>(() => stages.mayStage.run(context(resting)))
  t.is(error?.code, 'keysets.not-over')
  t.regex(error?.message ?? '', new RegExp(`service-account is not over: ${old.key.slice(0, 8)} is trusted`))
})

test('what masters keep of its keys is read, without a private key: which is to sign, and who has it', async t => {
  const backups = temporaryFolder('keyset-tokens')
  const folder = (key: string) => join(backups, 'keysets', 'service-account', key.slice(0, 8))
  for (const { key, publicKey, privateKey } of [old, next]) {
    mkdirSync(folder(key), { recursive: true })
    writeFileSync(join(folder(key), 'sa.pub'), publicKey)
    writeFileSync(join(folder(key), 'sa.key'), privateKey)
  }
  writeFileSync(join(folder(next.key), 'next'), '')
  const session = await localSession()
  const host = { name: 'm1' }
  const ctx = context(tokens(), { vars: { backup_directory: backups }, hosts: () => [host], on: async () => session })
  const found = await keptTokenKeys(ctx)
  const told = Object.fromEntries(found.map(({ key, next: isNext, hosts }) => [key, [isNext, ...hosts]]))
  t.deepEqual(told, { [old.key]: [false, 'm1'], [next.key]: [true, 'm1'] })
  t.false(JSON.stringify(found).includes('PRIVATE'))
})

test('where it is distrusted and kept, there is something to finish, and what is kept of it is destroyed', async t => {
  const backups = temporaryFolder('keyset-tokens')
  const folder = join(backups, 'keysets', 'service-account', old.key.slice(0, 8))
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'sa.key'), old.privateKey)
  const ctx = context(tokens(item(next, 'primary'), item(old, 'distrusted', true)), {
    ...(await localSession()),
    vars: { backup_directory: backups },
  })
  await t.notThrowsAsync(async () => finish.somethingToFinish.run(ctx))
  t.false(await finish.destroyKept.check?.(ctx))
  await finish.destroyKept.run(ctx)
  t.true(await finish.destroyKept.check?.(ctx))
})

/** A master of this machine whose API server verifies by sa.pub and signs with sa.key, with an archive of before. */
async function master(...items: Key[]) {
  const folder = temporaryFolder('keyset-tokens')
  const [verifying, signing] = [join(folder, 'sa.pub'), join(folder, 'sa.key')]
  writeFileSync(verifying, old.publicKey, { mode: 0o644 })
  writeFileSync(signing, old.privateKey, { mode: 0o600 })
  const session = await localSession()
  const backup_directory = join(folder, 'backups')
  await backUpFiles(session, join(backup_directory, 'run-1', 'host.tgz'), [verifying, signing])
  const component = 'kube-apiserver' as const
  const files = [
    { component, path: verifying, signs: false, keys: [old.key] },
    { component, path: signing, signs: true, keys: [old.key] },
    { component: 'kube-controller-manager' as const, path: signing, signs: true, keys: [old.key] },
  ]
  const named = { key: undefined, by: '--service-account-signing-key-file' }
  const layout = {
    host: 'm1',
    components: {
      [component]: {
        ...{ component, flags: {}, runs: { kind: 'static-pod' } },
        files: [
          { ...named, role: 'service-account-verify', path: verifying, real: verifying },
          { ...named, role: 'service-account-sign', path: signing, real: signing },
        ],
      },
    },
  }
  const returned = new Map<string, unknown>()
  const host = { name: 'm1', groups: ['masters'] }
  const ctx = context(
    { ...tokens(...items), files: { m1: files } },
    {
      ...session,
      ...{ run: 'run-1', host, hosts: () => [host], on: async () => ({ ...session, host }) },
      vars: { backup_directory, accept: [], items: [] },
      ...{ redact: () => {}, milestone: () => {} },
      cluster: { api: async () => ({ async *each() {} }) },
      registered: (step: string) =>
        step === lookStep
          ? [{ ...tokens(...items), files: { m1: files } }]
          : step === readingStep
            ? { host: 'm1', certificates: {}, kubeconfigs: {}, layout, files: {} }
            : returned.get(step),
    },
  )
  const done = async (step: StepDefinition<never>, id = step.id ?? '') => {
    const value = await step.run(ctx)
    returned.set(id, value instanceof Unchanged ? value.value : value)
  }
  const kept = (key: string) => join(backup_directory, 'keysets', 'service-account', key.slice(0, 8))
  return {
    ctx,
    done,
    verifying,
    signing,
    kept,
    read: () => [verifying, signing].map(path => readFileSync(path, 'utf8')),
  }
}

test('a key is made, kept for root alone, and stands behind the old one; promoted it signs, and the old one is kept; undone all is as it was', async t => {
  const { ctx, done, read, kept, signing } = await master(item(old, 'primary'))
  const { make, staged } = keysets.tokens
  await done(make)
  await done(staged.prepared)
  await done(staged.placed)
  const [verifying = '', before] = read()
  t.true(verifying.startsWith(old.publicKey))
  t.is(before, old.privateKey, 'nobody signs with it')
  const [, made = ''] = keysIn(verifying, 'sa.pub').map(({ key }) => key)
  t.is(statSync(kept(made)).mode & 0o777, 0o700)
  for (const file of readdirSync(kept(made))) t.is(statSync(join(kept(made), file)).mode & 0o777, 0o600, file)
  await done(make)
  t.deepEqual(
    readdirSync(join(kept(made), '..')),
    [made.slice(0, 8)],
    'made again after it was cut off, it is the same',
  )
  writeFileSync(signing, readFileSync(join(kept(made), 'sa.key')))
  const error = await t.throwsAsync<RekeyError>(async () => staged.placed.rollback?.(ctx))
  t.is(error?.code, 'rollback.changed', 'promoted since by another run, it must not go')
  writeFileSync(signing, 'of another kind')
  const unknown = await t.throwsAsync<RekeyError>(async () => staged.placed.rollback?.(ctx))
  t.is(unknown?.code, 'rollback.changed', 'who signs with what is not known')
  t.regex(unknown?.message ?? '', /is not known: m1: which key is in /)
  writeFileSync(signing, old.privateKey)
  await staged.placed.rollback?.(ctx)
  await staged.prepared.rollback?.(ctx)
  t.deepEqual(read(), [old.publicKey, old.privateKey])

  const promotion = await master(item(old, 'primary'), { ...item(next, 'staged', true) })
  mkdirSync(promotion.kept(next.key), { recursive: true })
  writeFileSync(join(promotion.kept(next.key), 'sa.pub'), next.publicKey)
  writeFileSync(join(promotion.kept(next.key), 'sa.key'), next.privateKey)
  writeFileSync(join(promotion.kept(next.key), 'next'), '')
  const { promoted } = keysets.tokens
  await promotion.done(promoted.prepared)
  await promotion.done(promoted.placed)
  t.deepEqual(promotion.read(), [old.publicKey, next.privateKey])
  t.is(statSync(promotion.signing).mode & 0o777, 0o600)
  t.is(readFileSync(join(promotion.kept(old.key), 'sa.key'), 'utf8').trim(), old.privateKey.trim())
  await promoted.placed.rollback?.(promotion.ctx)
  await promoted.prepared.rollback?.(promotion.ctx)
  t.deepEqual(promotion.read(), [old.publicKey, old.privateKey])
  t.false(existsSync(promotion.kept(old.key)))
  t.true(existsSync(promotion.kept(next.key)))
  t.true(existsSync(signing))
})

test('a stage that was killed before its restarts, run anew, finds the files as wanted, and asks who goes by them all the same', async t => {
  const { ctx, done, verifying, signing } = await master(item(old, 'primary'))
  const { make, staged, promoted } = keysets.tokens
  await done(make)
  for (let times = 0; times < 2; times++) {
    await done(staged.prepared)
    await done(staged.placed)
    t.deepEqual(staged.changes.files(ctx, 'm1'), [verifying])
    t.deepEqual(promoted.changes.files(ctx, 'm1'), [signing])
  }
})

const header = Buffer.from(JSON.stringify({ kid: Buffer.from(old.key, 'hex').toString('base64url') })).toString(
  'base64url',
)
const token = `${header}.e30.c2ln`

/** A cluster whose master keeps the old key, and whose node prints this of the tokens that lie there. */
async function keeping(api: object, printed = '.. end\n') {
  const backups = temporaryFolder('keyset-tokens')
  const folder = join(backups, 'keysets', 'service-account', old.key.slice(0, 8))
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'sa.pub'), old.publicKey)
  writeFileSync(join(folder, 'sa.key'), old.privateKey)
  const session = await localSession()
  const [m1, n1] = ['m1', 'n1'].map(name => ({ name }))
  const node = { host: n1, $: () => async () => ({ stdout: printed }) }
  const layout = { host: 'n1', components: { kubelet: { flags: {}, files: [] } } }
  const state = tokens(item(next, 'primary'), item(old, 'trusted', true))
  const more = {
    hosts: (pattern: string) => [pattern === masters ? m1 : n1],
    on: async (host: unknown) => (host === n1 ? node : session),
    cluster: { api: async () => api },
    registered: (step: string) => (step === lookStep ? [state] : step === readingStep ? { layout } : undefined),
  }
  const ctx = (...accept: string[]) =>
    context(state, { ...more, vars: { accept, items: [], backup_directory: backups } })
  return { ctx, folder }
}

/** An API that has nothing. */
const empty = { async *each() {} }

test('a private key that is to follow is never there without what undoes it, wherever a run is killed', async t => {
  for (let writes = 0; writes < 3; writes++) {
    const { ctx, kept } = await master(item(old, 'primary'))
    const context = ctx as { on: (host: unknown) => Promise<HostSession> }
    const { on } = context
    let left = writes
    context.on = async host => {
      const session = await on(host)
      const write: typeof session.files.write = async (...all) => {
        if (left-- === 0) throw new Error('killed')
        return session.files.write(...all)
      }
      return { ...session, files: { ...session.files, write } }
    }
    await t.throwsAsync(async () => keysets.tokens.make.run(ctx), { message: 'killed' })
    const folder = join(kept(old.key), '..')
    const keys = () => readdirSync(folder, { recursive: true }).map(String)
    if (keys().some(name => name.endsWith('sa.key')))
      for (const name of ['sa.pub', 'next']) t.true(keys().some(one => one.endsWith(name)))
    t.is((await keptTokenKeys(ctx)).filter(({ hosts }) => hosts.length > 0).length, 0)
  }
})

test('a key that signs is none that is to follow, though it is written beside it', async t => {
  const { ctx, done, kept } = await master(item(old, 'primary', true))
  mkdirSync(kept(old.key), { recursive: true })
  for (const [name, text] of [
    ['sa.pub', old.publicKey],
    ['sa.key', old.privateKey],
    ['next', ''],
  ] as const)
    writeFileSync(join(kept(old.key), name), text)
  await done(keysets.tokens.make)
  const made = (await keptTokenKeys(ctx)).filter(({ key }) => key !== old.key)
  t.is(made.length, 1)
})

test('what somebody writes between preparing and placing is left alone', async t => {
  const { done, verifying } = await master(item(old, 'primary'))
  const { make, staged } = keysets.tokens
  await done(make)
  await done(staged.prepared)
  const theirs = `${old.publicKey}${next.publicKey}`
  writeFileSync(verifying, theirs)
  const error = await t.throwsAsync<RekeyError>(() => done(staged.placed))
  t.is(error?.code, 'keysets.changed')
  t.is(readFileSync(verifying, 'utf8'), theirs)
})

test('whoever holds a token of the old key is named, unless they are accepted', async t => {
  const secret = {
    metadata: { namespace: 'ci', name: 'deploy' },
    data: { token: Buffer.from(token).toString('base64') },
  }
  const api = {
    async *each() {
      yield secret
    },
  }
  const { ctx } = await keeping(api)
  const { nobodyHoldsTheOld } = keysets.tokens
  const error = await t.throwsAsync<RekeyError>(async () => nobodyHoldsTheOld.run(ctx()))
  t.is(error?.code, 'keysets.old-in-use')
  t.regex(error?.message ?? '', /would be refused: Secret ci\/deploy$/)
  t.regex(error?.hint ?? '', /accept: \[token\/Secret ci\/deploy\]/)
  t.true(conditionVariables.accept.safeParse(['token/Secret ci/*']).success, 'what is to be accepted may be')
  await t.notThrowsAsync(async () => nobodyHoldsTheOld.run(ctx('token/Secret ci/*')))
})

test('where a controller-manager was started before the key that signs was put into its file, nothing is distrusted', async t => {
  const { ctx } = await keeping(empty)
  const path = '/pki/sa.key'
  const component = 'kube-controller-manager' as const
  const file = { role: 'service-account-sign', path, real: path, by: '--x', key: undefined }
  const layout = {
    host: 'm1',
    components: { [component]: { component, flags: {}, files: [file], runs: { kind: 'unit', environmentFiles: [] } } },
  }
  const state = {
    ...tokens(item(next, 'primary'), item(old, 'trusted', true)),
    files: { m1: [{ component, path, signs: true, keys: [next.key] }] },
  }
  const host = { name: 'm1', groups: ['masters'] }
  const run = async (startedAt: number) => {
    // 42 runs since then, the file was written at 1000, and nothing is kept: the gate stops there.
    const say = (text: string) =>
      text.includes('systemctl')
        ? '42\n'
        : text.includes('getconf')
          ? `${startedAt} 0 0 100\n`
          : text.includes('stat')
            ? '1000\n'
            : ''
    const $ = (first: TemplateStringsArray | object) =>
      Array.isArray(first)
        ? Promise.resolve({ stdout: say(first.join()) })
        : async (strings: TemplateStringsArray) => ({ stdout: say(strings.join()) })
    const more = {
      ...{ hosts: () => [host], on: async () => ({ host, $ }) },
      registered: (step: string) => (step === lookStep ? [state] : step === readingStep ? { layout } : undefined),
    }
    const found = await t.throwsAsync<RekeyError>(async () =>
      keysets.tokens.nobodyHoldsTheOld.run({ ...(ctx() as object), ...more } as never),
    )
    return found
  }
  const error = await run(999)
  t.is(error?.code, 'keysets.behind')
  t.regex(error?.message ?? '', /kube-controller-manager of m1$/)
  t.is((await run(1_001))?.code, 'keysets.no-old-credential', 'started since, it is asked no more')
})

test('the report of a promotion names what it restarts', async t => {
  const { ctx } = await master(item(old, 'primary'), { ...item(next, 'staged', true) })
  const { playbook } = await loadPlaybook(join(import.meta.dirname, '../../../playbooks/promote-keysets.ts'))
  const sections = await playbook.report?.({
    ...(ctx as object),
    ...{ mode: 'run', outcome: 'done', folder: '/runs/1', probes: { stop: async () => undefined } },
    vars: { backup_directory: '/backups', look_around: [], keysets: ['service-account'] },
    timeline: { plays: [], began: 0, milestones: new Map([[firstChange, 1]]) },
  } as never)
  const started = sections?.find(({ title }) => title.startsWith('Started anew'))
  t.deepEqual(started?.rows, [['kube-apiserver', 'm1']])
})

test('the kubeconfig of a network plugin is named with what renews it; no kubelet does', async t => {
  const where = '/etc/cni/net.d/calico-kubeconfig'
  const { ctx } = await keeping(empty, `.. ${header} ${where}\n.. end\n`)
  const { nobodyHoldsTheOld } = keysets.tokens
  const error = await t.throwsAsync<RekeyError>(async () => nobodyHoldsTheOld.run(ctx()))
  t.is(error?.code, 'keysets.old-in-use')
  t.true(error?.message.endsWith(`would be refused: n1:${where}`), error?.message)
  t.regex(error?.hint ?? '', /calico-node/)
  await t.notThrowsAsync(async () => nobodyHoldsTheOld.run(ctx(`token/n1:${where}`)))
})

test('an old key of which no master keeps the private half is not distrusted: nobody could try whether it is refused', async t => {
  const { ctx, folder } = await keeping(empty)
  const { nobodyHoldsTheOld } = keysets.tokens
  await t.notThrowsAsync(async () => nobodyHoldsTheOld.run(ctx()))
  rmSync(join(folder, 'sa.key'))
  const error = await t.throwsAsync<RekeyError>(async () => nobodyHoldsTheOld.run(ctx()))
  t.is(error?.code, 'keysets.no-old-credential')
  t.true(error?.hint?.includes(folder), error?.hint)
})

test('what was finished is not put back: the old key stays out of the files once masters keep it no more', async t => {
  const { ctx, done, kept, read, verifying } = await master(item(next, 'primary'), item(old, 'trusted', true))
  writeFileSync(verifying, next.publicKey)
  const { distrusted } = keysets.tokens
  mkdirSync(kept(old.key), { recursive: true })
  writeFileSync(join(kept(old.key), 'sa.pub'), old.publicKey)
  writeFileSync(join(kept(old.key), 'sa.key'), old.privateKey)
  await done(distrusted.prepared)
  await done(distrusted.placed)
  rmSync(kept(old.key), { recursive: true })
  const before = read()
  const error = await t.throwsAsync<RekeyError>(async () => distrusted.placed.rollback?.(ctx))
  t.is(error?.code, 'rollback.changed')
  t.regex(error?.hint ?? '', /finish-keysets/)
  t.deepEqual(read(), before)
})

test('an API server without a file of keys is refused: it goes by its serving key', async t => {
  const layout = { host: 'm1', components: { 'kube-apiserver': { files: [] } } }
  const state = tokens(item(old, 'primary'))
  const ctx = context(state, {
    hosts: () => [{ name: 'm1' }],
    registered: (step: string) => (step === lookStep ? [state] : { layout }),
  })
  const error = await t.throwsAsync<RekeyError>(async () => keysets.tokens.verifiable.run(ctx))
  t.is(error?.code, 'keysets.none')
})

test('where a CA’s own key signs tokens of static pods, and where API servers are pods of the API, it is refused', t => {
  const file = (role: string, path: string, key?: string) => ({
    role,
    path,
    real: path,
    ...(key && { key: { path: key, real: key } }),
  })
  const withKey = (kind: string, key: string) => ({
    host: 'm1',
    components: {
      'kube-apiserver': { component: 'kube-apiserver', runs: { kind }, files: [file('service-account-sign', key)] },
      'kube-controller-manager': {
        ...{ component: 'kube-controller-manager', runs: { kind } },
        files: [file('signing', '/ssl/ca.pem', '/ssl/ca-key.pem')],
      },
    },
  })
  const refusing = (kind: string, key: string) => () =>
    refuseUntriedTokens(
      context(tokens(), { hosts: () => [{ name: 'm1' }], registered: () => ({ layout: withKey(kind, key) }) }),
    )
  t.is(t.throws<RekeyError>(refusing('static-pod', '/ssl/ca-key.pem'))?.code, 'keysets.shared')
  t.is(t.throws<RekeyError>(refusing('pod', '/ssl/sa-key.pem'))?.code, 'keysets.layout')
  for (const kind of ['static-pod', 'unit']) t.notThrows(refusing(kind, '/ssl/sa-key.pem'))
})

test('the cluster’s own CA is refused where a master is not of static pods, but for its etcd, or etcd is elsewhere, or its key signs tokens', t => {
  const parts = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'etcd'] as const
  const on =
    (other: Partial<Record<(typeof parts)[number], string | undefined>>, files: unknown[] = []) =>
    () => {
      const kinds = { ...Object.fromEntries(parts.map(part => [part, 'static-pod'])), ...other }
      const components = Object.fromEntries(
        Object.entries(kinds).map(([part, kind]) => [
          part,
          kind && { component: part, runs: { kind }, files: part === 'kube-controller-manager' ? files : [] },
        ]),
      )
      const more = { hosts: () => [{ name: 'm1' }], registered: () => ({ layout: { host: 'm1', components } }) }
      refuseOtherMasters(context(tokens(), more))
    }
  for (const part of parts)
    for (const kind of part === 'etcd' ? ['pod', undefined] : ['unit', undefined])
      t.is(t.throws<RekeyError>(on({ [part]: kind }))?.code, 'keysets.layout', part)
  for (const well of [{}, { etcd: 'unit' }]) t.notThrows(on(well))
  const at = (real: string) => ({ path: real, real })
  const signing = { role: 'signing', ...at('/pki/ca.crt'), key: at('/pki/ca.key') }
  const signed = (real: string) => on({}, [signing, { role: 'service-account-sign', ...at(real) }])
  t.is(t.throws<RekeyError>(signed('/pki/ca.key'))?.code, 'keysets.shared')
  t.notThrows(signed('/pki/sa.key'))
})

test('what a promotion stages of keys of tokens comes after the certificates, whose staging takes away all that was staged before', async t => {
  const { playbook } = await loadPlaybook('promote-keysets')
  const ids = playbook.plays.flatMap(({ steps }) => steps.flatMap(one => ('id' in one ? [one.id] : [])))
  const [certificates, keys] = [keysets.issueAndStage.id ?? '', keysets.tokens.promoted.prepared.id ?? ''].map(id =>
    ids.indexOf(id),
  )
  t.true(certificates! >= 0 && keys! > certificates!, ids.join())
})
