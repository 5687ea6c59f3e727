// What of fleets that ended long ago goes, and what stays: who began it, with what, when, who approved, and how each cluster ended.
import type { Database, Query } from './database.ts'
import { type FleetRow, hasRun, lockFleet, ms, throughHere } from './fleets.ts'

/** A fleet that ended long ago. Times are milliseconds since 1970. */
export interface OldFleet extends Pick<FleetRow, 'id' | 'state' | 'playbook' | 'operator'> {
  readonly ended: number
  /** Runs of which the folder is stored, and how many bytes those are. */
  readonly runs: number
  readonly bytes: number
  readonly events: number
  /** Clusters that stand in the middle of their run: what is stored of that may be needed. */
  readonly half: readonly string[]
}

/** Of a cluster that a later fleet brought through with the same playbook, or somebody has seen to, nothing is needed any more. */
const isHalf = `${hasRun} AND state NOT IN ('done', 'undone') AND NOT left_failed AND NOT EXISTS (
  SELECT 1 FROM rekey_fleet.cluster AS later JOIN rekey_fleet.fleet AS other ON other.id = later.fleet
  WHERE other.name = old.name AND other.begun > old.begun AND later.name = cluster.name AND later.state = 'done' AND other.playbook = old.playbook)`

const columns = `id, state, playbook, operator, ${ms('ended')} AS ended,
  (SELECT count(DISTINCT run)::int FROM rekey_fleet.piece WHERE fleet = old.id) AS runs,
  (SELECT coalesce(sum(octet_length(bytes)), 0)::float8 FROM rekey_fleet.piece WHERE fleet = old.id) AS bytes,
  (SELECT count(*)::int FROM rekey_fleet.event WHERE fleet = old.id) AS events,
  ARRAY(SELECT name FROM rekey_fleet.cluster WHERE fleet = old.id AND ${isHalf} ORDER BY place) AS half`

/** Fleets of a name that ended before so many milliseconds, and of which something is left to be removed; the oldest first. */
export const oldFleets = (query: Query, name: string, age: number) =>
  query<OldFleet>(
    `SELECT ${columns} FROM rekey_fleet.fleet AS old
     WHERE name = $1 AND ${throughHere} AND ended < now() - $2 * interval '1 millisecond'
       AND (pruned IS NULL OR EXISTS (SELECT 1 FROM rekey_fleet.piece WHERE fleet = old.id)) ORDER BY begun`,
    [name, age],
  )

/** Pieces that are removed at once: each statement ends soon, also where there are gigabytes. */
const batch = 500

/**
 * Removes the folders of a fleet's runs, its events, and whom it told. Where this is cut off, the next time goes on with it.
 * @param operator who says so
 * @returns whether it was removed: one that is worked on again meanwhile is not
 */
export async function pruneFleet({ query, transaction }: Database, id: string, operator: string): Promise<boolean> {
  const isOver = await transaction(async query => {
    await lockFleet(query, id, true)
    const [old] = await query<OldFleet>(
      `SELECT ${columns} FROM rekey_fleet.fleet AS old WHERE id = $1 AND ${throughHere}`,
      [id],
    )
    if (!old || old.half.length > 0) return false
    await query(
      'UPDATE rekey_fleet.fleet SET pruned = coalesce(pruned, now()), pruned_by = coalesce(pruned_by, $2) WHERE id = $1',
      [id, operator],
    )
    for (const table of ['event', 'receiver', 'worker'])
      await query(`DELETE FROM rekey_fleet.${table} WHERE fleet = $1`, [id])
    return true
  })
  for (let isMore = isOver; isMore; ) {
    const [gone] = await query<{ count: number }>(
      `WITH gone AS (DELETE FROM rekey_fleet.piece WHERE ctid IN (SELECT ctid FROM rekey_fleet.piece WHERE fleet = $1 LIMIT ${batch}) RETURNING 1)
       SELECT count(*)::int AS count FROM gone`,
      [id],
    )
    isMore = gone!.count === batch
  }
  return isOver
}

/** The ids of fleets of a name of which that was removed. */
export async function prunedFleets(query: Query, name: string): Promise<string[]> {
  const rows = await query<{ id: string }>(
    `SELECT id FROM rekey_fleet.fleet WHERE name = $1 AND pruned IS NOT NULL AND ${throughHere}`,
    [name],
  )
  return rows.map(({ id }) => id)
}

/** Gives the room of what was removed back to the disk. A server does that by itself; the embedded store does not. */
export async function giveRoomBack({ isEmbedded, query }: Database): Promise<void> {
  if (!isEmbedded) return
  for (const table of ['piece', 'event', 'notice']) await query(`VACUUM FULL rekey_fleet.${table}`)
}
