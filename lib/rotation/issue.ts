// New certificates: issued, staged beside what they replace, and verified there.
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { type Secret, secret } from '../connection/shell.ts'
import { stagingFolders } from '../kubernetes/components/kept.ts'
import {
  authorityFiles,
  type RenderRequest,
  renderHostFiles,
  serviceAccountFiles,
  verifyStaged,
} from '../kubernetes/trust/certificate-files.ts'
import { kubeconfigsOfOthers, withTheirRest } from '../kubernetes/trust/kubeconfig-files.ts'
import type { MachineReading } from '../kubernetes/trust/machine.ts'
import { serviceAccountKeyPair } from '../kubernetes/trust/tokens.ts'
import { type StagedFile, type Swap, stagedPath, stageFiles } from '../operations/staging.ts'
import { privateKeysWithin } from '../pki/certificates/bundle-text.ts'
import type { AuthorityName, CertificateSpec } from '../pki/specs.ts'
import { vaultSecrets } from '../pki/vault/secrets.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { createRenderer, type Renderer } from '../template/render.ts'
import * as extra from './as-found/extra.ts'
import { keyOfBefore } from './as-found/token-key.ts'
import { grantOf, type Mounts, newAuthorities, newAuthority, plansOf, type Roles } from './authorities.ts'
import { nothing, type OnHost } from './given/context.ts'
import { filesOf, type Looking, type LookingOnHost, layoutOf, must, planOf, readingOf } from './given/found.ts'
import { isMaster } from './given/hosts.ts'
import type { WithVault } from './given/vault.ts'

