// In which state the keys of a keyset are, read from the cluster and from Vault: a run that another machine began is gone on with by this.
import { type ClusterKeys, type KeysOfIssuer, keysetFacts } from '../../kubernetes/keysets/facts.ts'
import { oldClientsIn, unaudited } from '../../kubernetes/keysets/old-clients.ts'
import { keysOfApi, keysOfHost, keysOfVault } from '../../kubernetes/keysets/read.ts'
import type { TokenKeyFile } from '../../kubernetes/keysets/token-keys.ts'
import { discover, isAnchor } from '../../kubernetes/layout/discover.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../pki/certificates/certificate.ts'
import {
  factsTogether,
  type ItemState,
  type Keyset,
  type KeysetFacts,
  type KeysetName,
  keysetsOf,
} from '../../pki/keyset.ts'
import type { AuthorityName } from '../../pki/specs.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { type Mounts, plansOf } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnCluster } from '../given/context.ts'
import { type Looking, layoutOf, must, planOf } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import { type KeptTokenKey, keptAuthorities, keptTokenKeys, withKept } from './kept.ts'
import { pathOf, putAside } from './which/aside.ts'
import { chosenAuthorities, groupsOf, keysetOf, tokenKeyset, tokensChosen, type Variables } from './which/chosen.ts'

/** A key of a keyset. */
export interface Key {
  /** The beginning of its key's hash: what people call it by. */
  readonly id: string
  /** The SHA-256 of its public key. */
  readonly key: string
  readonly state: ItemState
  /** The masters keep what there is of it. */
  readonly kept?: true
}

/** A CA of a keyset. */
export interface Item extends Key {
  /** PEM. */
  readonly certificate: string
  /** Its issuer in Vault, where that has its key. */
  readonly issuer?: string
}

/** A keyset as it was found. Plain data: it is registered. */
export interface AnyKeyset<One extends Key = Key> {
  readonly name: KeysetName
  readonly items: readonly One[]
  /** Who presents or holds what one of its keys signed, and which of them. */
  readonly uses: readonly { readonly where: string; readonly host?: string; readonly key: string }[]
  /** What could not be read: others may use it. */
  readonly unread: readonly string[]
}

/** The keyset of a CA: of one that serves several, all of them, under the name of the first. */
export interface KeysetState extends AnyKeyset<Item> {
  readonly authority: AuthorityName
  /** All roles that the CA has, where there are several. */
  readonly authorities?: readonly AuthorityName[]
  /** The files that trust it, by host, each with what it holds, PEM, in order. */
  readonly bundles: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>
  /** What controller-managers sign with, and of which of its CAs that is; of runs of earlier versions, none. */
  readonly signers?: AnyKeyset['uses']
}

/** The keyset of the key that signs tokens of service accounts. */
export interface TokenKeys extends AnyKeyset {
  /** The files that API servers and controller-managers verify and sign tokens with, by host. */
  readonly files: Readonly<Record<string, readonly TokenKeyFile[]>>
}

type Needs = OnCluster<Variables & Mounts & BackupVariables> & WithVault

/** The step that registers `statesOf`. */
export const lookStep = 'look-at-the-keysets'

/** Registers how the keysets stand before this run changes anything: `statesOf`. */
export const look: StepDefinition<Needs> = {
  id: lookStep,
  ...{ readOnly: true, remember: true, runOnce: true },
  run: async (ctx): Promise<(KeysetState | TokenKeys)[]> => {
    // The stage before it, of the same run, may have replaced what the administrator comes by: that is trusted no longer than the old CA.
    ctx.cluster.forget(`${ctx.run} has begun`)
    const states = await read(ctx)
    for (const state of states)
      for (const item of state.items) ctx.log(`${namesOf(state).join(', ')}: ${describe(item)}`)
    for (const text of states[0]?.unread ?? []) ctx.log(text)
    return states
  },
}

/** The keysets of a run as they stood before it, of whichever kind. */
export function everyKeyset(ctx: Looking): (KeysetState | TokenKeys)[] {
  return must(ctx.registered<(KeysetState | TokenKeys)[]>(lookStep), 'the keysets were not looked at')
}

/** Those of CAs. */
export function statesOf(ctx: Looking): KeysetState[] {
  return everyKeyset(ctx).filter(state => 'authority' in state)
}

/** The roles of a keyset's CA. */
export const authoritiesOf = ({
  authority,
  authorities = [authority],
}: Pick<KeysetState, 'authority' | 'authorities'>) => authorities

