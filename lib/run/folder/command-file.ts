// What of the command line a resumed run needs and the journal must not hold: variables given with `-e` may be secrets.
import { mkdirSync, readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { becomeMethods, type ConnectionDefaults } from '../../connection/settings.ts'
import { cannotKeep } from './line-file.ts'

/** How hosts are reached where the inventory does not say so. Passwords are asked for anew. */
export interface ConnectionCommand {
  readonly connection?: ConnectionDefaults['kind']
  readonly timeout?: number
  readonly sshCommonArgs?: string
  readonly sshExtraArgs?: string
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

const texts = z.array(z.string())
const written = z.looseObject({
  inventory: texts,
  extraVars: texts.default([]),
  vaultId: texts.default([]),
  vaultPasswordFile: texts.default([]),
  askVaultPass: z.boolean().default(false),
  connection: z
    .looseObject({
      user: z.string().optional(),
      privateKey: z.string().optional(),
      askPass: z.boolean().optional(),
      become: z.boolean().optional(),
      becomeUser: z.string().optional(),
      becomeMethod: z.enum(becomeMethods).optional(),
      askBecomePass: z.boolean().optional(),
    })
    .optional(),
})

/** Reads it back, or says why it can't be. */
export function readCommand(folder: string): { readonly command: RunCommand } | { readonly lost: string } {
  const path = place(folder)
  try {
    return { command: written.parse(JSON.parse(readFileSync(path, 'utf8'))) }
  } catch (error) {
    const why = error instanceof z.ZodError || error instanceof SyntaxError ? 'it is damaged' : (error as Error).message
    return { lost: `${path} can't be read (${why})` }
  }
}
