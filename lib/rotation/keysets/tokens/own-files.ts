// Where a CA's own key signs tokens, as kubeasz has it, another key can't stand in its files: tokens get files of their own first, with the same
// key, and API servers and controller-managers are told of them by their flags. The CA's files stay as they are.
import { splitPath } from '../../../connection/safe-folder.ts'
import { secret } from '../../../connection/shell.ts'
import { HostFailedError } from '../../../errors.ts'
import { flagFilesOf, plannedFlags, updateFlags } from '../../../kubernetes/components/flags.ts'
import type { FlagEditor } from '../../../kubernetes/components/static-pods.ts'
import { type OfAuthority, tokenFilesOfAuthorities } from '../../../kubernetes/layout/authorities.ts'
import type { ComponentName } from '../../../kubernetes/layout/host-layout.ts'
import { restoreFiles } from '../../../operations/restore.ts'
import { privateKeysWithin } from '../../../pki/certificates/bundle-text.ts'
import type { Planned, StepDefinition } from '../../../playbook/model.ts'
import { archiveOf, type Variables as BackupVariables } from '../../backup.ts'
import { firstChange, type OnHost } from '../../given/context.ts'
import { componentOf, layoutOf, readingOf } from '../../given/found.ts'
import { flagsAsTheyWere } from '../../restart/controllers.ts'
import { changedAt } from '../../restart/due.ts'
import type { ChangedBy } from '../trust/restarts.ts'
import { aboutTokens, madeKey } from './keys.ts'
import { keysIn, publicHalf, withKey } from './pem.ts'

type Needs = OnHost<BackupVariables>

/** The step that registers when they were put in place. */
const ownStep = 'give-tokens-files-of-their-own'

const flags = {
  'service-account-verify': { 'kube-apiserver': 'service-account-key-file' },
  'service-account-sign': {
    'kube-apiserver': 'service-account-signing-key-file',
    'kube-controller-manager': 'service-account-private-key-file',
  },
} as const

const names = {
  'service-account-verify': 'service-account.pub',
  'service-account-sign': 'service-account.key',
} as const

/** The files of CAs that tokens go by on a host, where the run is about tokens. */
const borrowedBy = (ctx: OnHost, host = ctx.host.name): OfAuthority[] =>
  aboutTokens(ctx) ? tokenFilesOfAuthorities(layoutOf(ctx, host)) : []

/** Whether tokens go by a file of a CA on a host: it is not written. */
export const isBorrowed = (ctx: OnHost, path: string, host = ctx.host.name): boolean =>
  borrowedBy(ctx, host).some(({ file }) => file.real === path)

const ownOf = ({ role, file }: OfAuthority) => `${splitPath(file.real).folder}/${names[role]}`

/** Where tokens have files of their own on a host since. */
const ownFilesOf = (ctx: OnHost) => [...new Set(borrowedBy(ctx).map(ownOf))]

/** The components of a host whose flags name others, and what they are to name. */
function editsOf(
  ctx: OnHost,
  host = ctx.host.name,
): { component: ComponentName; edit: (editor: FlagEditor) => void }[] {
  const borrowed = borrowedBy(ctx, host)
  return [...new Set(borrowed.map(({ component }) => component))].map(component => ({
    component,
    edit: editor => {
      for (const [role, flagOf] of Object.entries(flags)) {
        const name = (flagOf as Partial<Record<ComponentName, string>>)[component]
        const own = borrowed.filter(one => one.component === component && one.role === role)
        if (name === undefined || own.length === 0) continue
        const files = componentOf(ctx, component, host).files.filter(one => one.role === role)
        editor.flag(name, [
          ...new Set(files.map(file => ownOf(own.find(one => one.file.real === file.real) ?? own[0]!))),
        ])
      }
    },
  }))
}

