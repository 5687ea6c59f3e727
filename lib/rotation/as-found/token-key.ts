// Where the CA's own key signs tokens of service accounts, a new CA is a new key for them: API servers are told the old one, too, so that
// tokens of before hold until whoever has them asked for others.
import { posix } from 'node:path'
import { splitPath } from '../../connection/safe-folder.ts'
import { plannedFlags, updateFlags } from '../../kubernetes/components/flags.ts'
import { tokenAuthorityOf } from '../../kubernetes/layout/authorities.ts'
import type { HostLayout } from '../../kubernetes/layout/host-layout.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import type { StagedFile } from '../../operations/staging.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnHost } from '../given/context.ts'
import { componentOf, layoutOf, runsAs } from '../given/found.ts'
import { flagsAsTheyWere } from '../restart/controllers.ts'

const flag = 'service-account-key-file'

interface Variables {
  readonly rotate_service_account_keys: boolean
}

/** The CA's file that API servers verify tokens with, and where the one of before is kept beside it; undefined where tokens have a key of their own. */
function keptOf(layout: HostLayout): { readonly verifying: string; readonly kept: string } | undefined {
  const file = tokenAuthorityOf(layout)
  return file && { verifying: file.path, kept: posix.join(splitPath(file.real).folder, 'service-account-before.pem') }
}

/** The certificate of before, as a file of a host: nothing where its key signs no tokens. */
export function keyOfBefore({ certificates }: MachineReading, layout: HostLayout): StagedFile[] {
  const kept = keptOf(layout)
  const content = kept && certificates[kept.verifying]
  return kept && content ? [{ path: kept.kept, content, mode: 0o644 }] : []
}

const isKept = (ctx: OnHost<Variables>) =>
  !ctx.vars.rotate_service_account_keys &&
  runsAs(ctx, 'kube-apiserver') !== undefined &&
  keptOf(layoutOf(ctx)) !== undefined

function withKeyOfBefore(ctx: OnHost) {
  const found = componentOf(ctx, 'kube-apiserver')
  const kept = keptOf(layoutOf(ctx))?.kept ?? ''
  const next = [...(found.flags[flag] ?? []).filter(path => path !== kept), kept]
  return { found, edit: (flags: { flag(name: string, value: readonly string[]): void }) => flags.flag(flag, next) }
}

/** Has the API server of a master know the old key as well, from its next start on. */
export const known: StepDefinition<OnHost<Variables>> = {
  id: 'keep-the-key-of-tokens',
  when: isKept,
  plan: ctx => {
    const { found, edit } = withKeyOfBefore(ctx)
    return plannedFlags(ctx, found, edit)
  },
  run: async ctx => {
    const { found, edit } = withKeyOfBefore(ctx)
    await updateFlags(ctx, found, edit)
    ctx.log('tokens of before hold: they are signed with the key of the old CA, which is still known for them')
  },
}

/** Has it know what it knew before. */
export const asItWas: StepDefinition<OnHost<Variables & BackupVariables>> = {
  when: isKept,
  run: ctx => flagsAsTheyWere(ctx, componentOf(ctx, 'kube-apiserver')),
}
