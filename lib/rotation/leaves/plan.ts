// Which certificates of a cluster are due, and which CA signs each of them today: Vault, where one was named and has its key, else a key that
// lies on a host.
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import type { MachineFacts } from '../../kubernetes/layout/layout.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { dayOfEnd, parseCertificate } from '../../pki/certificates/certificate.ts'
import { type AuthorityName, authorityNames, type CertificateSpec, placePath } from '../../pki/specs.ts'
import { durationSeconds } from '../../pki/vault/duration.ts'
import { duration } from '../../playbook/duration.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { listed } from '../../playbook/variables.ts'
import type { Variables as ExtraVariables } from '../as-found/extra.ts'
import { variables as ofAuthorities } from '../authorities.ts'
import { type OnCluster, type OnHost, seconds, where } from '../given/context.ts'
import { type Looking, must, type Plan, planStep, readingOf } from '../given/found.ts'
import type { WithVault } from '../given/vault.ts'
import { keysetOf } from '../keysets/which/chosen.ts'
import { certificatesOf } from '../keysets/which/plan.ts'
import { machinesFound } from '../preflight.ts'
import { namesOf as keysetsOf, variables as ofRenewal, signedSoFar } from '../renewal/authorities.ts'
import { requireSigner, type Signer, tellSigner } from '../renewal/signers.ts'

const { pki_mount, vault_addr, vault_cacert, vault_token_file } = ofRenewal
const { certificate_ttl, vault_manage_roles } = ofAuthorities