/** What the files are to hold: the keys of those of the CA, and behind them, where API servers verify by no file after it, the new one. */
async function contentOf(ctx: OnHost, { role, file, isLast }: OfAuthority): Promise<string> {
  const where = `${ctx.host.name}:${file.real}`
  const text = await ctx.files.readText(file.real)
  if (role === 'service-account-sign') {
    const [key] = keysIn(text, where).filter(({ isPrivate }) => isPrivate)
    if (key) return key.pem
    throw new HostFailedError(`${where} holds no private key`, { code: 'keysets.unread', host: ctx.host.name })
  }
  const held = keysIn(text, where)
    .map(({ pem }) => publicHalf(pem))
    .join('')
  return isLast ? withKey(held, madeKey(ctx).publicKey, where) : held
}

/**
 * Gives tokens files of their own on a master, with the key of before, and the new one to verify by; registers when. Nobody goes by them before
 * they are started anew.
 */
export const ownFiles: StepDefinition<Needs> = {
  id: ownStep,
  when: ctx => borrowedBy(ctx).length > 0,
  plan: async ctx => {
    const planned: Planned[][] = await Promise.all(
      editsOf(ctx).map(({ component, edit }) => plannedFlags(ctx, componentOf(ctx, component), edit)),
    )
    return [...ownFilesOf(ctx).map(path => `${path}: the key of tokens, beside the CA's`), ...planned.flat()]
  },
  run: async ctx => {
    ctx.milestone(firstChange)
    for (const one of borrowedBy(ctx)) {
      const { role, file } = one
      const path = ownOf(one)
      const content = await contentOf(ctx, one)
      await requireFree(ctx, path, content)
      const { mode = 0o600, owner } = readingOf(ctx).files?.[role === 'service-account-sign' ? file.path : ''] ?? {}
      if (role === 'service-account-sign') {
        ctx.redact(content)
        // It is for whom the CA's was, but for everybody.
        const text = secret(content, { parts: privateKeysWithin(content) })
        await ctx.files.write(path, text, { mode: mode & 0o660, ...(owner && { owner }) })
      } else await ctx.files.write(path, content, { mode: 0o644 })
    }
    for (const { component, edit } of editsOf(ctx)) await updateFlags(ctx, componentOf(ctx, component), edit)
    ctx.log(`tokens go by ${ownFilesOf(ctx).join(', ')} from the next start on, with the same key`)
    return { at: await changedAt(ctx, flagFilesIn(ctx)) }
  },
  rollback: async ctx => {
    for (const one of borrowedBy(ctx)) {
      const path = ownOf(one)
      if (await ctx.files.exists(path)) await requireFree(ctx, path, await contentOf(ctx, one))
    }
    for (const { component } of editsOf(ctx)) await flagsAsTheyWere(ctx, componentOf(ctx, component))
    await restoreFiles(ctx, ctx.run, archiveOf(ctx), ownFilesOf(ctx))
  },
}

/** Fails where a file lies there that holds other keys. */
async function requireFree(ctx: OnHost, path: string, content: string): Promise<void> {
  if (!(await ctx.files.exists(path))) return
  const where = `${ctx.host.name}:${path}`
  const keys = (text: string) => keysIn(text, where).map(({ key, isPrivate }) => `${key} ${isPrivate}`)
  if (keys(await ctx.files.readText(path)).join() === keys(content).join()) return
  const isBack = ctx.mode === 'rollback'
  throw new HostFailedError(`${where} is there, and holds other keys than tokens go by`, {
    code: isBack ? 'rollback.changed' : 'keysets.changed',
    host: ctx.host.name,
    hint: isBack
      ? 'Was another stage run since? Undo that first.'
      : 'Move it away: it is where the keys of tokens are to be.',
  })
}

const flagFilesIn = (ctx: OnHost, host = ctx.host.name) =>
  editsOf(ctx, host).flatMap(({ component }) => flagFilesOf(componentOf(ctx, component, host)))

/** For what is started anew afterwards: who has other flags. */
export const ownFilesChange: ChangedBy = { step: ownStep, files: flagFilesIn }
