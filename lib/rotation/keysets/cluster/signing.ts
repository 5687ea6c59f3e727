// Which CA the cluster signs with on request: seen by what it signs, and another one by the pair that its controller-managers read again.
import { posix } from 'node:path'
import { secret } from '../../../connection/shell.ts'
import { HostFailedError } from '../../../errors.ts'
import { asItLies } from '../../../kubernetes/trust/certificate-files.ts'
import { signedOnRequest } from '../../../kubernetes/trust/signed-request.ts'
import { type StagedFile, stageFiles, swapFiles, unstageFiles } from '../../../operations/staging.ts'
import { waitFor } from '../../../operations/wait.ts'
import { publicKeyOf } from '../../../pki/certificates/bundle-text.ts'
import { verifyChain } from '../../../pki/certificates/certificate.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import type { Mounts } from '../../authorities.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { firstChange, type OnCluster, type OnHost, seconds } from '../../given/context.ts'
import { layoutOf, readingOf } from '../../given/found.ts'
import { isMaster, masters } from '../../given/hosts.ts'
import { putBack, swapOf } from '../bundles.ts'
import { nextOf, stagedIn } from '../issuers.ts'
import { keptFolder } from '../kept.ts'
import { fits, keyIn } from '../key-files.ts'
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

/** The pairs of a host that are of the keyset, as they lie there: for requests of one kind it may be told another CA's. */
async function ownPairs(ctx: OnHost): Promise<ReturnType<typeof pairsOf>> {
  const keys = aboutOf(ctx).items.map(({ key }) => key)
  const found = pairsOf(ctx).map(async pair => {
    const text = (await ctx.files.exists(pair.certificate)) ? await ctx.files.readText(pair.certificate) : ''
    return keys.includes(publicKeyOf(text) ?? '') ? [pair] : []
  })
  return (await Promise.all(found)).flat()
}

/** The new pair in place of each of them, for whom the one of before was. */
async function newPair(ctx: OnHost<BackupVariables>): Promise<StagedFile[]> {
  const state = aboutOf(ctx)
  const next = nextOf(state)
  const key = await keyOnMasters(ctx, state, next)
  return (await ownPairs(ctx)).flatMap(pair => [
    { ...asItLies(readingOf(ctx), pair.key, 0o600), path: pair.key, content: secret(key) },
    { ...asItLies(readingOf(ctx), pair.certificate, 0o644), path: pair.certificate, content: next.certificate },
  ])
}

/** What a promotion has put there: told by the CA that it is of, since the key of that may be kept nowhere any more. */
async function writtenPair(ctx: OnHost): Promise<StagedFile[]> {
  const { certificate } = nextOf(aboutOf(ctx))
  const pairs = (await ownPairs(ctx)).map(async (pair): Promise<StagedFile[]> => {
    const text = await keyIn(ctx, pair.key)
    return [
      // Of what is not ours the hash is of something that is not there: then it must be what the archive has.
      { path: pair.key, content: fits(certificate, text) ? secret(text) : '' },
      { path: pair.certificate, content: certificate },
    ]
  })
  return (await Promise.all(pairs)).flat()
}

/** The key of a CA that masters keep. Throws `HostFailedError` where none has one that fits it. */
export async function keyOnMasters(
  ctx: OnHost<BackupVariables>,
  { name }: KeysetState,
  { id, certificate }: Pick<Item, 'id' | 'certificate'>,
): Promise<string> {
  const path = posix.join(keptFolder(ctx, name, id), 'ca.key')
  for (const host of ctx.hosts(masters)) {
    const { files } = await ctx.on(host)
    const key = await keyIn({ files, redact: ctx.redact }, path)
    if (fits(certificate, key)) return key
  }
  throw new HostFailedError(`no master has the key of ${id}, with which the cluster is to sign`, {
    code: 'keysets.no-signing-key',
    hint: `stage-keysets keeps it in ${path} when it makes the CA; it can't be had from Vault again. Undo that stage with rekey rollback, and run it again: it makes another CA.`,
  })
}

/** Fails where controller-managers could not be given what is to be promoted: before anything is changed. */
export const maySign: StepDefinition<OnCluster<BackupVariables>> = {
  ...{ readOnly: true, runOnce: true, remember: true },
  when: ctx => signs(ctx),
  run: async ctx => {
    for (const { name } of ctx.hosts(masters)) refuseTrusted(ctx, name)
    const state = aboutOf(ctx)
    await keyOnMasters(ctx, state, nextOf(state))
  },
}

/** The same for one that was staged before, and is gone on with: it could not be promoted. And for one that is to be made. */
export const keyIsKept: StepDefinition<OnCluster<Mounts & BackupVariables>> = {
  ...{ readOnly: true, runOnce: true, remember: true },
  when: ctx => signs(ctx),
  run: async ctx => {
    const state = aboutOf(ctx)
    const there = stagedIn(state)
    if (there) await keyOnMasters(ctx, state, there)
    else if (!ctx.vars.controller_manager_signs) {
      throw new HostFailedError(
        'controller-managers sign with the cluster’s CA, and the key of the new one would stay in Vault',
        {
          code: 'keysets.no-signing-key',
          hint: 'Leave controller_manager_signs on; or take the flags --cluster-signing-cert-file and --cluster-signing-key-file away first.',
        },
      )
    }
  },
}

function refuseTrusted(ctx: OnHost, host = ctx.host.name): void {
  const bundles = aboutOf(ctx).bundles[host] ?? {}
  const shared = pairsOf(ctx, host).find(({ certificate }) => certificate in bundles)
  if (!shared) return
  throw new HostFailedError(
    `${host}: the controller-manager signs with ${shared.certificate}, by which others are trusted`,
    {
      code: 'keysets.signs-with-trust',
      host,
      hint: 'Run stage-keysets again: it has it sign with a pair apart.',
    },
  )
}

/** Has the controller-manager of a host sign with the CA that is promoted: it reads its pair again. */
export const signWithNext: StepDefinition<OnCluster<BackupVariables>> = {
  id: 'sign-with-the-new-ca',
  when: ctx => signingState(ctx) !== undefined && isMaster(ctx) && pairsOf(ctx).length > 0,
  plan: ctx => pairsOf(ctx).map(({ certificate, key }) => `write the new CA and its key to ${certificate} and ${key}`),
  run: async ctx => {
    refuseTrusted(ctx)
    const files = await newPair(ctx)
    ctx.milestone(firstChange)
    await stageFiles(ctx, ctx.run, files)
    await swapFiles(ctx, ctx.run, swapOf(files))
  },
  rollback: async ctx => {
    const swap = swapOf(await writtenPair(ctx))
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
