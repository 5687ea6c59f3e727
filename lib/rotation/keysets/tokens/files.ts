// The files that API servers and controller-managers verify and sign tokens with, written anew: beside the old ones first, then renamed over them.
// Nobody reads them again by itself: who goes by them is started anew afterwards.
import { secret } from '../../../connection/shell.ts'
import { HostFailedError } from '../../../errors.ts'
import { asItLies } from '../../../kubernetes/trust/certificate-files.ts'
import { type StagedFile, type Swap, stageFiles, swapFiles, unstageFiles } from '../../../operations/staging.ts'
import { privateKeysWithin } from '../../../pki/certificates/bundle-text.ts'
import { type StepDefinition, unchanged } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { firstChange, type OnHost } from '../../given/context.ts'
import { readingOf } from '../../given/found.ts'
import { sha256 } from '../../issue.ts'
import { changedAt } from '../../restart/due.ts'
import { putBack } from '../bundles.ts'
import type { ChangedBy } from '../trust/restarts.ts'
import { aboutTokens, stateOf } from './keys.ts'

/** What is to be put in place, and what the files held that it was made from: the SHA-256, in hex. */
interface Prepared extends Swap {
  readonly was: Readonly<Record<string, string>>
}

/** A file, and what it is for. */
export interface TokenFile {
  readonly path: string
  readonly verifies: boolean
  readonly signs: boolean
  /** The last of those that tokens are verified by: where a key is added. */
  readonly isLast: boolean
  /** `m1:/pki/sa.pub`, for messages. */
  readonly where: string
}

/** What a file is to hold, from what it holds. */
export type WantedKeys<Needs> = (ctx: Needs, file: TokenFile, text: string) => string | Promise<string>

const preparedStep = 'write-the-token-keys-beside-the-old-ones'

/** The step that puts them in place, and registers when. */
const placedStep = 'put-the-token-keys-in-place'

/** The files of a host. */
function tokenFilesOf(ctx: OnHost, host = ctx.host.name): TokenFile[] {
  const named = stateOf(ctx).files[host] ?? []
  const last = named.findLast(({ signs }) => !signs)?.path
  return [...new Set(named.map(({ path }) => path))].map(path => ({
    path,
    verifies: named.some(one => one.path === path && !one.signs),
    signs: named.some(one => one.path === path && one.signs),
    isLast: path === last,
    where: `${host}:${path}`,
  }))
}

const hasFiles = (ctx: OnHost) => aboutTokens(ctx) && tokenFilesOf(ctx).length > 0

/** The steps that rewrite the files, and what they have changed. */
export interface Rewritten<Needs> {
  /** Writes what the files of a host are to hold beside them; registers the swap. */
  readonly prepared: StepDefinition<Needs>
  /** Renames them into place; registers when. */
  readonly placed: StepDefinition<Needs>
  /** For what is started anew afterwards. */
  readonly changes: ChangedBy
}

/**
 * Rewrites the files of a host, in two steps.
 * @param what what becomes of a file, for a plan; undefined where nothing does
 */
export function rewritten<Needs extends OnHost<BackupVariables>>(
  wanted: WantedKeys<Needs>,
  what: (file: TokenFile) => string | undefined,
): Rewritten<Needs> {
  const touched = (ctx: OnHost, host = ctx.host.name) =>
    aboutTokens(ctx) ? tokenFilesOf(ctx, host).filter(file => what(file) !== undefined) : []
  return {
    prepared: {
      id: preparedStep,
      when: hasFiles,
      plan: ctx => touched(ctx).flatMap(file => what(file) ?? []),
      run: async (ctx): Promise<Prepared> => {
        const staged: StagedFile[] = []
        const was: Record<string, string> = {}
        for (const file of touched(ctx)) {
          const text = await ctx.files.readText(file.path)
          const next = await wanted(ctx, file, text)
          if (next === text) continue
          staged.push(fileOf(ctx, file.path, next))
          was[file.path] = sha256(text)
        }
        await stageFiles(ctx, ctx.run, staged)
        const hashes = Object.fromEntries(staged.map(({ path, content }) => [path, sha256(content)]))
        return { rename: staged.map(({ path }) => path), link: [], remove: [], hashes, was }
      },
      rollback: async ctx => {
        const rename = touched(ctx).map(({ path }) => path)
        await unstageFiles(ctx, ctx.run, { rename, link: [], remove: [] })
      },
    },
    placed: {
      id: placedStep,
      when: hasFiles,
      plan: ctx => touched(ctx).map(({ path }) => `rename what is staged to ${path}`),
      run: async ctx => {
        const swap = ctx.registered<Prepared>(preparedStep, ctx.host.name)
        if (!swap || swap.rename.length === 0) return unchanged()
        await requireAsRead(ctx, swap)
        ctx.milestone(firstChange)
        await swapFiles(ctx, ctx.run, swap)
        ctx.log(swap.rename.join(', '))
        return { at: await changedAt(ctx, swap.rename) }
      },
      rollback: async ctx => {
        const swap = ctx.registered<Swap>(preparedStep, ctx.host.name)
        if (swap) await putBack(ctx, swap)
      },
    },
    changes: {
      step: placedStep,
      // All that it may change, and not what it did: a run that was killed before its restarts may have written them.
      files: (ctx, host) => touched(ctx, host).map(({ path }) => path),
    },
  }
}

/** Fails where a file is neither what was read when its next content was made, nor that already. */
async function requireAsRead(ctx: OnHost, { rename, was, hashes }: Prepared): Promise<void> {
  for (const path of rename) {
    const now = sha256(await ctx.files.readText(path))
    if (now === was[path] || now === hashes?.[path]) continue
    throw new HostFailedError(`${ctx.host.name}:${path} was changed by somebody else since it was read`, {
      code: 'keysets.changed',
      host: ctx.host.name,
      hint: 'Undo this run with rekey rollback, and begin anew once nobody else changes it.',
    })
  }
}

function fileOf(ctx: OnHost, path: string, text: string): StagedFile {
  const isPrivate = text.includes('PRIVATE KEY-----')
  const content = isPrivate ? secret(text, { parts: privateKeysWithin(text) }) : text
  return { ...asItLies(readingOf(ctx), path, isPrivate ? 0o600 : 0o644), path, content }
}
