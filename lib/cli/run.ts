// `rekey run`: a playbook over an inventory.
import { Command, InvalidArgumentError, Option } from 'commander'
import { exitCodes, RekeyError } from '../errors.ts'
import { say, tell } from '../output/print.ts'
import { placed } from '../output/words.ts'
import { loadPlaybook } from '../playbook/load.ts'
import { stepsOf } from '../playbook/steps.ts'
import { writeCommand } from '../run/folder/command-file.ts'
import { createRunFolder, runsDirectory } from '../run/folder/folder.ts'
import { projectCommit, provenanceOf } from '../run/journal/provenance.ts'
import { hostsIn, requireDelegates, selectPlays, tagsIn } from '../run/run.ts'
import { rekeyVersion } from '../version.ts'
import { another, withAnsibleWords } from './options/ansible-words.ts'
import {
  type ConnectionOptions,
  connectionCommand,
  openConnecting,
  withConnectionOptions,
} from './options/connection.ts'
import { headings, under } from './options/help.ts'
import {
  type InventoryOptions,
  inventoryCommand,
  openInventory,
  rolesSaid,
  withInventoryOptions,
} from './options/inventory.ts'
import { type OutputOptions, viewOf, withOutputOptions } from './options/output.ts'
import { settable } from './options/settable.ts'
import { playbookFolders } from './options/settings.ts'
import { positiveInteger } from './options/whole-number.ts'
import { requireTerminal } from './running/confirm.ts'
import { execute, limitOf, variablesOf } from './running/execute.ts'
import { requireRehearsal } from './running/rehearsed.ts'

/** The options of a run that `resume` and `rollback` have too. */
export interface ClusterOptions extends OutputOptions {
  takeLock?: boolean
  step?: boolean
}

interface RunCommandOptions extends InventoryOptions, ConnectionOptions, ClusterOptions {
  limit?: string[]
  tags?: string[]
  skipTags?: string[]
  forks: number
  check?: boolean
  startAtStep?: string
  unrehearsed?: string
  forceHandlers?: boolean
  listHosts?: boolean
  listSteps?: boolean
  listTags?: boolean
  syntaxCheck?: boolean
}

export function runCommand(): Command {
  const command = new Command('run')
    .description('run a playbook: a name from playbooks/, or a path to any .ts playbook')
    .argument('<playbook>')
    .version(rekeyVersion(), '--version', 'print the version')
  withClusterOptions(withConnectionOptions(withInventoryOptions(command)))
    .option('-l, --limit <pattern>', 'only these hosts', collect)
    .option('-t, --tags <tags>', 'only plays and steps with one of these tags', collectTags)
    .option('--skip-tags <tags>', 'leave out plays and steps with one of these tags', collectTags)
    .option('-f, --forks <number>', 'hosts that work at the same time', positiveInteger, 32)
    .option('-C, --check', 'say what would be done on each host, and change nothing')
    .option('--start-at-step <id>', 'leave out the steps before this one')
    .option(
      '--unrehearsed <why>',
      'run where the inventory asks for a rehearsal that was not seen, and say why',
      oneLine,
    )
    .option('--force-handlers', 'run notified handlers also after a failure')
    .action(async (reference: string, options: RunCommandOptions) => {
      process.exitCode = await run(reference, options)
    })
  under(headings.listing, command, one =>
    one
      .option('--list-hosts', 'print the hosts of each play, and stop')
      .option('--list-steps', 'print the steps of each play, and stop')
      .option('--list-tags', 'print the tags of each play, and stop')
      .option('--syntax-check', 'say whether the playbook has mistakes, and stop'),
  )
  return withAnsibleWords(settable(command, { forks: 'forks' }))
    .addOption(another(command, '--list-tasks', 'listSteps'))
    .addOption(another(command, '--start-at-task <name>', 'startAtStep'))
    .addOption(new Option('--flush-cache').hideHelp())
}

