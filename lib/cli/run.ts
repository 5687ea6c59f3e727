// `rekey run`: a playbook over an inventory.
import { userInfo } from 'node:os'
import { Command, InvalidArgumentError, Option } from 'commander'
import { RekeyError } from '../errors.ts'
import type { Inventory } from '../inventory/index.ts'
import { redactor } from '../output/redaction.ts'
import { type OutputKind, openView } from '../output/view.ts'
import type { Host } from '../playbook/host.ts'
import { loadPlaybook } from '../playbook/load.ts'
import type { Playbook } from '../playbook/model.ts'
import { resolveVariables } from '../playbook/variables.ts'
import type { RunEvent, RunEventBody } from '../run/events.ts'
import { createRunFolder, runsDirectory } from '../run/folder.ts'
import { openJournal } from '../run/journal.ts'
import { runPlaybook, selectPlays } from '../run/run.ts'
import { interruptible } from './interrupt.ts'
import { extraNames, type InventoryOptions, openInventory, withInventoryOptions } from './inventory-options.ts'

interface RunCommandOptions extends InventoryOptions {
  limit?: string[]
  tags?: string[]
  skipTags?: string[]
  forks: number
  check?: boolean
  startAtStep?: string
  listHosts?: boolean
  listSteps?: boolean
  output: OutputKind
  verbose?: boolean
}

export function runCommand(): Command {
  const command = new Command('run')
    .description('run a playbook: a name from playbooks/, or a path to any .ts playbook')
    .argument('<playbook>')
  return withInventoryOptions(command)
    .option('-l, --limit <pattern>', 'only these hosts', collect)
    .option('-t, --tags <tags>', 'only plays and steps with one of these tags', collectCommas)
    .option('--skip-tags <tags>', 'leave out plays and steps with one of these tags', collectCommas)
    .option('-f, --forks <number>', 'hosts that work at the same time', positiveInteger, 32)
    .option('-C, --check', 'say what would be done on each host, and change nothing')
    .option('--start-at-step <id>', 'leave out the steps before this one')
    .option('--list-hosts', 'print the hosts of each play, and stop')
    .option('--list-steps', 'print the steps of each play, and stop')
    .addOption(
      new Option('--output <kind>', 'how to show the run').choices(['auto', 'tree', 'plain', 'json']).default('auto'),
    )
    .option('-v, --verbose', 'every line that steps print, as it comes')
    .action(async (reference: string, options: RunCommandOptions) => {
      process.exitCode = await run(reference, options)
    })
}

async function run(reference: string, options: RunCommandOptions): Promise<number> {
  const { playbook, file } = await loadPlaybook(reference)
  const inventory = await openInventory(options, file)
  const limit = limitOf(inventory, options.limit)
  const selection = {
    inventory,
    limit,
    tags: options.tags,
    skipTags: options.skipTags,
    startAtStep: options.startAtStep,
  }
  const plays = selectPlays(playbook, selection)
  if (options.listHosts || options.listSteps) {
    for (const { play, hosts, steps } of plays) {
      console.log(`${play.title} [${play.hosts}]`)
      if (options.listHosts) for (const { name } of hosts) console.log(`  ${name}`)
      if (options.listSteps) for (const { id, title } of steps) console.log(`  ${id.padEnd(32)} ${title}`)
    }
    return 0
  }
  if (plays.length === 0) {
    throw new RekeyError(`no host of the inventory is in a play of ${playbook.name}`, {
      code: 'run.no-hosts',
      hint: `It needs the groups: ${[...new Set(playbook.plays.map(({ hosts }) => hosts))].join(', ')}.`,
    })
  }
  const hosts = inventory.hosts.filter(({ name }) => plays.some(play => play.hosts.some(host => host.name === name)))
  return execute(playbook, inventory, hosts, { ...options, limit })
}

async function execute(
  playbook: Playbook,
  inventory: Inventory,
  hosts: readonly Host[],
  { limit, ...options }: Omit<RunCommandOptions, 'limit' | 'inventory'> & { limit?: ReadonlySet<string> },
): Promise<number> {
  const vars = resolveVariables(playbook, hosts, extraNames(options.extraVars), name =>
    isSetBeside(inventory, hosts, name),
  )
  const { run, folder } = createRunFolder(playbook.name, runsDirectory())
  const redact = redactor()
  const journal = openJournal(folder)
  const view = await openView(options.output, process.stdout, { verbose: options.verbose ?? false })
  const emit = (body: RunEventBody) => {
    const event: RunEvent = redact.deep({ ...body, at: Date.now() })
    journal.write(event)
    view.event(event)
  }
  const { signal, release } = interruptible()
  try {
    const { exitCode } = await runPlaybook(playbook, {
      ...options,
      limit,
      run,
      folder,
      inventory,
      vars,
      signal,
      emit,
      operator: userInfo().username,
      flush: journal.flush,
      redact: redact.add,
    })
    return exitCode
  } finally {
    release()
    await view.close()
    journal.close()
  }
}

/** Whether something else than `-e` sets a variable for one of the hosts. */
function isSetBeside(inventory: Inventory, hosts: readonly Host[], name: string): boolean {
  return hosts.some(host => {
    if (!(name in host.vars)) return false
    return inventory.explain(host.name, name).places.some(({ layer }) => !layer.startsWith('extra variables'))
  })
}

/** The hosts that `--limit` leaves. Throws where it matches none. */
function limitOf(inventory: Inventory, patterns: readonly string[] | undefined): ReadonlySet<string> | undefined {
  if (!patterns) return undefined
  const hosts = inventory.select('all', { limit: patterns.join(',') })
  return new Set(hosts.map(({ name }) => name))
}

function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value]
}

function collectCommas(value: string, previous: string[] = []): string[] {
  return [...previous, ...value.split(',').filter(Boolean)]
}

function positiveInteger(value: string): number {
  const number = Number(value)
  if (!Number.isInteger(number) || number < 1) throw new InvalidArgumentError('It must be a whole number, 1 or more.')
  return number
}
