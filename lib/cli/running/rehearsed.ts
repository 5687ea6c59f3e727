// What an inventory asks for by `rekey_require_rehearsal`: that the very same playbook was seen to end well on another inventory before.
import { RekeyError, shown } from '../../errors.ts'
import { formatDuration, parseDuration } from '../../playbook/duration.ts'
import type { Host } from '../../playbook/host.ts'
import type { RunSelection } from '../../run/events.ts'
import { runFolders } from '../../run/journal/history.ts'
import type { Provenance } from '../../run/journal/provenance.ts'
import { type Rehearsal, rehearsalsIn } from '../../run/journal/rehearsals.ts'

/** Names the variable of hosts. */
const rehearsalVariable = 'rekey_require_rehearsal'

interface Required {
  /** Milliseconds within which it must have ended. */
  readonly within: number
  /** It must have been undone as well. */
  readonly rollback: boolean
}

/**
 * Refuses a run on hosts that ask for a rehearsal which was not seen.
 * @param provenance what is to be run, and on which hosts
 * @param runs where the folders of runs are
 * @throws RekeyError saying what is missing
 */
export function requireRehearsal(
  hosts: readonly Host[],
  provenance: Provenance,
  selection: RunSelection,
  runs: string,
): void {
  const required = strictest(hosts)
  if (!required) return
  const since = Date.now() - required.within
  const found = runFolders(runs)
    .flatMap(folder => rehearsalsIn(folder))
    .filter(one => isOfTheSame(one, provenance, selection) && !isOnOneOf(hosts, one, provenance))
  const recent = found.filter(({ endedAt }) => endedAt >= since)
  if (recent.some(({ undone }) => undone || !required.rollback)) return
  const within = formatDuration(required.within)
  const last = found.at(-1)
  const seen =
    recent.length > 0
      ? `it was rehearsed in ${recent.at(-1)!.run}, but not undone`
      : last
        ? `it was rehearsed last in ${last.run}, ${formatDuration(Date.now() - last.endedAt)} ago`
        : 'this very playbook, with this rekey, was not seen to end well on another inventory'
  throw new RekeyError(`these hosts ask for a rehearsal within ${within} (${rehearsalVariable}): ${seen}`, {
    code: 'run.not-rehearsed',
    hint: `Run it on staging first${required.rollback ? ', and undo it there' : ''}; or say why not: --unrehearsed "why", which the hosts' audit logs keep.`,
  })
}

/** What the hosts ask for all together; `undefined` where none asks for anything. */
function strictest(hosts: readonly Host[]): Required | undefined {
  const all = hosts.flatMap(host => {
    const value = host.vars[rehearsalVariable]
    return value === undefined || value === null || value === false ? [] : requiredBy(value, host.name)
  })
  if (all.length === 0) return undefined
  return { within: Math.min(...all.map(({ within }) => within)), rollback: all.some(({ rollback }) => rollback) }
}

function requiredBy(value: unknown, host: string): Required {
  const { within = undefined, rollback = false } = (
    typeof value === 'object' && value !== null ? value : { within: value }
  ) as { within?: unknown; rollback?: unknown }
  const milliseconds = typeof within === 'string' || typeof within === 'number' ? parseDuration(within) : undefined
  if (milliseconds !== undefined && typeof rollback === 'boolean') return { within: milliseconds, rollback }
  throw new RekeyError(`${rehearsalVariable} of ${host} is ${shown(value)}, which says no time`, {
    code: 'inventory.require-rehearsal',
    hint: `Write ${rehearsalVariable}: 7d, or { within: 7d, rollback: true }.`,
  })
}

/** The same playbook, rekey and choice of steps, or all steps: what was left out there may not be done here. */
function isOfTheSame({ started }: Rehearsal, provenance: Provenance, selection: RunSelection): boolean {
  const { tags, skipTags, startAtStep } = started.selection
  const chosen = (of: RunSelection) => JSON.stringify([of.tags ?? [], of.skipTags ?? [], of.startAtStep ?? ''])
  const isWhole = !tags && !skipTags && startAtStep === undefined
  return (
    started.playbookHash === provenance.playbookHash &&
    started.commit === provenance.commit &&
    (isWhole || chosen(started.selection) === chosen(selection))
  )
}

/** Hosts of one name are the same where all that is written of them is. */
function isOnOneOf(hosts: readonly Host[], { started }: Rehearsal, { inventoryHashes }: Provenance): boolean {
  return hosts.some(({ name }) => started.inventoryHashes[name] === inventoryHashes[name])
}
