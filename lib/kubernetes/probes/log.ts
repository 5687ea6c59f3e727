// What units and pods of a host have logged: a journal, or what the kubelet keeps of a pod's output. Reads only.
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { StaticPodRun, UnitRun } from '../layout/host-layout.ts'
import { locatedYaml } from '../located-yaml.ts'

/** Whose log is read; of a pod, `node` is what its kubelet was told to call itself: without it, it goes by the host's own name. */
export type Logging = Pick<UnitRun, 'kind' | 'unit'> | (StaticPodRun & { readonly node?: string | undefined })

/** A line of a log, and when it was written: in seconds, by the clock of its host. */
export interface LoggedLine {
  readonly at: number
  readonly line: string
}

/** How many of the last lines are told. */
const told = 500

/**
 * The last lines of a log in which something is found, the oldest first; 500 at most.
 * @param pattern an expression of grep -Ei
 * @param most how many of the last lines of the log are looked through
 * @throws HostFailedError where the log can't be read
 */
export async function loggedLines(
  session: HostSession,
  logging: Logging,
  pattern: string,
  most: number,
): Promise<LoggedLine[]> {
  const $ = session.$({ quiet: true })
  const found =
    logging.kind === 'unit'
      ? // What the unit itself wrote: systemd's own lines have its name in them, too.
        await $`
lines=$(journalctl ${`_SYSTEMD_UNIT=${logging.unit}`} -o short-unix -n ${most} --no-pager -q) || exit
printf ${'%s\n'} "$lines" | { grep -Ei -e ${pattern} || [ $? -eq 1 ]; } | tail -n ${told}`
      : await $`
node=${logging.node ?? ''}; [ -n "$node" ] || node=$(uname -n | tr A-Z a-z)
lines=$(find /var/log/pods -path ${await logsOf(session, logging.manifest)}"$node"_'*/*/*.log' -exec tail -q -n ${most} {} +) || exit
printf ${'%s\n'} "$lines" | { grep -Ei -e ${pattern} || [ $? -eq 1 ]; } | sort | tail -n ${told}`
  const lines = found.stdout.split('\n').filter(Boolean)
  const timed: LoggedLine[] = []
  for (const line of lines) {
    // A message of several lines has its time in the first.
    const at = timeOf(line) ?? timed.at(-1)?.at
    if (at !== undefined) timed.push({ at, line })
  }
  if (lines.length === 0 || timed.length > 0) return timed
  const whose = logging.kind === 'unit' ? logging.unit : logging.manifest
  throw new HostFailedError(`no line of the log of ${whose} on ${session.host.name} begins with its time`, {
    code: 'component.log',
    host: session.host.name,
  })
}

/**
 * How the names begin that a kubelet gives to files with a pod's output: NAMESPACE_POD-NODE_UID/CONTAINER/N.log. They are asked for to their end, as
 * another pod's name may go on behind this one's.
 */
async function logsOf({ files, host }: HostSession, manifest: string): Promise<string> {
  const where = `${host.name}:${manifest}`
  const { value } = locatedYaml(await files.readText(manifest), where)
  const { metadata } = (value ?? {}) as { metadata?: { name?: unknown; namespace?: unknown } }
  const [name, namespace] = [metadata?.name, metadata?.namespace ?? 'default']
  if (typeof name !== 'string' || typeof namespace !== 'string' || !/^[a-z0-9.-]+$/.test(`${name}${namespace}`))
    throw new HostFailedError(`${where} is no manifest of a pod`, { code: 'component.log', host: host.name })
  return `/var/log/pods/${namespace}_${name}-`
}

/** A kubelet begins each line with its time, and journalctl with its seconds. */
function timeOf(line: string): number | undefined {
  const [time = ''] = line.split(' ', 1)
  if (/^\d+\.\d+$/.test(time)) return Number(time)
  const at = /^\d{4}-\d\d-\d\dT/.test(time) ? Date.parse(time) / 1_000 : Number.NaN
  return Number.isNaN(at) ? undefined : at
}

/** What the clock of a host says: in seconds. */
export async function clockOf({ $ }: Pick<HostSession, '$'>): Promise<number> {
  return Number((await $({ quiet: true })`date +%s.%N`).stdout.trim())
}
