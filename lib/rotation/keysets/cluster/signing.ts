// Which CA the cluster signs with on request: seen by what it signs, and another one by the pair that its controller-managers read again.
import { posix } from 'node:path'
import { secret } from '../../../connection/shell.ts'
import { HostFailedError } from '../../../errors.ts'
import { signedOnRequest } from '../../../kubernetes/trust/signed-request.ts'
import { type StagedFile, type Swap, stageFiles, swapFiles, unstageFiles } from '../../../operations/staging.ts'
import { waitFor } from '../../../operations/wait.ts'
import { verifyChain } from '../../../pki/certificates/certificate.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { firstChange, type OnCluster, type OnHost, seconds } from '../../given/context.ts'
import { layoutOf } from '../../given/found.ts'
import { isMaster, masters } from '../../given/hosts.ts'
import { sha256 } from '../../issue.ts'
import { putBack } from '../bundles.ts'
import { nextOf } from '../issuers.ts'
import { keptFolder } from '../kept.ts'
import type { Item, KeysetState } from '../state.ts'
import { aboutOf, component, pairsOf, signingState } from './signing-apart.ts'

/** Fails unless the cluster signs on request with one of these CAs, or comes to within a minute. */
export function signsWith<Needs extends OnCluster>(
  which: (ctx: Needs, state: KeysetState) => readonly Pick<Item, 'certificate' | 'id'>[],
): StepDefinition<Needs> {
  return {
    ...{ readOnly: true, runOnce: true },
    when: ctx => !ctx.check && signs(ctx),
    run: ctx => waitUntilSigned(ctx, which(ctx, aboutOf(ctx))),
  }
}

async function waitUntilSigned(ctx: OnCluster, items: readonly Pick<Item, 'certificate' | 'id'>[]): Promise<void> {
  const { requestClientCertificate } = await import('../../../pki/issuer/client-certificate.ts')
  const { request, key } = await requestClientCertificate('rekey-probe')
  ctx.redact(key)
  const ask = { name: `rekey-${ctx.run}`, request, within: seconds(30), signal: ctx.signal }
  const ids = items.map(({ id }) => id).join(', ')
  await waitFor(`the cluster to sign with ${ids}`, { within: seconds(120), signal: ctx.signal }, async () => {
    const signed = await signedOnRequest(() => ctx.cluster.api(), ask)
    return items.some(({ certificate }) => isSignedBy(signed, certificate))
  }).catch((error: Error) => {
    ctx.signal.throwIfAborted()
    throw new HostFailedError(error.message, {
      code: 'keysets.other-signer',
      hint: 'A controller-manager has not read its pair again, or goes by another one: see its flags, and restart it; then go on with rekey resume.',
      cause: error,
    })
  })
  ctx.log(`the cluster signs with ${ids}`)
}

/** The new pair in place of one. */
async function newPair(ctx: OnHost<BackupVariables>): Promise<StagedFile[]> {
  const state = aboutOf(ctx)
  const { id, certificate } = nextOf(state)
  const key = await keyOnMasters(ctx, state, id)
  return pairsOf(ctx).flatMap(pair => [
    { path: pair.key, content: secret(key), mode: 0o600 },
    { path: pair.certificate, content: certificate, mode: 0o644 },
  ])
}

async function keyOnMasters(ctx: OnHost<BackupVariables>, state: KeysetState, id: string): Promise<string> {
  const path = posix.join(keptFolder(ctx, state.name, id), 'ca.key')
  for (const host of ctx.hosts(masters)) {
    const { files } = await ctx.on(host)
    if (!(await files.exists(path))) continue
    const key = await files.readText(path)
    ctx.redact(key)
    return key
  }
  throw new HostFailedError(`no master has the key of ${id}, with which the cluster is to sign`, {
    code: 'keysets.no-signing-key',
    hint: 'stage-keysets keeps it there when it makes the CA. Undo that stage with rekey rollback, and run it again.',
  })
}

const swapOf = (files: readonly StagedFile[]): Swap => ({
  ...{ rename: files.map(({ path }) => path), link: [], remove: [] },
  hashes: Object.fromEntries(files.map(({ path, content }) => [path, sha256(content)])),
})

/** Has the controller-manager of a host sign with the CA that is promoted: it reads its pair again. */
export const signWithNext: StepDefinition<OnCluster<BackupVariables>> = {
  id: 'sign-with-the-new-ca',
  when: ctx => signingState(ctx) !== undefined && isMaster(ctx) && pairsOf(ctx).length > 0,
  plan: ctx => pairsOf(ctx).map(({ certificate, key }) => `write the new CA and its key to ${certificate} and ${key}`),
  run: async ctx => {
    const bundles = aboutOf(ctx).bundles[ctx.host.name] ?? {}
    const shared = pairsOf(ctx).find(({ certificate }) => certificate in bundles)
    if (shared)
      throw new HostFailedError(
        `${ctx.host.name}: the controller-manager signs with ${shared.certificate}, by which others are trusted`,
        {
          code: 'keysets.signs-with-trust',
          hint: 'Run stage-keysets again: it has it sign with a pair apart.',
        },
      )
    const files = await newPair(ctx)
    ctx.milestone(firstChange)
    await stageFiles(ctx, ctx.run, files)
    await swapFiles(ctx, ctx.run, swapOf(files))
  },
  rollback: async ctx => {
    const swap = swapOf(await newPair(ctx))
    await unstageFiles(ctx, ctx.run, swap)
    await putBack(ctx, swap)
  },
}

/** Whether any controller-manager signs at all. */
const signs = (ctx: OnHost): boolean =>
  signingState(ctx) !== undefined &&
  ctx
    .hosts(masters)
    .some(({ name }) => layoutOf(ctx, name).components[component]?.files.some(({ role }) => role === 'signing'))

function isSignedBy(certificate: string, authority: string): boolean {
  try {
    verifyChain(certificate, authority, { source: 'what was signed on request' })
    return true
  } catch {
    return false
  }
}
