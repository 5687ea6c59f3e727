// What operations note in the run's folder before they change something, for the way back: each note is a file that nobody else may read, whole or
// not there at all, and told of in an index, so that one that is lost is missed.
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { RekeyError } from '../errors.ts'
import type { StepContext } from '../playbook/model.ts'

/** Where notes are: those of a step on a host. */
type Place = Pick<StepContext, 'folder' | 'host' | 'step'>

/** A note, and its file. */
export interface Note {
  readonly file: string
  readonly operation: string
  readonly kept: unknown
}

const noteShape = z.strictObject({ operation: z.string(), kept: z.unknown() })
const entryShape = z.object({ host: z.string(), step: z.string(), note: z.string() })

/** The folder with the notes of a step on a host; those that were undone are in `undone/` in it. */
function notesOf({ folder, host, step }: Place): string {
  // No name is a path: an id has no `/`, whatever else stands in it.
  return join(folder, 'before', ...[host.name, step].map(name => `=${encodeURIComponent(name)}`))
}

const indexOf = ({ folder }: Place) => join(folder, 'before.jsonl')

/** The shape of a list that an operation notes, by what tells that one of them is such. */
export function notedList<One>(what: string, isOne: (one: never) => boolean): z.ZodType<readonly One[]> {
  const isList = (noted: unknown) => Array.isArray(noted) && noted.every(one => isOne(one as never))
  return z.custom<readonly One[]>(isList, `what was noted of ${what} is not what it notes`)
}

/** What an error says of a file. */
function broken(file: string, cause: unknown): RekeyError {
  return new RekeyError(`${file} can't be read, and what it notes can't be undone: ${(cause as Error).message}`, {
    code: 'operation.note',
    hint: 'Put it back as it was, from a copy of the folder of the run; or undo by hand what the step did.',
    cause,
  })
}

/** What `read` gives of a file or folder; where there is none, that. Nothing else is taken for none. */
function ifThere<T>(file: string, none: T, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return none
    throw broken(file, error)
  }
}

/** Names of the notes in a folder, the first first. One that was being written when rekey was killed is none. */
function notesIn(folder: string): string[] {
  return ifThere(folder, [], () => readdirSync(folder).filter(name => /^\d{6,}\.json$/.test(name))).sort()
}

const undoneIn = (folder: string) => join(folder, 'undone')

/** An operation is about to look: from now on there is an index, and a folder without one has lost it. */
export function beginNotes(place: Place): void {
  if (existsSync(indexOf(place))) return
  mkdirSync(place.folder, { recursive: true, mode: 0o700 })
  writeFileSync(indexOf(place), '', { mode: 0o600, flag: 'a', flush: true })
}

/** Is on the disk, whole, before anything is done. What files held is among it: nobody else may read it. */
export function note(place: Place, operation: string, kept: unknown): void {
  const folder = notesOf(place)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const last = [...notesIn(folder), ...notesIn(undoneIn(folder))].sort().at(-1) ?? '0'
  const name = `${String(Number.parseInt(last, 10) + 1).padStart(6, '0')}.json`
  const waiting = join(folder, `.${name}`)
  writeFileSync(waiting, JSON.stringify({ operation, kept }), { mode: 0o600, flush: true })
  renameSync(waiting, join(folder, name))
  for (const above of [folder, join(folder, '..'), join(folder, '..', '..'), place.folder]) flushFolder(above)
  // A line that was cut off is one of nothing that was done.
  const entry = JSON.stringify({ host: place.host.name, step: place.step, note: name })
  writeFileSync(indexOf(place), `\n${entry}\n`, { mode: 0o600, flag: 'a', flush: true })
}

function flushFolder(folder: string): void {
  const descriptor = openSync(folder, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/**
 * The notes of a step on a host that are not undone yet, the last first.
 * @param isDone whether an operation did something in it, or looked, that is known otherwise
 * @throws RekeyError where one is missing, or is none
 */
export function notesToUndo(place: Place, isDone: boolean): Note[] {
  const folder = notesOf(place)
  const [names, undone] = [notesIn(folder), notesIn(undoneIn(folder))]
  const there = new Set([...names, ...undone])
  const missing = noted(place).filter(name => !there.has(name))
  if (missing.length > 0 || (isDone && !existsSync(indexOf(place)))) {
    const files = missing.length > 0 ? missing.map(name => join(folder, name)) : [indexOf(place)]
    throw new RekeyError(`${place.host.name}: ${files.join(', ')} ${files.length > 1 ? 'are' : 'is'} missing`, {
      code: 'operation.notes-missing',
      host: place.host.name,
      hint: 'What the step found is noted there, and it takes that to undo it. Copy the folder of the run whole; or undo by hand what the step did.',
    })
  }
  return names.toReversed().map(name => readNote(join(folder, name)))
}

/** What the index says was noted. */
function noted(place: Place): string[] {
  const index = indexOf(place)
  const lines = ifThere(index, '', () => readFileSync(index, 'utf8')).split('\n')
  return lines.filter(Boolean).flatMap(line => {
    const { success, data } = entryShape.safeParse(parsed(line))
    return success && data.host === place.host.name && data.step === place.step ? [data.note] : []
  })
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

function readNote(file: string): Note {
  try {
    const { operation, kept } = noteShape.parse(JSON.parse(readFileSync(file, 'utf8')))
    return { file, operation, kept }
  } catch (error) {
    throw broken(file, error)
  }
}

/** Says that it is undone. What it holds may be the only copy of what was there: it stays. */
export function putAway({ file }: Note): void {
  const folder = undoneIn(join(file, '..'))
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  renameSync(file, join(folder, file.slice(file.lastIndexOf('/') + 1)))
}