/** Adds the options that every command has which works on a cluster. */
export function withClusterOptions(command: Command): Command {
  return withOutputOptions(
    command
      .option('--take-lock', 'take the lock of the cluster from a run that is dead')
      .option('--step', 'ask before each step: no, yes, or yes to all that follow'),
  )
}

async function run(reference: string, options: RunCommandOptions): Promise<number> {
  if (options.step) requireTerminal()
  const commit = projectCommit()
  const { playbook, file } = await loadPlaybook(reference, playbookFolders())
  if (options.syntaxCheck) {
    const steps = playbook.plays.flatMap(one => stepsOf(one))
    const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`
    say(`${file}: no mistakes in ${count(playbook.plays.length, 'play')} and ${count(steps.length, 'step')}`)
    return exitCodes.done
  }
  const isListing = options.listHosts || options.listSteps || options.listTags
  // Where nothing is connected to, nothing is asked.
  const connecting = await openConnecting(isListing ? {} : options)
  const inventory = await openInventory(options, {
    ...{ playbookFile: file, plays: playbook.plays, connection: connecting.defaults },
  })
  const limit = limitOf(inventory, options.limit)
  const selection = {
    inventory,
    limit,
    tags: options.tags,
    skipTags: options.skipTags,
    startAtStep: options.startAtStep,
  }
  const plays = selectPlays(playbook, selection)
  if (isListing) {
    for (const line of rolesSaid(inventory)) tell(line)
    for (const { play, hosts, steps } of plays) {
      say(`${play.title} [${play.hosts}]`)
      if (options.listHosts) for (const { name } of hosts) say(`  ${name}`)
      if (options.listSteps) for (const one of steps) say(`  ${one.id.padEnd(32)} ${placed(one)}`)
      if (options.listTags) say(`  tags: ${[...new Set(tagsIn(play))].sort().join(', ') || 'none'}`)
    }
    return exitCodes.done
  }
  if (plays.length === 0) {
    throw new RekeyError(`no host of the inventory is in a play of ${playbook.name}`, {
      code: 'run.no-hosts',
      hint: `It needs the groups: ${[...new Set(playbook.plays.map(({ hosts }) => hosts))].join(', ')}.`,
    })
  }
  requireDelegates(plays, inventory)
  const hosts = hostsIn(plays)
  const vars = await variablesOf(playbook, inventory, hosts)
  const provenance = provenanceOf(file, inventory.fingerprints(), await commit)
  if (!options.check && options.unrehearsed === undefined) requireRehearsal(hosts, provenance, options, runsDirectory())
  await connecting.unlock(hosts)
  const { run, folder } = createRunFolder(playbook.name, runsDirectory())
  const command = { ...inventoryCommand(options, inventory.sources), connection: connectionCommand(options) }
  return execute({
    // Begun here and not before: whoever executes answers for it from the first moment on.
    kept: writeCommand(folder, command),
    playbook,
    inventory,
    run,
    folder,
    vars,
    provenance,
    selection: {
      limit: options.limit,
      tags: options.tags,
      skipTags: options.skipTags,
      startAtStep: options.startAtStep,
      forceHandlers: options.forceHandlers,
      forks: options.forks,
      extraVars: inventory.extraVariables,
      unrehearsed: options.unrehearsed,
    },
    check: options.check,
    takeLock: options.takeLock,
    step: options.step,
    ...viewOf(options),
  })
}

function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value]
}

/** It goes into audit logs, of one line an entry. */
function oneLine(value: string): string {
  if (/\p{Cc}/u.test(value) || value.trim() === '') throw new InvalidArgumentError('It must be one line of text.')
  return value
}

/** An empty tag is a variable of the shell that nobody set: to leave it out would choose everything. */
function collectTags(value: string, previous: string[] = []): string[] {
  const tags = value.split(',').map(tag => tag.trim())
  if (tags.includes('')) throw new InvalidArgumentError('A tag is empty.')
  return [...previous, ...tags]
}
