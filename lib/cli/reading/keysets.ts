// `rekey keysets`: the keys that a cluster signs with and trusts, in which state each is, who trusts it, and who still goes by it. Reads only.
import { Command } from 'commander'
import { RekeyError } from '../../errors.ts'
import { type ClusterKeys, type KeysOfHost, type KeysOfIssuer, keysetFacts } from '../../kubernetes/keysets/facts.ts'
import { describeClient, type OldClient, oldClientsIn, unaudited } from '../../kubernetes/keysets/old-clients.ts'
import { type PodMemory, podMemories } from '../../kubernetes/keysets/pod-memory.ts'
import { keysOfApi, keysOfHost, keysOfVault, mountsOf } from '../../kubernetes/keysets/read.ts'
import { give, say, tell } from '../../output/print.ts'
import { visible, visibleJson } from '../../output/text.ts'
import { table } from '../../output/words.ts'
import { behindOf, type Keyset, type KeysetItem, type KeyUse, keysetsOf, type Truster } from '../../pki/keyset.ts'
import { type Reading, type ReadingOptions, reading, withReadingOptions } from './cluster.ts'
import { inVault } from './vault.ts'

interface KeysetsOptions extends ReadingOptions {
  json?: boolean
  vault: boolean
}

/** The command `rekey keysets`, for `lib/cli/main.ts` to mount. */
export function keysetsCommand(): Command {
  const command = new Command('keysets').description(
    'the keys that a cluster signs with and trusts, their states, and who goes by them; reads only',
  )
  return withReadingOptions(command)
    .option('--no-vault', 'leave out the issuers of the Vault that the inventory names')
    .option('--json', 'everything, as JSON')
    .action(async (pattern: string, options: KeysetsOptions) => {
      process.exitCode = await reading(pattern, options, cluster => tellKeysets(cluster, options))
    })
}

async function tellKeysets(cluster: Reading, options: KeysetsOptions): Promise<number> {
  const { notices, notice, hosts } = cluster
  const { sets, beside } = await readKeysets(cluster, options)
  if (sets.length === 0)
    throw new RekeyError(`no key of a cluster was found on ${hosts.map(({ name }) => name).join(', ')}`, {
      code: 'keysets.none',
      hint: notices[0] ?? 'Are these machines of a cluster? `rekey certs` tells every certificate on them.',
    })
  if (hosts.length < cluster.inventory.select('all').length)
    notice(`only ${hosts.map(({ name }) => name).join(', ')} were looked at: others may trust or use other keys`)
  if (options.json) give(`${visibleJson({ keysets: sets.map(one => asJson(one, beside.get(one))), notices }, 2)}\n`)
  else say(sets.map(one => report(one, beside.get(one))).join('\n\n'))
  if (!options.json) for (const text of notices) tell(`Notice: ${text}`)
  return cluster.missing()
}

/** The keysets of a cluster as it is now, and who came to its API servers by certificates of a CA of theirs that is on its way out. */
async function readKeysets(
  cluster: Reading,
  options: KeysetsOptions,
): Promise<{ sets: Keyset[]; beside: Map<Keyset, Beside> }> {
  const { sessions, signal, notice, missed } = cluster
  const telling = { notice, missed: (text: string) => missed(text) }
  // First of all the API: it knows on which address a node serves, and each server is asked which keys it knows.
  const nodes = await cluster.inApi(one => one.nodes())
  const isMaster = (name: string) => nodes !== undefined && cluster.masters.some(master => master.name === name)
  const [api, found] = await Promise.all([
    nodes && cluster.inApi(async one => keysOfApi(await one.api(), telling, signal)),
    cluster.each(async session =>
      keysOfHost(
        session,
        await sessions.found(session.host),
        {
          ...{ nodes: nodes ?? [], folders: options.folder, audit: true },
          ...(isMaster(session.host.name) && {
            apiServer: async () => (await cluster.cluster()).apiOf(session.host),
          }),
        },
        telling,
      ),
    ),
  ])
  const hosts = found.filter(one => one !== undefined)
  const issuers = options.vault ? await issuersOf(cluster, hosts) : []
  const sets = keysetsOf(keysetFacts({ hosts, api, issuers }, notice))
  // While there is but one key, nobody can go by another.
  const set = sets.find(({ name, items }) => name === 'kubernetes-ca' && items.length > 1)
  if (!set) return { sets, beside: new Map() }
  const written = new Map(hosts.flatMap(({ tokens }) => [...(tokens?.written ?? [])]))
  const memories = await cluster.inApi(async one => podMemories(await one.api(), written, signal))
  return {
    sets,
    beside: new Map([[set, { clients: clientsOf({ hosts, api }, set, notice), memories: memories ?? [] }]]),
  }
}

