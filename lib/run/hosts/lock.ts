// One run a cluster: a lock on its hosts that says who holds it, with a heartbeat; and the line that each run leaves behind.
import { createHash } from 'node:crypto'
import type { Connection } from '../../connection/connection.ts'
import { runScript } from '../../connection/files.ts'
import { quote } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { formatDuration } from '../../playbook/duration.ts'
import type { Host } from '../../playbook/host.ts'
import { isAlive, type ProcessIdentity } from '../../process-identity.ts'
import { inHostFolder } from './host-folder.ts'

/** Who holds a lock. */
export interface Holder {
  readonly run: string
  readonly playbook: string
  readonly operator: string
  readonly process: ProcessIdentity
  /** By the clock of the holder's machine, ISO 8601. */
  readonly since: string
}

/** A lock that is held. */
export interface Lock {
  /** Why it is not held any more, once somebody took it away. */
  readonly lost: Error | undefined
  /**
   * Looks at a host that was away and is reached again, before anything more is done there: while nobody heard of this run, its lock may have
   * been taken. A look that does not succeed says nothing.
   * @throws HostFailedError where somebody took it
   */
  requireOn(host: Host, connection: Connection): Promise<void>
  /** Gives it back. Returns the hosts on which that failed, and why. */
  release(): Promise<string[]>
}

/** What it takes to lock. */
export interface LockRequest {
  /** In the order in which they are locked; the first one decides between two who come at once. */
  readonly hosts: readonly Host[]
  open(host: Host): Promise<Connection>
  readonly holder: Holder
  /** Gives up the attempt. */
  readonly signal: AbortSignal
  /** Take it from a dead holder. */
  readonly take: boolean
  /** Is told whose lock is taken. */
  notice(text: string): void
}

const heartbeatEvery = 10_000
/** A holder that was not heard of for so long is taken for dead. */
const silence = 60_000
/** Once a run is being stopped its own signal is aborted; what must still be said to a host gets so long. */
const patience = 15_000
/** The same for a host that did not say whether it is locked. */
const patienceWhereUnsure = 2_000

/**
 * Locks the hosts, each by the rename of a folder, which only one can win. Who already holds it under this run keeps it.
 * @throws HostFailedError where another run holds it: who, since when, and whether that one lives
 */
export async function acquireLock(request: LockRequest): Promise<Lock> {
  const { hosts, open, holder } = request
  const held: Host[] = []
  /** What was asked for on them, and not answered. */
  const unsure = new Set<Host>()
  const mine = JSON.stringify(holder)
  const release = async (hosts: readonly Host[], timeout: number) => {
    const problems = await Promise.all(
      hosts.map(async host => {
        try {
          const { code, stderr } = await runScript(await open(host), inHostFolder(host, releaseScript(mine)), {
            timeout,
          })
          return code === 0 ? [] : [`${host.name}: ${stderr.trim()}`]
        } catch (error) {
          return [`${host.name}: ${(error as Error).message}`]
        }
      }),
    )
    return problems.flat()
  }
  try {
    const [first, ...others] = hosts
    if (first) await lockHost(first, request, mine, { held, unsure })
    const rest = await Promise.allSettled(others.map(host => lockHost(host, request, mine, { held, unsure })))
    const failed = rest.find(one => one.status === 'rejected')
    if (failed) throw failed.reason
  } catch (error) {
    const sure = release(held, patience)
    await Promise.all([sure, release([...unsure], patienceWhereUnsure)])
    throw error
  }

  let lost: Error | undefined
  const beat = async (host: Host, connection: Connection) => {
    const { code } = await runScript(connection, inHostFolder(host, heartbeatScript(mine)), { timeout: heartbeatEvery })
    if (code === 3) {
      lost ??= new HostFailedError(`${host.name}: the lock of this run was taken by somebody else`, {
        code: 'run.lock-lost',
        host: host.name,
        hint: 'Find out who, and look at the cluster together before anybody goes on.',
      })
    }
  }
  const timer = setInterval(() => {
    // A host that does not answer now may do so for the next one; the steps say what is wrong with it.
    for (const host of held)
      open(host)
        .then(connection => beat(host, connection))
        .catch(() => {})
  }, heartbeatEvery)
  timer.unref()
  return {
    get lost() {
      return lost
    },
    requireOn: async (host, connection) => {
      // Two names of the inventory may be one machine, which is locked by one of them.
      if (hosts.some(({ name }) => name === host.name)) await beat(host, connection).catch(() => {})
      if (lost) throw lost
    },
    release: async () => {
      clearInterval(timer)
      return lost ? [] : release(held.splice(0), patience)
    },
  }
}

async function lockHost(
  host: Host,
  request: LockRequest,
  mine: string,
  { held, unsure }: { held: Host[]; unsure: Set<Host> },
): Promise<void> {
  const connection = await request.open(host)
  // A lock that is given back between two looks at it is tried for again.
  for (let attempt = 0; attempt < 5; attempt++) {
    unsure.add(host)
    const { code, stdout, stderr } = await runScript(connection, inHostFolder(host, acquireScript(mine)), {
      input: Buffer.from(mine),
      signal: request.signal,
      timeout: patience,
    })
    unsure.delete(host)
    const [word, seconds = '0', ...rest] = stdout.toString('utf8').split('\n')
    if (code !== 0 || word === undefined) {
      throw new HostFailedError(
        `${host.name} can't be locked: ${stderr.trim() || `its script ended with exit status ${code}`}`,
        {
          code: 'run.lock',
          host: host.name,
          hint: 'The lock is in /var/lib/rekey, or where the variable rekey_directory says.',
        },
      )
    }
    if (word === 'taken') {
      held.push(host)
      return
    }
    const text = rest.join('\n').trim()
    // Two names of the inventory may be one machine.
    if (text === mine) return
    if (word === 'held') await askHolder(host, connection, request, { text, silent: Number(seconds) * 1_000 })
  }
  throw new HostFailedError(`${host.name} can't be locked: its lock comes and goes`, {
    code: 'run.lock',
    host: host.name,
  })
}

