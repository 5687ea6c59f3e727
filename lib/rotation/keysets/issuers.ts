// The CAs of keysets in Vault: a new one beside the one that issues, and which of them issues.
import { secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../pki/certificates/certificate.ts'
import { type AuthorityName, type AuthorityPlan, mountOf } from '../../pki/specs.ts'
import type { Vault } from '../../pki/vault/contract.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import {
  type Variables as AuthorityVariables,
  defaultIssuer,
  issuerName,
  issuersStep,
  type MadeAuthority,
  type Mounts,
  madeSoFar,
  plansOf,
  removeIssuer,
  requireDefault,
  rolesOf,
  rootsStep,
} from '../authorities.ts'
import type { OnHost } from '../given/context.ts'
import { must } from '../given/found.ts'
import type { WithVault } from '../given/vault.ts'
import * as preflight from '../preflight.ts'
import { aboutAuthorities, describe, formerOf, type Item, type KeysetState, primaryOf, statesOf } from './state.ts'

type Needs = OnHost<Mounts & Pick<AuthorityVariables, 'ca_ttl'>> & WithVault

const notDefault = 'keysets.issuer'

/** Fails where Vault is sealed, or its token may not do what a stage needs. */
export const askVault: StepDefinition<OnHost<AuthorityVariables> & WithVault> = {
  ...preflight.askVault,
  when: aboutAuthorities,
  run: async ctx => {
    await preflight.askVault.run(ctx)
    const vault = await ctx.vault.operator()
    await vault.requireCapabilities(
      plansOf(ctx).flatMap(({ mount }) => [
        { path: `${mount}/issuers`, capabilities: ['list'] },
        { path: `${mount}/issuers/import/cert`, capabilities: ['update'] },
        // Credentials that may do nothing, by which servers are asked whom they let in.
        ...rolesOf(ctx)
          .filter(role => role.mount === mount)
          .map(({ name }) => ({ path: `${mount}/issuer/+/issue/${name}`, capabilities: ['update'] })),
      ]),
    )
  },
}

/** The state of the keyset whose CA a mount has. */
function stateIn(ctx: Needs, mount: string): KeysetState {
  const found = statesOf(ctx).find(({ authority }) => mountOf({ authority }, plansOf(ctx)) === mount)
  return must(found, `no keyset has its CA in ${mount}`)
}

/** Whether a CA is of this cluster: one of its files holds it, or its masters keep it. What Vault has besides may be another cluster's. */
const isOurs = ({ key, kept }: Item, { bundles }: KeysetState) =>
  kept === true ||
  Object.values(bundles).some(files => Object.values(files).some(held => held.some(pem => publicKeyOf(pem) === key)))

/** The CA that is to follow: staged, on hosts of this cluster, and Vault has its key. */
export function stagedIn(state: KeysetState): (Item & { readonly issuer: string }) | undefined {
  const found = state.items.find(item => item.state === 'staged' && item.issuer !== undefined && isOurs(item, state))
  return found?.issuer === undefined ? undefined : { ...found, issuer: found.issuer }
}

/**
 * Fails where Vault has a CA that is younger than the one that signs, and that no host of this cluster knows: another cluster's clients would be
 * let in, or it is of a run that was cut off, and nobody has its key.
 */
export const noneForeign: StepDefinition<Needs> = {
  ...{ readOnly: true, runOnce: true, remember: true },
  when: aboutAuthorities,
  run: ctx => {
    for (const state of statesOf(ctx)) {
      const foreign = state.items.find(
        item => item.state === 'staged' && item.issuer !== undefined && !isOurs(item, state),
      )
      if (!foreign || stagedIn(state)) continue
      const mount = mountOf(state, plansOf(ctx))
      throw new HostFailedError(
        `${mount} in Vault has a CA that no host here knows: issuer ${foreign.issuer}, ${describe(foreign)}`,
        {
          code: 'keysets.foreign-issuer',
          hint: `Where a stage that was cut off has made it, undo that by rekey rollback, or go on with it by rekey resume; where that can't be any more: vault delete ${mount}/issuer/${foreign.issuer}. Where it is another cluster's, give this one a mount of its own (pki_mount).`,
        },
      )
    }
  },
}

/** Makes a new CA beside the one that issues, where there is none that was staged and not promoted. Vault goes on issuing from the other. */
export const makeStaged: StepDefinition<Needs> = {
  id: rootsStep,
  when: aboutAuthorities,
  runOnce: true,
  plan: ctx =>
    plansOf(ctx)
      .filter(({ mount }) => !stagedIn(stateIn(ctx, mount)))
      .map(
        ({ mount, commonName, keyOnMasters }) =>
          `vault write ${mount}/root/generate/${keyOnMasters ? 'exported' : 'internal'} common_name=${commonName} ttl=${ctx.vars.ca_ttl}, beside the issuer that is the default`,
      ),
  run: async ctx => {
    const vault = await ctx.vault.operator()
    const made: Record<string, MadeAuthority> = {}
    for (const plan of plansOf(ctx)) {
      const { mount } = plan
      const state = stateIn(ctx, mount)
      const there = stagedIn(state)
      made[mount] = there ? await readIssuer(vault, mount, there.issuer) : await makeBeside(ctx, vault, plan)
      ctx.log(`${state.name}: ${made[mount].fingerprint}${there ? ', staged before' : ''}`)
    }
    return made
  },
  rollback: async ctx => {
    const vault = await ctx.vault.operator()
    const before = ctx.registered<Record<string, string>>(issuersStep) ?? {}
    for (const { mount } of plansOf(ctx)) {
      await removeIssuer(vault, mount, issuerName(ctx))
      if (before[mount] === undefined) await removeImported(vault, mount, primaryOf(stateIn(ctx, mount)))
      await requireDefault(vault, mount, before[mount], notDefault)
    }
  },
}

