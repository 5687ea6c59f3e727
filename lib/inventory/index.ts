// Loads inventories as Ansible's operators have them: hosts, groups and variables, by pattern.

import { statSync } from 'node:fs'
import { RekeyError } from '../errors.ts'
import { createInventoryData, folderOf, reconcile } from './groups.ts'
import { createInventory, type Inventory } from './inventory.ts'
import { createLayers } from './layers.ts'
import { createResolver } from './resolve.ts'
import { isHostList, readSource, resolveSource, type SourceContext } from './sources.ts'
import { openVariableFolder } from './variable-files.ts'
import { createVault } from './vault.ts'

export type { Inventory, InventoryGroup, SelectOptions } from './inventory.ts'

export interface InventoryOptions {
  /** As given with `-i`, in order: paths, or lists of hosts with a comma. */
  readonly sources: readonly string[]
  /** The folder whose group_vars and host_vars apply above those of the inventory. */
  readonly playbookDirectory?: string
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
  const vault = createVault([])
  const context: SourceContext = { cwd, environment, vault, notice }
  if (options.sources.length === 0) {
    throw new RekeyError('no inventory given', { code: 'inventory.none', hint: 'Name one with -i.' })
  }
  const sources = options.sources.map(source => resolveSource(source, context))
  const data = createInventoryData()
  for (const source of sources) await readSource(data, source, context)
  reconcile(data)
  const folders = sources
    .filter(source => !isHostList(source))
    .map(source => (statSync(source).isDirectory() ? source : folderOf(source)))
  const layers = createLayers({
    data,
    inventoryFolders: folders.map(folder => openVariableFolder(folder, vault, notice)),
    playbookFolder: options.playbookDirectory
      ? openVariableFolder(options.playbookDirectory, vault, notice)
      : undefined,
    extraVars: new Map(),
  })
  return createInventory({ sources, data, layers, resolver: createResolver(layers), cwd, environment, notice })
}
