// The folder of a run before anybody goes by it: that it is the operator's own, and that what it has run here is what the operator means.
import { existsSync, realpathSync } from 'node:fs'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { tell } from '../../output/print.ts'
import { isShipped } from '../../playbook/load.ts'
import type { RunCommand } from '../../run/folder/command-file.ts'
import { isAmongRuns, runsDirectory } from '../../run/folder/folder.ts'
import { requireOwnFolder, requireOwnState } from '../../run/folder/trust.ts'
import { findRun, type RunHistory, readHistory } from '../../run/journal/history.ts'
import type { ConnectionOptions } from '../options/connection.ts'
import type { InventoryOptions } from '../options/inventory.ts'
import { confirmed } from '../running/confirm.ts'

/** What would be run or read here because a run's folder says so, and what was given instead. */
interface Named {
  readonly run: string
  readonly folder: string
  readonly playbook: string
  readonly inventory: readonly string[]
  readonly command: RunCommand | undefined
  /** Whether what steps noted in the folder is undone, by that. */
  readonly undoes?: boolean
}

/** What of a command line is an operator's word. */
interface Word extends InventoryOptions, ConnectionOptions {
  readonly playbook?: string
  readonly acceptRunFolder?: boolean
}

/**
 * The run that is meant, to go on with it or to undo it.
 * @throws RekeyError where there is none, where others may have written what its folder says, or where that is not one run
 */
export function openRun(reference: string): RunHistory {
  const folder = findRun(reference, runsDirectory())
  if (isAmongRuns(folder)) requireOwnState(dirname(folder))
  requireOwnFolder(folder)
  const history = readHistory(folder)
  requireOneRun(history)
  return history
}

/** What is done on hosts goes by the run's id: their lock, and what is removed there. */
function requireOneRun({ run, folder, latest }: RunHistory): void {
  const other = isAmongRuns(folder) && basename(folder) !== run ? basename(folder) : latest.run
  if (other === run) return
  throw new RekeyError(`${folder} is not what it was: it is that of ${other}, and its journal that of ${run}`, {
    code: 'run.not-one',
    hint: 'Put the folder back as it was, under the name that it had.',
  })
}

/**
 * Where a folder came from elsewhere, or names what lies in itself, which rekey never does: shows what it would have run or read here, and
 * asks. What the command line says is not asked for.
 * @throws RekeyError where it is not confirmed, or nobody is there to ask
 */
export async function requireWord(named: Named, word: Word): Promise<void> {
  if (word.acceptRunFolder) return
  const { run, folder } = named
  const elsewhere = !isAmongRuns(folder)
  const notes = join(folder, 'before')
  const undone =
    named.undoes && existsSync(notes) ? [{ what: `what hosts held before, of ${notes}`, path: undefined }] : []
  const needed: Needed[] = [...namedThings(named, word), ...undone].filter(
    ({ path }) => elsewhere || (path !== undefined && isInside(folder, path)),
  )
  if (needed.length === 0) return
  const from = elsewhere ? `${folder} is not among the runs that are kept here` : `${folder} names what lies in itself`
  const lines = needed.map(({ what }) => what)
  const options = [...new Set(needed.flatMap(({ option = [] }) => option))].join(', ')
  if (!process.stdin.isTTY) {
    throw new RekeyError(`${from}, and what it says is not run without your word: ${lines.join('; ')}`, {
      code: 'run.foreign-folder',
      hint: `${options ? `Give what is right (${options}); or, where all of that is, say` : 'Where that is right, say'} --accept-run-folder.`,
    })
  }
  tell(`${from}. To take up ${run}, it has rekey use:`)
  for (const line of lines) tell(`  ${line}`)
  if (await confirmed("Is that all right? Type 'yes' to go on: ")) return
  throw new RekeyError('nothing was run', {
    code: 'run.foreign-folder',
    hint: 'Give on the command line what is right.',
  })
}

/** In words, as a path, and the option that would say it; of what no option says, none. */
interface Needed {
  readonly what: string
  readonly path?: string
  readonly option?: string
}

/** What a folder names and the command line does not: in words, as a path, and the option that would say it. */
function namedThings({ playbook, inventory, command }: Named, word: Word) {
  const things: Needed[] = []
  const add = (option: string, what: string, path?: string) => things.push({ option, what, path })
  if (word.playbook === undefined && /[/\\]/.test(playbook) && !isShipped(playbook))
    add('--playbook', `the playbook ${playbook}`, playbook)
  if (word.inventory === undefined) for (const one of inventory) add('-i', `the inventory ${one}`, one)
  if (word.extraVars === undefined)
    for (const one of command?.extraVars ?? []) add('-e', `variables: ${shownVariables(one)}`, one.replace(/^@/, ''))
  if (word.vaultId === undefined)
    for (const one of command?.vaultId ?? []) add('--vault-id', `the vault id ${one}`, one.slice(one.indexOf('@') + 1))
  if (word.vaultPasswordFile === undefined)
    for (const one of command?.vaultPasswordFile ?? [])
      add('--vault-password-file', `the file or script with a vault password ${one}`, one)
  for (const [name, value] of Object.entries(command?.connection ?? {})) {
    if (value === undefined || value === false || word[name as keyof ConnectionOptions] !== undefined) continue
    const option = `--${name.replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
    add(option, `${option}${value === true ? '' : ` ${value}`}`, name === 'privateKey' ? String(value) : undefined)
  }
  return things
}

/** Values may be secrets; those that say how hosts are reached must be seen, for they may run something here. */
function shownVariables(given: string): string {
  if (given.startsWith('@') || /^ansible_(?![\s\S]*(pass|secret|token))/i.test(given)) return given
  return [...given.matchAll(/(?<![\p{L}\p{N}_.-])([\p{L}_][\p{L}\p{N}_.-]*)["']?\s*[=:]/gu)]
    .map(([, name = '']) => name)
    .join(', ')
}

function isInside(folder: string, path: string): boolean {
  const way = relative(real(folder), real(resolve(path)))
  return way !== '..' && !way.startsWith(join('..', sep))
}

function real(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}
