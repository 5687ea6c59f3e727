// What steps print, as plain text: a file for each step and host in a run's folder, written beside everything else. Of what is long the
// beginning and the end are kept: the beginning in the file, the end in pieces beside it, of which the oldest goes when a new one is
// begun; once the step is over they are put behind the beginning. Also when rekey is killed, all of it is there.
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { formatSize } from '../../playbook/size.ts'
import { keepHeapSmall } from '../../process/small-heap.ts'
import { fileNameOf } from '../folder/file-name.ts'

/** Whose output a file holds. */
export interface OutputOf {
  readonly step: string
  readonly host: string
}

/** The files with what steps print. None is kept open: there may be thousands. */
export interface OutputFiles {
  /** Adds a line to a file, in memory. */
  add(path: string, line: string, of: OutputOf): void
  /** Nothing more comes for a file, for now: its end is put behind its beginning. */
  end(path: string): void
  /** Begins to write all that was added since. */
  write(): void
  /** Resolves once everything is written, or can't be. */
  close(): Promise<void>
}

/** Bytes that are kept of what a step prints on a host, where nobody says otherwise. */
export const keptOutput = 64 * 1024 * 1024
/** Characters that wait to be written: a disk that is slower than the hosts holds them up. */
const mostWaiting = 512 * 1024
/** Characters that wait as lines: packed, they are out of the way of whoever collects garbage. */
const mostUnpacked = 64 * 1024
/** Characters of a run from which on its output is much. */
const muchOutput = 4 * 1024 * 1024
/** Bytes that are read at a time, and within which the end of a line is looked for. */
const chunkSize = 64 * 1024
const newline = 0x0a
const flags = constants.O_WRONLY | constants.O_CREAT

/** The file in a run's folder for what a step prints on a host. */
export function outputFile(folder: string, play: number, title: string, { step, host }: OutputOf): string {
  const words = title.toLowerCase().replace(/[^a-z0-9]+/g, '-')
  const directory = fileNameOf(`${String(play).padStart(2, '0')}-${words}`)
  return join(folder, 'output', directory, fileNameOf(step), `${fileNameOf(host)}.log`)
}

/** Bytes and where they go: in whatever order they are written, the file is the same. */
interface Piece {
  readonly path: string
  readonly at: number
  readonly bytes: Buffer
  /** Of the end: it was made already, or is taken away again. */
  readonly isPart: boolean
}

/** A file while its step runs. */
interface Output {
  readonly path: string
  readonly of: OutputOf
  /** What was added and is not being written yet: lines, and before them those that are packed. */
  lines: string[]
  unpacked: number
  packed: Buffer[]
  waiting: number
  /** Bytes of the beginning. */
  head: number
  /** The number of the last part of the end, from 0, and its bytes. */
  part: number
  size: number
  isOver: boolean
  isCut: boolean
}

/** Who is told what becomes of output. */
export interface OutputWatcher {
  /** Of a file something is not kept: once, when it happens first. */
  cut(path: string, of: OutputOf): void
  /** Something could not be written; nothing is, from then on. */
  failed(error: Error): void
}

/**
 * Opens the files of a run's folder. They are made when something is printed, for their owner only.
 * @param keep how many bytes are kept of each file
 */
