// What the end of a rotation destroys: what the masters keep of distrusted CAs, and nothing of anybody else's.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { publicKeyOf } from '../../lib/pki/certificates/bundle-text.ts'
import { planStep } from '../../lib/rotation/given/found.ts'
import { finish } from '../../lib/rotation/keysets/index.ts'
import { type Item, type KeysetState, lookStep } from '../../lib/rotation/keysets/state.ts'
import { temporaryFolder } from '../_temporary.ts'
import { localSession } from '../kubernetes/_local.ts'
import { issue } from '../pki/certificates/_certificates.ts'

const item = async (state: Item['state'], kept?: true): Promise<Item> => {
  const certificate = (await issue({ name: `CN=${state}`, ca: true })).pem
  const key = publicKeyOf(certificate) ?? ''
  return { id: key.slice(0, 8), key, state, certificate, ...(kept && { kept }) }
}

/** The keyset after a distrust: another cluster has an issuer in the same mount. */
async function distrusted() {
  const [primary, old, foreign] = await Promise.all([item('primary'), item('distrusted', true), item('distrusted')])
  const state: KeysetState = {
    ...{ name: 'front-proxy-ca', authority: 'front-proxy', bundles: {}, uses: [], unread: [] },
    items: [primary, old, foreign],
  }
  const backups = temporaryFolder('keyset-finish')
  const context = async (more: Record<string, unknown> = {}) =>
    ({
      ...(await localSession()),
      run: '20261129-080000-finish-keysets-0000',
      vars: { backup_directory: backups, pki_authorities: 'three', pki_mount: 'pki' },
      registered: (step: string) =>
        step === lookStep
          ? [state]
          : step === planStep
            ? { specs: [], oldAuthorities: { 'front-proxy': old.certificate } }
            : undefined,
      ...more,
    }) as never
  return { primary, old, foreign, state, backups, context }
}

test('what a master keeps of a distrusted CA is destroyed, and what it keeps of others stays', async t => {
  const { old, foreign, backups, context } = await distrusted()
  for (const { id } of [old, foreign]) {
    mkdirSync(join(backups, 'keysets', 'front-proxy-ca', id), { recursive: true })
    writeFileSync(join(backups, 'keysets', 'front-proxy-ca', id, 'ca.key'), 'a key')
  }
  const ctx = await context()
  t.false(await finish.destroyKept.check?.(ctx))
  await finish.destroyKept.run(ctx)
  t.false(existsSync(join(backups, 'keysets', 'front-proxy-ca', old.id)))
  t.true(existsSync(join(backups, 'keysets', 'front-proxy-ca', foreign.id, 'ca.key')))
  await finish.destroyKept.verify?.(ctx)
  t.true(await finish.destroyKept.check?.(ctx))
})

test('the copy of the key that signs is destroyed with them, but while a rotation rests', async t => {
  const { primary, old, state, backups, context } = await distrusted()
  const folders = [primary, old].map(({ id }) => join(backups, 'keysets', 'front-proxy-ca', id))
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'ca.key'), 'a key')
  }
  const kept = { ...primary, kept: true as const }
  const asking = (items: Item[]) =>
    context({ registered: (step: string) => (step === lookStep ? [{ ...state, items }] : undefined) })
  await finish.destroyKept.run(await asking([kept, await item('trusted', true), old]))
  t.deepEqual(folders.map(existsSync), [true, false])
  await finish.destroyKept.run(await asking([kept, old]))
  t.deepEqual(folders.map(existsSync), [false, false])
})

test('its issuer and key leave Vault; the one that issues, and the one of another cluster, stay', async t => {
  const { primary, old, foreign, context } = await distrusted()
  const issuers = new Map(
    [primary, old, foreign].map(({ id, certificate }) => [id, { id, certificate, keyId: `k-${id}` }]),
  )
  const keys: string[] = []
  const vault = {
    readIssuer: async (_: string, id: string) => issuers.get(id === 'default' ? primary.id : id),
    listIssuers: async () => [...issuers.keys()],
    deleteIssuer: async (_: string, id: string) => void issuers.delete(id),
    deleteKey: async (_: string, id: string) => void keys.push(id),
  }
  const ctx = await context({ vault: { operator: async () => vault } })
  await t.throwsAsync(async () => finish.destroyIssuers.verify?.(ctx))
  await finish.destroyIssuers.run(ctx)
  t.deepEqual([...issuers.keys()], [primary.id, foreign.id])
  t.deepEqual(keys, [`k-${old.id}`])
  await finish.destroyIssuers.verify?.(ctx)
})

test('where nothing is kept that was distrusted, there is nothing to finish', async t => {
  const { state, old, context } = await distrusted()
  await t.notThrowsAsync(async () => finish.somethingToFinish.run(await context()))
  const trusted: KeysetState = {
    ...state,
    items: state.items.map(one => (one === old ? { ...one, state: 'trusted' } : one)),
  }
  const ctx = await context({ registered: () => [trusted] })
  const error = await t.throwsAsync<RekeyError>(async () => finish.somethingToFinish.run(ctx))
  t.is(error?.code, 'keysets.nothing-to-finish')
})
