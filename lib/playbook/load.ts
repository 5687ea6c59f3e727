// Finds and imports playbooks: the shipped ones by name, any other by its path.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { errorOf, RekeyError, thrownAt } from '../errors.ts'
import { ownFile, ownModule } from '../package.ts'
import { importModule } from '../packed/import-module.ts'
import { suggestion } from '../suggestion.ts'
import { checkPlaybook } from './check.ts'
import { missingImport, shareImports } from './imports.ts'
import type { Playbook } from './model.ts'
import { checkShape } from './shape.ts'
import { Stray, within } from './stray.ts'

const shipped = ownFile('playbooks')

/** Playbooks of one's own: those in these folders, sorted. Throws `RekeyError` for a folder that is not there. */
function ownPlaybooks(folders: readonly string[]): { readonly name: string; readonly file: string }[] {
  return folders.flatMap(folder => {
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
      throw new RekeyError(`there is no folder ${folder}, where playbooks are by rekey.yml`, {
        code: 'playbook.no-folder',
        hint: 'rekey config tells which line says so.',
      })
    const files = readdirSync(folder).filter(file => /^[^.].*(?<!\.test|\.d)\.ts$/.test(file))
    return files.sort().map(file => ({ name: file.slice(0, -3), file: join(folder, file) }))
  })
}

/** Those of them that export something as a playbook does, by their text: what stands beside them to be imported is not run to be listed. */
export function listedPlaybooks(folders: readonly string[]): { readonly name: string; readonly file: string }[] {
  const exports = /\bexport\s+default\b|\bexport\s*\{[^{}]*\bdefault\b/
  return ownPlaybooks(folders).filter(({ file }) => exports.test(readFileSync(file, 'utf8')))
}

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
 * @param folders those with playbooks of one's own, which are found by their names, too, and before the shipped ones
 * @throws RekeyError when there is no such playbook, it can't be loaded, it exports no playbook, or one that is not right
 */
export async function loadPlaybook(
  reference: string,
  folders: readonly string[] = [],
): Promise<{ playbook: Playbook; file: string }> {
  const file = findPlaybook(reference, folders)
  shareImports()
  let loaded: { default?: unknown }
  try {
    loaded = await within({ what: 'its top level' }, () =>
      importModule(pathToFileURL(isShipped(file) ? ownModule(`playbooks/${basename(file)}`) : file).href),
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

/** Whether a reference to a playbook is its path, not its name. */
export const isPlaybookPath = (reference: string): boolean => /[/\\]/.test(reference) || /\.[cm]?[jt]s$/.test(reference)

/**
 * The file of a playbook: a name from one's own folders or from `playbooks/`, or a path.
 * @throws RekeyError where there is none, or several of one's own have the name
 */
export function findPlaybook(reference: string, folders: readonly string[] = []): string {
  if (isPlaybookPath(reference)) {
    const path = resolve(reference)
    // Whoever opens a pipe or a device may wait for ever.
    const stats = statSync(path, { throwIfNoEntry: false })
    if (stats?.isFile()) return path
    throw new RekeyError(stats ? `${path} is no file` : `there is no playbook at ${path}`, {
      code: 'playbook.not-found',
    })
  }
  const own = ownPlaybooks(folders).filter(({ name }) => name === reference)
  if (own.length > 1)
    throw new RekeyError(`'${reference}' may be ${own.map(({ file }) => file).join(' or ')}`, {
      code: 'playbook.ambiguous',
      hint: 'Give the path of the one that is meant.',
    })
  if (own[0]) return own[0].file
  const names = shippedPlaybooks()
  if (names.includes(reference)) return join(shipped, `${reference}.ts`)
  const here = [`${reference}.ts`, join('playbooks', `${reference}.ts`)].find(path => existsSync(path))
  throw new RekeyError(
    `there is no shipped playbook '${reference}'${here === undefined ? suggestion(reference, [...ownPlaybooks(folders).map(({ name }) => name), ...names]) : ''}`,
    {
      code: 'playbook.not-found',
      hint:
        here === undefined
          ? "See them with 'rekey playbooks', or give the path of a .ts file."
          : `One of yours is run by its path: ${here}`,
    },
  )
}
