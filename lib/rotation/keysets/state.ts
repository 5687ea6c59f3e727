// In which state the keys of a keyset are, read from the cluster and from Vault: a run that another machine began is gone on with by this.
import { RekeyError } from '../../errors.ts'
import { signerAmong, trustFilesOf } from '../../kubernetes/layout/authorities.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { joinBundle, parseCertificate, splitBundle } from '../../pki/certificates/certificate.ts'
import { type ItemState, type KeysetFacts, type KeysetName, type KeyUse, keysetsOf } from '../../pki/keyset.ts'
import { type AuthorityName, mountOf, placePath } from '../../pki/specs.ts'
import type { Vault } from '../../pki/vault/contract.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { type Mounts, plansOf } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnCluster, OnHost } from '../given/context.ts'
import { type Looking, layoutOf, must, planOf, readingOf } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import { chosenAuthorities, keysetOf, type Variables } from './chosen.ts'
import { keptAuthorities } from './kept.ts'

/** A CA of a keyset. */
export interface Item {
  /** The beginning of its key's hash: what people call it by. */
  readonly id: string
  /** The SHA-256 of its public key. */
  readonly key: string
  readonly state: ItemState
  /** PEM. */
  readonly certificate: string
  /** Its issuer in Vault, where that has its key. */
  readonly issuer?: string
}

/** A keyset as it was found. Plain data: it is registered. */
export interface KeysetState {
  readonly name: KeysetName
  readonly authority: AuthorityName
  readonly items: readonly Item[]
  /** The files that trust it, by host, each with what it holds, PEM, in order. */
  readonly bundles: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>
  /** Certificates that one of its CAs signed: where each lies, and whose key it was. */
  readonly leaves: readonly { readonly host: string; readonly path: string; readonly key: string }[]
}

type Needs = OnCluster<Variables & Mounts & BackupVariables> & WithVault

/** The step that registers `statesOf`. */
export const lookStep = 'look-at-the-keysets'

/** Registers how the keysets stand before this run changes anything: `statesOf`. */
export const look: StepDefinition<Needs> = {
  id: lookStep,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<KeysetState[]> => {
    const states: KeysetState[] = []
    for (const authority of chosenAuthorities(ctx)) {
      const state = await read(ctx, authority)
      states.push(state)
      for (const item of state.items) ctx.log(`${state.name}: ${describe(item)}`)
    }
    return states
  },
}

/** The keysets of a run as they stood before it. */
export function statesOf(ctx: Looking): KeysetState[] {
  return must(ctx.registered<KeysetState[]>(lookStep), 'the keysets were not looked at')
}

/** An item, for people. */
export function describe({ id, state, certificate }: Item): string {
  const { subject, notAfter } = parseCertificate(certificate)
  return `${id} (${subject}, until ${notAfter.toISOString().slice(0, 10)}) is ${state}`
}

/** The item that signs. Throws `HostFailedError` where none is seen to. */
export function primaryOf({ name, items }: KeysetState): Item {
  return must(
    items.find(({ state }) => state === 'primary'),
    `it is not known which CA of ${name} signs`,
  )
}

