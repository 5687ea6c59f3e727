// What is kept of the lines that a step printed on a host, for those who look at a run afterwards.
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { basename, dirname } from 'node:path'
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

/**
 * The last lines that a step printed on a host, and how many bytes are left out before them; `undefined` where nothing is kept.
 * Of a run that was killed, the end may still lie in parts beside its beginning.
 * @param most bytes that are read
 */
export function lastPrinted(
  { folder, play, title }: KeptIn,
  of: OutputOf,
  most: number,
): { readonly text: string; readonly before: number } | undefined {
  const path = outputFile(folder, play, title, of)
  const pieces: Buffer[] = []
  let [left, before] = [most, 0]
  for (const file of [...partsOf(path), path]) {
    const read = endOf(file, left)
    if (!read) continue
    pieces.unshift(read.bytes)
    left -= read.bytes.length
    before += read.before
  }
  if (pieces.length === 0) return undefined
  const text = Buffer.concat(pieces).toString('utf8')
  // A line is whole, or left out.
  const start = before > 0 ? text.indexOf('\n') + 1 : 0
  return { text: text.slice(start), before: before + start }
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
 * The lines that some steps printed, in a journal of before, which had them among its events. By `keyOf`.
 * @param wanted keys of those that are asked for
 */
export function printedInJournal(path: string, wanted: ReadonlySet<string>, most: number): Map<string, string> {
  const found = new Map<string, string>()
  for (const { text } of readLines(path, { shorten: true })) {
    if (!text?.startsWith('{"kind":"step.output"')) continue
    try {
      const { play, step, host, line } = JSON.parse(text) as Extract<RunEvent, { kind: 'step.output' }>
      const key = keyOf(play, { step, host })
      if (wanted.has(key) && typeof line === 'string') found.set(key, `${found.get(key) ?? ''}${line}\n`.slice(-most))
    } catch {
      // Whoever reads the run is told of lines that are damaged.
    }
  }
  return found
}

/** Names a step on a host in a play. */
export const keyOf = (play: number, { step, host }: OutputOf) => JSON.stringify([play, step, host])
