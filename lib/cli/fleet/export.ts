// `rekey fleet export`: a fleet for auditors, as JSON.
import { resolve } from 'node:path'
import { Command } from 'commander'
import { requireFleet } from '../../fleet/store/fleets.ts'
import { exportOf } from '../../fleet/told/export.ts'
import { give, say } from '../../output/print.ts'
import { visibleJson } from '../../output/text.ts'
import { example } from '../options/help.ts'
import { requireFree, writeOwnFile } from '../options/own-file.ts'
import { type StoreOptions, withKey, withStore, withStoreOptions } from './store.ts'

export function exportCommand(): Command {
  const command = new Command('export').description(
    'who ran what where, on whose word, and what came of it: as JSON, for auditors',
  )
  return withKey(withStoreOptions(command))
    .option('-o, --output <file>', 'where it is written; stdout where nothing is said')
    .option('--folders <folder>', 'put the folders of all runs there, too, for rekey show and rekey report')
    .option('--fleet <id>', 'an earlier fleet, by its id; the last one where nothing is said')
    .option('--force', 'over a file that is there')
    .addHelpText('after', example('into a file of its own', 'rekey fleet export -F fleet.yml -o fleet.json'))
    .action(
      async ({
        output,
        folders,
        force,
        fleet: id,
        ...options
      }: StoreOptions & { output?: string; folders?: string; force?: true; fleet?: string }) => {
        const path = output === undefined ? undefined : resolve(output)
        if (path !== undefined) requireFree(path, force)
        await withStore(options, false, async ({ database, file, key }) => {
          const fleet = await requireFleet(database.query, file.name, id)
          const at = folders === undefined ? undefined : resolve(folders)
          const all = await exportOf(database, await key(false), fleet, at)
          const text = `${visibleJson(all, 2)}\n`
          if (path === undefined) give(text)
          else {
            writeOwnFile(path, text, force ? 'another' : 'nothing')
            say(path)
          }
        })
      },
    )
}
