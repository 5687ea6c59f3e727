// Finds and imports playbooks: the shipped ones by name, any other by its path.
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { RekeyError } from '../errors.ts'
import { suggestion } from '../suggestion.ts'
import type { Playbook } from './model.ts'

const shipped = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'playbooks')

/** The names of the shipped playbooks, sorted. */
export function shippedPlaybooks(): string[] {
  return readdirSync(shipped)
    .filter(file => file.endsWith('.ts'))
    .map(file => file.slice(0, -3))
    .sort()
}

/**
 * Imports a playbook.
 * @param reference a name from `playbooks/`, or a path to a `.ts` file
 * @throws RekeyError when there is no such playbook, it can't be loaded, or it exports no playbook
 */
export async function loadPlaybook(reference: string): Promise<{ playbook: Playbook; file: string }> {
  const file = playbookFile(reference)
  let loaded: { default?: unknown }
  try {
    loaded = (await import(pathToFileURL(file).href)) as { default?: unknown }
  } catch (error) {
    const { message } = error as Error
    throw new RekeyError(`${file} can't be loaded: ${message}`, { code: 'playbook.load', cause: error })
  }
  const playbook = loaded.default as Playbook | undefined
  if (
    !playbook ||
    typeof playbook !== 'object' ||
    !Array.isArray(playbook.plays) ||
    typeof playbook.name !== 'string'
  ) {
    throw new RekeyError(`${file} exports no playbook`, {
      code: 'playbook.no-default-export',
      hint: 'It must say: export default playbook({ … }).',
    })
  }
  checkSteps(playbook, file)
  return { playbook, file }
}

function playbookFile(reference: string): string {
  if (/[/\\]/.test(reference) || /\.[cm]?[jt]s$/.test(reference)) {
    const path = resolve(reference)
    if (existsSync(path)) return path
    throw new RekeyError(`there is no playbook at ${path}`, { code: 'playbook.not-found' })
  }
  const names = shippedPlaybooks()
  if (names.includes(reference)) return join(shipped, `${reference}.ts`)
  throw new RekeyError(`there is no playbook '${reference}'${suggestion(reference, names)}`, {
    code: 'playbook.not-found',
    hint: "See them with 'rekey playbooks', or give the path of a .ts file.",
  })
}

function checkSteps(playbook: Playbook, file: string): void {
  const seen = new Set<string>()
  for (const { steps, rollback = [] } of playbook.plays) {
    for (const { id } of [...steps, ...rollback]) {
      if (seen.has(id)) {
        throw new RekeyError(`${file}: two steps have the id '${id}'`, {
          code: 'playbook.duplicate-step',
          hint: 'Give one of them an id of its own: the journal knows steps by their ids.',
        })
      }
      seen.add(id)
    }
  }
  const plays = new Map(playbook.plays.flatMap(one => one.steps.map(({ id }) => [id, one] as const)))
  for (const { id, undoneWith } of playbook.plays.flatMap(({ steps }) => steps)) {
    if (undoneWith === undefined || plays.get(undoneWith)?.rollback) continue
    throw new RekeyError(`${file}: '${id}' is undone with '${undoneWith}', whose play says nothing of how`, {
      code: 'playbook.undone-with',
      hint: 'Name a step of a play that has a rollback of its own.',
    })
  }
}
