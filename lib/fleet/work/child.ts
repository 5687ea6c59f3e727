// The process that does something for a cluster: rekey, with a log of its own, which asks its worker before each step.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { excerpt, messageOf } from '../../errors.ts'
import { type KeepAnswer, type KeepRequest, keeperVariable } from '../../run/folder/keeper.ts'
import type { Fleet } from '../definition/fleet-file.ts'
import { environment, program } from './called.ts'
import type { Storing } from './storing.ts'

/** Where a process works, and for which cluster. */
export interface Desk {
  /** fleet.yml as it lies here. */
  readonly file: Fleet
  /** The worker's own folder. */
  readonly folder: string
  readonly cluster: string
}

/** How a process ended. */
export interface ChildEnd {
  /** `null` where a signal ended it, or it could not be started. */
  readonly code: number | null
  /** Why it could not be started. */
  readonly error?: string
}

/** Milliseconds that a process gets to end by itself whose cluster is lost. */
const grace = 3_000

const logOf = ({ folder, cluster }: Desk) => join(folder, 'logs', `${cluster}.log`)

/**
 * Starts rekey for a cluster, in the folder of fleet.yml; what it says goes to a file.
 * @param lease milliseconds for which its worker may be silent, where it has its run kept
 */
export function begin(desk: Desk, words: readonly string[], lease?: number): ChildProcess {
  madeFolder(desk, 'logs')
  const log = openSync(logOf(desk), 'w', 0o600)
  try {
    return spawn(process.execPath, [program, ...words], {
      cwd: desk.file.folder,
      env: { ...environment(), XDG_STATE_HOME: desk.folder, [keeperVariable]: lease?.toString() },
      // Without a terminal there is nobody to ask.
      stdio: ['ignore', log, log, 'ipc'],
      // Ctrl-C is the worker's: it tells its runs.
      detached: true,
    })
  } finally {
    closeSync(log)
  }
}

/** A folder in the worker's. */
export function madeFolder({ folder }: Pick<Desk, 'folder'>, name: string): string {
  const made = join(folder, name)
  mkdirSync(made, { recursive: true, mode: 0o700 })
  return made
}

/** How a process ends. */
export const endOf = (child: ChildProcess): Promise<ChildEnd> =>
  new Promise(done => {
    child.once('error', error => done({ code: null, error: error.message }))
    child.once('exit', code => done({ code }))
  })

/** What a process said last that was an error, or anything. */
export function lastLine(desk: Desk, { error: notStarted }: ChildEnd): string {
  if (notStarted !== undefined) return notStarted
  const lines = readFileSync(logOf(desk), 'utf8').split('\n').filter(Boolean)
  const error = lines.findLast(line => line.startsWith('Error: '))?.slice('Error: '.length)
  return excerpt(error ?? lines.at(-1) ?? 'it said nothing', 500)
}

/** What a gate found that is not well, as it says that by a mark; what it said last, where it found nothing. */
export function notWell(desk: Desk, ended: ChildEnd): string {
  if (ended.error !== undefined) return ended.error
  const marked = readFileSync(logOf(desk), 'utf8')
    .split('\n')
    .flatMap(line => /^\s*✖\s*(.+)/.exec(line)?.[1]?.replaceAll(/\s+/g, ' ') ?? [])
  return marked.length > 0 ? excerpt(marked.join('; '), 450) : lastLine(desk, ended)
}

/** What answers a run. */
export interface Attending {
  /** Has its folder kept. */
  keep(request: KeepRequest): Promise<void>
  readonly storing: Storing
  /** Milliseconds for which an answer holds. */
  readonly lease: number
  /** The cluster is another worker's. */
  readonly lost: AbortSignal
  /** The worker stops. */
  readonly stop: AbortSignal
}

/** Answers what a run asks until its process has ended. */
export async function attend(child: ChildProcess, { keep, storing, lease, lost, stop }: Attending): Promise<ChildEnd> {
  const refused = 'the cluster is another worker’s'
  const say = (answer: KeepAnswer) => child.connected && child.send(answer, () => {})
  const answerTo = async (request: KeepRequest): Promise<KeepAnswer> => {
    try {
      await storing(() => keep(request))
    } catch (error) {
      return { kept: request.keep, failed: messageOf(error) }
    }
    return lost.aborted ? { kept: request.keep, refused } : { kept: request.keep, lease }
  }
  let under: Promise<unknown> = Promise.resolve()
  child.on('message', message => {
    const request = message as KeepRequest
    if (typeof request?.keep !== 'number' || typeof request.run !== 'string') return
    under = under.then(async () => say(await answerTo(request)))
  })
  let killing: NodeJS.Timeout | undefined
  // It ends what it has begun on this machine, and itself; one that was stopped hears nothing.
  const onLost = () => {
    say({ kept: 0, refused })
    killing = setTimeout(() => child.kill('SIGKILL'), child.connected ? grace : 0)
  }
  const onStop = () => !lost.aborted && child.connected && child.send('SIGTERM', () => {})
  lost.addEventListener('abort', onLost)
  stop.addEventListener('abort', onStop)
  if (lost.aborted) onLost()
  else if (stop.aborted) onStop()
  try {
    const ended = await endOf(child)
    await under
    return ended
  } finally {
    clearTimeout(killing)
    lost.removeEventListener('abort', onLost)
    stop.removeEventListener('abort', onStop)
  }
}