async function read(ctx: Needs, authority: AuthorityName): Promise<KeysetState> {
  const name = keysetOf(authority)
  const vault = await ctx.vault.operator()
  const mount = mountOf({ authority }, plansOf(ctx))
  const [issuers, kept] = await Promise.all([issuersOf(vault, mount), keptAuthorities(ctx, name)])
  const bundles = Object.fromEntries(
    ctx.hosts(everyMachine).map(host => [host.name, bundlesOf(ctx, authority, host.name)] as const),
  )
  const known = joinBundle(
    ...Object.values(bundles).flatMap(files => Object.values(files).flat()),
    ...issuers.map(({ certificate }) => certificate),
    ...kept,
  )
  const leaves = leavesOf(ctx, known)
  const held = (pem: string) => ({ key: publicKeyOf(pem) ?? '', certificate: parseCertificate(pem) })
  const uses: KeyUse[] = [
    ...issuers
      .filter(({ isDefault }) => isDefault)
      .map(({ certificate }) => ({ where: `Vault ${mount}`, as: 'issues' as const, key: held(certificate).key })),
    ...leaves.map(({ host, path, key }) => ({ where: `${host}:${path}`, host, as: 'holds' as const, key })),
  ]
  const facts: KeysetFacts = {
    trusters: Object.entries(bundles).flatMap(([host, files]) =>
      Object.entries(files).map(([path, pems]) => ({
        ...{ where: `${host}:${path}`, host, kind: 'component' as const, directions: ['servers' as const] },
        holds: pems.map(held),
      })),
    ),
    uses,
    kept: [
      ...issuers.map(({ certificate }) => ({ ...held(certificate), where: `Vault ${mount}` })),
      ...kept.map(pem => ({ ...held(pem), where: 'the masters' })),
    ],
  }
  const [keyset] = keysetsOf({ [name]: facts })
  const items = (keyset?.items ?? []).flatMap(({ id, key, state, certificates }): Item[] => {
    const [certificate] = certificates
    const issuer = issuers.find(one => one.hasKey && publicKeyOf(one.certificate) === key)?.id
    return certificate
      ? [{ id, key, state, certificate: certificate.pem, ...(issuer !== undefined && { issuer }) }]
      : []
  })
  return { name, authority, items, bundles, leaves }
}

/** What the files of a host hold by which its components trust a role, PEM, by where they lie. */
function bundlesOf(ctx: OnHost, authority: AuthorityName, host: string): Record<string, readonly string[]> {
  const { certificates, bundles = {} } = readingOf(ctx, host)
  return Object.fromEntries(
    trustFilesOf(layoutOf(ctx, host), authority).map(({ path, real }) => {
      const first = certificates[path]
      return [real, bundles[path] ?? (first === undefined ? [] : [first])] as const
    }),
  )
}

/** Certificates in files of hosts that one of these CAs signed, but for CAs. */
function leavesOf(ctx: OnHost, known: string): KeysetState['leaves'] {
  const authorities = splitBundle(known)
  return ctx.hosts(everyMachine).flatMap(({ name }) => {
    const reading: MachineReading = readingOf(ctx, name)
    return Object.entries(reading.certificates).flatMap(([path, pem]) => {
      const facts = parseCertificate(pem, `${name}:${path}`)
      if (facts.isAuthority) return []
      const signer = signerAmong(pem, authorities)
      return signer === undefined ? [] : [{ host: name, path, key: publicKeyOf(signer) ?? '' }]
    })
  })
}

interface FoundIssuer {
  readonly id: string
  readonly certificate: string
  readonly hasKey: boolean
  readonly isDefault: boolean
}

/** The issuers of a mount; none where there is no such mount yet. */
export async function issuersOf(vault: Vault, mount: string): Promise<FoundIssuer[]> {
  try {
    const first = (await vault.readIssuer(mount, 'default'))?.id
    const all = await Promise.all((await vault.listIssuers(mount)).map(id => vault.readIssuer(mount, id)))
    return all.flatMap(one =>
      one ? [{ id: one.id, certificate: one.certificate, hasKey: one.keyId !== '', isDefault: one.id === first }] : [],
    )
  } catch (error) {
    if (error instanceof RekeyError && error.code === 'issuer.no-such-mount') return []
    throw error
  }
}

/** Where a certificate of the plan lies on a host, when links are followed. */
export function leafPaths(ctx: OnHost, authority: AuthorityName, host: string): string[] {
  const { files } = readingOf(ctx, host)
  return planOf(ctx)
    .specs.filter(one => one.authority === authority && one.hosts.includes(host))
    .map(({ place }) => files?.[placePath(place)]?.real ?? placePath(place))
}
