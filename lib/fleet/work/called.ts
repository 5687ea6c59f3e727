// How rekey is called for a cluster of a fleet: to run a playbook on it, to check that, or to ask its gates.
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ownFile } from '../../package.ts'
import type { Fleet, FleetCluster } from '../definition/fleet-file.ts'

/** The program, for Node. */
export const program = ownFile('bin', 'rekey')

/** Where a cluster's inventory is, for a command line. */
export const inventoryWords = ({ folder }: Fleet, { inventory }: FleetCluster): string[] =>
  inventory.flatMap(one => ['-i', resolve(folder, one)])

/** Its variables in a file of `folder` that nobody else may read: they may be secrets. */
export function variableWords(folder: string, { name, variables }: FleetCluster): string[] {
  if (Object.keys(variables).length === 0) return []
  const file = join(folder, `${name}.json`)
  writeFileSync(file, JSON.stringify(variables), { mode: 0o600 })
  return ['-e', `@${file}`]
}

/** The environment of whatever is called for a fleet: it has no business in the store. */
export const withoutStore = (): NodeJS.ProcessEnv => ({
  ...process.env,
  REKEY_FLEET_DATABASE: undefined,
  PGPASSWORD: undefined,
})

/** That of rekey for a cluster, which says what it says to a file. */
export const environment = (): NodeJS.ProcessEnv => ({ ...withoutStore(), NO_COLOR: '1', FORCE_COLOR: undefined })
