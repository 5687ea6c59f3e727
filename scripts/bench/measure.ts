// One run of one program: how long it took, the processor time and the most memory of it and of all that it started, also of
// what left its process group (ssh's shared masters do).
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** A program to run. */
export interface Command {
  readonly argv: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/** What a run took. */
export interface Measured {
  readonly seconds: number
  readonly processorSeconds: number
  /** Megabytes, pages that several processes share counted once. */
  readonly memory: number
  readonly exitCode: number | null
  /** It was ended since it took longer than it was given. */
  readonly stopped: boolean
  /** When it was started, milliseconds since 1970. */
  readonly startedAt: number
  /** Bytes that went over loopback meanwhile, where the hosts are. */
  readonly sent: number
  /** What it printed. */
  readonly output: string
}

/** Processes of a run are known by this in their environment, which they all inherit. */
const marker = 'REKEY_BENCH_RUN'
const kernelTicks = 100
const shortestPause = 100
/** A look at the memory may take such a part of the time, at most. */
const share = 0.02

/**
 * Runs a program, its output kept, until it ends or `patience` (ms) is over.
 * @param folder for its output
 */
export async function measure(command: Command, folder: string, patience: number): Promise<Measured> {
  const id = randomUUID()
  const [output, times] = [join(folder, 'output'), join(folder, 'times')]
  const script = '"$@" >"$BENCH_OUTPUT" 2>&1; code=$?; times >"$BENCH_TIMES"; exit $code'
  const watch = watchProcesses(id)
  const sentBefore = loopbackBytes()
  const startedAt = Date.now()
  const started = performance.now()
  const child = spawn('/bin/sh', ['-c', script, 'sh', ...command.argv], {
    cwd: command.cwd ?? folder,
    env: {
      ...process.env,
      NO_COLOR: '1',
      SSH_AUTH_SOCK: '',
      ...command.environment,
      BENCH_OUTPUT: output,
      BENCH_TIMES: times,
      [marker]: id,
    },
    stdio: 'ignore',
  })
  let stopped = false
  const timer = setTimeout(() => {
    stopped = true
    watch.end()
  }, patience)
  const exitCode = await new Promise<number | null>(resolve => child.on('close', resolve))
  const seconds = (performance.now() - started) / 1_000
  clearTimeout(timer)
  const left = watch.processorSeconds()
  watch.end()
  return {
    seconds,
    processorSeconds: stopped ? Number.NaN : processorSecondsOf(times) + left,
    memory: await watch.memory(),
    exitCode,
    stopped,
    startedAt,
    sent: loopbackBytes() - sentBefore,
    output: readFileSync(output, 'utf8'),
  }
}

/** The second line of the shell's `times` is of its children, and of theirs: `0m1.23s 0m0.45s`. */
function processorSecondsOf(file: string): number {
  const [, line = ''] = readFileSync(file, 'utf8').split('\n')
  return [...line.matchAll(/(\d+)m([\d.]+)s/g)].reduce(
    (sum, [, minutes, rest]) => sum + Number(minutes) * 60 + Number(rest),
    0,
  )
}

/** What loopback has carried since it is there. */
function loopbackBytes(): number {
  return Number(/^ *lo: *(\d+)/m.exec(readFileSync('/proc/net/dev', 'utf8'))?.[1])
}

function watchProcesses(id: string) {
  const known = new Map<string, boolean>()
  let most = 0
  const over = new AbortController()
  const mine = () =>
    readdirSync('/proc').filter(pid => {
      if (!/^\d+$/.test(pid)) return false
      const before = known.get(pid)
      if (before !== undefined) return before
      const is = read(`/proc/${pid}/environ`).includes(`${marker}=${id}`)
      known.set(pid, is)
      return is
    })
  const look = () => {
    const kilobytes = mine().map(pid => Number(/^Pss: +(\d+)/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0))
    most = Math.max(most, kilobytes.reduce((sum, one) => sum + one, 0) / 1_024)
  }
  const watching = (async () => {
    while (!over.signal.aborted) {
      const began = performance.now()
      look()
      const pause = Math.max(shortestPause, (performance.now() - began) / share)
      await delay(pause, undefined, { signal: over.signal }).catch(() => {})
    }
  })()
  return {
    /** Of processes that are still there. */
    processorSeconds: () =>
      mine().reduce((sum, pid) => {
        const stat = read(`/proc/${pid}/stat`)
        const words = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
        return sum + (Number(words[11] ?? 0) + Number(words[12] ?? 0)) / kernelTicks
      }, 0),
    end: () => {
      for (const pid of mine()) {
        try {
          process.kill(Number(pid), 'SIGKILL')
        } catch {
          // It has ended by itself.
        }
      }
    },
    memory: async () => {
      over.abort()
      await watching
      return most
    },
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // It has ended, or is another user's.
    return ''
  }
}
