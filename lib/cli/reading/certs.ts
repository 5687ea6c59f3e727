// `rekey certs`: every certificate of a cluster and every copy of its CAs, what is due or doesn't fit first.
import { Command, Option } from 'commander'
import { exitCodes } from '../../errors.ts'
import type { CensusEntry } from '../../kubernetes/census/entry.ts'
import { fileCertificates } from '../../kubernetes/census/files.ts'
import { type JudgedEntry, judgeCensus, knowsTrust } from '../../kubernetes/census/judge.ts'
import { apiCertificates } from '../../kubernetes/census/objects.ts'
import { endpointsOf, nodeAddress, servedCertificates } from '../../kubernetes/census/ports.ts'
import { give, say, tell } from '../../output/print.ts'
import { visible, visibleJson } from '../../output/text.ts'
import { table } from '../../output/words.ts'
import { readDuration } from '../options/duration.ts'
import { type Reading, type ReadingOptions, reading, withReadingOptions } from './cluster.ts'

interface CertsOptions extends ReadingOptions {
  within: number
  json?: boolean
}

/** The command `rekey certs`, for `lib/cli/main.ts` to mount. */
export function certsCommand(): Command {
  const command = new Command('certs').description(
    'every certificate and every copy of a CA, on the hosts and in the API; reads only',
  )
  return withReadingOptions(command)
    .addOption(
      new Option(
        '--within <duration>',
        'exit with 2 when something ends within this time, or relies on a CA that no master trusts any more',
      )
        .argParser(readDuration)
        .default(readDuration('30d'), '30d'),
    )
    .option('--json', 'everything, as JSON')
    .action(async (pattern: string, options: CertsOptions) => {
      process.exitCode = await reading(pattern, options, cluster => census(cluster, options))
    })
}

/** Every certificate that is found on the hosts and in the API of a cluster. */
export async function certificatesOf(
  cluster: Reading,
  { folder }: Pick<ReadingOptions, 'folder'>,
): Promise<CensusEntry[]> {
  const { notice, missed } = cluster
  // First of all the API: it knows on which address a node serves.
  const inApi = await cluster.inApi(async one => ({
    nodes: await one.nodes(),
    copies: await apiCertificates(await one.api(), notice),
  }))
  const { nodes = [], copies = [] } = inApi ?? {}
  const onHosts = await cluster.each(async session => {
    const { host } = session
    const served = await servedCertificates(
      session,
      notice,
      endpointsOf(host, await nodeAddress(session, nodes), (await cluster.sessions.found(host))?.layout),
    )
    return [...(await fileCertificates(session, notice, folder, missed)), ...served]
  })
  return [...onHosts.flatMap(found => found ?? []), ...copies]
}

async function census(cluster: Reading, options: CertsOptions): Promise<number> {
  const { notices, notice, missing } = cluster
  const entries = await certificatesOf(cluster, options)
  const judged = judgeCensus(entries, { within: options.within })
  if (entries.some(({ kind, facts }) => kind === 'api' && facts.isAuthority) && !knowsTrust(entries))
    notice('no CA of a master was read: whether the copies of CAs in the API are those that masters trust is not known')
  if (options.json) give(`${jsonOf(judged, notices)}\n`)
  else say(report(judged))
  if (!options.json) for (const text of notices) tell(`Notice: ${text}`)
  if (missing() > 0) return missing()
  return judged.some(({ due, stale }) => due || stale) ? exitCodes.hostFailed : exitCodes.done
}

/** What a machine reads: dates in ISO, nothing that is secret, nothing that a terminal would obey. */
function jsonOf(judged: readonly JudgedEntry[], notices: readonly string[]): string {
  const everything = {
    certificates: judged.map(({ facts, ...entry }) => ({
      ...entry,
      subject: facts.subject,
      commonName: facts.commonName,
      organizations: facts.organizations,
      dnsNames: facts.dnsNames,
      ipAddresses: facts.ipAddresses,
      emailAddresses: facts.emailAddresses,
      uris: facts.uris,
      issuer: facts.issuer,
      serialNumber: facts.serialNumber,
      fingerprint: facts.fingerprint,
      notBefore: facts.notBefore.toISOString(),
      notAfter: facts.notAfter.toISOString(),
      isAuthority: facts.isAuthority,
      keyType: facts.keyType,
    })),
    notices,
  }
  return visibleJson(everything, 2)
}

/** A line for each; copies of one CA that fit are told together. */
function report(judged: readonly JudgedEntry[]): string {
  const rows: string[][] = []
  const copies = new Map<string, JudgedEntry[]>()
  for (const entry of judged) {
    if (entry.kind === 'api' && entry.facts.isAuthority && entry.problems.length === 0 && !entry.due) {
      copies.set(entry.facts.fingerprint, [...(copies.get(entry.facts.fingerprint) ?? []), entry])
      continue
    }
    rows.push([...columns(entry), entry.where, describe(entry), entry.problems.join('; ')].map(visible))
  }
  for (const entries of copies.values()) {
    const [first] = entries
    const where = entries.length === 1 ? first!.where : `${entries.length} copies in the API (${kindsOf(entries)})`
    rows.push([...columns(first!), where, describe(first!), ''].map(visible))
  }
  const header = ['', 'UNTIL', 'DAYS', 'ISSUER', 'WHERE', 'WHAT', '']
  const lines = table([header, ...rows])
  const stale = judged.filter(one => one.stale).length
  const wrong = judged.filter(({ problems }) => problems.length > 0).length
  const due = judged.filter(one => one.due).length
  return `${lines.join('\n')}\n\n${judged.length} certificates, ${due} due, ${wrong} with something that doesn't fit${stale > 0 ? `, ${stale} of a CA that no master trusts any more` : ''}`
}

function columns({ facts, daysLeft, due, problems, issuerFingerprint }: JudgedEntry): string[] {
  const mark = problems.length > 0 ? '✖' : due ? '!' : '✔'
  const issuer = issuerFingerprint ? issuerFingerprint.slice(0, 11) : '-'
  return [mark, facts.notAfter.toISOString().slice(0, 10), String(daysLeft), issuer]
}

function describe({ facts, component, kind }: JudgedEntry): string {
  const what = facts.isAuthority ? `CA ${facts.fingerprint.slice(0, 11)}` : component
  return `${what}${kind === 'served' ? ' (serves)' : ''}: ${facts.subject}${names(facts)}`
}

/** The first of the names that a certificate is for, and how many more there are: all of them are in the JSON. */
function names({ dnsNames, ipAddresses }: JudgedEntry['facts']): string {
  const [first, second, ...more] = [...dnsNames, ...ipAddresses]
  if (first === undefined) return ''
  return ` for ${[first, second].filter(Boolean).join(', ')}${more.length > 0 ? ` and ${more.length} more` : ''}`
}

function kindsOf(entries: readonly JudgedEntry[]): string {
  const counts = Map.groupBy(entries, ({ where }) => where.split(/[ /]/)[0]!)
  return [...counts].map(([kind, all]) => `${all.length} ${kind}${all.length > 1 ? 's' : ''}`).join(', ')
}
