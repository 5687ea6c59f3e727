// rekey fleet …: one playbook over many clusters, in waves.
import { Command } from 'commander'
import { exitCodes } from '../../errors.ts'
import { isThrough, requireFleet } from '../../fleet/store/fleets.ts'
import { type Order, workerAfter } from '../../fleet/work/orders.ts'
import { operatorName } from '../../operator.ts'
import { say, tell } from '../../output/print.ts'
import { example } from '../options/help.ts'
import { positiveInteger } from '../options/whole-number.ts'
import { exportCommand } from './export.ts'
import { type MetricsOptions, withMetrics, withMetricsOptions } from './measured.ts'
import { notifyCommand } from './notify.ts'
import { planCommand } from './plan.ts'
import { pruneCommand } from './prune.ts'
import { serveCommand } from './serve.ts'
import { showCommand } from './show.ts'
import { statusCommand } from './status.ts'
import { give as giveOrder, type StoreOptions, withKey, withStore, withStoreOptions } from './store.ts'
import { beginFleet, workHere } from './working.ts'

/** The command `fleet` with all that belongs to it, for the program to take in. */
export function fleetCommand(): Command {
  const command = new Command('fleet').description(
    'one playbook over many clusters, in waves, with a halt that nobody has to call for',
  )
  command.enablePositionalOptions()
  command.addCommand(planCommand())
  command.addCommand(runCommand())
  command.addCommand(workerCommand())
  command.addCommand(statusCommand())
  command.addCommand(showCommand())
  command.addCommand(haltCommand())
  command.addCommand(goOnCommand())
  command.addCommand(retryCommand())
  command.addCommand(serveCommand())
  command.addCommand(exportCommand())
  command.addCommand(notifyCommand())
  command.addCommand(pruneCommand())
  return command
}

interface WorkOptions extends StoreOptions, MetricsOptions {
  readonly anew?: boolean
  readonly leaveFailed?: boolean
}

const withJobs = (command: Command) =>
  command.option(
    '--jobs <number>',
    'clusters that this process has at a time (default: as many as the fleet may)',
    positiveInteger,
  )

function runCommand(): Command {
  const command = new Command('run')
    .description('begin a fleet, or go on with one that was cut off')
    .argument('[playbook]', 'a name from playbooks/, or a path; the one of fleet.yml where it is left out')
  return withMetricsOptions(withJobs(withKey(withStoreOptions(command))))
    .option('--anew', 'begin anew, although the one before is not through: it is given up')
    .addHelpText(
      'after',
      example('keysets rotated in all clusters, wave by wave', 'rekey fleet run rotate-keysets -F fleet.yml'),
    )
    .action(async (playbook: string | undefined, options: WorkOptions) => {
      process.exitCode = await withStore(options, true, store =>
        withMetrics(store.file.name, options, async tally => {
          const fleet = await beginFleet(store, { playbook, anew: options.anew ?? false })
          const jobs = options.jobs ?? fleet.plan.maxParallel
          return workHere(store, { fleet, jobs, stays: false, makes: true, tally })
        }),
      )
    })
}

function workerCommand(): Command {
  const command = new Command('worker').description('work on a fleet that somebody began, from this machine as well')
  return withMetricsOptions(withJobs(withKey(withStoreOptions(command))))
    .addHelpText(
      'after',
      example(
        'one more worker, which has two clusters at a time',
        'rekey fleet worker --jobs 2 --key fleet.key --database postgres://db/fleets',
      ),
    )
    .action(async (options: WorkOptions) => {
      process.exitCode = await withStore(options, false, store =>
        withMetrics(store.file.name, options, async tally => {
          const fleet = await requireFleet(store.database.query, store.file.name)
          return workHere(store, { fleet, jobs: options.jobs ?? 1, stays: true, makes: false, tally })
        }),
      )
    })
}

function haltCommand(): Command {
  return withStoreOptions(
    new Command('halt').description('begin no further cluster; what is under way comes to its end'),
  )
    .argument('[why]', 'for whoever reads the status')
    .addHelpText('after', example('stop, for a reason', "rekey fleet halt 'the registry is down'"))
    .action(async (why: string | undefined, options: StoreOptions) => {
      await order(options, { kind: 'halt', why: why ?? 'an operator said so', operator: operatorName() }, false)
    })
}

function goOnCommand(): Command {
  const command = new Command('go-on').description(
    'go on with a fleet that is halted or waits for approval, and once more with what failed',
  )
  return withJobs(withKey(withStoreOptions(command)))
    .option('--leave-failed', 'go on without the clusters that failed')
    .addHelpText('after', example('after what went wrong was mended', 'rekey fleet go-on -F fleet.yml'))
    .action(async (options: WorkOptions) => {
      await order(options, { kind: 'go-on', leaveFailed: options.leaveFailed ?? false, operator: operatorName() }, true)
    })
}

interface RetryOptions {
  readonly acceptChangedInventory?: boolean
}

function retryCommand(): Command {
  const command = new Command('retry')
    .description('once more with a cluster that failed, also while the fleet is halted, or is through')
    .argument('<cluster>')
  return withJobs(withKey(withStoreOptions(command)))
    .option('--anew', 'by a new run; what the one before has done on the hosts stays as it is')
    .option('--accept-changed-inventory', 'go on although its hosts or their variables are not what they were')
    .addHelpText('after', example('one that failed, alone', 'rekey fleet retry berlin-2 -F fleet.yml'))
    .action(async (cluster: string, { acceptChangedInventory, ...options }: WorkOptions & RetryOptions) => {
      const { anew = false } = options
      const said = { anew, acceptChangedInventory: acceptChangedInventory ?? false }
      await order(options, { kind: 'retry', cluster, operator: operatorName(), ...said }, true)
    })
}

/** Has an order obeyed; where nobody works on the fleet then, this process does. */
async function order(options: WorkOptions, what: Order, works: boolean): Promise<void> {
  const { said, store } = await giveOrder(options, what)
  say(said)
  process.exitCode = exitCodes.done
  if (!store) return
  try {
    if (!works) return
    const { database, file } = store
    const fleet = await requireFleet(database.query, file.name)
    // Nobody else has a store that this process could open for itself.
    const worker = database.isEmbedded ? undefined : await workerAfter(database, fleet, tell)
    if (worker !== undefined) return say(`${worker} works on it; see 'rekey fleet status --watch'.`)
    if (isThrough(await requireFleet(database.query, file.name))) return say('The fleet is through.')
    process.exitCode = await workHere(store, {
      fleet,
      jobs: options.jobs ?? fleet.plan.maxParallel,
      stays: false,
      makes: false,
    })
  } finally {
    await store.close()
  }
}
