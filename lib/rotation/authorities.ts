// The CAs: which there are to be, their engines, roots and roles in Vault, and the token that this run issues with.
import { z } from 'zod'
import { type Secret, secret } from '../connection/shell.ts'
import { HostFailedError, RekeyError } from '../errors.ts'
import type { NewAuthority } from '../kubernetes/trust/certificate-files.ts'
import type { ClientAuthorities } from '../kubernetes/trust/client-trust.ts'
import { parseCertificate } from '../pki/certificates/certificate.ts'
import { refusals } from '../pki/role-check.ts'
import {
  type AuthorityPlan,
  authorityNames,
  authorityPlans,
  type CertificateSpec,
  mountOf,
  type VaultRole,
  vaultRoles,
} from '../pki/specs.ts'
import type { Vault } from '../pki/vault/contract.ts'
import type { RunContext, StepDefinition } from '../playbook/model.ts'
import type { OnHost } from './given/context.ts'
import { type Looking, must, planOf } from './given/found.ts'
import type { Grant, WithVault } from './given/vault.ts'

export const variables = {
  cluster_name: z.string(),
  /** One CA for everything, or one for each of kubernetes, etcd and front-proxy: of those that the cluster has, and tells apart. */
  pki_authorities: z.enum(['one', 'three']).default('three'),
  /** The mount of the cluster's CA in Vault; those of etcd and front-proxy are named after it. */
  pki_mount: z
    .string()
    .regex(/^[\w-]+$/)
    .default('pki_k8s'),
  /** Whether rekey writes the roles; where it does not, they must be there already, under the same names. */
  vault_manage_roles: z.boolean().default(true),
  /** How long the new CAs hold, and at most what they sign. */
  ca_ttl: z.string().default('43800h'),
  certificate_ttl: z.string().default('17520h'),
  /** Whether the controller-manager signs with the cluster's CA: then its key goes to the masters. */
  controller_manager_signs: z.boolean().default(true),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** What says which CAs there are, in which mounts. */
export type Mounts = Pick<Variables, 'pki_authorities' | 'pki_mount' | 'controller_manager_signs'>

/** What says which roles issue from them. */
export type Roles = Mounts & Pick<Variables, 'cluster_name' | 'certificate_ttl'>

type With<Vars> = Pick<RunContext<Vars>, 'vars' | 'run' | 'registered'>

/** The CAs that the cluster has, each in its mount. Throws `HostFailedError` where nothing is planned yet. */
export function plansOf(ctx: With<Mounts>): AuthorityPlan[] {
  const { oldAuthorities, sharing, signs = true } = planOf(ctx)
  return authorityPlans(ctx.vars.pki_authorities, {
    mount: ctx.vars.pki_mount,
    controllerManagerSigns: ctx.vars.controller_manager_signs && signs,
    roles: authorityNames.filter(name => oldAuthorities[name]),
    sharing,
    // A run's id begins with when it began.
    generation: ctx.run.split('-').slice(0, 2).join('-'),
  })
}

/** Whether a run is about any CA: about keys of tokens alone, Vault is not asked. */
function anyAuthority(ctx: Looking): boolean {
  return Object.keys(planOf(ctx).oldAuthorities).length > 0
}

/** The roles that the planned certificates are issued by. */
export function rolesOf(ctx: With<Roles> & Looking): VaultRole[] {
  return vaultRoles(planOf(ctx).specs, plansOf(ctx), { ttl: ctx.vars.certificate_ttl })
}

/** The name of the policy that is written for a run's token. */
export function policyName({ vars }: Pick<RunContext<Pick<Roles, 'cluster_name'>>, 'vars'>): string {
  return `rekey-${vars.cluster_name}`
}

/** What the run's token may do. */
export function grantOf(ctx: With<Roles> & Looking): Grant {
  return { policy: policyName(ctx), roles: rolesOf(ctx) }
}

/** A CA that this run made in a mount of Vault. */
export interface MadeAuthority {
  readonly issuer: string
  readonly keyId: string
  readonly certificate: string
  readonly key?: Secret
  readonly fingerprint: string
  readonly notAfter: string
}

/** The step that registers the CAs which certificates are issued from. */
export const rootsStep = 'generate-the-new-root-cas'
/** The step that registers the default issuer of each mount. */
export const issuersStep = 'note-issuers'

/** The CAs that this run made, by their mounts; undefined before it did. */
export function madeSoFar(ctx: Looking): Readonly<Record<string, MadeAuthority>> | undefined {
  return ctx.registered<Record<string, MadeAuthority>>(rootsStep)
}

const madeOf = (ctx: Looking) => must(madeSoFar(ctx), 'the new CAs were not made')

/** The new CA in a role, PEM. Throws `HostFailedError` where this run has made none. */
export function newAuthority(ctx: With<Mounts> & Looking, authority: CertificateSpec['authority']): string {
  return must(madeOf(ctx)[mountOf({ authority }, plansOf(ctx))], `the new CA for ${authority} is not known`).certificate
}

/** The cluster's new CA, PEM. */
export function newClusterAuthority(ctx: With<Mounts> & Looking): string {
  return newAuthority(ctx, 'kubernetes')
}

/** The new CAs as files of hosts need them, by their mounts. */
export function newAuthorities(ctx: Looking): Record<string, NewAuthority> {
  return Object.fromEntries(
    Object.entries(madeOf(ctx)).map(([mount, { certificate, key }]) => [mount, { certificate, key: key?.reveal() }]),
  )
}

/** Whom clients come from now. */
export function newClientAuthorities(ctx: With<Mounts> & Looking): ClientAuthorities {
  const has = plansOf(ctx).some(({ authorities }) => authorities.includes('front-proxy'))
  const kubernetes = newClusterAuthority(ctx)
  return { kubernetes, frontProxy: has ? newAuthority(ctx, 'front-proxy') : kubernetes }
}

/** Asks the roles that somebody else wrote whether they would issue what is planned. Throws `HostFailedError` naming the first that does not. */
export async function requireRoles(...asked: Parameters<typeof refusals>): Promise<void> {
  for await (const { spec, role, refused } of refusals(...asked)) {
    throw new HostFailedError(
      refused
        ? `the role ${role} refuses ${refused.join(', ')} for ${spec.id}`
        : `there is no role ${role} for ${spec.id}`,
      {
        code: 'preflight.role',
        hint: 'Have the owners of the Vault change it, or let rekey write the roles: vault_manage_roles: true.',
      },
    )
  }
}

/** Mounts the engines of the CAs where they are not, and has them issue for as long as `ca_ttl`. */
export const mountEngines: StepDefinition<OnHost<Mounts & Pick<Variables, 'ca_ttl' | 'cluster_name'>> & WithVault> = {
  irreversible: 'engines stay mounted: what they issued before could not be revoked any more',
  when: anyAuthority,
  runOnce: true,
  plan: ctx =>
    plansOf(ctx).map(
      ({ mount }) =>
        `vault secrets enable -path=${mount} pki; vault secrets tune -max-lease-ttl=${ctx.vars.ca_ttl} ${mount}`,
    ),
  run: async ctx => {
    const vault = await ctx.vault.operator()
    for (const { mount } of plansOf(ctx)) {
      await vault.ensureMount(mount, {
        maxLeaseTtl: ctx.vars.ca_ttl,
        description: `CA of the Kubernetes cluster ${ctx.vars.cluster_name}`,
      })
    }
  },
}

/** Registers the default issuer of each mount: the way back of `generateRoots` makes it the default again. */
export const noteIssuers: StepDefinition<OnHost<Mounts> & WithVault> = {
  id: issuersStep,
  when: anyAuthority,
  runOnce: true,
  readOnly: true,
  remember: true,
  run: async (ctx): Promise<Record<string, string>> => {
    const vault = await ctx.vault.operator()
    const found: Record<string, string> = {}
    for (const { mount } of plansOf(ctx)) {
      const issuer = await defaultIssuer(vault, mount)
      if (issuer !== undefined) found[mount] = issuer
    }
    return found
  },
}

/** Makes a new root in each mount, and has Vault issue from it. */
export const generateRoots: StepDefinition<OnHost<Mounts & Pick<Variables, 'ca_ttl'>> & WithVault> = {
  id: rootsStep,
  runOnce: true,
  plan: ctx =>
    plansOf(ctx).map(
      ({ mount, commonName, keyOnMasters }) =>
        `vault write ${mount}/root/generate/${keyOnMasters ? 'exported' : 'internal'} common_name=${commonName} ttl=${ctx.vars.ca_ttl}, and make it the default issuer`,
    ),
  run: async ctx => {
    const vault = await ctx.vault.operator()
    const made: Record<string, MadeAuthority> = {}
    for (const { mount, commonName, keyOnMasters } of plansOf(ctx)) {
      // One that a killed run made and did not get to keep: its key can't be had any more.
      await removeIssuer(vault, mount, issuerName(ctx))
      const type = keyOnMasters ? 'exported' : 'internal'
      const root = await vault.generateRoot(mount, {
        commonName,
        type,
        ttl: ctx.vars.ca_ttl,
        keyType: 'rsa',
        keyBits: 2048,
        issuerName: issuerName(ctx),
      })
      await vault.setDefaultIssuer(mount, root.issuerId)
      if (root.privateKey) ctx.redact(root.privateKey)
      const { issuerId: issuer, keyId, certificate, privateKey } = root
      const { fingerprint, notAfter } = parseCertificate(certificate)
      const key = privateKey === undefined ? undefined : secret(privateKey)
      made[mount] = { issuer, keyId, certificate, key, fingerprint, notAfter: notAfter.toISOString() }
      ctx.log(`${mount}: ${fingerprint}`)
    }
    return made
  },
  rollback: async ctx => {
    const vault = await ctx.vault.operator()
    const previous = ctx.registered<Record<string, string>>(issuersStep) ?? {}
    for (const { mount } of plansOf(ctx)) {
      const issuer = previous[mount]
      if (issuer !== undefined) await vault.setDefaultIssuer(mount, issuer)
      await removeIssuer(vault, mount, issuerName(ctx))
      await requireDefault(vault, mount, issuer, 'rollback.issuer')
    }
  },
}

/** Writes the roles that issue exactly the planned certificates, unless somebody else does. */
export const writeRoles: StepDefinition<OnHost<Roles & Pick<Variables, 'vault_manage_roles'>> & WithVault> = {
  irreversible: 'roles stay, and issue from the CA that is the default: the next rotation writes the same',
  runOnce: true,
  when: ctx => ctx.vars.vault_manage_roles && anyAuthority(ctx),
  plan: ctx => rolesOf(ctx).map(({ mount, name }) => `vault write ${mount}/roles/${name}`),
  run: async ctx => {
    const vault = await ctx.vault.operator()
    for (const { mount, name, settings } of rolesOf(ctx)) await vault.ensureRole(mount, name, settings)
  },
}

/** Makes the token that the certificates are issued with. */
export const makeToken: StepDefinition<OnHost<Roles> & WithVault> = {
  when: anyAuthority,
  runOnce: true,
  plan: ctx => [`vault policy write ${policyName(ctx)}`, `vault token create -policy=${policyName(ctx)} -ttl=30m`],
  run: async ctx => {
    await ctx.vault.issuing(grantOf(ctx))
  },
  rollback: ctx => ctx.vault.revoke(),
}

/** What the issuers that a run makes are called in their mounts. */
export const issuerName = ({ run }: Pick<RunContext, 'run'>) => `rekey-${run}`

/** The id of the issuer that a mount issues from; undefined where there is none, or no mount. */
export async function defaultIssuer(vault: Vault, mount: string): Promise<string | undefined> {
  try {
    return (await vault.readIssuer(mount, 'default'))?.id
  } catch (error) {
    // Before the first rotation there is no engine either.
    if (error instanceof RekeyError && error.code === 'issuer.no-such-mount') return undefined
    throw error
  }
}

/** Throws `HostFailedError`, with a code, where a mount issues from another issuer than this one, or, where that is undefined, from any. */
export async function requireDefault(
  vault: Vault,
  mount: string,
  issuer: string | undefined,
  code: string,
): Promise<void> {
  const now = await defaultIssuer(vault, mount)
  if (now === issuer) return
  throw new HostFailedError(`${mount} in Vault issues from ${now ?? 'no CA'}, and not from ${issuer ?? 'none'}`, {
    code,
  })
}

/** Removes an issuer and its key from a mount, where they are there. */
export async function removeIssuer(vault: Vault, mount: string, name: string): Promise<void> {
  const issuer = await vault.readIssuer(mount, name)
  if (!issuer) return
  await vault.deleteIssuer(mount, issuer.id)
  await vault.deleteKey(mount, issuer.keyId)
}
