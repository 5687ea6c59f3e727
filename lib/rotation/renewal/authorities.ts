// The CAs that get a certificate for a longer time: which there are, where the key of each is, and the certificate that it signs for itself.
import { z } from 'zod'
import { HostFailedError, RekeyError } from '../../errors.ts'
import { oldAuthorities } from '../../kubernetes/layout/authorities.ts'
import type { ClientAuthorities } from '../../kubernetes/trust/client-trust.ts'
import { machineFacts } from '../../kubernetes/trust/machine.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { dayOfEnd, parseCertificate } from '../../pki/certificates/certificate.ts'
import { requireRoot } from '../../pki/issuer/renewal.ts'
import { type AuthorityName, authorityNames } from '../../pki/specs.ts'
import { durationSeconds } from '../../pki/vault/duration.ts'
import type { RunContext, StepDefinition } from '../../playbook/model.ts'
import { listed } from '../../playbook/variables.ts'
import { beforehand, type OnHost, seconds } from '../given/context.ts'
import { type Looking, layoutOf, must, readingOf } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'
import { openObserved } from '../given/services.ts'
import { openVault, type WithVault } from '../given/vault.ts'
import { keysetOf } from '../keysets/which/chosen.ts'
import { issuersByName } from './leaves.ts'
import { requireSigner, type Signer, signedByVault, signedHere, takeBack, tellSigner } from './signers.ts'

/** CAs as keysets are called. */
const keysetNames = ['kubernetes-ca', 'etcd-ca', 'front-proxy-ca'] as const

