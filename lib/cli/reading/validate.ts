// `rekey validate`: is the cluster well? What is the cluster's own trouble, and what is beside it; asked again with --wait until all is well.
import { setTimeout as delay } from 'node:timers/promises'
import { Command, Option } from 'commander'
import { exitCodes } from '../../errors.ts'
import { type JudgedEntry, judgeCensus } from '../../kubernetes/census/judge.ts'
import { apiFindings } from '../../kubernetes/health/api.ts'
import { type Finding, worstFirst } from '../../kubernetes/health/finding.ts'
import { componentsOf, servicesFrom } from '../../kubernetes/health/host.ts'
import { give, say, tell } from '../../output/print.ts'
import { visible, visibleJson } from '../../output/text.ts'
import { table } from '../../output/words.ts'
import { readDuration } from '../options/duration.ts'
import { certificatesOf } from './certs.ts'
import { type Reading, type ReadingOptions, reading, withReadingOptions } from './cluster.ts'

interface ValidateOptions extends ReadingOptions {
  wait?: number
  json?: boolean
}

/** What one look has found. */
interface Looked {
  readonly findings: readonly Finding[]
  readonly notices: readonly string[]
  /** The exit code of what could not be looked at. */
  readonly missing: number
}

/** Milliseconds between two looks. */
const pause = 5_000

/** The command `rekey validate`, for `lib/cli/main.ts` to mount. */
export function validateCommand(): Command {
  const command = new Command('validate').description(
    'is the cluster well? API servers, etcd, nodes, DNS, certificates, tokens and more; exits with 2 where it is not, and changes nothing',
  )
  return withReadingOptions(command)
    .addOption(
      new Option('--wait <duration>', 'look again until all is well, for as long as this').argParser(readDuration),
    )
    .option('--json', 'everything, as JSON')
    .action(async (pattern: string, options: ValidateOptions) => {
      process.exitCode = await validate(pattern, options)
    })
}

async function validate(pattern: string, options: ValidateOptions): Promise<number> {
  let until: number | undefined
  for (;;) {
    const looked = await reading(pattern, options, cluster => look(cluster, options))
    // From the end of the first look on: that may take longer than somebody wants to wait.
    until ??= Date.now() + (options.wait ?? 0)
    const bad = looked.findings.filter(({ state }) => state === 'not well')
    if ((bad.length === 0 && looked.missing === exitCodes.done) || Date.now() >= until) return report(looked, options)
    const [first] = bad
    const why = first ? `${first.what} (${first.where}): ${first.detail}` : (looked.notices.at(-1) ?? '')
    tell(visible(`Not yet: ${bad.length} not well, ${why}`))
    await delay(Math.min(pause, Math.max(0, until - Date.now())))
  }
}

async function look(cluster: Reading, options: ValidateOptions): Promise<Looked> {
  const { notices, signal, masters, sessions, missing } = cluster
  const asked = await cluster.inApi(async one => apiFindings(one, masters, signal))
  const isMaster = (name: string) => masters.some(master => master.name === name)
  const onHosts = await cluster.each(async session => {
    const found = await sessions.found(session.host)
    if (!found) {
      const detail = 'what runs there is not known: rekey certs says more'
      return [{ what: 'components', where: session.host.name, state: 'not well', detail } satisfies Finding]
    }
    const { layout } = found
    return [
      ...(await componentsOf(session, layout, isMaster(session.host.name))),
      // What has no kubelet runs no pods, and may have nobody who leads it to Services.
      ...(asked && layout.components.kubelet ? await servicesFrom(session, asked.services) : []),
    ]
  })
  const certificates = judgeCensus(await certificatesOf(cluster, options), { within: 0 })
  const findings = [
    ...(asked?.findings ?? []),
    ...onHosts.flatMap(one => one ?? []),
    ...certificateFindings(certificates),
  ]
  return { findings: worstFirst(findings), notices: [...notices], missing: missing() }
}

/** What has ended, or relies on a CA that no master trusts, is not well; what else doesn't fit says `rekey certs`. */
function certificateFindings(judged: readonly JudgedEntry[]): Finding[] {
  const wrong = judged.filter(({ due, stale }) => due || stale)
  if (wrong.length === 0) {
    const [first] = judged.toSorted((one, other) => one.facts.notAfter.getTime() - other.facts.notAfter.getTime())
    const detail = first
      ? `${judged.length}; the first ends on ${first.facts.notAfter.toISOString().slice(0, 10)}: ${first.where}`
      : 'none was found'
    return [{ what: 'certificates', where: 'all', state: 'well', detail }]
  }
  return wrong.map(
    ({ where, facts, stale }): Finding => ({
      ...{ what: 'certificates', where, state: 'not well' },
      detail: `${facts.subject}: ${stale ? 'is of a CA that no master trusts' : `ended on ${facts.notAfter.toISOString()}`}`,
    }),
  )
}

function report({ findings, notices, missing }: Looked, { json }: ValidateOptions): number {
  const isWell = findings.every(({ state }) => state !== 'not well')
  if (json) give(`${visibleJson({ well: isWell && missing === exitCodes.done, findings, notices }, 2)}\n`)
  else {
    const marks = { well: '✔', 'not well': '✖', beside: '!' }
    const rows = findings.map(({ what, where, state, detail }) => [marks[state], what, where, detail].map(visible))
    const bad = findings.filter(({ state }) => state === 'not well').length
    const told = findings.filter(({ state }) => state === 'beside').length
    const sum = bad === 0 ? 'the cluster is well' : `${bad} of ${findings.length} are not well`
    say(`${table([['', 'WHAT', 'WHERE', ''], ...rows]).join('\n')}\n\n${sum}${told > 0 ? `; ${told} beside it` : ''}`)
    for (const text of notices) tell(`Notice: ${text}`)
  }
  if (missing > 0) return missing
  return isWell ? exitCodes.done : exitCodes.hostFailed
}
