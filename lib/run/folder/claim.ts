// Two who go on with the same run at the same moment: one of them is told so before it writes a word into the journal.
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  copyFileSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { isLifeSocket, isListenedOn, openLifeSocket } from '../../process/life-socket.ts'
import { isAlive, isOfThisBoot, type ProcessIdentity } from '../../process-identity.ts'
import { runsDirectory } from './folder.ts'
import { cannotKeep } from './line-file.ts'

/** A folder that was claimed. */
export interface Claim {
  /** What is not known, a line each. */
  readonly unclear: readonly string[]
  /** Says that the run ended here. Never throws. */
  release(): void
}

/** A claim as it stands in its file. */
interface Claimed extends ProcessIdentity {
  /** Where its process is asked for, in `socketsOf` the folder. */
  readonly socket?: string
  /** The number of the folder of the claims, which a copy of it has not. */
  readonly inode?: number
  /** It was given back. */
  readonly ended?: boolean
}

const heartbeatEvery = 10_000
/** Whoever was not heard of for so long is gone, where nothing else tells. */
const silence = 60_000

/**
 * Claims the folder of a run for a process. A claim ends with its process: who sees its number asks the kernel, who runs beside it in
 * another container asks its socket, and all others look when it was heard of last.
 * @returns what is not known, as of a claim that was cut by a power failure and does not say whose it is
 * @throws RekeyError where a process that lives, or may live, has it
 */
export async function claimRun(run: string, folder: string, own: ProcessIdentity): Promise<Claim> {
  const claims = join(folder, 'claims')
  const mine = join(folder, `claim-${randomBytes(8).toString('hex')}`)
  let socket: Awaited<ReturnType<typeof openLifeSocket>>
  try {
    const sockets = socketsOf(folder)
    for (const path of [claims, sockets]) mkdirSync(path, { recursive: true, mode: 0o700 })
    // Before the claim is seen: whoever sees it finds somebody there.
    socket = await openLifeSocket(sockets)
    const claim: Claimed = { ...own, inode: statSync(claims).ino, ...(socket ? { socket: socket.name } : {}) }
    for (;;) {
      writeFileSync(mine, JSON.stringify(claim), { mode: 0o600, flush: true })
      const now = statSync(mine).mtimeMs
      const unclear: string[] = []
      let last = -1
      for (const name of readdirSync(claims)) {
        if (!isLifeSocket(name)) unclear.push(...(await requireGone(run, folder, name, now)))
        if (/^\d{1,15}$/.test(name)) last = Math.max(last, Number(name))
      }
      // Of two who come at once only one can make the next link, and the other sees it.
      const path = join(claims, String(last + 1))
      if (linked(mine, path)) return { unclear, release: keep(path, claim, socket) }
    }
  } catch (error) {
    socket?.close()
    throw error instanceof RekeyError ? error : cannotKeep(claims, error as Error)
  } finally {
    rmSync(mine, { force: true })
  }
}

/** Has a claim be heard of, by whoever can't ask its process. Returns what ends that. */
function keep(path: string, claim: Claimed, socket: { close(): void } | undefined): () => void {
  const text = JSON.stringify(claim)
  // The same letters once more: the clock is that of the file system, and nobody ever reads half a claim.
  const beat = () =>
    quietly(() => {
      const file = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW)
      try {
        writeSync(file, text, 0)
      } finally {
        closeSync(file)
      }
    })
  const timer = setInterval(beat, heartbeatEvery)
  timer.unref()
  return () => {
    clearInterval(timer)
    quietly(() => {
      const written = join(path, '..', '..', `claim-${randomBytes(8).toString('hex')}`)
      writeFileSync(written, JSON.stringify({ ...claim, ended: true } satisfies Claimed), { mode: 0o600 })
      renameSync(written, path)
    })
    quietly(() => socket?.close())
  }
}

/** A claim that can't be heard of is one that is not heard of; the run itself goes on. */
function quietly(work: () => void): void {
  try {
    work()
  } catch {
    // As said.
  }
}

/**
 * Throws where who made a claim may live. Returns what is not known of it.
 * @param now by the clock of the file system
 */
async function requireGone(run: string, folder: string, name: string, now: number): Promise<string[]> {
  const path = join(folder, 'claims', name)
  const holder = readClaim(path)
  if (!holder) return [`${path} can't be read: whether somebody else goes on with this run is not known`]
  if (holder.ended) return []
  const alive = isAlive(holder) ?? (await isAnswering(folder, holder))
  if (alive === true) throw stillRunning(run, holder)
  if (alive === false) {
    if (holder.socket && isLifeSocket(holder.socket)) rmSync(join(socketsOf(folder), holder.socket), { force: true })
    return []
  }
  // In a copy of the folder it is no claim to the copy: what keeps two from a cluster is the lock on its hosts.
  if (holder.inode !== undefined && holder.inode !== statSync(dirname(path)).ino) return []
  const silent = now - statSync(path).mtimeMs
  const who = `process ${holder.pid} on ${holder.machine}`
  if (Math.abs(silent) <= silence) {
    const ago = formatDuration(Math.max(0, silent))
    throw new RekeyError(
      `${run} may still be running: ${who} was last heard of ${ago} ago, and can't be seen from here`,
      {
        code: 'resume.running',
        hint: `Wait until it has ended; or, where it was killed, until it was not heard of for ${formatDuration(silence)}.`,
      },
    )
  }
  return [`whether ${who} still goes on with this run can't be told from here: it was not heard of for a while`]
}

/**
 * Where the sockets of claims are: beside the folders of the runs, since who copies the folder of a run stumbles over a socket. Of a run's
 * folder elsewhere, in it.
 */
function socketsOf(folder: string): string {
  const runs = runsDirectory()
  return dirname(folder) === runs ? join(dirname(runs), 'alive') : join(folder, 'claims')
}

async function isAnswering(folder: string, holder: Claimed): Promise<boolean | undefined> {
  return holder.socket !== undefined && isOfThisBoot(holder)
    ? isListenedOn(socketsOf(folder), holder.socket)
    : undefined
}

function readClaim(path: string): Claimed | undefined {
  try {
    const { machine, pid, started, scope, socket, inode, ended } = JSON.parse(
      readFileSync(path, 'utf8'),
    ) as Partial<Claimed>
    if (typeof machine === 'string' && typeof pid === 'number' && typeof started === 'string')
      return {
        ...{ machine, pid, started, ended: ended === true },
        ...(typeof scope === 'string' ? { scope } : {}),
        ...(typeof socket === 'string' ? { socket } : {}),
        ...(typeof inode === 'number' ? { inode } : {}),
      }
  } catch {
    // Told by whoever asked.
  }
  return undefined
}

/** The error for a run that goes on already. */
export function stillRunning(run: string, { pid, machine }: ProcessIdentity): RekeyError {
  return new RekeyError(`${run} is still running: process ${pid} on ${machine}`, {
    code: 'resume.running',
    hint: 'Wait until it has ended, or end it with Ctrl-C where it runs.',
  })
}

function linked(from: string, to: string): boolean {
  const make = (how: () => void) => {
    try {
      how()
      return true
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EEXIST') return false
      // Not every file system has hard links.
      if (how !== copied && ['EPERM', 'ENOTSUP', 'EOPNOTSUPP'].includes(code ?? '')) return make(copied)
      throw error
    }
  }
  const copied = () => copyFileSync(from, to, constants.COPYFILE_EXCL)
  return make(() => linkSync(from, to))
}
