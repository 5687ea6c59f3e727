// One process that does what many command lines ask for, one after the other: a start costs more than most of them. What a test does with
// the process itself (signals, its end, its environment, its terminal) needs one of its own.
import { type ChildProcess, spawn } from 'node:child_process'
import { on, once } from 'node:events'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
/** What it writes on both streams where an answer ends. */
const end = '\u0004 that was all \u0004\n'

/** What came of a command line. */
export interface Called {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

interface Request {
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
}

/** What is done with the process while it does what it was asked for. */
interface Watch {
  /** Is told its id before it begins. */
  begins?(pid: number): void
  /** Is given what it says on stdout, as it comes. */
  says?(text: string): void
}

/** Has a command line done by a process that does nothing else meanwhile, and another one later; one that was killed has no code. */
export type Servers = (request: Request, watch?: Watch) => Promise<Called>

/**
 * Processes that do command lines: as many as are asked for at once.
 * @param within milliseconds that a command line may take
 */
export function servers(within = 150_000): Servers {
  const idle: ChildProcess[] = []
  return async (request, watch = {}) => {
    const child = idle.pop() ?? start(request)
    const called = await ask(child, request, { ...watch, within })
    if (child.connected) idle.push(child)
    return called
  }
}

const one = servers()
let last: Promise<unknown> = Promise.resolve()

/** Has rekey called with these arguments, after everything that was asked for before. */
export function served(request: Request): Promise<Called> {
  const answer = last.then(() => one(request))
  last = answer.catch(() => {})
  return answer
}

async function ask(
  child: ChildProcess,
  request: Request,
  { begins, says, within }: Watch & { within: number },
): Promise<Called> {
  const said = { stdout: '', stderr: '' }
  const done = new AbortController()
  const { signal } = done
  const whole = (['stdout', 'stderr'] as const).map(async name => {
    const stream = child[name]!
    for await (const [chunk] of on(stream, 'data', { signal })) {
      said[name] += chunk
      if (name === 'stdout') says?.(String(chunk))
      if (!said[name].endsWith(end)) continue
      said[name] = said[name].slice(0, -end.length)
      return
    }
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), within)
  try {
    if (child.pid !== undefined) begins?.(child.pid)
    child.send(request)
    const answered = once(child, 'message', { signal }).then(async ([code]) => {
      await Promise.all(whole)
      return code as number
    })
    // It has ended where what it did ended it.
    const ended = once(child, 'close', { signal }).then(([code]) => code as number | null)
    return { code: await Promise.race([answered, ended]), ...said }
  } finally {
    clearTimeout(timer)
    done.abort()
    await Promise.allSettled(whole)
  }
}

function start({ env }: Request): ChildProcess {
  const child = spawn(process.execPath, [import.meta.filename, 'serve'], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
    env,
  })
  for (const stream of [child.stdout!, child.stderr!]) stream.setEncoding('utf8').on('error', () => {})
  // It ends with the tests: it is the channel that keeps it.
  child.unref()
  child.channel?.unref()
  for (const stream of [child.stdout, child.stderr]) (stream as unknown as { unref(): void }).unref()
  return child
}

/** The other end. */
async function serve(): Promise<void> {
  const { enableCompileCache } = await import('node:module')
  const { compileCacheFolder } = (await import(join(root, 'bin', 'compile-cache.cjs'))) as {
    compileCacheFolder(): string | undefined
  }
  const cache = compileCacheFolder()
  if (cache !== undefined) enableCompileCache(cache)
  await import(join(root, 'lib', 'cli', 'lean-start.ts'))
  const { commandLine, watchOver } = (await import(
    join(root, 'lib', 'cli', 'main.ts')
  )) as typeof import('../lib/cli/main.ts')
  watchOver()
  process.on('disconnect', () => process.exit())
  process.on('message', async ({ args, cwd, env }: Request) => {
    process.chdir(cwd)
    for (const name of Object.keys(process.env)) if (env[name] === undefined) delete process.env[name]
    for (const [name, value] of Object.entries(env)) if (value !== undefined) process.env[name] = value
    process.exitCode = undefined
    await commandLine(args)
    const code = process.exitCode ?? 0
    process.stdout.write(end, () => process.stderr.write(end, () => process.send?.(code)))
  })
}

if (process.argv[1] === import.meta.filename && process.argv[2] === 'serve') await serve()