async function makeBeside(
  ctx: Needs,
  vault: Vault,
  { mount, commonName, keyOnMasters }: AuthorityPlan,
): Promise<MadeAuthority> {
  // One that a killed run made and did not get to keep.
  await removeIssuer(vault, mount, issuerName(ctx))
  // The first issuer of a mount becomes its default, and would issue to whoever asks: so that one is the CA of now, without its key.
  const first = await defaultIssuer(vault, mount)
  const [current = first] = first ? [] : await vault.importIssuers(mount, primaryOf(stateIn(ctx, mount)).certificate)
  if (current !== undefined) await vault.setDefaultIssuer(mount, current)
  const { issuerId, privateKey } = await vault.generateRoot(mount, {
    ...{
      commonName,
      type: keyOnMasters ? 'exported' : 'internal',
      ttl: ctx.vars.ca_ttl,
      keyType: 'rsa',
      keyBits: 2048,
    },
    issuerName: issuerName(ctx),
  })
  if (privateKey) ctx.redact(privateKey)
  await requireDefault(vault, mount, current, notDefault)
  return { ...(await readIssuer(vault, mount, issuerId)), ...(privateKey && { key: secret(privateKey) }) }
}

async function removeImported(vault: Vault, mount: string, { key }: Item): Promise<void> {
  for (const id of await vault.listIssuers(mount)) {
    const found = await vault.readIssuer(mount, id)
    if (found && publicKeyOf(found.certificate) === key) await vault.deleteIssuer(mount, id)
  }
}

/** Has Vault issue from the CAs that were staged, from now on. */
export const promote: StepDefinition<Needs> = {
  id: rootsStep,
  when: aboutAuthorities,
  runOnce: true,
  plan: ctx =>
    plansOf(ctx).map(({ mount }) => `vault write ${mount}/config/issuers default=${nextIn(ctx, mount).issuer}`),
  run: async ctx => {
    const vault = await ctx.vault.operator()
    const made: Record<string, MadeAuthority> = {}
    for (const { mount } of plansOf(ctx)) {
      const { issuer } = nextIn(ctx, mount)
      made[mount] = await readIssuer(vault, mount, issuer)
      await vault.setDefaultIssuer(mount, issuer)
      ctx.log(`${mount}: ${made[mount].fingerprint}`)
    }
    return made
  },
  rollback: async ctx => {
    const vault = await ctx.vault.operator()
    const before = ctx.registered<Record<string, string>>(issuersStep) ?? {}
    for (const { mount } of plansOf(ctx)) {
      const issuer = before[mount]
      if (issuer !== undefined) await vault.setDefaultIssuer(mount, issuer)
      await requireDefault(vault, mount, issuer, notDefault)
    }
  },
}

/** The CA that a promotion is about: what is staged, or what one that was broken off has promoted already; undefined where there is none. */
export const comingIn = (state: KeysetState) => stagedIn(state) ?? halfPromoted(state)

/** The same; throws `HostFailedError` where there is none. */
export function nextOf(state: KeysetState): Item & { readonly issuer: string } {
  const next = comingIn(state)
  if (next) return next
  throw new HostFailedError(`${state.name} has no CA that is staged, and whose key Vault has`, {
    code: 'keysets.nothing-staged',
    hint: `Run stage-keysets first: rekey keysets shows how they stand.`,
  })
}

function halfPromoted(state: KeysetState): (Item & { readonly issuer: string }) | undefined {
  const { issuer, ...item } = primaryOf(state)
  const old = formerOf(state)
  return issuer !== undefined && old.length > 0 ? { ...item, issuer } : undefined
}

const nextIn = (ctx: Needs, mount: string) => nextOf(stateIn(ctx, mount))

async function readIssuer(vault: Vault, mount: string, id: string): Promise<MadeAuthority> {
  const { keyId, certificate } = must(
    await vault.readIssuer(mount, id),
    `${mount} in Vault has no issuer ${id} any more`,
  )
  const { fingerprint, notAfter } = parseCertificate(certificate)
  return { issuer: id, keyId, certificate, fingerprint, notAfter: notAfter.toISOString() }
}

/** The CA of a role that this run stages or promotes, as an item. */
export function madeItem(ctx: Needs | OnHost<Mounts>, authority: AuthorityName): Item {
  const made = must(madeSoFar(ctx)?.[mountOf({ authority }, plansOf(ctx))], `the new CA for ${authority} is not known`)
  const key = publicKeyOf(made.certificate) ?? ''
  return { id: key.slice(0, 8), key, state: 'staged', certificate: made.certificate, issuer: made.issuer }
}
