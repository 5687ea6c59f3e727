// Operations as steps use them, without a run around: over a connection, with what a step keeps before it changes something.
import type { Connection } from '../../lib/connection/connection.ts'
import { connectLocal } from '../../lib/connection/local.ts'
import type { ConnectionSettings } from '../../lib/connection/settings.ts'
import { beginNotes, note } from '../../lib/operations/notes.ts'
import { type Planned, PlannedWrite, type StepDefinition, Unchanged } from '../../lib/playbook/model.ts'
import { temporaryFolder } from '../_temporary.ts'
import { stepContext } from './_run-cases.ts'

export const localSettings: ConnectionSettings = {
  kind: 'local',
  address: 'localhost',
  port: 22,
  user: '',
  connectTimeout: 10,
} as ConnectionSettings

/** How a step went. */
export interface Went {
  readonly changed: boolean
  readonly value?: unknown
}

/** A folder for what operations note. */
const folder = temporaryFolder('operations')
let steps = 0

/** A host to try operations on. */
export interface Trial {
  /** What a step would do, as lines. */
  plan(definition: StepDefinition): Promise<string[]>
  /** Does it, as a run does: `check` first. */
  run(definition: StepDefinition): Promise<Went>
  /** Takes back what the last `run` of this definition did. */
  rollback(definition: StepDefinition): Promise<void>
  /** The same by a note that somebody made up; each time of a step of its own. */
  rollbackBy(definition: StepDefinition, operation: string, kept: unknown): Promise<void>
  /** How many commands were run so far. */
  readonly commands: number
  close(): void
}

/** @param connection another one than this machine's own */
export function trial(
  connection: Connection = connectLocal('h1', localSettings),
  settings: ConnectionSettings = localSettings,
): Trial {
  const ids = new WeakMap<StepDefinition, string>()
  let commands = 0
  const counted: Connection = {
    ...connection,
    spawn: (...words) => {
      commands++
      return connection.spawn(...words)
    },
  }
  const contextOf = (definition: StepDefinition) => {
    const step = ids.get(definition) ?? `step-${steps++}`
    ids.set(definition, step)
    return { ...stepContext(counted, folder, settings), step }
  }
  const lines = (planned: Planned | Planned[]) =>
    [planned].flat().map(item => (item instanceof PlannedWrite ? `write ${item.path}` : item))
  return {
    plan: async definition => {
      const context = contextOf(definition)
      return (await definition.check?.(context)) ? [] : lines((await definition.plan?.(context)) ?? [])
    },
    run: async definition => {
      const context = contextOf(definition)
      if (await definition.check?.(context)) return { changed: false }
      const value = await definition.run(context)
      if (value instanceof Unchanged) return { changed: false, value: value.value }
      await definition.verify?.(context)
      return { changed: !definition.readOnly, value }
    },
    rollback: async definition => void (await definition.rollback?.(contextOf(definition))),
    rollbackBy: async (definition, operation, kept) => {
      const context = contextOf({ ...definition })
      beginNotes(context)
      note(context, operation, kept)
      await definition.rollback?.(context)
    },
    get commands() {
      return commands
    },
    close: () => connection.close(),
  }
}