/** The names of all keysets that its CA serves. */
export const namesOf = (state: KeysetState | TokenKeys): KeysetName[] =>
  'authority' in state ? authoritiesOf(state).map(keysetOf) : [state.name]

/** The same once for each role that its CA has: what serves or is believed in one knows nothing of the others. */
export function byRole(state: KeysetState): KeysetState[] {
  return authoritiesOf(state).map(authority => ({ ...state, authority }))
}

/** That of the CA by which the cluster's servers are believed, and that signs on request; undefined where the run is not about it. */
export function clusterKeysetOf(ctx: Looking): KeysetState | undefined {
  return statesOf(ctx).find(({ authority }) => authority === 'kubernetes')
}

/** That of the key that signs tokens; undefined where the run is not about it. */
export function tokenKeysOf(ctx: Looking): TokenKeys | undefined {
  return everyKeyset(ctx).find(state => 'files' in state)
}

/** Those whose old CA has been followed by another, and is still trusted. */
export const formerOf = <One extends Key>({ items }: AnyKeyset<One>): One[] =>
  items.filter(({ state }) => state === 'trusted')

/** Those that are to be forgotten: distrusted, and kept on the masters. What Vault has besides may be another cluster's. */
export const forgottenOf = <One extends Key>({ items }: AnyKeyset<One>): One[] =>
  items.filter(({ state, kept }) => state === 'distrusted' && kept === true)

/** For steps that ask Vault, or are about certificates: a run about the key of tokens alone has none. */
export const aboutAuthorities = (ctx: Looking): boolean => statesOf(ctx).length > 0

/** An item, for people. */
export function describe({ id, state, ...item }: Key | Item): string {
  if (!('certificate' in item)) return `${id} is ${state}`
  const { subject, notAfter } = parseCertificate(item.certificate)
  return `${id} (${subject}, until ${notAfter.toISOString().slice(0, 10)}) is ${state}`
}

/** The item that signs. Throws `HostFailedError` where none is seen to. */
export function primaryOf<One extends Key>({ name, items }: AnyKeyset<One>): One {
  return must(
    items.find(({ state }) => state === 'primary'),
    `it is not known which key of ${name} signs`,
  )
}

async function read(ctx: Needs): Promise<(KeysetState | TokenKeys)[]> {
  const unread: string[] = []
  const missed = (text: string) => void unread.push(text)
  // What is no certificate has nothing to do with any keyset.
  const notice = () => {}
  const plans = plansOf(ctx).filter(({ authorities }) => authorities.length > 0)
  const groups = groupsOf(chosenAuthorities(ctx), planOf(ctx).sharing)
  const [api, nodes] = await Promise.all([ctx.cluster.api(), ctx.cluster.nodes()])
  const all = ctx.hosts(everyMachine)
  const [hosts, ofApi, ofVault, kept, keptTokens] = await Promise.all([
    Promise.all(
      all.map(async host => {
        const session = await ctx.on(host)
        const own = layoutOf(ctx, host.name).components['kube-apiserver']
        const apiServer = own && { apiServer: () => ctx.cluster.apiOf(host) }
        // API servers write down who comes by certificates of the cluster's CA, and of no other.
        const audit = chosenAuthorities(ctx).includes('kubernetes')
        return keysOfHost(session, await discover(session), { nodes, audit, ...apiServer }, { notice, missed })
      }),
    ),
    keysOfApi(api, { notice, missed }, ctx.signal),
    plans.length > 0 ? ctx.vault.operator().then(vault => keysOfVault(vault, plans)) : [],
    Promise.all(
      groups.map(async (authorities): Promise<KeysOfIssuer> => {
        const certificates = await keptAuthorities(ctx, keysetOf(authorities[0]))
        return { where: 'the masters', authorities, certificates }
      }),
    ),
    // A run that was killed may have left a public half without its private one: nobody can sign with that.
    tokensChosen(ctx) ? keptTokenKeys(ctx).then(all => all.filter(({ hosts: those }) => those.length > 0)) : [],
  ])
  const said = chosenAuthorities(ctx).includes('kubernetes') ? unaudited(hosts) : undefined
  if (said !== undefined) ctx.log(said)
  const found = keysetFacts({ hosts, api: ofApi, issuers: [...ofVault, ...kept] }, notice)
  const tokens = withKept(found[tokenKeyset], keptTokens)
  const names = groups.map(group => group.map(keysetOf))
  const facts = { ...factsTogether(found, names), [tokenKeyset]: tokens }
  const keysets = keysetsOf(facts)
  const keptKeys = new Set(kept.flatMap(({ certificates }) => certificates.map(publicKeyOf)))
  const issuers = new Map(ofVault.flatMap(({ ids = [] }) => [...ids].map(([pem, id]) => [publicKeyOf(pem), id])))
  const reals = new Map(
    hosts.flatMap(({ host, found }) =>
      [...(found?.files.values() ?? [])].map(({ path, real }) => [`${host}:${path}`, `${host}:${real}`] as const),
    ),
  )
  const aside = await putAside(ctx, facts['kubernetes-ca']?.trusters ?? [], reals)
  const states = groups.map((authorities): KeysetState => {
    const [authority] = authorities
    const name = keysetOf(authority)
    const keyset = keysets.find(one => one.name === name)
    const state = stateFrom(name, facts[name], keyset, { issuers, kept: keptKeys, aside })
    const users = authority === 'kubernetes' && keyset ? usersIn({ hosts, api: ofApi }, keyset) : []
    const also = authorities.length > 1 ? { authorities } : {}
    return { authority, ...also, ...state, uses: [...state.uses, ...users], unread }
  })
  if (!tokensChosen(ctx)) return states
  const files = Object.fromEntries(hosts.flatMap(({ host, tokens: own }) => (own ? [[host, own.files]] : [])))
  return [...states, { ...tokenKeysFrom(tokens, keysets, keptTokens), files, unread }]
}