export function openOutputFiles(folder: string, keep: number, { cut, failed }: OutputWatcher): OutputFiles {
  const outputs = new Map<string, Output>()
  const longestHead = Math.floor(keep / 2)
  const longestPart = Math.max(1, Math.floor(keep / 4))
  let [waiting, total] = [0, 0]
  let writing: Promise<void> | undefined
  let isLost = false

  const lose = (error: unknown) => {
    if (isLost) return
    isLost = true
    outputs.clear()
    queueMicrotask(() => failed(error as Error))
  }
  const tellCut = (output: Output) => {
    if (output.isCut) return
    output.isCut = true
    queueMicrotask(() => cut(output.path, output.of))
  }
  const begin = (path: string, of: OutputOf): Output => {
    const head = statSync(path, { throwIfNoEntry: false })?.size ?? 0
    return {
      path,
      of,
      lines: [],
      unpacked: 0,
      packed: [],
      waiting: 0,
      head,
      part: -1,
      size: 0,
      isOver: false,
      isCut: false,
    }
  }
  /** Takes what waits, and says where it goes. */
  const place = (output: Output): Piece[] => {
    const { path } = output
    pack(output)
    let bytes = Buffer.concat(output.packed)
    waiting -= output.waiting
    output.packed = []
    output.waiting = 0
    const pieces: Piece[] = []
    const take = (to: string, at: number, size: number) => {
      if (size > 0) pieces.push({ path: to, at, bytes: bytes.subarray(0, size), isPart: to !== path })
      bytes = bytes.subarray(size)
    }
    if (output.part < 0) {
      const fits = wholeLines(bytes, longestHead - output.head)
      take(path, output.head, fits)
      output.head += fits
    }
    while (bytes.length > 0) {
      if (output.part < 0 || output.size >= longestPart) {
        // Of more than two parts the first would be taken away at once.
        const passed = bytes.length > 2 * longestPart ? 2 : 0
        if (passed > 0) bytes = bytes.subarray(bytes.length - 2 * longestPart)
        for (let part = output.part - 1; part < output.part + passed; part++)
          rmSync(partOf(path, part), { force: true })
        output.part += passed + 1
        output.size = 0
        if (output.part >= 2) tellCut(output)
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
        closeSync(openSync(partOf(path, output.part), 'w', 0o600))
      }
      const fits = Math.min(bytes.length, longestPart - output.size)
      take(partOf(path, output.part), output.size, fits)
      output.size += fits
    }
    return pieces
  }
  const finish = (output: Output) => {
    const { path, part } = output
    if (part >= 0 && joinParts(path, part === 0 ? [0] : [part - 1, part], keep)) tellCut(output)
    outputs.delete(output.path)
  }
  const attempt = (work: () => void) => {
    if (isLost) return
    try {
      work()
    } catch (error) {
      lose(error)
    }
  }
  /** One after the other: a disk may take long for each, and new files of a folder wait for each other anyway. */
  const writeAll = async () => {
    try {
      for (const output of outputs.values()) {
        if (output.waiting > 0) for (const piece of place(output)) await write(piece)
        if (output.isOver && output.waiting === 0) finish(output)
      }
    } catch (error) {
      lose(error)
    } finally {
      // In the same turn as the last look at what was added: nothing that comes then waits for the next call in vain.
      writing = undefined
    }
  }
  const writeNow = () => {
    for (const output of outputs.values()) place(output).forEach(writeSynchronously)
  }

  attempt(() => recover(join(folder, 'output'), keep))
  return {
    add: (path, line, of) =>
      attempt(() => {
        const output = outputs.get(path) ?? begin(path, of)
        outputs.set(path, output)
        output.isOver = false
        const size = line.length + 1
        output.lines.push(line)
        output.unpacked += size
        output.waiting += size
        waiting += size
        if (output.unpacked > mostUnpacked) pack(output)
        if (waiting > mostWaiting) writeNow()
        if (total < muchOutput && total + size >= muchOutput) keepHeapSmall()
        total += size
      }),
    end: path => {
      const output = outputs.get(path)
      if (output) output.isOver = true
    },
    write: () => {
      if (outputs.size === 0) return
      writing ??= writeAll()
    },
    close: async () => {
      await writing
      attempt(() => {
        writeNow()
        outputs.forEach(finish)
      })
    },
  }
}

function pack(output: Output): void {
  if (output.lines.length === 0) return
  output.packed.push(Buffer.from(`${output.lines.join('\n')}\n`))
  output.lines = []
  output.unpacked = 0
}

const partOf = (path: string, part: number) => `${path}.end-${part}`
const isPart = /^(.*)\.end-(\d+)$/s

/** How many bytes from the start are whole lines, of so many at most. */
function wholeLines(bytes: Buffer, most: number): number {
  if (bytes.length <= most) return bytes.length
  // Of a line that is longer than all that is kept, its beginning.
  return most <= 0 ? 0 : bytes.lastIndexOf(newline, most - 1) + 1 || most
}

/** A part that is not there any more was not to be kept. */
const ifThere = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== 'ENOENT') throw error
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, constants.O_WRONLY)
  } catch (error) {
    return ifThere(error as NodeJS.ErrnoException)
  }
}