/** Takes a lock out of the way where that is allowed; throws saying who holds it where not. */
async function askHolder(
  host: Host,
  connection: Connection,
  { holder, take, notice }: LockRequest,
  { text, silent }: { text: string; silent: number },
): Promise<void> {
  const other = readHolder(text)
  const alive = other ? isAlive(other.process) : undefined
  // A holder that lives beats by the host's own clock: a beat from the future is from before that clock was set back.
  const dead = alive === false || (alive === undefined && Math.abs(silent) > silence)
  const who = other
    ? `run ${other.run} (${other.playbook}) of ${other.operator} on ${other.process.machine}, process ${other.process.pid}, since ${other.since}`
    : 'somebody who left no name'
  const state =
    alive === false
      ? 'that process is gone'
      : silent < -silence
        ? 'not heard of since the clock of the host was set back'
        : `last heard of ${formatDuration(Math.max(0, silent))} ago${dead ? "; whether it lives can't be told from here" : ': it lives'}`
  // The run that is gone on with holds it still: nobody else could have worked here since.
  const own = other?.run === holder.run
  if (dead && (take || own)) {
    if (!own) notice(`${host.name}: the lock of ${who} is taken; ${state}`)
    await runScript(connection, inHostFolder(host, takeScript(text)), { timeout: patience })
    return
  }
  const hint = dead
    ? `See how far it came with 'rekey show', and go on with 'rekey resume' or back with 'rekey rollback'; or take the lock from it with --take-lock.`
    : alive
      ? 'Wait until it has ended.'
      : `Wait until it has ended; or, where its machine is gone, until it was not heard of for ${formatDuration(silence)}.`
  throw new HostFailedError(`${host.name} is locked by ${who}; ${state}`, { code: 'run.locked', host: host.name, hint })
}

function readHolder(text: string): Holder | undefined {
  try {
    const holder = JSON.parse(text) as Holder
    return holder.run && holder.process ? holder : undefined
  } catch {
    return undefined
  }
}

/**
 * Adds a line to the audit log of a host: when (by its own clock), who, what, which run, how it ended.
 * @throws HostFailedError where it can't be written
 */
export async function writeAudit(
  host: Host,
  connection: Connection,
  { run, playbook, operator, process }: Holder,
  what: string,
): Promise<void> {
  const line = `run=${run} playbook=${playbook} operator=${operator} from=${process.machine} ${what}`
  const { code, stderr } = await runScript(
    connection,
    inHostFolder(host, `umask 077; exec date -u +${quote(`%FT%TZ ${line.replaceAll('%', '%%')}`)} >>"$log"`),
    { timeout: patience },
  )
  if (code === 0) return
  throw new HostFailedError(`${host.name}: the audit line could not be written: ${stderr.trim()}`, {
    code: 'run.audit',
    host: host.name,
  })
}

const isHolder = (text: string, lock = '$d/lock') =>
  `[ "$(sha256sum <"${lock}/holder" 2>/dev/null | cut -c1-64)" = ${createHash('sha256').update(text).digest('hex')} ]`

// A folder is made whole beside the lock, with its holder in it, and renamed: a rename onto a folder that is not empty fails.
// Who is killed or cut off while it says who it is has said half of that, or nothing: a lock of nobody would be given back by nobody.
const acquireScript = (mine: string) => `set -e; umask 077
t=$(mktemp -d "$d/.lock.XXXXXX"); trap 'rm -rf "$t"' EXIT
cat >"$t/holder"; ${isHolder(mine, '$t')} || { echo 'who locks it did not arrive whole' >&2; exit 1; }
touch "$t/heartbeat"; sync "$t/holder"
if mv -T "$t" "$d/lock" 2>/dev/null; then echo taken; sync "$d"; exit 0; fi
[ -d "$d/lock" ] || { mv -T "$t" "$d/lock"; echo taken; exit 0; }
now=$(date +%s); at=$(stat -c %Y "$d/lock/heartbeat" 2>/dev/null) && who=$(cat "$d/lock/holder" 2>/dev/null) || { echo gone; exit 0; }
echo held; echo $((now - at)); printf '%s\\n' "$who"`

const heartbeatScript = (mine: string) => `${isHolder(mine)} || exit 3; touch "$d/lock/heartbeat"`

const releaseScript = (mine: string) =>
  `${isHolder(mine)} || exit 0; t=$(mktemp -d "$d/.ended.XXXXXX"); mv -T "$d/lock" "$t/lock" && rm -rf "$t" "$d"/.taken.*`

// Named after its holder, and left there until the run ends: of two who take the same lock only one can rename it.
const takeScript = (text: string) =>
  `${isHolder(text)} || exit 0; mv -T "$d/lock" "$d/.taken.${createHash('sha256').update(text).digest('hex').slice(0, 16)}"`