/** Who goes by CAs of a keyset that are on their way out, and stands in no file. */
interface Beside {
  readonly clients: readonly OldClient[]
  readonly memories: readonly PodMemory[]
}

/** Whom API servers know by certificates of the cluster's CA, by what their audit logs say; of other CAs they write down none. */
function clientsOf(keys: ClusterKeys, set: Keyset, notice: (text: string) => void): OldClient[] {
  const said = unaudited(keys.hosts)
  if (said !== undefined) notice(said)
  return oldClientsIn(keys, set)
}

/** What the Vault keeps that the inventory names, in the mounts that rotate-ca uses. */
async function issuersOf(cluster: Reading, found: readonly KeysOfHost[]): Promise<KeysOfIssuer[]> {
  const layouts = found.flatMap(one => one.found?.layout ?? [])
  const read = await inVault(
    cluster,
    (vault, vars) => keysOfVault(vault, mountsOf(vars, layouts)),
    message => cluster.missed(`what the Vault keeps is left out: ${message}`),
  )
  return read ?? []
}

/** A keyset as people read it: a line for each key, and below it what is behind, and who goes by it though it is not the primary. */
function report({ name, together, items, split }: Keyset, { clients, memories }: Beside = nobody): string {
  const header = ['', 'STATE', 'KEY', 'CREATED', 'UNTIL', 'FINGERPRINT', 'TRUSTED BY', 'USED BY']
  const rows = items.map(item => [
    ...[markOf(item), item.expired ? `${item.state} (expired)` : item.state, item.id],
    ...[day(item.created), day(item.ends), item.certificates[0]?.fingerprint.slice(0, 11) ?? '-'],
    ...[trustedBy(item), usedBy(item)],
  ])
  const [head, ...lines] = table([header, ...rows])
  const primary = items[0]!
  return [
    `${name}${together.length > 0 ? ` (goes together with ${together.join(' and ')})` : ''}`,
    head!,
    ...lines.flatMap((line, index) => [line, ...detailsOf(items[index]!)]),
    ...clientLines(clients, items),
    ...memoryLines(memories),
    ...(split.length > 0 ? [`     ✖ not with ${primary.id} yet: ${listed(split)}`] : []),
  ]
    .map((line, index) => visible(index === 0 ? line : `  ${line}`))
    .join('\n')
}

const nobody: Beside = { clients: [], memories: [] }

/** Which containers may hold what was published before. */
function memoryLines(memories: readonly PodMemory[]): string[] {
  const lines = memories
    .slice(0, mostListed)
    .map(
      ({ namespace, pod, container, node, since }) =>
        `     ✖ what was published before is in memory of ${namespace}/${pod} (${container}${node ? ` on ${node}` : ''}) since ${since.toISOString().slice(0, 16)}Z`,
    )
  return withMore(lines, memories.length)
}

function withMore(lines: readonly string[], all: number): string[] {
  const more = all - lines.length
  return more > 0 ? [...lines, `     and ${more} more (--json has all)`] : [...lines]
}

/** Who came by which certificates, most recently first. */
function clientLines(clients: readonly OldClient[], items: readonly KeysetItem[]): string[] {
  const lines = clients.slice(0, mostListed).map(one => {
    const signer = items.find(({ key }) => key === one.key)
    const by = signer ? `that ${signer.id} signed` : 'that was found nowhere: which CA signed it is not known'
    return `     ✖ ${describeClient(one)} by a certificate ${by}`
  })
  return withMore(lines, clients.length)
}

const day = (date: Date | undefined) => date?.toISOString().slice(0, 10) ?? '-'

const markOf = (item: KeysetItem) =>
  behindOf(item).length > 0 || (item.state === 'primary' && item.expired) ? '✖' : '✔'

