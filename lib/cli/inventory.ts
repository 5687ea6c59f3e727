// `rekey inventory`: what an inventory says, printed as ansible-inventory prints it, and who says what.
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { RekeyError } from '../errors.ts'
import type { Explanation } from '../inventory/index.ts'
import { give } from '../output/print.ts'
import { type InventoryOptions, openInventory, withInventoryOptions } from './options/inventory.ts'

interface InventoryCommandOptions extends InventoryOptions {
  list?: boolean
  graph?: boolean
  host?: string
  explain?: string
  yaml?: boolean
  export?: boolean
  vars?: boolean
  limit?: string[]
  playbookDir?: string
}

/** The command `rekey inventory`, for `lib/cli/main.ts` to mount. */
export function inventoryCommand(): Command {
  const actions = ['list', 'graph', 'host', 'explain']
  const action = (flags: string, description: string, own: string): Option =>
    new Option(flags, description).conflicts(actions.filter(name => name !== own))
  const command = new Command('inventory')
    .description('show the hosts, groups and variables of an inventory, and where they come from')
    .argument('[name]', 'with --graph: the group to start from; with --explain: the variable')
  return withInventoryOptions(command)
    .addOption(action('--list', 'all hosts with their variables, and all groups, as JSON', 'list'))
    .addOption(action('--graph', 'the tree of groups and hosts', 'graph'))
    .addOption(action('--host <host>', "one host's variables as JSON", 'host'))
    .addOption(
      action(
        '--explain <host>',
        'every place that sets a variable of a host, and who won: --explain HOST VAR',
        'explain',
      ),
    )
    .option('-y, --yaml', 'with --list and --host: YAML in place of JSON')
    .option(
      '--export',
      'with --list and --host: variables of groups stay with their groups, for an inventory of its own',
    )
    .option('--vars', 'with --graph: variables, too')
    .option('-l, --limit <pattern>', 'with --list: only these hosts', collect)
    .option('--playbook-dir <folder>', 'where group_vars and host_vars of a playbook are (default: this folder)')
    .action(async (name: string | undefined, options: InventoryCommandOptions) => {
      give(`${(await print(name, options)).trimEnd()}\n`)
    })
}

async function print(name: string | undefined, options: InventoryCommandOptions): Promise<string> {
  const { list, graph, host, explain, yaml, vars, export: exported } = options
  if (!list && !graph && host === undefined && explain === undefined) {
    throw new RekeyError('rekey inventory: nothing was asked for', {
      code: 'cli.inventory',
      hint: 'Add --list, --graph, --host HOST or --explain HOST VAR.',
    })
  }
  if (explain !== undefined && name === undefined) {
    throw new RekeyError(`--explain ${explain}: the name of a variable is missing`, {
      code: 'cli.inventory',
      hint: `Write --explain ${explain} VAR.`,
    })
  }
  if (name !== undefined && !graph && explain === undefined) {
    throw new RekeyError(`"${name}" is not expected there`, {
      code: 'cli.inventory',
      hint: 'A group may follow --graph, a variable --explain HOST.',
    })
  }
  const inventory = await openInventory(options, { playbookFile: join(options.playbookDir ?? '.', 'playbook') })
  if (list) return inventory.list({ yaml, exported, limit: options.limit?.join(',') })
  if (graph) return inventory.graph({ group: name, vars })
  if (host !== undefined) return inventory.describeHost(host, { yaml, exported })
  return explained(inventory.explain(explain!, name!))
}

function explained({ host, variable, places: found }: Explanation): string {
  const here = `${process.cwd()}/`
  const places = found.map(place => ({ ...place, where: place.where.replace(here, '') }))
  const width = Math.max(...places.map(({ where }) => where.length))
  const lines = places
    .toReversed()
    .map(({ where, layer, value, won }) => `${won ? 'won   ' : 'lost  '}${where.padEnd(width)}  ${value}  (${layer})`)
  return [`${variable} of ${host}, the winner first:`, ...lines].join('\n')
}

function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value]
}
