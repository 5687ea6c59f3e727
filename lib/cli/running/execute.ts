// What `run`, `resume` and `rollback` share: the run's folder, journal, view and redactor around one call.
import { exitCodes } from '../../errors.ts'
import { type Inventory, roleVariables } from '../../inventory/index.ts'
import { operatorName } from '../../operator.ts'
import { openView, type ViewSettings } from '../../output/open-view.ts'
import { redactor } from '../../output/redaction.ts'
import { type Host, names } from '../../playbook/host.ts'
import type { Playbook } from '../../playbook/model.ts'
import { resolveVariables } from '../../playbook/variables.ts'
import { keepHeapSmall } from '../../process/small-heap.ts'
import { eventTime, type RunEvent, type RunEventBody, type RunSelection } from '../../run/events.ts'
import { claimRun } from '../../run/folder/claim.ts'
import { openKeeper } from '../../run/folder/keeper.ts'
import { searched } from '../../run/journal/event-text.ts'
import type { RunHistory } from '../../run/journal/history.ts'
import { openJournal } from '../../run/journal/journal.ts'
import type { Provenance } from '../../run/journal/provenance.ts'
import { openRegistered } from '../../run/registered/registered.ts'
import { type Earlier, runPlaybook } from '../../run/run.ts'
import { processSecrets, shortestSecret } from '../../secrets/index.ts'
import { rolesSaid } from '../options/inventory.ts'
import { confirmSteps } from './confirm.ts'
import { interruptible } from './interrupt.ts'

/** One execution of plays in a run's folder. */
export interface Execution extends ViewSettings {
  readonly playbook: Playbook
  readonly inventory: Inventory
  readonly run: string
  readonly folder: string
  readonly vars: unknown
  readonly selection: RunSelection
  readonly provenance: Provenance
  readonly check?: boolean
  readonly takeLock?: boolean
  /** Ask before each step. */
  readonly step?: boolean
  /** Show what steps write to files. */
  readonly diff?: boolean
  /** Bytes that are kept of what a step prints on a host. */
  readonly keepOutput?: number
  /** What was done before. */
  readonly earlier?: Earlier
  /** On which hosts steps returned something, before. */
  readonly returned?: RunHistory['returned']
  /** Bytes that its journal has lost from its end. */
  readonly missing?: number
  /** Resolves once what belongs to the run beside its journal is on the disk, too: before anything is done on a host. */
  readonly kept?: Promise<void>
  /** Told before everything else. */
  readonly notices?: readonly string[]
}

/** With more hosts than this the memory is worth a little time. */
const manyHosts = 200

/** Runs a playbook, and returns the exit code. */
export async function execute(execution: Execution): Promise<number> {
  if (execution.inventory.hosts.length > manyHosts) keepHeapSmall()
  const { playbook, inventory, folder, output, step, diff, kept, keepOutput, missing, ...rest } = execution
  kept?.catch(() => {})
  const claim = await claimRun(rest.run, folder, rest.provenance.process)
  // A tree that is drawn anew all the time leaves no place for a question.
  const view = await openView({ ...rest, output: step && output !== 'json' ? 'plain' : output }, process.stdout)
  const redact = redactor()
  const keeper = openKeeper(rest.run, folder)
  const registered = openRegistered(folder, {
    isSecret: text => redact.text(text) !== text,
    returned: rest.returned,
  })
  // Whoever undoes the run may do without.
  if (rest.earlier?.mode === 'resume' && registered.missing) throw registered.missing
  const journal = openJournal(folder, { keepOutput, missing, notice: text => emit({ kind: 'notice', text }) })
  const notices = [...rolesSaid(inventory), ...claim.unclear, ...(rest.notices ?? []), ...registered.damage]
  let named = 0
  const emit = (body: RunEventBody) => {
    const event: RunEvent = { ...searched(body, redact), at: eventTime() }
    journal.write(event)
    if (body.kind === 'step.started') keeper?.begins(body.step)
    view.event(event)
    if (body.kind === 'run.started') for (const text of notices) emit({ kind: 'notice', text })
    if (processSecrets.tooShort.size === named) return
    const tooShort = [...processSecrets.tooShort].slice(named)
    named += tooShort.length
    emit({
      kind: 'notice',
      text: `${names(tooShort)}: too short to be kept from being shown (fewer than ${shortestSecret} characters)`,
    })
  }
  const interrupt = interruptible()
  const signal = keeper ? AbortSignal.any([interrupt.signal, keeper.over]) : interrupt.signal
  let exitCode: number = exitCodes.done
  let reported = true
  try {
    const result = await runPlaybook(playbook, {
      ...rest.selection,
      ...rest,
      limit: limitOf(inventory, rest.selection.limit),
      folder,
      inventory,
      signal,
      confirm: step ? confirmSteps(signal) : undefined,
      emit,
      operator: operatorName(),
      diff: diff ? (await import('../../output/diff.ts')).fileDiffer(redact) : undefined,
      flush: async () => {
        await kept
        await journal.flush()
        await keeper?.keep()
      },
      registered,
      shorten: (text, of) => journal.shorten(redact.text(text), of),
    })
    exitCode = result.exitCode
  } finally {
    interrupt.release()
    reported = await view.close()
    registered.close()
    await journal.close()
    claim.release()
    keeper?.close()
  }
  // Whoever asked for a report takes one that is not there for that of another run.
  return exitCode || (reported ? exitCodes.done : exitCodes.hostFailed)
}

/** The playbook's variables for the hosts of a run, where `-e` may set those that somebody knows. */
export function variablesOf(playbook: Playbook, inventory: Inventory, hosts: readonly Host[]): Promise<unknown> {
  // Whether something else than `-e` sets it for one of the hosts.
  const isSet = (name: string) =>
    hosts.some(
      host =>
        name in host.vars &&
        inventory.explain(host.name, name).places.some(({ layer }) => !layer.startsWith('extra variables')),
    )
  return resolveVariables(
    playbook,
    hosts,
    inventory.extraVariables,
    name => roleVariables.includes(name) || isSet(name),
  )
}

/** The hosts that `--limit` leaves. Throws where it matches none. */
export function limitOf(
  inventory: Inventory,
  patterns: readonly string[] | undefined,
): ReadonlySet<string> | undefined {
  if (!patterns) return undefined
  const hosts = inventory.select('all', { limit: patterns.join(',') })
  return new Set(hosts.map(({ name }) => name))
}
