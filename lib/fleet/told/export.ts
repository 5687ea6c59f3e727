// A fleet for auditors: who ran what where, on whose word, and what came of it. Of runs it says what their journals say.
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { endingOf, journalEvents, readHistory } from '../../run/journal/history.ts'
import type { Database, Query } from '../store/database.ts'
import { eventsOf, type FleetRow } from '../store/fleets.ts'
import { restoreFolder } from '../store/folders.ts'
import type { FleetKey } from '../store/key.ts'
import { statusOf } from './status.ts'

/**
 * All that is known of a fleet, as plain data.
 * @param folders where the folders of its runs are put, each under the run's id
 * @throws RekeyError where the key is not the fleet's, or one of the folders is there already
 */
export async function exportOf(
  { query }: Database,
  key: FleetKey,
  fleet: FleetRow,
  folders: string | undefined,
): Promise<object> {
  const { clusters, waves, at } = await statusOf(query, fleet)
  const iso = (time: number | null) => (time === null ? null : new Date(time).toISOString())
  const folder = mkdtempSync(join(tmpdir(), 'rekey-fleet-'))
  const placeOf = (run: string) => (folders === undefined ? join(folder, 'run') : free(join(folders, run)))
  try {
    const told = []
    const stored = Map.groupBy(await runsIn(query, fleet.id), ({ cluster }) => cluster)
    for (const { name, wave, state, run, attempt, began, ended, error, leftFailed } of clusters) {
      const planned = fleet.plan.waves[wave]
      let journal: object | null = null
      // Those before it were left for a new one.
      const earlier: object[] = []
      for (const { run: one } of stored.get(name) ?? []) {
        const place = placeOf(one)
        if (!(await restoreFolder(query, key, { fleet: fleet.id, cluster: name, run: one }, place))) continue
        if (one === run) journal = runOf(place)
        else earlier.push(runOf(place))
      }
      told.push({
        ...{ cluster: name, wave: planned?.name, state, attempts: attempt, began: iso(began), ended: iso(ended) },
        ...{ error, left_failed: leftFailed, inventory: planned?.clusters.find(one => one.name === name)?.inventory },
        run: journal,
        ...(earlier.length > 0 ? { earlier_runs: earlier } : {}),
      })
    }
    return {
      fleet: fleet.id,
      ...{ name: fleet.name, state: fleet.state, why: fleet.why, operator: fleet.operator, rekey: fleet.rekey },
      ...{ playbook: fleet.playbook, playbook_sha256: fleet.playbookHash, fleet_file_sha256: fleet.hash },
      ...{ begun: iso(fleet.begun), ended: iso(fleet.ended), exported: iso(at) },
      ...(fleet.pruned === null ? {} : { pruned: iso(fleet.pruned), pruned_by: fleet.prunedBy }),
      waves: waves.map(one => ({
        ...{
          name: one.name,
          state: one.state,
          began: iso(one.began),
          ended: iso(one.ended),
          approved_by: one.approvedBy,
        },
      })),
      clusters: told,
      events: (await eventsOf(query, fleet.id)).map(({ at, ...event }) => ({ ...event, at: iso(at) })),
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A place for a folder, at which there is nothing. Throws `RekeyError` where something is. */
export function free(place: string): string {
  if (!existsSync(place)) return place
  throw new RekeyError(`${place} is there already`, { code: 'cli.file-there', hint: 'Name a folder that is empty.' })
}

/** The runs whose folders are in the store, in the order in which they began. */
const runsIn = (query: Query, fleet: string) =>
  query<{ cluster: string; run: string }>(
    'SELECT DISTINCT cluster, run FROM rekey_fleet.piece WHERE fleet = $1 ORDER BY cluster, run',
    [fleet],
  )

/** What a run's journal says of who ran it, on what, and what came of it. */
function runOf(folder: string): object {
  const { run, first, damage, ...history } = readHistory(folder)
  const parts: object[] = []
  let found: unknown
  for (const event of journalEvents(folder)) {
    if (event.kind === 'run.started')
      parts.push({
        mode: event.mode,
        at: new Date(event.at).toISOString(),
        operator: event.operator,
        machine: event.process.machine,
      })
    if (event.kind === 'run.report') found = event.sections.map(({ title, rows }) => ({ title, rows }))
  }
  return {
    ...{ run, playbook: first.playbook, playbook_sha256: first.playbookHash, rekey: first.commit, parts },
    hosts: first.inventoryHashes,
    ...(first.selection.unrehearsed === undefined ? {} : { unrehearsed: first.selection.unrehearsed }),
    ...{ ending: endingOf({ run, first, damage, ...history }), error: history.finished?.error?.message ?? null },
    ...{ found: found ?? null, damage },
  }
}
