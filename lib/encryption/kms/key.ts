// The key behind a KMS plugin was rotated where it is kept (`transit/keys/…/rotate` of Vault, a cloud's key), and the plugin is the same: every API
// server must have been told of the new key before anything is written anew with it.
import { shown } from '../../errors.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { type Context, ids as rotation } from '../key-rotation/given.ts'
import { countReadable, planned, refused } from '../key-rotation/prepare.ts'
import { listed } from '../standing.ts'
import { oneKey, pluginOf, seesKey } from './plugin.ts'
import { tryPlugin } from './socket.ts'

const ids = { try: 'try-the-plugin' } as const

/** From what is written with now to the same: another key is behind it. */
export const plan: StepDefinition<Context> = planned<Context>((_, old) => {
  if (old.kind !== 'kms')
    throw refused(
      'values are not written by a KMS plugin',
      'no-plugin',
      'Keys that stand in the file are rotated by rotate-encryption-key.',
    )
  return old
})

/** Has the plugin of a master encrypt and decrypt over its socket. */
export const tried: StepDefinition<Context> = {
  id: ids.try,
  readOnly: true,
  run: async (ctx): Promise<{ keyId: string }> => {
    const keyId = await tryPlugin(ctx, pluginOf(ctx).endpoint)
    ctx.log(`encrypts and decrypts with ${shown(keyId)}`)
    return { keyId }
  },
}

/** The plugins of all masters have one key. */
export const sameKey: StepDefinition<Context> = {
  id: rotation.sameKey,
  readOnly: true,
  runOnce: true,
  run: async ctx => ({ keyId: await oneKey(ctx, pluginOf(ctx).endpoint) }),
}

/** Every API server has been told of that key by the plugin itself. */
export const seen: StepDefinition<Context> = {
  id: 'api-servers-have-the-key',
  readOnly: true,
  when: ({ check }) => !check,
  run: async ctx => seesKey(ctx, pluginOf(ctx).name, ctx.registered<{ keyId: string }>(rotation.sameKey)!.keyId),
}

/** Counts what lies under another key than the plugin's of now: nothing means that nobody rotated it. */
export const count: StepDefinition<Context> = {
  id: 'count-before',
  readOnly: true,
  remember: true,
  runOnce: true,
  when: ({ check }) => !check,
  run: async ctx => {
    const { behind, covered } = await countReadable(ctx)
    if (behind.length === 0)
      throw refused(
        `all ${covered} values lie under the key that the plugin has now`,
        'nothing-to-do',
        'Rotate the key first where it is kept: vault write -f transit/keys/NAME/rotate, or your cloud’s word for it.',
      )
    ctx.log(`${covered} values, of which ${listed(behind)}`)
    return { covered }
  },
}

/** A stage of other rotations, where there is nothing to undo: the plugin goes on to decrypt with the old key. */
export const kept = <In extends Context>({ undoneWith: _, ...definition }: StepDefinition<In>): StepDefinition<In> => ({
  ...definition,
  ...(!definition.readOnly &&
    !definition.rollback && { irreversible: 'what was written anew stays so: the plugin decrypts with both keys' }),
})
