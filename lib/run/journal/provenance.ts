// Where a run comes from: which rekey, which playbook, which inventory, which process. A resumed run must come from the same.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { promisify } from 'node:util'
import { builtFrom, isClone, isOwnCode, packageRoot } from '../../package.ts'
import { type ProcessIdentity, thisProcess } from '../../process-identity.ts'
import { rekeyVersion } from '../../version.ts'

/** What a run is made of, as its journal begins with it. */
export interface Provenance {
  /** The commit of rekey, with `-dirty` where files differ from it: a package's, that it was made of. Its version where there is no repository. */
  readonly commit: string
  readonly playbookFile: string
  readonly playbookHash: string
  /** A hash for each host of the inventory: its groups and its variables, as they are written. */
  readonly inventoryHashes: Readonly<Record<string, string>>
  readonly process: ProcessIdentity
}

/**
 * Reads what a run is made of. Without a file (`''`) it is one that was made up for a command, and can't be gone on with.
 * @param inventoryHashes what the inventory's `fingerprints` said
 * @param commit what `projectCommit` said
 */
export function provenanceOf(
  playbookFile: string,
  inventoryHashes: Provenance['inventoryHashes'],
  commit: string,
): Provenance {
  return {
    commit,
    playbookFile,
    playbookHash: playbookFile === '' ? '' : playbookHash(playbookFile),
    inventoryHashes,
    process: thisProcess(),
  }
}

/** What differs between two inventories, as `h4 is new`, `h2 is gone`, `h1 differs`; empty when nothing does. */
export function inventoryChanges(before: Provenance['inventoryHashes'], now: Provenance['inventoryHashes']): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap(name => {
    if (!(name in now)) return `${name} is gone`
    if (!(name in before)) return `${name} is new`
    return before[name] === now[name] ? [] : `${name} differs`
  })
}

/** The commit of rekey, as `Provenance` has it. Never rejects. git takes a while: whoever asks first of all loses no time. */
export async function projectCommit(): Promise<string> {
  // A package may lie in a repository of somebody's own.
  if (!isClone) return builtFrom() ?? rekeyVersion()
  const words = ['-C', packageRoot, 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
  try {
    const { stdout } = await promisify(execFile)('git', words, { timeout: 5_000 })
    return stdout.trim()
  } catch {
    return rekeyVersion()
  }
}

/**
 * A hash over a playbook and the files that it imports or names by `new URL('…', import.meta.url)`, as templates are; those of rekey itself are left
 * out: the commit tells of them.
 */
export function playbookHash(file: string): string {
  const hash = createHash('sha256')
  const seen = new Set<string>()
  const add = (path: string) => {
    if (seen.has(path)) return
    seen.add(path)
    const text = readFileSync(path, 'utf8')
    hash.update(`${text.length}\n${text}`)
    const imported = text.matchAll(/\b(?:from|import)\s*(?:\(\s*)?['"](\.\.?\/[^'"]+)['"]/g)
    const beside = text.matchAll(/\bnew URL\(\s*['"](\.\.?\/[^'"]+)['"]\s*,\s*import\.meta\.url/g)
    for (const [, name = ''] of [...imported, ...beside]) {
      const file = resolve(dirname(path), name)
      if (!isOwnCode(file) && statSync(file, { throwIfNoEntry: false })?.isFile()) add(file)
    }
  }
  add(file)
  return hash.digest('hex')
}
