// What is kept of the lines that a step printed on a host, for those who look at a run afterwards.
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { RunEvent } from '../events.ts'
import { readLines } from '../folder/line-reader.ts'
import { type OutputOf, outputFile } from './output-files.ts'

/** Where the output of a step on a host is kept. */
export interface KeptIn {
  readonly folder: string
  readonly play: number
  /** Of the play. */
  readonly title: string
}

/** The end of what a step printed on a host. Whoever shows it hides secrets first, and cuts it to its length then: never through one. */
export interface Printed {
  readonly text: string
  /** Bytes that are left out before it. */
  readonly before: number
  /** It begins in the middle of a line, which is longer than all that is read. */
  readonly isInLine: boolean
}

/** Bytes in which the beginning of a line is looked for, before what is wanted: what is usual, and where there is none. */
const [usualRoom, mostRoom] = [4 * 1024, 64 * 1024]

/**
 * What a step printed on a host last, and a bit of what stands before it; `undefined` where nothing is kept. Of a run that was killed, the end
 * may still lie in parts beside its beginning.
 * @param most bytes that are wanted
 */
export function lastPrinted({ folder, play, title }: KeptIn, of: OutputOf, most: number): Printed | undefined {
  const path = outputFile(folder, play, title, of)
  if (!leadsNowhereElse(folder, path)) return undefined
  const found = readLast(path, most, usualRoom)
  return found?.isInLine ? readLast(path, most, mostRoom) : found
}

function readLast(path: string, most: number, room: number): Printed | undefined {
  const pieces: Buffer[] = []
  let [left, before] = [most + room, 0]
  for (const file of [...partsOf(path), path]) {
    const read = endOf(file, left)
    if (!read) continue
    pieces.unshift(read.bytes)
    left -= read.bytes.length
    before += read.before
  }
  if (pieces.length === 0) return undefined
  const bytes = Buffer.concat(pieces)
  const start = before > 0 ? bytes.subarray(0, room).indexOf(newline) + 1 : 0
  return { text: bytes.subarray(start).toString('utf8'), before: before + start, isInLine: before > 0 && start === 0 }
}

const newline = 0x0a

/** Whether each folder on the way from a run's folder to a file is one: a link may lead to any file of this machine. */
function leadsNowhereElse(folder: string, path: string): boolean {
  const end = join(folder).length
  for (let at = dirname(path); at.length > end; at = dirname(at))
    if (!lstatSync(at, { throwIfNoEntry: false })?.isDirectory()) return false
  return true
}

/** The parts of an end, the last first. */
function partsOf(path: string): string[] {
  const start = `${basename(path)}.end-`
  try {
    return readdirSync(dirname(path))
      .filter(name => name.startsWith(start) && /^\d+$/.test(name.slice(start.length)))
      .sort((a, b) => Number(b.slice(start.length)) - Number(a.slice(start.length)))
      .map(name => `${dirname(path)}/${name}`)
  } catch {
    return []
  }
}

/** No link is followed, and no pipe waited for: a folder may come from elsewhere. */
function endOf(path: string, most: number): { readonly bytes: Buffer; readonly before: number } | undefined {
  let file: number
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch {
    return undefined
  }
  try {
    const stats = fstatSync(file)
    if (!stats.isFile()) return undefined
    const bytes = Buffer.alloc(Math.max(0, Math.min(most, stats.size)))
    const before = stats.size - bytes.length
    return { bytes: bytes.subarray(0, readSync(file, bytes, 0, bytes.length, before)), before }
  } catch {
    return undefined
  } finally {
    closeSync(file)
  }
}

/**
 * The last lines that some steps printed, whole ones, in a journal of before, which had them among its events. By `keyOf`.
 * @param wanted keys of those that are asked for
 * @param most bytes that are wanted of each
 */
export function printedInJournal(path: string, wanted: ReadonlySet<string>, most: number): Map<string, Printed> {
  const found = new Map<string, { lines: string[]; size: number; before: number }>()
  for (const { text } of readLines(path, { shorten: true })) {
    if (!text?.startsWith('{"kind":"step.output"')) continue
    try {
      const { play, step, host, line } = JSON.parse(text) as Extract<RunEvent, { kind: 'step.output' }>
      const key = keyOf(play, { step, host })
      if (!wanted.has(key) || typeof line !== 'string') continue
      const one = found.get(key) ?? { lines: [], size: 0, before: 0 }
      found.set(key, one)
      one.lines.push(line)
      one.size += sizeOf(line)
      // Seldom, so that nothing is moved for each line.
      if (one.size > 2 * most) drop(one, most)
    } catch {
      // Whoever reads the run is told of lines that are damaged.
    }
  }
  return new Map(
    [...found].map(([key, { lines, before }]) => [key, { text: `${lines.join('\n')}\n`, before, isInLine: false }]),
  )
}

const sizeOf = (line: string) => Buffer.byteLength(line) + 1

/** Takes lines away from the front, as far as enough stays. */
function drop(one: { lines: string[]; size: number; before: number }, most: number): void {
  let count = 0
  for (const line of one.lines.slice(0, -1)) {
    const size = sizeOf(line)
    if (one.size - size < most) break
    one.size -= size
    one.before += size
    count++
  }
  one.lines.splice(0, count)
}

/** Names a step on a host in a play. */
export const keyOf = (play: number, { step, host }: OutputOf) => JSON.stringify([play, step, host])
