// What reading a source needs beside it.

import type { Assignments } from '../groups.ts'
import type { Machine } from '../jinja/jinja-call.ts'
import type { Vault } from '../vault/vault.ts'
import type { ReadingSettings } from './configuration.ts'

export interface SourceContext {
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly vault: Vault
  readonly notice: (line: string) => void
  readonly settings: ReadingSettings
  /** What of this machine templates of constructed inventories may see. */
  readonly machine: Machine
  /** What `-e` sets: constructed inventories may see it. */
  readonly extraVars: Assignments
  /** The folders of sources that were read. */
  readonly processed: string[]
}