function tokenKeysFrom(
  { uses }: KeysetFacts,
  keysets: readonly Keyset[],
  kept: readonly KeptTokenKey[],
): Omit<TokenKeys, 'files' | 'unread'> {
  const items = keysets.find(({ name }) => name === tokenKeyset)?.items ?? []
  const keptKeys = new Set(kept.map(({ key }) => key))
  return {
    name: tokenKeyset,
    items: items.map(({ id, key, state }) => ({ id, key, state, ...(keptKeys.has(key) && { kept: true as const }) })),
    uses: usesAs(uses, ['presents', 'holds']),
  }
}

const usesAs = (uses: KeysetFacts['uses'], kinds: readonly string[]): AnyKeyset['uses'] =>
  uses.flatMap(({ where, host, as, key }) => (kinds.includes(as) ? [{ where, host, key }] : []))

/**
 * Who came to API servers by certificates of a CA that is not the primary any more, by their audit logs: where it is not known whose a certificate is, as
 * of each of these CAs.
 */
export function usersIn(keys: ClusterKeys, keyset: Keyset): KeysetState['uses'] {
  const former = keyset.items.flatMap(({ key, state }) => (state === 'trusted' ? [key] : []))
  return oldClientsIn(keys, keyset).flatMap(({ user, agent, address, key }) =>
    (key === undefined ? former : [key]).map(one => ({ where: `user ${user} (${agent} from ${address})`, key: one })),
  )
}

/** What is registered of a keyset. */
export function stateFrom(
  name: KeysetName,
  { trusters, uses }: KeysetFacts = { trusters: [], uses: [] },
  keyset: Keyset | undefined,
  {
    issuers,
    kept,
    aside,
  }: {
    issuers: ReadonlyMap<string | undefined, string>
    kept: ReadonlySet<string | undefined>
    aside: ReadonlySet<string>
  },
): Omit<KeysetState, 'authority' | 'unread'> {
  const items = (keyset?.items ?? []).flatMap(({ id, key, state, certificates: [certificate] }): Item[] => {
    const issuer = issuers.get(key)
    const known = { ...(issuer !== undefined && { issuer }), ...(kept.has(key) && { kept: true as const }) }
    return certificate ? [{ id, key, state, certificate: certificate.pem, ...known }] : []
  })
  const bundles: Record<string, Record<string, readonly string[]>> = {}
  for (const { host, where, kind, holds } of trusters) {
    if (host === undefined) continue
    const path = pathOf({ where, host })
    // Kubeconfigs that no component names go with the CA by which servers are believed; those of people are theirs.
    const isOwn =
      kind === 'component' || (kind === 'copy' && name === 'kubernetes-ca' && !aside.has(where) && !isAnchor(path))
    if (!isOwn) continue
    const files = bundles[host] ?? {}
    bundles[host] = {
      ...files,
      [path]: holds.flatMap(({ certificate }) => certificate?.pem ?? []),
    }
  }
  return { name, items, bundles, uses: usesAs(uses, ['presents', 'holds']), signers: usesAs(uses, ['signs']) }
}
