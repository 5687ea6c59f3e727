// New certificates by the CAs of today, in place of those that are due: with all that these say, and the kind of key that they have.
import { secret } from '../../connection/shell.ts'
import { withCurrentOf } from '../../kubernetes/api/kubeconfig.ts'
import type { StagedFile, Swap } from '../../operations/staging.ts'
import { privateKeysWithin } from '../../pki/certificates/bundle-text.ts'
import { dayOfEnd, parseCertificate } from '../../pki/certificates/certificate.ts'
import { refusals } from '../../pki/role-check.ts'
import {
  type AuthorityName,
  type AuthorityPlan,
  type CertificateSpec,
  placePath,
  type VaultRole,
  vaultRoles,
} from '../../pki/specs.ts'
import type { RoleSettings } from '../../pki/vault/contract.ts'
import { vaultSecrets } from '../../pki/vault/secrets.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import * as extra from '../as-found/extra.ts'
import { policyName, requireRoles } from '../authorities.ts'
import type { OnHost } from '../given/context.ts'
import { must, readingOf } from '../given/found.ts'
import type { WithVault } from '../given/vault.ts'
import {
  type IssuedBy,
  issueStep,
  renderFrom,
  sha256,
  stageIssued,
  unstageAll,
  verifyIssuedBy,
  type WithIssued,
} from '../issue.ts'
import { keysetOf } from '../keysets/which/chosen.ts'
import { keyText } from '../renewal/signers.ts'
import { leafPlanOf, nextEnd, signingAuthority, type Variables } from './plan.ts'

type Needs = OnHost<Variables & extra.Variables> & WithVault & WithIssued

/** The CAs of today as templates ask them: in Vault by their mounts, others by a name that is no mount. */
function plansOf(ctx: Pick<Needs, 'registered'>): AuthorityPlan[] {
  return leafPlanOf(ctx).signers.map(({ roles, signer }) => ({
    mount: signer.kind === 'vault' ? signer.mount : roles.map(keysetOf).join('-'),
    commonName: '',
    authorities: roles,
    keyOnMasters: false,
  }))
}

const isInVault = (ctx: Pick<Needs, 'registered'>, { authority }: CertificateSpec) =>
  leafPlanOf(ctx).signers.some(({ roles, signer }) => roles.includes(authority) && signer.kind === 'vault')

/** The roles of Vault that issue what is planned: made from all that is there, since others may lean on them. */
const rolesOf = (ctx: Pick<OnHost<Variables>, 'registered' | 'vars'>): VaultRole[] =>
  vaultRoles(
    leafPlanOf(ctx).all.filter(spec => isInVault(ctx, spec)),
    plansOf(ctx),
    { ttl: ctx.vars.certificate_ttl },
  )

const dueInVault = (ctx: Pick<Needs, 'registered'>) => leafPlanOf(ctx).specs.filter(spec => isInVault(ctx, spec))

/** Fails where a role of Vault would not issue what is planned, and rekey is not to write it. */
export const rolesWouldIssue: StepDefinition<OnHost<Variables> & WithVault> = {
  readOnly: true,
  runOnce: true,
  when: ctx => !ctx.vars.vault_manage_roles && dueInVault(ctx).length > 0,
  run: async ctx => requireRoles(await ctx.vault.operator(), dueInVault(ctx), plansOf(ctx), ctx.vars.certificate_ttl),
}

/** Writes those roles of Vault that would not issue what is planned. */
export const writeRoles: StepDefinition<OnHost<Variables> & WithVault> = {
  irreversible: 'roles stay, and issue from the CA that is the default: the next renewal writes the same',
  runOnce: true,
  when: ctx => ctx.vars.vault_manage_roles && dueInVault(ctx).length > 0,
  check: async ctx => (await refusing(ctx)).length === 0,
  plan: async ctx => (await refusing(ctx)).map(({ mount, name }) => `vault write ${mount}/roles/${name}`),
  run: async ctx => {
    const vault = await ctx.vault.operator()
    for (const { mount, name, settings } of await refusing(ctx)) await vault.ensureRole(mount, name, settings)
  },
}

async function refusing(ctx: OnHost<Variables> & WithVault): Promise<VaultRole[]> {
  const asked = refusals(await ctx.vault.operator(), dueInVault(ctx), plansOf(ctx), ctx.vars.certificate_ttl)
  const refused = new Set<string>()
  for await (const { role } of asked) refused.add(role)
  return rolesOf(ctx).filter(({ mount, name }) => refused.has(`${mount}/roles/${name}`))
}

/** Whether a host has certificates that are due. */
export const hasDue = (ctx: OnHost) => leafPlanOf(ctx).specs.some(({ hosts }) => hosts.includes(ctx.host.name))

const dueOn = (ctx: OnHost) => leafPlanOf(ctx).specs.filter(({ hosts }) => hosts.includes(ctx.host.name))

