// Where the lab keeps things on the control machine.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { homeFolder } from '../operator.ts'

const xdg = (variable: string, fallback: string) => process.env[variable] || join(homeFolder(), fallback)

/** What can be made again: binaries, the machines' base, images, snapshots. */
export const cacheFolder = (): string => join(xdg('XDG_CACHE_HOME', '.cache'), 'rekey')

/** The state of every lab, a folder each. */
export const labsFolder = (): string => join(xdg('XDG_STATE_HOME', '.local/state'), 'rekey', 'labs')

/** The state of one lab: keys, inventory, and the disks of its machines. */
export const labFolder = (name: string): string => join(labsFolder(), name)

/** What is only true while the lab runs: gone after the control machine has been restarted. */
export const runtimeFolder = (name: string): string => join('/run/rekey/labs', name)

/** Makes a folder that only its owner may look into, and the folders above it. Returns its path. */
export function privateFolder(path: string): string {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  chmodSync(path, 0o700)
  return path
}

/** Writes a file. Throws `RekeyError` that names it where it can't be written whole: of a full disk, the system's own error tells no file. */
export function writeWhole(file: string, content: string | Buffer, options: { readonly mode?: number } = {}): void {
  try {
    writeFileSync(file, content, options)
  } catch (cause) {
    throw new RekeyError(`${file} can't be written: ${(cause as Error).message}`, {
      code: 'lab.disk',
      hint: 'Make room there; or have labs elsewhere, by XDG_STATE_HOME, and what they are made of, by XDG_CACHE_HOME.',
      cause,
    })
  }
}
