// The keyset without certificates: keys that sign tokens of service accounts. What is common to keysets of both kinds goes over it, what is
// about certificates leaves it out. Hosts are folders of this machine.
import { generateKeyPairSync } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { digestOf } from '../../lib/pki/certificates/bundle-text.ts'
import { planStep } from '../../lib/rotation/given/found.ts'
import { finish, makeStaged, promote, stages } from '../../lib/rotation/keysets/index.ts'
import { keptTokenKeys } from '../../lib/rotation/keysets/kept.ts'
import {
  everyKeyset,
  type Key,
  lookStep,
  statesOf,
  type TokenKeys,
  tokenKeysOf,
} from '../../lib/rotation/keysets/state.ts'
import { temporaryFolder } from '../_temporary.ts'
import { localSession } from '../kubernetes/_local.ts'

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
    ...{ log: () => {}, check: false, host: { name: 'm1' } },
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
