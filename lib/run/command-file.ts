// What of the command line a resumed run needs and the journal must not hold: variables given with `-e` may be secrets.
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ConnectionDefaults } from '../connection/settings.ts'
import { cannotKeep } from './line-file.ts'

/** How hosts are reached where the inventory does not say so. Passwords are asked for anew. */
export interface ConnectionCommand {
  readonly user?: string
  readonly privateKey?: string
  readonly askPass?: boolean
  readonly become?: boolean
  readonly becomeUser?: string
  readonly becomeMethod?: ConnectionDefaults['becomeMethod']
  readonly askBecomePass?: boolean
}

/** What of a command is needed to go on with its run. */
export interface RunCommand extends InventoryCommand {
  readonly connection?: ConnectionCommand
}

/** How an inventory is opened. Paths are absolute. */
export interface InventoryCommand {
  readonly inventory: readonly string[]
  readonly extraVars: readonly string[]
  readonly vaultId: readonly string[]
  readonly vaultPasswordFile: readonly string[]
  readonly askVaultPass: boolean
}

const place = (folder: string) => join(folder, 'secrets', 'command.json')

/**
 * Writes it into the run's folder, for its owner only: the whole of it or nothing, when it is killed meanwhile. Resolves once it is on the disk.
 * Rejects with `HostFailedError` where it can't be kept.
 */
export async function writeCommand(folder: string, command: RunCommand): Promise<void> {
  try {
    mkdirSync(join(folder, 'secrets'), { recursive: true, mode: 0o700 })
    const written = `${place(folder)}.new`
    await writeFile(written, JSON.stringify(command), { mode: 0o600, flush: true })
    await rename(written, place(folder))
  } catch (error) {
    throw cannotKeep(place(folder), error as Error)
  }
}

/** Reads it back; `undefined` where it is not there. */
export function readCommand(folder: string): RunCommand | undefined {
  const path = place(folder)
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as RunCommand) : undefined
}
