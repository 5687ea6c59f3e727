// Only in a package, a file of its own there: opens the one that rekey is compiled into (scripts/package/bundle.ts), by which Node finds, links and checks one file instead of sixty.
// What V8 has compiled of it is kept: Node's own cache (`module.enableCompileCache`) has the smaller part of it, and never learns what a first start had no need of.
import {
  closeSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { getHeapCodeStatistics } from 'node:v8'
import { Script } from 'node:vm'
import { crc32 } from 'node:zlib'

/** What the bundle is: its modules by their places below rekey's root, each evaluated when it is asked for first. */
type Modules = Readonly<Record<string, () => Record<string, unknown>>>

let opened: Modules | undefined

/** What a kept file begins with: the checksum of all that follows, and how many bytes of bytecode there were when it was written. */
const headLength = 8
/** Bytes of bytecode that are worth writing the file anew. */
const worthwhile = 128 * 1024
/** How long a file is kept that nobody writes, in milliseconds: other versions of rekey and of Node leave theirs. What is still in use is made anew. */
const longest = 30 * 24 * 60 * 60 * 1000

/** What a process is there for, and where its compiled code is kept. */
interface Start {
  /** What is compiled for each is kept apart. `words`: what the command line says of itself, without any of its commands, which is a small bundle of its own. */
  readonly use: 'words' | 'run' | 'other'
  /** This user's alone (bin/compile-cache.cjs); nothing is kept without one. */
  readonly folder: string | undefined
}

/**
 * One of rekey's modules, as all others in this process have it.
 * @param module its place, as `lib/cli/main.ts`
 * @param start counts where nothing was asked for before; whoever imports rekey has none, and may be an older Node, that keeps nothing
 */
export function bundled(module: string, start?: Start): Record<string, unknown> {
  opened ??= open(start)
  return opened[module]!()
}

function open(start?: Start): Modules {
  const url = new URL(start?.use === 'words' ? './words.cjs' : './rekey.cjs', import.meta.url)
  const file = fileURLToPath(url)
  const code = readFileSync(file)
  const kept = start?.folder && join(start.folder, `${start.use}-${crc32(code).toString(16)}`)
  const before = kept === undefined ? undefined : read(kept)
  // scripts/package/bundle.ts sees to it that it is ASCII: one byte a character, for V8, too. What was compiled by other flags is refused, and made anew.
  const script = new Script(code.toString('latin1'), { filename: url.href, cachedData: before?.data })
  const module = { exports: {} }
  const call = script.runInThisContext() as (...given: readonly unknown[]) => void
  call(module.exports, createRequire(url), module, url.href, file, dirname(file), (of: string) => import(of))
  if (kept !== undefined) {
    const had = script.cachedDataRejected ? undefined : before?.bytecode
    process.on('exit', () => keep(script, kept, had))
  }
  return module.exports as Modules
}

/** What was kept, where it is whole, and no one else may have written it. */
function read(kept: string): { data: Buffer; bytecode: number } | undefined {
  try {
    const descriptor = openSync(kept, 'r')
    try {
      const { uid, mode } = fstatSync(descriptor)
      if (uid !== process.geteuid?.() || mode & 0o022) return undefined
      const content = readFileSync(descriptor)
      const data = content.subarray(headLength)
      return crc32(content.subarray(4)) === content.readUInt32LE(0)
        ? { data, bytecode: content.readUInt32LE(4) }
        : undefined
    } finally {
      closeSync(descriptor)
    }
  } catch {
    // None yet, or it can't be read.
    return undefined
  }
}

/** Keeps what is compiled now, where that is much more than it was. A command may have ended early, so the first of its kind does not settle it. */
function keep(script: Script, kept: string, had: number | undefined): void {
  const bytecode = getHeapCodeStatistics().bytecode_and_metadata_size
  if (had !== undefined && bytecode < had + worthwhile) return
  const written = `${kept}.${process.pid}`
  try {
    // What can't be written is not made: it takes a quarter of a second.
    const descriptor = openSync(written, 'wx', 0o600)
    try {
      writeFileSync(descriptor, contentOf(script, bytecode))
    } finally {
      closeSync(descriptor)
    }
    renameSync(written, kept)
    prune(dirname(dirname(kept)))
  } catch {
    // A start takes longer, and no more. Half a file would take up what place there is.
    try {
      rmSync(written, { force: true })
    } catch {
      // Nor can it be removed.
    }
  }
}

function contentOf(script: Script, bytecode: number): Buffer {
  const content = Buffer.concat([Buffer.alloc(headLength), script.createCachedData()])
  content.writeUInt32LE(bytecode, 4)
  content.writeUInt32LE(crc32(content.subarray(4)), 0)
  return content
}

/** Removes what nobody has written for long, of each version. */
function prune(folder: string): void {
  const before = Date.now() - longest
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name)
    if (entry.isFile() && lstatSync(file).mtimeMs < before) rmSync(file, { force: true })
  }
}
