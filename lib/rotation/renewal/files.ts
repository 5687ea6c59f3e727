// The files of every machine that hold a CA: its new certificate put in place of the old one, where that stands, and taken back.
import { secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { restoreFiles } from '../../operations/restore.ts'
import {
  type StagedFile,
  type Swap,
  stagedPath,
  stageFiles,
  swapFiles,
  unstageFiles,
} from '../../operations/staging.ts'
import {
  certificatesWithin,
  privateKeysWithin,
  publicKeysOf,
  withCertificates,
} from '../../pki/certificates/bundle-text.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { archiveOf, type Variables as BackupVariables } from '../backup.ts'
import { firstChange, type OnHost } from '../given/context.ts'
import { must } from '../given/found.ts'
import { sha256 } from '../issue.ts'
import { requireUnchanged } from '../place.ts'
import { restartsOf } from '../restart/due.ts'
import { authoritiesOf, renewedOf } from './authorities.ts'
import { filesWith, verifyLeaves } from './leaves.ts'

const [stageStep, placeStep] = ['stage-the-files', 'place-the-files']

const olds = (ctx: OnHost) => authoritiesOf(ctx).map(({ certificate }) => certificate)

/** The files of a host that are to hold a new certificate. */
export function filesOf(ctx: OnHost, host = ctx.host.name): string[] {
  return filesWith(ctx, olds(ctx), host).own.map(({ real }) => real)
}

/** Files that hold an old certificate and are left as they are, as people call them: kubeconfigs of people, and what somebody put aside. */
export const filesLeft = (ctx: OnHost, hosts: readonly { readonly name: string }[]): string[] =>
  hosts.flatMap(({ name }) => filesWith(ctx, olds(ctx), name).left.map(({ real }) => `${name}:${real}`))

/** What puts the staged files of a host in place. Throws `HostFailedError` where nothing was staged. */
export function swapOf(ctx: OnHost): Swap {
  return must(ctx.registered<Swap>(stageStep, ctx.host.name), 'nothing was staged on this host')
}

/** Writes the files with the new certificates beside those that they replace; registers what puts them in place. */
export const stage: StepDefinition<OnHost> = {
  id: stageStep,
  plan: ctx => filesOf(ctx).map(path => `put the new certificates into ${path}`),
  run: async (ctx): Promise<Swap> => {
    const files: StagedFile[] = []
    for (const { real, mode, owner } of filesWith(ctx, olds(ctx)).own) {
      const before = await ctx.files.readText(real)
      const text = renewedOf(ctx).reduce((all, { old, next }) => withCertificates(all, publicKeysOf(old), next), before)
      const keys = privateKeysWithin(text)
      // A kubeconfig may hold a token, too.
      const isSecret = keys.length > 0 || (mode & 0o077) === 0
      files.push({ path: real, mode, owner, content: isSecret ? secret(text, { parts: keys }) : text })
    }
    await stageFiles(ctx, ctx.run, files)
    ctx.log(`${files.length} files`)
    return {
      ...{ rename: files.map(({ path }) => path), link: [], remove: [] },
      hashes: Object.fromEntries(files.map(({ path, content }) => [path, sha256(content)])),
    }
  },
  rollback: ctx => unstageFiles(ctx, ctx.run, { rename: filesOf(ctx), link: [], remove: [] }),
}

/** Fails where a staged file is not what was sent, or does not hold the new certificates once each. */
export const verifyStaged: StepDefinition<OnHost> = {
  id: 'verify-the-staged-files',
  rollback: () => {},
  plan: () => 'compare hashes, and look into each file for the new certificates',
  run: async ctx => {
    const { rename, hashes = {} } = swapOf(ctx)
    const renewed = renewedOf(ctx)
    const certificates: Record<string, string> = {}
    for (const path of rename) {
      const staged = stagedPath(path, ctx.run)
      // It may be in place already, where the run was gone on with.
      const text = await ctx.files.readText((await ctx.files.exists(staged)) ? staged : path)
      const held = certificatesWithin(text)
      certificates[path] = held.join('\n')
      const old = held.some(pem => renewed.some(one => one.old === pem))
      if (sha256(text) === hashes[path] && !old && renewed.some(({ next }) => held.includes(next))) continue
      throw new HostFailedError(
        `${ctx.host.name}: the new ${path} is not right: ${old ? 'it still holds the old certificate' : 'it did not arrive as it was written'}`,
        {
          code: 'staging.verify',
          host: ctx.host.name,
        },
      )
    }
    ctx.log(`${rename.length} files`)
    // The report sets them beside those that they replace.
    return { certificates }
  },
}

/** Fails where something that a CA has signed, in any file or on any port, would not hold under its new certificate. */
export const verifyAllLeaves: StepDefinition<OnHost> = {
  id: 'verify-all-leaves',
  runOnce: true,
  rollback: () => {},
  plan: () => 'verify every certificate that was found, in files and on ports, under the new certificates alone',
  run: ctx => {
    const counts = renewedOf(ctx).map(one => verifyLeaves(ctx, one))
    const leaves = counts.reduce((sum, one) => sum + one, 0)
    ctx.log(`${leaves} certificates hold under the new CAs alone`)
    return { leaves }
  },
}

/** How many certificates were found to hold under the new CAs; none where nobody has looked. */
export const verifiedLeaves = (ctx: Pick<OnHost, 'registered'>): number | undefined =>
  ctx.registered<{ leaves: number }>('verify-all-leaves')?.leaves

/** Renames what is staged on a host into place. */
export const place: StepDefinition<OnHost<BackupVariables>> = {
  id: placeStep,
  plan: ctx => `rename the staged files into place, and keep the old ones in ${archiveOf(ctx)}`,
  run: async ctx => {
    ctx.milestone(firstChange)
    await swapFiles(ctx, ctx.run, swapOf(ctx))
  },
}

/** Puts the old files back as the archive of the host has them. */
export const putBack: StepDefinition<OnHost<BackupVariables>> = {
  run: ctx => restoreFiles(ctx, ctx.run, archiveOf(ctx), swapOf(ctx).rename),
}

/** Fails where files that this run put in place were changed by somebody else since. */
export const checkUnchanged: StepDefinition<OnHost<BackupVariables>> = {
  readOnly: true,
  run: async ctx => {
    await requireUnchanged(ctx, swapOf(ctx), 'Something else was done to them after this run?')
  },
}

/**
 * The restarts of what goes by these files: of those, too, who read them again by themselves, since a file with the same key is nothing that
 * they could be seen to have read.
 */
export const restart = restartsOf({ files: filesOf })
