// The end of a rotation: what is kept of CAs that nobody trusts any more is destroyed, and they can't be trusted again.
import { HostFailedError } from '../../../errors.ts'
import { publicKeyOf } from '../../../pki/certificates/bundle-text.ts'
import { mountOf } from '../../../pki/specs.ts'
import type { Vault } from '../../../pki/vault/contract.ts'
import type { RunContext, StepDefinition } from '../../../playbook/model.ts'
import { type Mounts, plansOf } from '../../authorities.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import type { OnCluster, OnHost } from '../../given/context.ts'
import { masters } from '../../given/hosts.ts'
import type { WithVault } from '../../given/vault.ts'
import type { WithVisitors } from '../credentials.ts'
import { allRefuse } from '../gates.ts'
import { destroyFolders, keptFolder } from '../kept.ts'
import { aboutAuthorities, describe, everyKeyset, forgottenOf, formerOf, type Key, statesOf } from '../state.ts'
import { requireForgotten } from '../which/standing.ts'

type Needs = OnCluster<Mounts & BackupVariables> & WithVault & WithVisitors

const irreversible = 'what was destroyed is gone: these CAs can’t be trusted again'

/** Fails where there is nothing to finish. */
export const somethingToFinish: StepDefinition<Needs> = {
  ...{ readOnly: true, remember: true, runOnce: true },
  run: requireForgotten,
}

/** Every server refuses what they signed, and what is signed with their keys now: the last time that it can be tried. */
export const refusedEverywhere: StepDefinition<Needs> = {
  ...allRefuse<Needs>((_, state) => forgottenOf(state)),
  remember: true,
}

/**
 * What a master keeps of them; and the copy of the key that signs, which lay there until it did: while another one rests or is staged, it may be
 * one that a promotion which was broken off has to give to others still.
 */
const foldersOf = (ctx: OnHost<BackupVariables>) =>
  everyKeyset(ctx).flatMap(state => {
    const copies =
      formerOf<Key>(state).length > 0 ? [] : state.items.filter(item => item.state === 'primary' && item.kept)
    return [...forgottenOf<Key>(state), ...copies].map(({ id }) => keptFolder(ctx, state.name, id))
  })

/** Destroys what a master keeps of them. */
export const destroyKept: StepDefinition<OnHost<BackupVariables>> = {
  id: 'destroy-what-is-kept-of-the-old-cas',
  irreversible,
  plan: ctx => foldersOf(ctx).map(folder => `destroy ${folder}`),
  check: async ctx =>
    (await Promise.all(foldersOf(ctx).map(folder => ctx.files.exists(folder)))).every(there => !there),
  run: async ctx => {
    await destroyFolders(ctx, foldersOf(ctx))
    await ctx.$`sync`
  },
  verify: async ctx => {
    for (const folder of foldersOf(ctx)) {
      if (!(await ctx.files.exists(folder))) continue
      throw new HostFailedError(`${ctx.host.name}:${folder} is there still`, { code: 'keysets.not-destroyed' })
    }
  },
}

/** Destroys their keys and certificates in Vault. */
export const destroyIssuers: StepDefinition<Needs> = {
  id: 'destroy-the-old-cas-in-vault',
  when: aboutAuthorities,
  irreversible,
  runOnce: true,
  plan: ctx =>
    statesOf(ctx).flatMap(state =>
      forgottenOf(state).map(({ id }) => `delete ${id} and its key from ${mountOf(state, plansOf(ctx))}`),
    ),
  run: async ctx => {
    const vault = await ctx.vault.operator()
    for (const state of statesOf(ctx)) {
      const mount = mountOf(state, plansOf(ctx))
      const keys = forgottenOf(state).map(({ key }) => key)
      for (const { id, keyId } of await issuersOf(vault, mount, keys)) {
        await vault.deleteIssuer(mount, id)
        if (keyId !== '') await vault.deleteKey(mount, keyId)
      }
    }
  },
  verify: async ctx => {
    const vault = await ctx.vault.operator()
    for (const state of statesOf(ctx)) {
      const mount = mountOf(state, plansOf(ctx))
      const left = await issuersOf(
        vault,
        mount,
        forgottenOf(state).map(({ key }) => key),
      )
      if (left.length > 0)
        throw new HostFailedError(`${mount} in Vault has ${left.map(({ id }) => id).join(', ')} still`, {
          code: 'keysets.not-destroyed',
        })
    }
  },
}

async function issuersOf(vault: Vault, mount: string, keys: readonly string[]) {
  const first = (await vault.readIssuer(mount, 'default'))?.id
  const all = await Promise.all((await vault.listIssuers(mount)).map(id => vault.readIssuer(mount, id)))
  // What issues now is never one of them; it would be the end of every certificate.
  return all.flatMap(one => (one && one.id !== first && keys.includes(publicKeyOf(one.certificate) ?? '') ? [one] : []))
}

/** What was destroyed, and what was not, for the report. */
export function finished(ctx: RunContext<BackupVariables>): (readonly [string, string])[] {
  const all = everyKeyset(ctx).flatMap(state => forgottenOf<Key>(state).map(item => `${state.name}: ${describe(item)}`))
  return [
    [
      'destroyed',
      `${all.join('\n')}\non ${ctx
        .hosts(masters)
        .map(({ name }) => name)
        .join(', ')}${aboutAuthorities(ctx) ? ' and in Vault' : ''}. It can’t be undone.`,
    ],
    [
      'left',
      `archives of earlier runs hold keys as they lay there then: ${ctx.vars.backup_directory}/*/host.tgz, and backups/ in folders of runs; secrets/ there may have the key that signs now`,
    ],
  ]
}