async function write({ path, at, bytes, isPart }: Piece): Promise<void> {
  if (at === 0 && !isPart) await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const file = await (isPart ? open(path, constants.O_WRONLY).catch(ifThere) : open(path, flags, 0o600))
  try {
    for (let done = 0; file && done < bytes.length; ) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done)
      done += bytesWritten
    }
  } finally {
    await file?.close()
  }
}

function writeSynchronously({ path, at, bytes, isPart }: Piece): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const file = isPart ? openIfThere(path) : openSync(path, flags, 0o600)
  if (file === undefined) return
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, at + done)
  } finally {
    closeSync(file)
  }
}

/**
 * Puts the parts of the end behind the beginning, and takes them away. Where all of it is too long, as much stays of the end as of the
 * beginning.
 * @returns whether something is left out
 */
function joinParts(path: string, numbers: readonly number[], keep: number): boolean {
  const parts = numbers.map(number => partOf(path, number))
  const sizes = parts.map(part => statSync(part).size).reduce((sum, size) => sum + size, 0)
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  try {
    const { size } = fstatSync(file)
    const isCut = (numbers[0] ?? 0) > 0 || size + sizes > keep
    let end = size
    if (isCut) {
      const half = Math.floor(keep / 2)
      end = wholeLinesIn(file, Math.min(size, half))
      const line = Buffer.from(`${isAtLineStart(file, end) ? '' : '\n'}${leftOut(keep)}\n`)
      // What was the end before is the middle now, but for its own end.
      // Where parts behind it were taken away, it is not next to what is kept of them.
      const room = (numbers[0] ?? 0) > 0 ? 0 : Math.max(0, half - sizes)
      const from = Math.max(end + line.length, size - room)
      end += writeSync(file, line, 0, line.length, end)
      if (from < size) end += copy(file, from, file, end, true, size)
    }
    for (const [index, part] of parts.entries()) {
      const from = openSync(part, 'r')
      try {
        // Where the part before it was taken away, it begins anywhere.
        end += copy(from, 0, file, end, index === 0 && numbers[0] !== 0)
      } finally {
        closeSync(from)
      }
    }
    ftruncateSync(file, end)
    for (const part of parts) rmSync(part)
    return isCut
  } finally {
    closeSync(file)
  }
}

/** The line that stands where output is left out. */
function leftOut(keep: number): string {
  return `[rekey: what was printed here is left out: the beginning and the end are kept, ${formatSize(keep)} (--keep-output)]`
}

/** Up to where a file is whole lines, of so many bytes. */
function wholeLinesIn(file: number, most: number): number {
  const chunk = Buffer.allocUnsafe(Math.min(chunkSize, most))
  const from = most - chunk.length
  const end = chunk.subarray(0, readSync(file, chunk, 0, chunk.length, from)).lastIndexOf(newline)
  return end < 0 ? most : from + end + 1
}

function isAtLineStart(file: number, size: number): boolean {
  const last = Buffer.alloc(1, newline)
  if (size > 0) readSync(file, last, 0, 1, size - 1)
  return last[0] === newline
}

/**
 * Copies what stands in a file from a place on, be it within the same file to the front; where that is said, from the next line on.
 * Returns how many bytes that were.
 */
function copy(source: number, from: number, file: number, at: number, fromNextLine: boolean, to = Infinity): number {
  const chunk = Buffer.allocUnsafe(chunkSize)
  let written = 0
  for (let place = from; ; ) {
    const size = readSync(source, chunk, 0, Math.min(chunk.length, to - place), place)
    if (size === 0) return written
    const start = fromNextLine && place === from ? chunk.subarray(0, size).indexOf(newline) + 1 : 0
    for (let done = start; done < size; ) {
      const more = writeSync(file, chunk, done, size - done, at + written)
      done += more
      written += more
    }
    place += size
  }
}

/** Puts together what a run that was killed left in parts. */
function recover(folder: string, keep: number): void {
  const found = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : []
  const parts = found.flatMap(name => {
    const [, path, number] = isPart.exec(join(folder, name)) ?? []
    return path === undefined ? [] : [{ path, number: Number(number) }]
  })
  for (const [path, numbers] of Map.groupBy(parts, one => one.path)) {
    joinParts(
      path,
      numbers.map(({ number }) => number).sort((a, b) => a - b),
      keep,
    )
  }
}
