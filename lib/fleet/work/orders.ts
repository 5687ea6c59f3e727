// What operators say to a fleet: halt, go on, once more with a cluster.
import { RekeyError } from '../../errors.ts'
import { names } from '../../playbook/host.ts'
import type { Database } from '../store/database.ts'
import {
  addEvent,
  type FleetRow,
  isThrough,
  isUnwell,
  lockFleet,
  requireCluster,
  requireFleet,
  setFleet,
} from '../store/fleets.ts'
import { halt } from './schedule.ts'

/** An order of an operator. */
export type Order =
  | { readonly kind: 'halt'; readonly why: string; readonly operator: string }
  /** `leaveFailed`: those that failed stay as they are, and count no more. */
  | { readonly kind: 'go-on'; readonly leaveFailed: boolean; readonly operator: string }
  | { readonly kind: 'retry'; readonly cluster: string; readonly operator: string }

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
    if (isThrough(fleet)) throw nothingToDo(fleet, 'is through')
    const { operator } = order
    if (order.kind === 'halt') {
      if (fleet.state === 'halted') throw nothingToDo(fleet, `is halted already: ${fleet.why}`)
      await halt(query, id, order.why, operator)
      return 'Halted: no cluster is begun any more; what is under way comes to its end.'
    }
    if (order.kind === 'retry') {
      const cluster = await requireCluster(query, id, order.cluster)
      if (!isUnwell(cluster))
        throw new RekeyError(`${order.cluster} has not failed: it is ${cluster.state}`, { code: 'fleet.no-retry' })
      await query(
        `UPDATE rekey_fleet.cluster SET ${onceMore}, asked = true, left_failed = false WHERE fleet = $1 AND name = $2`,
        [id, order.cluster],
      )
      await addEvent(query, id, {
        kind: 'retry',
        cluster: order.cluster,
        operator,
        text: `${order.cluster}: once more, says ${operator}`,
      })
      return `${order.cluster} is gone on with${fleet.state === 'halted' ? '; the fleet stays halted' : ''}.`
    }
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
            ? `UPDATE rekey_fleet.cluster SET left_failed = true WHERE fleet = $1 AND state IN ('failed', 'undone') AND NOT left_failed RETURNING name`
            : `UPDATE rekey_fleet.cluster SET ${onceMore}, asked = wave < ${current}
               WHERE fleet = $1 AND state IN ('failed', 'undone') AND NOT left_failed RETURNING name`,
          [id],
        )
    if (fleet.state !== 'halted' && !wave && failed.length === 0) throw nothingToDo(fleet, 'goes on')
    await setFleet(query, id, 'running')
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

/** What was undone has nothing to go on with: it is begun anew. */
const onceMore = `state = 'waiting', job = NULL, since = now(), run = CASE WHEN state = 'undone' THEN NULL ELSE run END`

/** The wave that clusters are begun of: those of an earlier one are begun only where they are asked for. */
const current = `(SELECT coalesce(min(number), 1000000) FROM rekey_fleet.wave WHERE fleet = $1 AND state <> 'passed')`

const nothingToDo = ({ name }: FleetRow, what: string) =>
  new RekeyError(`the fleet ${name} ${what}`, {
    code: 'fleet.nothing-to-do',
    hint: "See how it is: 'rekey fleet status'.",
  })
