// A fleet.yml in a folder of its own, with the inventories that it names.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../_temporary.ts'

/** Writes it. @returns its path */
export function fleetFile(text: string, inventories: readonly string[] = ['one', 'two', 'three']): string {
  const folder = temporaryFolder('fleet')
  mkdirSync(join(folder, 'inventory'))
  for (const name of inventories) writeFileSync(join(folder, 'inventory', name), '{}')
  const file = join(folder, 'fleet.yml')
  writeFileSync(file, text)
  return file
}

/** So many clusters as lines of `clusters`, each with an inventory that is there. */
export const clusterLines = (count: number, more: (index: number) => string = () => ''): string =>
  Array.from({ length: count }, (_, index) => `  c${index + 1}: { inventory: inventory/one${more(index + 1)} }`).join(
    '\n',
  )
