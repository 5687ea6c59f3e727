import test from 'ava'
import type { Context, Plan } from '../../../lib/encryption/key-rotation/given.ts'
import { keepFile, needsOf, planned as planTo } from '../../../lib/encryption/key-rotation/prepare.ts'
import * as stages from '../../../lib/encryption/key-rotation/stages.ts'
import { configuration } from '../_configuration.ts'

import { keys, master, run } from './_master.ts'

test('a snapshot of before needs every key of the file, one of after the new key and those of rules that stay', async t => {
  const text = `${configuration('secrets', `${keys('aescbc', 'key1')}      - identity: {}\n`)}  - resources: [configmaps]
    providers:
${keys('secretbox', 'other')}`
  const { ctx } = await master(t, text, { encryption_resources: ['secrets'] })
  const next = ctx.registered<Plan>('plan-the-key')!.next as { name: string }
  t.deepEqual(await needsOf(ctx, true), [{ name: 'aescbc key1' }, { name: 'secretbox other' }])
  await run(ctx, keepFile, stages.addKey, stages.promoteKey, stages.dropKey)
  t.deepEqual(await needsOf(ctx, false), [{ name: 'secretbox other' }, { name: `aescbc ${next.name}` }])
})

test('of a KMS plugin that stays a snapshot needs the key that it had then', async t => {
  const plugin = '      - kms:\n          apiVersion: v2\n          name: vault\n          endpoint: unix:///v\n'
  const { ctx } = await master(t, configuration('secrets', plugin), { encryption_provider: 'identity' })
  const registered = new Map<string, unknown>([
    ['plan-the-key', await planTo<Context>((_, old) => old).run(ctx)],
    ['key-of-before', { keyId: '1' }],
    ['same-key-everywhere', { keyId: '2' }],
  ])
  const given = { ...ctx, registered: (step: string) => registered.get(step) ?? ctx.registered(step) } as Context
  t.deepEqual(await needsOf(given, true), [{ name: 'kms v2 vault', keyId: '1' }])
  t.deepEqual(await needsOf(given, false), [{ name: 'kms v2 vault', keyId: '2' }])
})
