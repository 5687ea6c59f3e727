// `rekey fleet prune`: what is stored of runs goes, of fleets that ended long ago.
import { Command, Option } from 'commander'
import { giveRoomBack, type OldFleet, oldFleets, prunedFleets, pruneFleet } from '../../fleet/store/retention.ts'
import { removeQueues } from '../../fleet/work/queue.ts'
import { operatorName } from '../../operator.ts'
import { say } from '../../output/print.ts'
import { count, momentOf } from '../../output/report/words.ts'
import { visible } from '../../output/text.ts'
import { names } from '../../playbook/host.ts'
import { readAge } from '../options/duration.ts'
import { example } from '../options/help.ts'
import { requireRemoval } from '../running/confirm.ts'
import { type StoreOptions, withStore, withStoreOptions } from './store.ts'

interface PruneOptions extends StoreOptions {
  readonly olderThan: number
  readonly yes?: boolean
}

export function pruneCommand(): Command {
  const command = new Command('prune').description(
    'remove what is stored of runs and what happened, of fleets that ended long ago; who did what when stays',
  )
  return withStoreOptions(command)
    .addOption(
      new Option('--older-than <age>', 'those that ended longer ago than this')
        .argParser(readAge)
        .makeOptionMandatory(),
    )
    .option('--yes', 'remove them without asking')
    .addHelpText(
      'after',
      example('of fleets that ended three months ago', 'rekey fleet prune --older-than 90d -F fleet.yml'),
    )
    .action(({ olderThan, yes = false, ...options }: PruneOptions) =>
      withStore(options, false, async ({ database, file }) => {
        const old = await oldFleets(database.query, file.name, olderThan)
        if (old.length === 0) return say('No fleet ended before that.')
        const going = old.filter(({ half }) => half.length === 0)
        for (const { id, half, playbook } of old.filter(one => !going.includes(one)))
          say(visible(`${id} stays: ${names(half, 5)} ${half.length > 1 ? 'are' : 'is'} in the middle of ${playbook}`))
        if (going.length === 0) return
        for (const one of going) say(visible(`${one.id} is to be removed: ${whatOf(one)}`))
        await requireRemoval(going.length, yes, 'fleet.not-confirmed')
        let gone = 0
        for (const { id } of going) if (await pruneFleet(database, id, operatorName())) gone++
        // Also of those where this was cut off.
        await removeQueues(database, await prunedFleets(database.query, file.name))
        await giveRoomBack(database)
        say(`${gone} removed. Who began each, with what and when, and how its clusters ended, stays.`)
      }),
    )
}

const whatOf = ({ state, ended, operator, runs, bytes, events }: OldFleet) =>
  `${state} since ${momentOf(ended)}, begun by ${operator}; ${count(runs, 'folder')} of runs (${(bytes / 1e6).toFixed(1)} MB), ${count(events, 'event')}`