/** The keys of what is due on a host, which a backup is to hold wherever they lie. */
export const keysOf = (ctx: OnHost): string[] =>
  dueOn(ctx).flatMap(({ place }) => (place.kind === 'pair' ? [place.key] : []))

/** Issues what is due on a host and stages it beside the live files; registers the swap. Kubeconfigs keep all but their client's certificate. */
export const issueAndStage: StepDefinition<Needs> = {
  id: issueStep,
  together: true,
  when: hasDue,
  plan: ctx =>
    dueOn(ctx).map(({ place, commonName, authority }) => {
      const ends = dayOfEnd(readingOf(ctx).certificates[placePath(place)] ?? '')
      return `issue ${placePath(place)} anew: CN ${commonName}, by ${keysetOf(authority)}; what lies there ends on ${ends}`
    }),
  run: async (ctx): Promise<Swap> => {
    const reading = extra.withOwners(ctx, readingOf(ctx))
    const { files: rendered, swap } = await renderFrom(ctx, reading, await issuedBy(ctx))
    const files = (await Promise.all(rendered.map(file => asItStands(ctx, file)))).filter(file => file !== undefined)
    await stageIssued(ctx, files)
    return {
      ...swap,
      rename: files.map(({ path }) => path),
      hashes: Object.fromEntries(files.map(({ path, content }) => [path, sha256(content)])),
    }
  },
  rollback: unstageAll,
}

/** Fails where what is staged is not what was issued, lacks something that the old one says, or holds under another CA. */
export const verifyIssued: StepDefinition<OnHost & WithIssued> = {
  ...verifyIssuedBy<OnHost & WithIssued>((ctx, role) => signingAuthority(ctx, role).certificate),
  when: hasDue,
}

/** A kubeconfig as it stands there, with the new certificate for its client; nothing where that is what stands there. */
async function asItStands(ctx: OnHost, file: StagedFile): Promise<StagedFile | undefined> {
  const { kubeconfigs, files = {}, host } = readingOf(ctx)
  const isKubeconfig = Object.keys(kubeconfigs).some(path => (files[path]?.real ?? path) === file.path)
  if (!isKubeconfig) return file
  const now = await ctx.files.readText(file.path)
  const next = typeof file.content === 'string' ? file.content : file.content.reveal()
  const text = withCurrentOf(now, next, `${host}:${file.path}`, ['user'])
  return text === now ? undefined : { ...file, content: secret(text, { parts: privateKeysWithin(text) }) }
}

async function issuedBy(ctx: Needs): Promise<IssuedBy> {
  const plans = plansOf(ctx)
  const keys = new Map<AuthorityName | undefined, string>()
  for (const { roles, signer } of leafPlanOf(ctx).signers) {
    if (signer.kind !== 'host') continue
    keys.set(
      roles[0],
      must(await keyText(ctx, signer.host, signer.path), `${signer.host}:${signer.path} is not there any more`),
    )
  }
  const ttlOf = ({ authority }: CertificateSpec) => {
    const end = nextEnd(ctx.vars.certificate_ttl, signingAuthority(ctx, authority).certificate)
    return `${Math.floor((end - Date.now()) / 1_000)}s`
  }
  const grant = { policy: policyName(ctx), roles: rolesOf(ctx) }
  return {
    plans,
    ttlOf,
    sourceOf: spec => {
      const one = signingAuthority(ctx, spec.authority)
      const key = keys.get(one.roles[0])
      if (key === undefined) {
        return async (path, data) => vaultSecrets(await ctx.vault.issuing(grant))(path, data)
      }
      const settings = roleOf(ctx, spec, plans)
      const ask = async (path: string, data?: Readonly<Record<string, unknown>>) => {
        const { answerFrom } = await import('../../pki/issuer/leaf.ts')
        const signer = { certificate: one.certificate, key, maxLeaseTtl: ctx.vars.certificate_ttl }
        return answerFrom(signer, settings, path, data)
      }
      return vaultSecrets({ read: ask, write: ask })
    },
  }
}

/** What a role of Vault would say, for the kind of key that lies there now. */
function roleOf(ctx: Needs, spec: CertificateSpec, plans: readonly AuthorityPlan[]): RoleSettings {
  const present = spec.hosts.flatMap(host => readingOf(ctx, host).certificates[placePath(spec.place)] ?? [])[0]
  const [kind = '', ...size] = (present === undefined ? 'RSA-2048' : parseCertificate(present).keyType).split('-')
  const bits = Number(size.at(-1))
  const key =
    kind === 'ECDSA'
      ? ({ keyType: 'ec', keyBits: bits } as const)
      : kind === 'Ed25519'
        ? ({ keyType: 'ed25519' } as const)
        : ({ keyType: 'rsa', keyBits: Math.max(bits || 0, 2048) } as const)
  const [role] = vaultRoles([spec], plans, { ttl: ctx.vars.certificate_ttl, ...key })
  return must(role, `no role was made for ${spec.id}`).settings
}
