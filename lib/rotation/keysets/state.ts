// In which state the keys of a keyset are, read from the cluster and from Vault: a run that another machine began is gone on with by this.
import { type KeysOfIssuer, keysetFacts } from '../../kubernetes/keysets/facts.ts'
import { keysOfApi, keysOfHost, keysOfVault } from '../../kubernetes/keysets/read.ts'
import { discover } from '../../kubernetes/layout/discover.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../pki/certificates/certificate.ts'
import { type ItemState, type Keyset, type KeysetFacts, type KeysetName, keysetsOf } from '../../pki/keyset.ts'
import type { AuthorityName } from '../../pki/specs.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { type Mounts, plansOf } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnCluster } from '../given/context.ts'
import { type Looking, layoutOf, must } from '../given/found.ts'
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
  /** The masters keep what there is of it. */
  readonly kept?: true
}

/** A keyset as it was found. Plain data: it is registered. */
export interface KeysetState {
  readonly name: KeysetName
  readonly authority: AuthorityName
  readonly items: readonly Item[]
  /** The files that trust it, by host, each with what it holds, PEM, in order. */
  readonly bundles: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>
  /** Who presents or holds a certificate that one of its CAs signed, and whose key it was. */
  readonly uses: readonly { readonly where: string; readonly host?: string; readonly key: string }[]
  /** What could not be read: others may use it. */
  readonly unread: readonly string[]
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
    const states = await read(ctx)
    for (const { name, items } of states) for (const item of items) ctx.log(`${name}: ${describe(item)}`)
    for (const text of states[0]?.unread ?? []) ctx.log(text)
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

async function read(ctx: Needs): Promise<KeysetState[]> {
  const unread: string[] = []
  const missed = (text: string) => void unread.push(text)
  // What is no certificate has nothing to do with any keyset.
  const notice = () => {}
  const [api, nodes, vault] = await Promise.all([ctx.cluster.api(), ctx.cluster.nodes(), ctx.vault.operator()])
  const all = ctx.hosts(everyMachine)
  const [hosts, ofApi, ofVault, kept] = await Promise.all([
    Promise.all(
      all.map(async host => {
        const session = await ctx.on(host)
        const own = layoutOf(ctx, host.name).components['kube-apiserver']
        const apiServer = own && { apiServer: () => ctx.cluster.apiOf(host) }
        return keysOfHost(session, await discover(session), { nodes, ...apiServer }, { notice, missed })
      }),
    ),
    keysOfApi(api, { notice, missed }, ctx.signal),
    keysOfVault(vault, plansOf(ctx)),
    Promise.all(
      chosenAuthorities(ctx).map(async (authority): Promise<KeysOfIssuer> => {
        const certificates = await keptAuthorities(ctx, keysetOf(authority))
        return { where: 'the masters', authorities: [authority], certificates }
      }),
    ),
  ])
  const facts = keysetFacts({ hosts, api: ofApi, issuers: [...ofVault, ...kept] }, notice)
  const keysets = keysetsOf(facts)
  const keptKeys = new Set(kept.flatMap(({ certificates }) => certificates.map(publicKeyOf)))
  const issuers = new Map(ofVault.flatMap(({ ids = [] }) => [...ids].map(([pem, id]) => [publicKeyOf(pem), id])))
  return chosenAuthorities(ctx).map(authority => {
    const name = keysetOf(authority)
    const keyset = keysets.find(one => one.name === name)
    return { authority, ...stateFrom(name, facts[name], keyset, { issuers, kept: keptKeys }), unread }
  })
}

/** What is registered of a keyset. */
export function stateFrom(
  name: KeysetName,
  { trusters, uses }: KeysetFacts = { trusters: [], uses: [] },
  keyset: Keyset | undefined,
  { issuers, kept }: { issuers: ReadonlyMap<string | undefined, string>; kept: ReadonlySet<string | undefined> },
): Omit<KeysetState, 'authority' | 'unread'> {
  const items = (keyset?.items ?? []).flatMap(({ id, key, state, certificates: [certificate] }): Item[] => {
    const issuer = issuers.get(key)
    const known = { ...(issuer !== undefined && { issuer }), ...(kept.has(key) && { kept: true as const }) }
    return certificate ? [{ id, key, state, certificate: certificate.pem, ...known }] : []
  })
  const bundles: Record<string, Record<string, readonly string[]>> = {}
  for (const { host, where, kind, holds } of trusters) {
    if (host === undefined || kind !== 'component') continue
    const files = bundles[host] ?? {}
    bundles[host] = {
      ...files,
      [where.slice(host.length + 1)]: holds.flatMap(({ certificate }) => certificate?.pem ?? []),
    }
  }
  const held = uses.flatMap(({ where, host, as, key }) =>
    as === 'presents' || as === 'holds' ? [{ where, host, key }] : [],
  )
  return { name, items, bundles, uses: held }
}