export const variables = {
  rotate_service_account_keys: z.boolean().default(false),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** What this process holds of what it issued. */
export interface Issued {
  /** What was written to each host; a resumed run reads it back. */
  readonly staged: Map<string, StagedFile[]>
  /** A renderer asks once: one for each certificate, and for a shared one the same on all hosts. */
  readonly renderers: Map<string, Renderer>
  /** For how long each of them is to hold: what is asked for a key is what was asked for its certificate, or they would be of two. */
  readonly ttls: Map<string, string>
}

export interface WithIssued {
  readonly issued: Issued
}

export function openIssued(): Issued {
  return { staged: new Map(), renderers: new Map(), ttls: new Map() }
}

const keysStep = 'make-a-new-service-account-key-pair'
/** The step that registers the `Swap` of each host. */
export const issueStep = 'issue-certificates'
const verifiedStep = 'verify-what-is-staged'

/** Makes the pair that signs tokens of service accounts, where the inventory asks for it. */
export const makeServiceAccountKeys: StepDefinition<OnHost<Variables>> = {
  id: keysStep,
  runOnce: true,
  when: ctx => ctx.vars.rotate_service_account_keys,
  plan: () => 'make an RSA key pair in memory, for sa.key and sa.pub of all masters',
  run: async ctx => {
    const keys = await serviceAccountKeyPair()
    ctx.redact(keys.privateKey.reveal())
    return keys
  },
  // It is nowhere but in the run's folder, and goes to the hosts with the next step.
  rollback: nothing,
}

/** Issues what is planned for a host, and stages it with the new CAs and keys; registers the swap that puts it in place. */
export const issueAndStage: StepDefinition<OnHost<Roles & extra.Variables & Variables> & WithVault & WithIssued> = {
  id: issueStep,
  together: true,
  plan: ctx =>
    planOf(ctx)
      .specs.filter(({ hosts }) => hosts.includes(ctx.host.name))
      .map(describeSpec),
  run: async ctx => {
    const reading = extra.withOwners(ctx, readingOf(ctx))
    const rendered = await renderPlanned(ctx, reading)
    const authority = authorityFiles(
      { reading, layout: layoutOf(ctx), more: planOf(ctx).authorityCopies?.[ctx.host.name] },
      plansOf(ctx),
      newAuthorities(ctx),
    )
    const pair = ctx.registered<Awaited<ReturnType<typeof serviceAccountKeyPair>>>(keysStep)
    const keys = pair && isMaster(ctx) ? serviceAccountFiles(reading, layoutOf(ctx), pair) : []
    const before = ctx.vars.rotate_service_account_keys ? [] : keyOfBefore(reading, layoutOf(ctx))
    const written = [...authority.files, ...rendered.files, ...keys, ...before]
    const change = { old: planOf(ctx).oldAuthorities.kubernetes ?? '', next: newAuthority(ctx, 'kubernetes') }
    const place = { reading, layout: layoutOf(ctx) }
    const files = [...written, ...(await kubeconfigsOfOthers(ctx, place, change, written))]
    const swap: Swap = {
      rename: files.map(({ path }) => path),
      link: rendered.swap.link,
      remove: [...authority.swap.remove, ...rendered.swap.remove],
      hashes: Object.fromEntries(files.map(({ path, content }) => [path, sha256(content)])),
    }
    await stageIssued(ctx, files)
    return swap
  },
  rollback: unstageAll,
}

/** Renders what is planned for a host: each certificate is issued once, a shared one for all of its hosts. */
export async function renderPlanned(
  ctx: OnHost<Roles> & WithVault & WithIssued,
  reading: MachineReading,
): ReturnType<typeof renderHostFiles> {
  const asked = vaultSecrets(await ctx.vault.issuing(grantOf(ctx)))
  const { files, swap } = await renderFrom(ctx, reading, {
    plans: plansOf(ctx),
    sourceOf: () => asked,
    ttlOf: () => ctx.vars.certificate_ttl,
  })
  return { files: await withTheirRest(ctx, reading, files), swap }
}

/** Who issues what is planned. */
export interface IssuedBy extends Pick<RenderRequest, 'plans' | 'ttlOf'> {
  /** What the templates of a certificate ask. */
  sourceOf(spec: CertificateSpec): ReturnType<typeof vaultSecrets>
}

/** Renders what is planned for a host, whoever issues it: each certificate once, a shared one for all of its hosts. */
export function renderFrom(
  ctx: OnHost & WithIssued,
  reading: MachineReading,
  { plans, sourceOf, ttlOf }: IssuedBy,
): ReturnType<typeof renderHostFiles> {
  const secretsOf = (spec: CertificateSpec): ReturnType<IssuedBy['sourceOf']> => {
    const asked = sourceOf(spec)
    return async (path, data) => {
      const answer = await asked(path, data)
      const key = answer?.data['private_key']
      if (typeof key === 'string') ctx.redact(key)
      return answer
    }
  }
  const idOf = (spec: CertificateSpec) => spec.issue ?? `${spec.id} ${isShared(spec) ? '' : ctx.host.name}`
  const once = <Value>(held: Map<string, Value>, spec: CertificateSpec, made: () => Value): Value => {
    const value = held.get(idOf(spec)) ?? made()
    held.set(idOf(spec), value)
    return value
  }
  const { renderers, ttls } = ctx.issued
  return renderHostFiles({
    ...{ reading, layout: layoutOf(ctx), specs: planOf(ctx).specs },
    ...{ plans, now: new Date() },
    ttlOf: spec => once(ttls, spec, () => ttlOf(spec)),
    rendererOf: spec => once(renderers, spec, () => createRenderer({ secrets: secretsOf(spec) })),
  })
}

/** Stages what was rendered for a host in place of whatever this run had staged there, and keeps what was sent for `verifyIssued`. */
export async function stageIssued(ctx: OnHost & WithIssued, files: StagedFile[]): Promise<void> {
  await unstageAll(ctx)
  await stageFiles(ctx, ctx.run, files)
  ctx.issued.staged.set(ctx.host.name, files)
  ctx.log(`${files.length} files`)
}

/** Fails where what is staged is not what was issued, or could not do what the old does. */
export const verifyIssued = verifyIssuedBy<OnHost<Mounts> & WithIssued>(newAuthority)

/** The same, where others than the CAs that this run made have issued it. */
export function verifyIssuedBy<Context extends OnHost & WithIssued>(
  authorityOf: (ctx: Context, authority: AuthorityName) => string,
): StepDefinition<Context> {
  return {
    id: verifiedStep,
    // It changes nothing, but there is nothing to look at in a check.
    rollback: nothing,
    plan: () =>
      'compare hashes, verify the chains, match the keys, compare CN, O and SANs with the certificates in use',
    run: async ctx => {
      const { checked, until, certificates } = await verifyStaged(
        ctx,
        ctx.run,
        await stagedOf(ctx),
        planOf(ctx).specs,
        readingOf(ctx),
        ({ authority }) => authorityOf(ctx, authority),
      )
      ctx.log(`${checked} certificates verified`)
      // The report sets them beside those that they replace.
      return { until, certificates }
    },
  }
}

/** What was verified on a host, PEM, by the names of its files. */
export function verifiedCertificates(ctx: Looking, host: string): Readonly<Record<string, string>> {
  return ctx.registered<{ certificates?: Record<string, string> }>(verifiedStep, host)?.certificates ?? {}
}

/** Until when the first certificate of each component on a host holds (ISO 8601), as it was verified. */
export function verifiedUntil(ctx: Looking, host: string): Readonly<Record<string, string>> {
  return ctx.registered<{ until: Record<string, string> }>(verifiedStep, host)?.until ?? {}
}

/** What puts the staged files of a host in place. Throws `HostFailedError` where nothing was issued for it. */
export function swapOf(ctx: LookingOnHost): Swap {
  return must(ctx.registered<Swap>(issueStep, ctx.host.name), 'nothing was issued for this host')
}

const isShared = ({ hosts }: CertificateSpec) => hosts.length > 1

/** What is staged on a host: as it was sent, or read back where the process that sent it is gone. */
async function stagedOf(ctx: OnHost & WithIssued): Promise<StagedFile[]> {
  const sent = ctx.issued.staged.get(ctx.host.name)
  if (sent) return sent
  return Promise.all(
    swapOf(ctx).rename.map(async path => {
      const text = await ctx.files.readText(stagedPath(path, ctx.run))
      return { path, content: secret(text, { parts: privateKeysWithin(text) }) }
    }),
  )
}

/** Removes all that this run has staged on a host, whatever it is. */
export async function unstageAll(ctx: OnHost): Promise<void> {
  const folders = stagingFolders(layoutOf(ctx), filesOf(ctx))
  await ctx.$`for f in ${folders}; do [ ! -d "$f" ] || find "$f" -xdev -name ${`.rekey-${ctx.run}-*`} -delete; done`
}

/** The hash of a file that is to be put in place, as a `Swap` has it. */
export const sha256 = (content: string | Secret): string =>
  createHash('sha256')
    .update(typeof content === 'string' ? content : content.reveal())
    .digest('hex')

function describeSpec({ place, commonName, dnsNames, ipAddresses, hosts }: CertificateSpec): string {
  const path = place.kind === 'pair' ? place.certificate : place.path
  const sans = [...dnsNames, ...ipAddresses].join(', ')
  return `issue ${path}: CN ${commonName}${sans ? `, SANs ${sans}` : ''}${hosts.length > 1 ? ` (one for ${hosts.join(', ')})` : ''}`
}
