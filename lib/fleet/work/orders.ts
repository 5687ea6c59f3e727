// What operators say to a fleet: halt, go on, once more with a cluster.
import { setTimeout as delay } from 'node:timers/promises'
import { RekeyError } from '../../errors.ts'
import { names } from '../../playbook/host.ts'
import type { Database, Query } from '../store/database.ts'
import {
  addEvent,
  type FleetRow,
  isSilent,
  isThrough,
  isUnwell,
  type LockedFleet,
  lockFleet,
  requireCluster,
  requireFleet,
  setFleet,
  unwellHere,
  workersOf,
} from '../store/fleets.ts'
import { halt } from './schedule.ts'

/** An order of an operator. */
export type Order =
  | { readonly kind: 'halt'; readonly why: string; readonly operator: string }
  /** `leaveFailed`: those that failed stay as they are, and count no more. */
  | { readonly kind: 'go-on'; readonly leaveFailed: boolean; readonly operator: string }
  /** `anew`: by a new run, whatever has become of the one before. `acceptChangedInventory`: also where its inventory is another one by now. */
  | {
      readonly kind: 'retry'
      readonly cluster: string
      readonly operator: string
      readonly anew?: boolean
      readonly acceptChangedInventory?: boolean
    }

/**
 * Does what an operator says.
 * @param name of the fleet
 * @returns what that means, in a sentence
 * @throws RekeyError where there is nothing to do
 */
export async function obey(database: Database, name: string, order: Order): Promise<string> {
  const { id } = await requireFleet(database.query, name)
  return database.transaction(async query => {
    const fleet = (await lockFleet(query, id, true))!
    // One that is through may still have a cluster that failed within its budget done once more.
    const isForEnded = order.kind === 'retry' || (order.kind === 'go-on' && order.leaveFailed)
    if (fleet.state === 'given-up' || fleet.pruned !== null || (isThrough(fleet) && !isForEnded))
      throw nothingToDo(fleet, fleet.state === 'done' ? 'is through' : 'was given up')
    const { operator } = order
    if (order.kind === 'halt') {
      if (fleet.state === 'halted') throw nothingToDo(fleet, `is halted already: ${fleet.why}`)
      await halt(query, id, order.why, operator)
      return 'Halted: no cluster is begun any more; what is under way comes to its end.'
    }
    if (order.kind === 'retry') return retry(query, fleet, order)
    // Whoever goes on after a halt has not looked at the wave that comes next: that is approved by an order of its own.
    const [wave] =
      fleet.state === 'halted'
        ? []
        : await query<{ name: string }>(
            `UPDATE rekey_fleet.wave SET approved_by = $2 WHERE fleet = $1 AND state = 'approval' AND approved_by IS NULL RETURNING name`,
            [id, operator],
          )
    // Nor are those meant that failed within the budget of a wave before.
    const failed = wave
      ? []
      : await query<{ name: string }>(
          order.leaveFailed
            ? `UPDATE rekey_fleet.cluster SET left_failed = true WHERE fleet = $1 AND ${unwellHere} AND NOT left_failed RETURNING name`
            : `UPDATE rekey_fleet.cluster SET ${onceMore}, words = '{}', ${withoutUndone}, asked = wave < ${current}
               WHERE fleet = $1 AND ${unwellHere} AND NOT left_failed RETURNING name`,
          [id],
        )
    if (fleet.state !== 'halted' && !wave && failed.length === 0) throw nothingToDo(fleet, 'goes on')
    if (!isThrough(fleet)) await setFleet(query, id, 'running')
    const who = names(
      failed.map(one => one.name),
      5,
    )
    const said = [
      ...(wave ? [`wave ${wave.name} is approved`] : []),
      ...(failed.length > 0 ? [order.leaveFailed ? `${who} stay as they are` : `once more with ${who}`] : []),
    ]
    const text = `${operator} says to go on${said.length > 0 ? `: ${said.join('; ')}` : ''}`
    await addEvent(query, id, { kind: 'went-on', operator, text })
    return `The fleet goes on${said.length > 0 ? `: ${said.join('; ')}` : ''}.`
  })
}