export const variables = {
  ...{ pki_mount, vault_addr, vault_cacert, vault_token_file, certificate_ttl, vault_manage_roles },
  /** Names the policy of the run in Vault. */
  cluster_name: z.string().default('kubernetes'),
  /** Only certificates of these components, or with these names in the plan: a list, or names with commas between them. */
  components: z.preprocess(listed, z.array(z.string())).optional(),
  /** Only what ends within this time; where nothing is said, what would hold at least a day longer if it were made anew. */
  within: duration.optional(),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** A CA that signs, and who has its key. Plain data. */
export interface SigningAuthority {
  readonly roles: readonly AuthorityName[]
  readonly certificate: string
  readonly signer: Signer
}

/** What is planned: in `specs` what is due. Plain data. */
export interface LeafPlan extends Plan {
  /** All that the cluster's CAs have signed for it, due or not. */
  readonly all: readonly CertificateSpec[]
  readonly signers: readonly SigningAuthority[]
}

/** What is planned. Throws `HostFailedError` where nothing is. */
export function leafPlanOf(ctx: Looking): LeafPlan {
  return must(ctx.registered<LeafPlan>(planStep), 'the certificates were not planned')
}

/** Whether anything is due; before it was planned, nothing is known to be. */
export const anyDue = (ctx: Looking): boolean => (ctx.registered<LeafPlan>(planStep)?.specs.length ?? 0) > 0

/** A step that is left out where nothing is due. */
export function ifDue<Context extends Looking>(definition: StepDefinition<Context>): StepDefinition<Context> {
  return where(anyDue, definition)
}

/** The CA that signs in a role, as this run has signed it anew where it has. Throws `HostFailedError` where the plan has none. */
export function signingAuthority(ctx: Looking, role: AuthorityName): SigningAuthority {
  const found = must(
    leafPlanOf(ctx).signers.find(({ roles }) => roles.includes(role)),
    `nobody is known who signs for ${keysetOf(role)}`,
  )
  const renewed = signedSoFar(ctx)?.find(({ old }) => publicKeyOf(old) === publicKeyOf(found.certificate))
  return renewed ? { ...found, certificate: renewed.next } : found
}

/** A day, in milliseconds: what would not hold longer by this is as good as new. */
const worthIt = 24 * 3_600_000
/** For clocks that differ, and the time until something is signed: no certificate is to end after its CA. */
const margin = seconds(600)

/**
 * Until when a certificate would hold that is made now, in milliseconds since 1970: for `certificate_ttl`, and not longer than its CA.
 * @param end when the CA ends
 */
export function nextEndUnder(end: number, certificateTtl: string, now = Date.now()): number {
  return Math.min(now + seconds(durationSeconds(certificateTtl)), end - margin)
}

/** The same under a CA, PEM. */
export const nextEnd = (certificateTtl: string, authority: string): number =>
  nextEndUnder(parseCertificate(authority).notAfter.getTime(), certificateTtl)

/**
 * Whether a certificate is due.
 * @param end when it ends, in milliseconds since 1970
 * @param next when one would that is made now
 * @param within milliseconds: it is due where it ends before; where nothing is said, where the next one would hold a day longer
 */
export function isDue(end: number, next: number, within?: number, now = Date.now()): boolean {
  return within === undefined ? next - end > worthIt : end <= now + within
}

type Ctx = OnHost<Variables & ExtraVariables>

/** What a plan goes by beside the certificates themselves. */
export interface Choice<in Needs> {
  /** The machines of the cluster. */
  machines(ctx: Needs): Promise<MachineFacts[]>
  /** What is due on a host for another reason than its end. */
  isDue?(ctx: Needs, spec: CertificateSpec, host: string): boolean
  /** Whether a CA gets a longer time in the same run, before it signs anything. */
  isRenewed?(ctx: Needs, certificate: string): boolean
}

/** Registers what is due, and who signs it. Fails where a component is named that the cluster has not, or a CA's key is nowhere. */
export function planBy<Needs extends Ctx & WithVault>(choice: Choice<Needs>): StepDefinition<Needs> {
  return {
    id: planStep,
    readOnly: true,
    remember: true,
    runOnce: true,
    run: async (ctx): Promise<LeafPlan> => {
      const found = await choice.machines(ctx)
      const { signed: all, oldAuthorities, sharing } = certificatesOf(ctx, found)
      requireKnown(ctx.vars, all)
      requireShorter(ctx.vars)
      const specs = withTheirOthers(
        all.filter(spec => isWanted(ctx, choice, spec, oldAuthorities[spec.authority] ?? '')),
        all,
      )
      const signers = await signersOf(ctx, choice, specs, oldAuthorities)
      ctx.log(`${specs.length} of ${all.length} certificates are due`)
      return {
        ...{ specs, all, signers, oldAuthorities, sharing },
        addresses: Object.fromEntries(found.map(({ name, addresses }) => [name, addresses[0] ?? ''])),
      }
    },
  }
}

/** The same of a cluster whose API answers: what ends. */
export const plan = planBy<OnCluster<Variables & ExtraVariables> & WithVault>({ machines: machinesFound })

function isWanted<Needs extends Ctx>(
  ctx: Needs,
  choice: Choice<Needs>,
  spec: CertificateSpec,
  authority: string,
): boolean {
  const { components, within, certificate_ttl: ttl } = ctx.vars
  if (components && !namesOf(spec).some(name => components.includes(name))) return false
  const next = nextEnd(ttl, authority)
  return spec.hosts.some(host => choice.isDue?.(ctx, spec, host) || isDue(endOn(ctx, host, spec), next, within))
}

/** When what lies on a host ends, in milliseconds since 1970. */
function endOn(ctx: OnHost, host: string, { place }: CertificateSpec): number {
  return parseCertificate(readingOf(ctx, host).certificates[placePath(place)] ?? '').notAfter.getTime()
}

const namesOf = ({ id, component }: CertificateSpec) => [id, component]

/** One certificate that lies in several files is made anew in all of them, or in none. */
function withTheirOthers(due: readonly CertificateSpec[], all: readonly CertificateSpec[]): CertificateSpec[] {
  const issues = new Set(due.flatMap(({ issue }) => issue ?? []))
  return all.filter(spec => due.includes(spec) || (spec.issue !== undefined && issues.has(spec.issue)))
}

function requireKnown({ components = [] }: Variables, all: readonly CertificateSpec[]): void {
  const known = [...new Set(all.flatMap(namesOf))]
  const unknown = components.filter(name => !known.includes(name))
  if (unknown.length === 0) return
  throw new HostFailedError(`the cluster has no certificate of ${unknown.join(', ')}`, {
    code: 'leaves.unknown-component',
    hint: `It has ${known.sort().join(', ')}.`,
  })
}

function requireShorter({ within, certificate_ttl: ttl }: Variables): void {
  if (within === undefined || within < seconds(durationSeconds(ttl))) return
  throw new HostFailedError('what is made anew would be due at once: within is not shorter than certificate_ttl', {
    code: 'leaves.within',
    hint: `Certificates hold for ${ttl}: give a shorter within, or a longer certificate_ttl.`,
  })
}

async function signersOf<Needs extends Ctx & WithVault>(
  ctx: Needs,
  choice: Choice<Needs>,
  specs: readonly CertificateSpec[],
  authorities: Readonly<Partial<Record<AuthorityName, string>>>,
): Promise<SigningAuthority[]> {
  const needed = authorityNames.filter(role => authorities[role] && specs.some(({ authority }) => authority === role))
  const signers: SigningAuthority[] = []
  for (const roles of Map.groupBy(needed, role => publicKeyOf(authorities[role] ?? '')).values()) {
    const certificate = authorities[roles[0]!] ?? ''
    const names = keysetsOf({ roles })
    const isRenewed = choice.isRenewed?.(ctx, certificate) ?? false
    if (!isRenewed) requireHolding(certificate, names)
    const signer = await requireSigner(ctx, certificate, {
      names,
      otherwise: 'name the Vault that has it (vault_addr, pki_mount).',
      needs: (mount, issuer) => [{ path: `${mount}/issuer/${issuer}`, capabilities: ['read'] }],
    })
    if (signer.kind === 'vault' && !signer.isDefault) throw otherDefault(signer.mount, names)
    signers.push({ roles, certificate, signer })
    const end = parseCertificate(certificate).notAfter.getTime()
    ctx.log(`${names}: its key is ${tellSigner(signer)}`)
    if (!isRenewed && end < Date.now() + seconds(durationSeconds(ctx.vars.certificate_ttl)))
      ctx.log(`${names} ends on ${dayOfEnd(certificate)}, and so does what it signs: renew-ca gives it longer`)
  }
  return signers
}

function requireHolding(certificate: string, names: string): void {
  const { notAfter } = parseCertificate(certificate)
  if (notAfter.getTime() - margin > Date.now()) return
  throw new HostFailedError(`${names} ends, or has ended, on ${notAfter.toISOString()}: nothing it signs would hold`, {
    code: 'preflight.expired',
    hint: 'Give the CA a longer time first (renew-ca; once it has ended, rescue does so), or replace it with everything under it (rotate-ca).',
  })
}

const otherDefault = (mount: string, names: string) =>
  new HostFailedError(`${mount} in Vault has the key of ${names}, and issues from another CA`, {
    code: 'leaves.issuer',
    hint: 'Is a rotation half done? Go on with it or undo it; or make that issuer the default of the mount again.',
  })
