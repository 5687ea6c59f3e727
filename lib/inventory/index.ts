// Loads inventories as Ansible's operators have them: hosts, groups and variables, by pattern.
import { existsSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { ConnectionDefaults } from '../connection/settings.ts'
import { RekeyError } from '../errors.ts'
import { createInventoryData, folderOf, reconcile } from './groups.ts'
import { createInventory, type Inventory } from './inventory.ts'
import type { Machine } from './jinja/jinja-call.ts'
import {
  checkConfig,
  fallbackSources,
  fallbackVaultOptions,
  readConfiguration,
  readingSettings,
} from './sources/configuration.ts'
import { isHostList, readSource, resolveSource } from './sources/sources.ts'
import { readExtraVariables } from './variables/extra-variables.ts'
import { createLayers } from './variables/layers.ts'
import { openVariableFolder } from './variables/variable-files.ts'
import { createVault } from './vault/vault.ts'
import { readVaultPasswords, type VaultOptions } from './vault/vault-passwords.ts'

export type { Explanation, Place } from './explanation.ts'
export type { Inventory, InventoryGroup, SelectOptions } from './inventory.ts'
export { roleVariables } from './roles.ts'
export {
  badSetting,
  type Configuration,
  furtherSettings,
  readConfiguration,
  type Setting,
  yesOf,
} from './sources/configuration.ts'
export { type SettingName, settingKind, settings } from './sources/settings.ts'

export interface InventoryOptions extends VaultOptions {
  /** As given with `-i`, in order: paths, or lists of hosts with a comma. None: `ANSIBLE_INVENTORY`, then rekey.yml, then ansible.cfg. */
  readonly sources: readonly string[]
  /** Whether this machine is all that is needed, which is there without an inventory. */
  readonly thisMachineWillDo?: boolean
  /** The folder whose group_vars and host_vars apply above those of the inventory. */
  readonly playbookDirectory?: string
  /** As given with `-e`, in order. */
  readonly extraVars?: readonly string[]
  /** How to reach hosts where no variable says so. */
  readonly connection?: ConnectionDefaults
  /** Asks the operator for a password, without showing it. */
  readonly ask?: (prompt: string) => Promise<string>
  /** Is told, one line each, what an operator should know but need not act on. */
  readonly notice?: (line: string) => void
  readonly environment?: NodeJS.ProcessEnv
  readonly cwd?: string
}

/** Loads an inventory. Throws `RekeyError` with file, line and a hint for what can't be read as Ansible would. */
export async function loadInventory(options: InventoryOptions): Promise<Inventory> {
  const { cwd = process.cwd(), environment = process.env } = options
  const told = new Set<string>()
  const notice = (line: string): void => {
    if (told.has(line)) return
    told.add(line)
    options.notice?.(line)
  }
  const config = readConfiguration({ cwd, environment })
  checkConfig(config, notice)
  const passwords = await readVaultPasswords(fallbackVaultOptions(options, config, notice), {
    cwd,
    environment,
    ask: options.ask,
  })
  const vault = createVault(passwords)
  const settings = readingSettings(config)
  const extraVars = readExtraVariables(options.extraVars ?? [], { cwd, environment, vault, notice })
  const playbookDirectory = options.playbookDirectory && resolve(cwd, options.playbookDirectory)
  const machine: Machine = {
    folder: playbookDirectory || cwd,
    cwd,
    environment,
    pipe: environment['REKEY_LOOKUP_PIPE'] === 'yes',
    decrypt: (ciphertext, where) => vault.decrypt(ciphertext, where),
  }
  const reading = { ...machine, folder: cwd }
  const context = { cwd, environment, vault, notice, settings, extraVars, machine: reading, processed: [] }

  let given = options.sources
  if (given.length === 0) {
    const fallback = fallbackSources(config)
    if (!fallback && !options.thisMachineWillDo) throw noInventory()
    if (fallback) notice(fallback.said)
    given = fallback?.sources ?? []
  }
  const sources = given.map(source => resolveSource(source, context))
  const data = createInventoryData()
  for (const source of sources) await readSource(data, source, context)
  reconcile(data, notice)

  const folders = sources
    .filter(source => !isHostList(source))
    .map(source => (statSync(source).isDirectory() ? source : folderOf(source)))
  const layers = createLayers({
    data,
    inventoryFolders: folders.map(folder => openVariableFolder(folder, vault, notice)),
    playbookFolder: playbookDirectory ? openVariableFolder(playbookDirectory, vault, notice) : undefined,
    extraVars,
    mergeMaps: settings.mergeMaps,
    factsApart: settings.factsApart,
  })
  const { connection } = options
  return createInventory({
    ...{ sources, data, layers, playbookDirectory, connection, cwd, environment, notice, machine },
    extraVariables: [...extraVars.keys()],
  })
}

function noInventory(): RekeyError {
  const usual = '/etc/ansible/hosts'
  return new RekeyError(
    'no inventory given: no -i, no ANSIBLE_INVENTORY, and no inventory in rekey.yml or ansible.cfg',
    {
      code: 'inventory.none',
      hint: existsSync(usual)
        ? `There is one: -i ${usual}`
        : 'Name one with -i: a file, a folder, or hosts with a comma (-i host1,).',
    },
  )
}
