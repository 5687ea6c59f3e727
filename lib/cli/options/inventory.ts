// The options that say which inventory: the same for every command that reads one.
import { dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import type { ConnectionDefaults } from '../../connection/settings.ts'
import { type Inventory, loadInventory } from '../../inventory/index.ts'
import { tell } from '../../output/print.ts'
import { isForThisMachine } from '../../playbook/host.ts'
import type { Play } from '../../playbook/model.ts'
import type { InventoryCommand } from '../../run/folder/command-file.ts'
import { askHidden } from '../running/ask.ts'
import { headings, under } from './help.ts'

export interface InventoryOptions {
  inventory?: string[]
  extraVars?: string[]
  vaultId?: string[]
  vaultPasswordFile?: string[]
  askVaultPass?: boolean
}

/** Adds `-i`, `-e` and those for encrypted variables, by Ansible's letters. */
export function withInventoryOptions(command: Command): Command {
  return under(headings.inventory, command, one =>
    one
      .option(
        '-i, --inventory <source>',
        'a file, a folder, an executable, or hosts with a comma; may be repeated',
        collect,
      )
      .option('-e, --extra-vars <vars>', 'key=value, YAML, JSON, or @file; wins over every other variable', collect)
      .option('--vault-id <id>', 'password for encrypted variables: file, script, prompt, or id@one of these', collect)
      .option('--vault-password-file <file>', 'file or script with the password for encrypted variables', collect)
      .option('--ask-vault-pass', 'ask for the password for encrypted variables'),
  )
}

/**
 * Loads the inventory that the options name. Notices go to stderr.
 * @param plays what it is needed for: where they are for this machine alone, none needs to be named
 * @param connection how to reach its hosts where it says nothing of that
 */
export function openInventory(
  options: InventoryOptions,
  {
    playbookFile,
    plays = [],
    connection,
  }: { playbookFile?: string; plays?: readonly Pick<Play, 'hosts'>[]; connection?: ConnectionDefaults } = {},
): Promise<Inventory> {
  return loadInventory({
    sources: options.inventory ?? [],
    thisMachineWillDo: isForThisMachine(plays),
    playbookDirectory: playbookFile === undefined ? undefined : dirname(playbookFile),
    extraVars: options.extraVars,
    vaultIds: options.vaultId,
    vaultPasswordFiles: options.vaultPasswordFile,
    askVaultPassword: options.askVaultPass,
    ask: async prompt => askHidden(prompt),
    connection,
    notice: line => tell(line),
  })
}

/** What the names of groups that were asked for stand for, in one line; none where the inventory has groups by these names. */
export function rolesSaid(inventory: Pick<Inventory, 'roles'>): string[] {
  const roles = inventory.roles()
  const byTheirNames = roles.every(({ name, as }) => as === name || as === 'the masters')
  if (byTheirNames) return []
  const said = roles.map(
    ({ name, as, hosts }) => `${name}: ${as} (${hosts.length} ${hosts.length === 1 ? 'host' : 'hosts'})`,
  )
  return [`by the groups of the inventory, ${said.join('; ')}`]
}

/** The options as a run's folder keeps them, for whoever goes on with the run from another directory. */
export function inventoryCommand(options: InventoryOptions, sources: readonly string[]): InventoryCommand {
  return {
    inventory: sources,
    extraVars: (options.extraVars ?? []).map(given => (given.startsWith('@') ? `@${resolve(given.slice(1))}` : given)),
    vaultId: (options.vaultId ?? []).map(given => {
      const at = given.indexOf('@')
      const source = given.slice(at + 1)
      return source === 'prompt' ? given : `${given.slice(0, at + 1)}${resolve(source)}`
    }),
    vaultPasswordFile: (options.vaultPasswordFile ?? []).map(file => resolve(file)),
    askVaultPass: options.askVaultPass ?? false,
  }
}

function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value]
}
