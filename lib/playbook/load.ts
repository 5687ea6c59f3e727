// Finds and imports playbooks: the shipped ones by name, any other by its path.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { errorOf, RekeyError, thrownAt } from '../errors.ts'
import { ownFile, ownModule } from '../package.ts'
import { suggestion } from '../suggestion.ts'
import { checkPlaybook } from './check.ts'
import { missingImport, shareImports } from './imports.ts'
import type { Playbook } from './model.ts'
import { checkShape } from './shape.ts'
import { Stray, within } from './stray.ts'

const shipped = ownFile('playbooks')

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
 * @throws RekeyError when there is no such playbook, it can't be loaded, it exports no playbook, or one that is not right
 */
export async function loadPlaybook(reference: string): Promise<{ playbook: Playbook; file: string }> {
  const file = findPlaybook(reference)
  shareImports()
  let loaded: { default?: unknown }
  try {
    loaded = await within(
      { what: 'its top level' },
      () =>
        import(pathToFileURL(isShipped(file) ? ownModule(`playbooks/${basename(file)}`) : file).href) as Promise<{
          default?: unknown
        }>,
    )
  } catch (thrown) {
    const error = errorOf(thrown instanceof Stray ? thrown.thrown : thrown)
    const place = thrownAt(error)
    const hint = (error as Partial<RekeyError>).hint ?? (await missingImport(error))
    throw new RekeyError(`${place?.startsWith(`${file}:`) ? place : file} can't be loaded: ${error.message}`, {
      code: 'playbook.load',
      hint: hint ?? (place === undefined || place.startsWith(`${file}:`) ? undefined : `Look at ${place}.`),
      cause: error,
    })
  }
  const playbook = loaded.default
  if (!playbook || typeof playbook !== 'object') {
    throw new RekeyError(`${file} exports no playbook`, {
      code: 'playbook.no-default-export',
      hint: 'It must say: export default playbook({ … }).',
    })
  }
  checkShape(playbook, file, () => exportLine(file))
  checkPlaybook(playbook, file)
  return { playbook, file }
}

/** The line on which a file exports what it exports, as far as its text tells. */
function exportLine(file: string): number | undefined {
  const lines = readFileSync(file, 'utf8').split('\n')
  return lines.findIndex(line => /^\s*(?:export\s+default\b|export\s*\{.*\bas\s+default\b)/.test(line)) + 1 || undefined
}

/** Whether a file is one of the shipped playbooks. */
export function isShipped(file: string): boolean {
  return dirname(resolve(file)) === shipped
}

/** The file of a playbook: a name from `playbooks/`, or a path. Throws `RekeyError` where there is none. */
export function findPlaybook(reference: string): string {
  if (/[/\\]/.test(reference) || /\.[cm]?[jt]s$/.test(reference)) {
    const path = resolve(reference)
    // Whoever opens a pipe or a device may wait for ever.
    const stats = statSync(path, { throwIfNoEntry: false })
    if (stats?.isFile()) return path
    throw new RekeyError(stats ? `${path} is no file` : `there is no playbook at ${path}`, {
      code: 'playbook.not-found',
    })
  }
  const names = shippedPlaybooks()
  if (names.includes(reference)) return join(shipped, `${reference}.ts`)
  const here = [`${reference}.ts`, join('playbooks', `${reference}.ts`)].find(path => existsSync(path))
  throw new RekeyError(
    `there is no shipped playbook '${reference}'${here === undefined ? suggestion(reference, names) : ''}`,
    {
      code: 'playbook.not-found',
      hint:
        here === undefined
          ? "See them with 'rekey playbooks', or give the path of a .ts file."
          : `One of yours is run by its path: ${here}`,
    },
  )
}