async function retry(query: Query, fleet: LockedFleet, order: Extract<Order, { kind: 'retry' }>): Promise<string> {
  const { cluster: name, operator, anew = false, acceptChangedInventory = false } = order
  const { state, run } = await requireCluster(query, fleet.id, name)
  if (!isUnwell({ state }))
    throw new RekeyError(`${name} has not failed: it is ${state}`, {
      code: 'fleet.no-retry',
      hint: "Once more is for clusters that failed or were undone; 'rekey fleet status' shows them.",
    })
  // Its lock may still be on the hosts, where its run was killed: that is taken from the dead alone.
  const words = [
    ...(anew ? ['--take-lock'] : []),
    ...(acceptChangedInventory && !anew ? ['--accept-changed-inventory'] : []),
  ]
  await query(
    `UPDATE rekey_fleet.cluster SET ${onceMore}, asked = true, left_failed = false, words = $3, ${anew ? "run = NULL, task = 'run'" : withoutUndone}
     WHERE fleet = $1 AND name = $2`,
    [fleet.id, name, words],
  )
  if (isThrough(fleet)) await setFleet(query, fleet.id, 'running')
  const isNew = anew || state === 'undone' || run === null
  // What the run did stays done, and its folder with the backups is where it was.
  const left =
    anew && run !== null && state !== 'undone'
      ? ` What ${run} has done on its hosts stays as it is; its journal and backups stay in the store: rekey fleet export --folders FOLDER.`
      : ''
  await addEvent(query, fleet.id, {
    kind: 'retry',
    cluster: name,
    operator,
    ...(run === null ? {} : { run }),
    text: `${name}: once more${isNew ? ', by a new run' : ''}, says ${operator}${anew && run !== null ? `; ${run} is left` : ''}`,
  })
  return `${name} ${isNew ? 'begins a new run' : 'is gone on with'}${fleet.state === 'halted' ? '; the fleet stays halted' : ''}.${left}`
}

const onceMore = `state = 'waiting', job = NULL, since = now()`

/** What was undone has nothing to go on with: it is begun anew. */
const withoutUndone = `run = CASE WHEN state = 'undone' THEN NULL ELSE run END`

/** The wave that clusters are begun of: those of an earlier one are begun only where they are asked for. */
const current = `(SELECT coalesce(min(number), 1000000) FROM rekey_fleet.wave WHERE fleet = $1 AND state <> 'passed')`

/** How often it is looked whether a worker was heard of, and after how long without it is said that this is waited for, in milliseconds. */
const [hearEvery, doubtAfter] = [500, 4_000]

/**
 * Waits until a worker is heard of that is there after an order was given: one that was heard of before may have been killed since, and nobody
 * would go on.
 * @param notice is told once that it is waited
 * @returns a worker's id; `undefined` where none is there, which takes as long as one may be silent
 */
export async function workerAfter(
  { query }: Database,
  { id }: Pick<FleetRow, 'id'>,
  notice: (text: string) => void,
): Promise<string | undefined> {
  const given = performance.now()
  for (let isTold = false; ; ) {
    const passed = performance.now() - given
    const workers = await workersOf(query, id)
    const there = workers.find(({ silent }) => silent < passed)
    if (there) return there.id
    const maybe = workers.filter(one => !isSilent(one))
    if (maybe.length === 0) return undefined
    if (!isTold && passed > doubtAfter) {
      const who = maybe.map(one => one.id)
      notice(`Not heard of since: ${names(who, 5)}. If that lasts, this process works.`)
      isTold = true
    }
    await delay(hearEvery)
  }
}

const nothingToDo = ({ name }: LockedFleet, what: string) =>
  new RekeyError(`the fleet ${name} ${what}`, {
    code: 'fleet.nothing-to-do',
    hint: "See how it is: 'rekey fleet status'.",
  })