export const variables = {
  /** Which CAs: all that the cluster has, where nothing is said. `kubernetes-ca,etcd-ca`, or a list. */
  keysets: z.preprocess(listed, z.array(z.enum(keysetNames)).min(1)).default([...keysetNames]),
  /** For how long. */
  ca_ttl: z.string().default('43800h'),
  /** The mount of the cluster's CA in Vault; those of etcd and front-proxy are named after it. */
  pki_mount: z
    .string()
    .regex(/^[\w-]+$/)
    .default('pki_k8s'),
  /** No Vault is asked where none is named: then the keys must be on the hosts. */
  vault_addr: z.url().optional(),
  vault_cacert: z.string().optional(),
  vault_token_file: z.string().optional(),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** What is asked for where somebody else says which CAs. */
export type Signs = Omit<Variables, 'keysets'>

/** A CA before its renewal. Plain data. */
export interface OldAuthority {
  /** What it signs for; several where the cluster has one CA for them. */
  readonly roles: readonly AuthorityName[]
  readonly certificate: string
  readonly signer: Signer
  /** Something that it signed names it by its serial number: the new certificate keeps that. */
  readonly sameSerial: boolean
}

/** A CA and its certificate for a longer time. Plain data. */
export interface Renewed {
  readonly roles: readonly AuthorityName[]
  readonly old: string
  readonly next: string
}

/** The step that registers the CAs that are to be renewed. */
export const planStep = 'plan-the-renewal'
const signStep = 'sign-the-authorities'

/** The CAs that are to be renewed. Throws `HostFailedError` where nothing is planned yet. */
export function authoritiesOf(ctx: Looking): readonly OldAuthority[] {
  return must(ctx.registered<OldAuthority[]>(planStep), 'no renewal was planned')
}

/** The same with their new certificates. Throws `HostFailedError` where they were not signed. */
export function renewedOf(ctx: Looking): readonly Renewed[] {
  return must(signedSoFar(ctx), 'the CAs were not signed anew')
}

/** The same; undefined before they were. */
export function signedSoFar(ctx: Looking): readonly Renewed[] | undefined {
  return ctx.registered<Renewed[]>(signStep)
}

/** Whom clients come from: by the certificates of before. */
export function oldClients(ctx: Found): ClientAuthorities {
  return clientsOf(ctx, role => authoritiesOf(ctx).find(({ roles }) => roles.includes(role))?.certificate)
}

/** The same by those of now. */
export function newClients(ctx: Found): ClientAuthorities {
  return clientsOf(ctx, role => renewedOf(ctx).find(({ roles }) => roles.includes(role))?.next)
}

type Found = Pick<OnHost, 'registered' | 'hosts' | 'host'>

/** A CA that is not renewed has the certificate that it had. */
function clientsOf(ctx: Found, of: (role: AuthorityName) => string | undefined): ClientAuthorities {
  const found = foundAuthorities(ctx)
  const kubernetes = of('kubernetes') ?? found.kubernetes ?? ''
  return { kubernetes, frontProxy: of('front-proxy') ?? found['front-proxy'] ?? kubernetes }
}

function foundAuthorities(ctx: Found) {
  const readings = ctx.hosts(everyMachine).map(({ name }) => readingOf(ctx, name))
  return oldAuthorities(
    readings.map(reading => machineFacts(reading, [])),
    ctx.hosts(everyMachine).map(({ name }) => layoutOf(ctx, name)),
  )
}

/** What a run holds in memory; of its Vault, which may be none, nothing is asked before somebody needs it. */
export function openServices(
  run: RunContext<Pick<Variables, 'vault_addr' | 'vault_cacert' | 'vault_token_file'>>,
): ReturnType<typeof openObserved> {
  const { vault_addr = '', vault_token_file = '', vault_cacert } = run.vars
  return openObserved(
    run as unknown as RunContext,
    openVault({ ...run, vars: { vault_addr, vault_token_file, vault_cacert } }),
  )
}

/**
 * Registers which CAs are renewed, and where the key of each is. Fails where one's key is nowhere, or it is no root, or has ended, or would
 * not hold longer.
 */
export const plan: StepDefinition<OnHost<Variables> & WithVault> = {
  id: planStep,
  ...beforehand,
  runOnce: true,
  run: async (ctx): Promise<OldAuthority[]> => {
    const groups = authoritiesByKey(ctx)
    const asked = groups.filter(({ roles }) => roles.some(role => isAsked(ctx, role)))
    if (asked.length === 0) {
      throw new HostFailedError(`the cluster has none of ${ctx.vars.keysets.join(', ')}`, {
        code: 'preflight.keysets',
        hint: `It has ${groups.map(namesOf).join(', ')}.`,
      })
    }
    const planned: OldAuthority[] = []
    for (const one of asked) {
      requireWorth(ctx, one.certificate, namesOf(one))
      planned.push(await withSigner(ctx, one, 'go without this CA: -e keysets=…'))
    }
    return planned
  },
}

/** A CA, and what it signs for. */
export type RolesOfAuthority = Pick<OldAuthority, 'roles' | 'certificate'>

/** The keysets of a CA: `kubernetes-ca = etcd-ca` where it is several. */
export const namesOf = ({ roles }: Pick<RolesOfAuthority, 'roles'>): string => roles.map(keysetOf).join(' = ')

/** The CAs of the cluster, each once, whatever it has for roles. */
export function authoritiesByKey(ctx: Found): RolesOfAuthority[] {
  const found = foundAuthorities(ctx)
  const names = authorityNames.filter(name => found[name])
  return [...Map.groupBy(names, name => publicKeyOf(found[name] ?? '')).values()].map(roles => ({
    roles,
    certificate: found[roles[0] as AuthorityName] ?? '',
  }))
}

/**
 * A CA with whoever signs it anew, told.
 * @param otherwise what else may be done where its key is nowhere
 * @throws HostFailedError where it is nowhere, or the CA is no root
 */
export async function withSigner(
  ctx: OnHost<Signs> & WithVault,
  { roles, certificate }: RolesOfAuthority,
  otherwise: string,
): Promise<OldAuthority> {
  const names = namesOf({ roles })
  requireOwnRoot(certificate, names)
  const signer = await requireSigner(ctx, certificate, { names, otherwise })
  const sameSerial = issuersByName(ctx, certificate)
  ctx.log(`${names}: until ${dayOfEnd(certificate)}, its key is ${tellSigner(signer)}`)
  if (roles.length > 1) ctx.log(`${names}: one CA, which is renewed for all of these`)
  if (sameSerial)
    ctx.log(`${names}: certificates name it by its serial number, which the new certificate keeps therefore`)
  return { roles, certificate, signer, sameSerial }
}

const isAsked = ({ vars }: { readonly vars: Variables }, role: AuthorityName) =>
  vars.keysets.some(one => one === keysetOf(role))

/** From when to when: dated back for clocks that are behind. */
function timesOf({ vars }: { readonly vars: Pick<Variables, 'ca_ttl'> }) {
  const now = Math.floor(Date.now() / 1_000) * 1_000
  return { notBefore: new Date(now - seconds(300)), notAfter: new Date(now + seconds(durationSeconds(vars.ca_ttl))) }
}

function requireOwnRoot(certificate: string, names: string): void {
  try {
    requireRoot(certificate)
  } catch (error) {
    throw inWords(error, `${names}: `)
  }
}

function requireWorth(ctx: OnHost<Variables>, certificate: string, names: string): void {
  requireOwnRoot(certificate, names)
  const { notAfter } = parseCertificate(certificate)
  const next = timesOf(ctx).notAfter
  if (notAfter <= new Date()) {
    throw new HostFailedError(`${names} has ended on ${notAfter.toISOString()}`, {
      code: 'preflight.expired',
      hint: 'By now nobody trusts anybody through it, and nothing could be checked or waited for: rescue signs it anew all the same, with all that has ended under it.',
    })
  }
  if (next <= notAfter) {
    throw new HostFailedError(
      `${names} holds until ${notAfter.toISOString().slice(0, 10)}: with ca_ttl ${ctx.vars.ca_ttl} it would end earlier, on ${next.toISOString().slice(0, 10)}`,
      { code: 'preflight.no-renewal', hint: 'Give a longer ca_ttl, or leave it out: keysets.' },
    )
  }
}

function inWords(error: unknown, before: string): unknown {
  if (!(error instanceof RekeyError)) return error
  return new HostFailedError(`${before}${error.message}`, { code: error.code, hint: error.hint, cause: error })
}

/** Signs the CAs anew, and has Vault issue by the new certificate where it has the key. */
export const sign: StepDefinition<OnHost<Signs> & WithVault> = {
  id: signStep,
  runOnce: true,
  plan: ctx =>
    authoritiesOf(ctx).map(
      one =>
        `sign ${namesOf(one)} anew until ${timesOf(ctx).notAfter.toISOString().slice(0, 10)}, with the key ${tellSigner(one.signer)}`,
    ),
  run: async (ctx): Promise<Renewed[]> => {
    const renewed: Renewed[] = []
    for (const { roles, certificate: old, signer, sameSerial } of authoritiesOf(ctx)) {
      const times = { ...timesOf(ctx), sameSerial }
      const next =
        signer.kind === 'vault'
          ? await signedByVault(ctx, signer, old, times)
          : await signedHere(ctx, signer, old, times)
      const { subjectKeyId } = parseCertificate(next)
      renewed.push({ roles, old, next })
      ctx.log(`${namesOf({ roles })}: until ${dayOfEnd(next)}, key identifier ${subjectKeyId ?? 'none'}, as before`)
    }
    return renewed
  },
  rollback: async ctx => {
    for (const { signer, certificate } of authoritiesOf(ctx))
      if (signer.kind === 'vault') await takeBack(ctx, signer, certificate)
  },
}
