// `rekey fleet show`: how far the run of a cluster came, step by step, as it is stored.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Command } from 'commander'
import { RekeyError } from '../../errors.ts'
import { type ClusterRow, requireCluster, requireFleet } from '../../fleet/store/fleets.ts'
import { restoreFolder } from '../../fleet/store/folders.ts'
import { free } from '../../fleet/told/export.ts'
import { historyLines } from '../../output/history.ts'
import { say } from '../../output/print.ts'
import { readHistory } from '../../run/journal/history.ts'
import { example } from '../options/help.ts'
import { type Store, type StoreOptions, withKey, withStore, withStoreOptions } from './store.ts'

export function showCommand(): Command {
  const command = new Command('show')
    .description('tell how far the run of a cluster came, step by step; needs the key of the fleet')
    .argument('<cluster>')
  return withKey(withStoreOptions(command))
    .option(
      '--folder <folder>',
      'put the folder of the run there, whole: for rekey report, and for who looks at its files',
    )
    .addHelpText('after', example('what went wrong', 'rekey fleet show berlin-2 -F fleet.yml'))
    .action((cluster: string, { folder, ...options }: StoreOptions & { folder?: string }) =>
      withStore(options, false, store => show(store, cluster, folder)),
    )
}

async function show({ database: { query }, file, key }: Store, name: string, kept: string | undefined): Promise<void> {
  const fleet = await requireFleet(query, file.name)
  const cluster = await requireCluster(query, fleet.id, name)
  const { run } = cluster
  const parent = kept === undefined ? mkdtempSync(join(tmpdir(), 'rekey-fleet-')) : resolve(kept)
  try {
    if (run === null) throw nothing(`${name} has no run yet: it is ${cluster.state}`)
    const place = free(join(parent, run))
    const of = { fleet: fleet.id, cluster: name, run }
    // Its secrets and backups are of no use to tell how it went, and lie nowhere for that.
    const restored = await restoreFolder(query, await key(false), of, place, kept === undefined ? 'journal' : undefined)
    if (!restored)
      throw nothing(`nothing is stored of ${run}${fleet.pruned === null ? '' : `: ${fleet.prunedBy} removed it`}`)
    for (const line of historyLines(readHistory(place), nextOf(cluster))) say(line)
    if (kept !== undefined) say(`\nIts folder: ${place}`)
  } finally {
    if (kept === undefined) rmSync(parent, { recursive: true, force: true })
  }
}

const nothing = (message: string) => new RekeyError(message, { code: 'fleet.no-run' })

/** What can be done: by the fleet alone, which has the folder that counts. */
function nextOf({ name, state }: ClusterRow): string {
  if (state === 'failed') return `Go on with it once what went wrong was mended: rekey fleet retry ${name}`
  return `In the fleet it is ${state}.`
}
