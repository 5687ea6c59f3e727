// Runs programs of the control machine: with a time limit, without a shell, and with errors that can be understood.
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { RekeyError } from '../errors.ts'

/** How to run a program. */
export interface CommandOptions {
  /** Seconds until it is killed; 60 unless told. */
  readonly timeout?: number
  readonly cwd?: string
  /** Added to this process's environment. */
  readonly environment?: Readonly<Record<string, string>>
  /** Fed to its standard input, then closed. */
  readonly input?: string
  /** Called for each line of its standard output and error, as it comes. */
  readonly onLine?: (line: string) => void
  /** Lower its priority by this much. */
  readonly nice?: number
}

// Nothing that was started here goes on without us.
const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) killGroup(child.pid)
})

/** How a program ended. */
export interface CommandResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * Runs a program to its end and returns how it ended, whatever its exit code.
 * Throws a `RekeyError` when it can't be started (`lab.no-program`) or takes too long (`lab.command-timeout`).
 */
export async function tryCommand(
  program: string,
  parameters: readonly string[],
  { timeout = 60, cwd, environment, input, onLine, nice }: CommandOptions = {},
): Promise<CommandResult> {
  const [file, argv] = nice ? ['nice', ['-n', String(nice), program, ...parameters]] : [program, [...parameters]]
  const child = spawn(file, argv, {
    cwd,
    env: environment ? { ...process.env, ...environment } : process.env,
    stdio: ['pipe', 'pipe', 'pipe'],
    // A group of its own: a time-out then ends what the program started too, and Ctrl-C is answered by us alone.
    detached: true,
  })
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout.on('data', chunk => stdout.push(chunk))
  child.stderr.on('data', chunk => stderr.push(chunk))
  if (onLine) {
    createInterface({ input: child.stdout }).on('line', onLine)
    createInterface({ input: child.stderr }).on('line', onLine)
  }
  // A program that ends without reading its input is no error of ours.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    killGroup(child.pid)
  }, timeout * 1000)
  running.add(child)
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (status, signal) => resolve(status ?? (signal ? 128 : 1)))
    })
    if (timedOut)
      throw new RekeyError(`${program} ${parameters[0] ?? ''} did not end within ${timeout} s`, {
        code: 'lab.command-timeout',
        hint: lastLines(Buffer.concat(stderr).toString()),
      })
    return { code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }
  } catch (error) {
    if (error instanceof RekeyError) throw error
    throw new RekeyError(`cannot start ${program}: ${(error as Error).message}`, {
      code: 'lab.no-program',
      cause: error,
    })
  } finally {
    clearTimeout(timer)
    running.delete(child)
  }
}

/** Runs a program that must succeed; returns its standard output. Throws a `RekeyError` (`lab.command-failed`). */
export async function command(
  program: string,
  parameters: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await tryCommand(program, parameters, options)
  if (result.code !== 0)
    throw new RekeyError(
      `${program} ${parameters.join(' ').slice(0, 300)}: exit code ${result.code}: ${lastLines(result.stderr || result.stdout)}`,
      { code: 'lab.command-failed' },
    )
  return result.stdout
}

/** The end of a program's output: what went wrong is nearly always there. */
export function lastLines(text: string, count = 8): string {
  return text.trimEnd().split('\n').slice(-count).join('\n')
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

/**
 * Polls `condition` until it returns something other than undefined, and returns that.
 * Throws a `RekeyError` (`lab.timeout`) that names `what` when `seconds` have passed.
 */
export async function waitFor<Result>(
  what: string,
  seconds: number,
  condition: () => Promise<Result | undefined> | Result | undefined,
  { every = 250, hint }: { every?: number; hint?: () => string | undefined } = {},
): Promise<Result> {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const result = await condition()
    if (result !== undefined) return result
    if (performance.now() > deadline)
      throw new RekeyError(`waited ${seconds} s for ${what}`, { code: 'lab.timeout', hint: hint?.() })
    await new Promise(resolve => setTimeout(resolve, every))
  }
}