const kinds = ['component', 'published', 'copy'] as const
const kindNames = { component: 'files', published: 'published', copy: 'copies' } as const

/** On how many hosts, in how many files of components, in how many of the places where the cluster publishes it, and in how many copies. */
function trustedBy({ trustedBy: all, missingFrom }: KeysetItem): string {
  const hostsOf = (trusters: readonly Truster[]) =>
    new Set(trusters.flatMap(({ host, kind }) => (host !== undefined && kind === 'component' ? [host] : [])))
  const lacking = hostsOf(missingFrom)
  const whole = [...hostsOf(all)].filter(host => !lacking.has(host)).length
  const hosts = hostsOf([...all, ...missingFrom]).size
  const counts = kinds.flatMap(kind => {
    const [own, others] = [all, missingFrom].map(trusters => trusters.filter(one => one.kind === kind).length) as [
      number,
      number,
    ]
    return own + others === 0 ? [] : [`${own}/${own + others} ${kindNames[kind]}`]
  })
  return [...(hosts === 0 ? [] : [`${whole}/${hosts} hosts`]), ...counts].join(', ') || '-'
}

const useNames = { signs: 'signs in', issues: 'default of', presents: 'presented in', holds: 'held in' } as const

function usedBy({ uses }: KeysetItem): string {
  const all = [...Map.groupBy(uses, ({ as }) => as)]
  return (
    all
      .sort(([a], [b]) => Object.keys(useNames).indexOf(a) - Object.keys(useNames).indexOf(b))
      .map(([as, own]) => `${useNames[as]} ${own.length === 1 ? own[0]!.where : `${own.length} places`}`)
      .join(', ') || '-'
  )
}

function detailsOf(item: KeysetItem): string[] {
  const behind = behindOf(item)
  const copies = item.state === 'primary' ? [] : item.trustedBy.filter(({ kind }) => kind === 'copy')
  const uses = item.state === 'primary' ? [] : item.uses.filter(({ as }) => as !== 'issues')
  return [
    ...(behind.length > 0 ? [`✖ not trusted in ${listed(behind)}`] : []),
    ...(copies.length > 0 ? [`copies in ${listed(copies)}`] : []),
    ...(uses.length > 0 ? [`used by ${listed(uses)}`] : []),
  ].map(line => `     ${line}`)
}

const mostListed = 12

function listed(all: readonly (Truster | KeyUse)[]): string {
  const places = [...new Set(all.map(({ where }) => where))]
  const more = places.length > mostListed ? ` and ${places.length - mostListed} more (--json has all)` : ''
  return `${places.slice(0, mostListed).join(', ')}${more}`
}

/** What a machine reads: docs/templates.md says what each member is. */
function asJson({ name, together, items, split }: Keyset, { clients, memories }: Beside = nobody) {
  const came = clients.map(({ last, ...one }) => ({ ...one, last: last.toISOString() }))
  const inMemory = memories.map(({ since, ...one }) => ({ ...one, since: since.toISOString() }))
  return { name, together, items: items.map(itemAsJson), split: split.map(useAsJson), clients: came, inMemory }
}

function itemAsJson(item: KeysetItem) {
  const { id, key, state, keyIdentifier, created, ends, expired, signed } = item
  return {
    ...{ id, state, key, keyIdentifier, created: created?.toISOString(), ends: ends?.toISOString(), expired, signed },
    certificates: item.certificates.map(({ subject, issuer, serialNumber, fingerprint, notBefore, notAfter }) => ({
      ...{ subject, issuer, serialNumber, fingerprint },
      ...{ notBefore: notBefore.toISOString(), notAfter: notAfter.toISOString() },
    })),
    trustedBy: item.trustedBy.map(trusterAsJson),
    missingFrom: item.missingFrom.map(trusterAsJson),
    behind: behindOf(item).map(({ where }) => where),
    uses: item.uses.map(useAsJson),
  }
}

const trusterAsJson = ({ where, host, kind, directions, by }: Truster) => ({ where, host, kind, directions, by })

function useAsJson({ where, host, component, as, key, certificate }: KeyUse) {
  const { subject, fingerprint, notAfter } = certificate ?? {}
  return { ...{ where, host, component, as, key, subject, fingerprint }, notAfter: notAfter?.toISOString() }
}
