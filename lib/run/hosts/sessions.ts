// The open connections of a run: one a host, opened when first needed, made anew when the link drops.
import { setTimeout as delay } from 'node:timers/promises'
import { markerFolder } from '../../connection/commands/marker.ts'
import { connect } from '../../connection/connect.ts'
import type { Connection } from '../../connection/connection.ts'
import { limiter } from '../../connection/limiter.ts'
import { turnWithTime } from '../../connection/turns.ts'
import { RekeyError, UnreachableError } from '../../errors.ts'
import { parseDuration } from '../../playbook/duration.ts'
import type { Host } from '../../playbook/host.ts'
import { waitForLeftBehind } from './left-behind.ts'
import { type LastingConnection, lasting } from './reconnect.ts'

/** Connections by host. */
export interface Sessions {
  /** The open connection of a host. Rejects with `UnreachableError`. */
  open(host: Host): Promise<LastingConnection>
  /** The connection of a host where one is open: none is made. */
  opened(host: Host): Connection | undefined
  /** Why the connection of a host is lost, if it is. */
  lost(host: Host): Error | undefined
  /** Removes from the hosts what commands left there, once no step has one any more. Never rejects. */
  tidy(): Promise<void>
  /** Closes all connections. */
  closeAll(): Promise<void>
}

/** What the connections of a run have in common. */
export interface SessionOptions {
  readonly run: string
  /** How many connect at the same time. */
  readonly forks: number
  readonly signal: AbortSignal
  /** Commands leave markers on the hosts; without them, what a lost connection leaves open stays unknown. */
  readonly markers: boolean
  /** The run was begun before: commands of it may still go on. */
  readonly takenUp: boolean
  /** Is asked whether a host that was away may be worked on again, before anything more is done there. Rejects where it may not. */
  returned(host: Host, connection: Connection): Promise<void>
  /** A line for the people who watch. */
  notice(text: string): void
}

/** Milliseconds for which a host that went away in the middle of a run is tried again. */
const patienceWhenGone = 60_000
const [firstPause, longestPause] = [250, 4_000]

/** Keeps the connections of a run. */
export function openSessions({ run, forks, signal, markers, takenUp, returned, notice }: SessionOptions): Sessions {
  const limit = limiter(forks)
  const sessions = new Map<string, { opening: Promise<LastingConnection>; connection?: LastingConnection }>()

  /** A host that was there a moment ago may be there again in a moment. A refused login is no matter of time. */
  const connectAgain = async (host: Host): Promise<Connection> => {
    const until = performance.now() + returnWithin(host)
    for (let pause = firstPause; ; pause = Math.min(pause * 2, longestPause)) {
      try {
        return await limit(() => connect(host.name, host.connection, signal))
      } catch (error) {
        const left = until - performance.now()
        const away = error instanceof UnreachableError && /unreachable|closed-early/.test(error.code)
        if (!away || left <= 0 || signal.aborted) throw error
        // Not all at the same moment again.
        await delay(Math.min(pause * (0.5 + Math.random()), left), undefined, { signal }).catch(() => {})
        signal.throwIfAborted()
      }
    }
  }

  const comeBackTo = async (host: Host): Promise<Connection> => {
    const connection = await connectAgain(host)
    try {
      await returned(host, connection)
      return connection
    } catch (error) {
      connection.close()
      throw error
    }
  }

  const everyone: LastingConnection[] = []
  /** Those on whose hosts no command from before goes on: only there may the markers be removed. */
  const settled: LastingConnection[] = []
  const openNew = async (host: Host) => {
    const directory = host.vars['rekey_directory']
    const { become, user, kind } = host.connection
    // That directory is another user's where commands become one.
    const own = typeof directory === 'string' && (!become || become.user === user) ? directory : undefined
    const folder = markers && kind !== 'local' ? markerFolder(user, run, own) : undefined
    const connection = lasting(await limit(() => connect(host.name, host.connection, signal)), {
      ...{ connect: () => comeBackTo(host), folder, marked: takenUp, notice },
    })
    everyone.push(connection)
    if (takenUp && folder !== undefined) await waitForLeftBehind(connection, folder, signal, notice)
    settled.push(connection)
    return connection
  }

  return {
    open: host => {
      const known = sessions.get(host.name)
      if (known && !known.connection?.lost) return known.opening
      const session: { opening: Promise<LastingConnection>; connection?: LastingConnection } = {
        opening: openNew(host),
      }
      session.opening.then(
        connection => {
          session.connection = connection
        },
        () => {
          // The next step tries once more: a host that boots may answer by then.
          if (sessions.get(host.name) === session) sessions.delete(host.name)
        },
      )
      sessions.set(host.name, session)
      return session.opening
    },
    opened: host => {
      const connection = sessions.get(host.name)?.connection
      return connection?.lost ? undefined : connection
    },
    lost: host => sessions.get(host.name)?.connection?.lost,
    tidy: async () => {
      // What can't be removed now does no harm: it is in nobody's way, and holds nothing but numbers.
      await Promise.allSettled(settled.map(connection => connection.tidy()))
    },
    closeAll: async () => {
      for (const connection of everyone) {
        const turn = turnWithTime()
        if (turn) await turn
        connection.close()
      }
    },
  }
}

/** How long a host that went away may take to come back: `rekey_reconnect_within` of the inventory. */
function returnWithin({ name, vars }: Host): number {
  const given = vars['rekey_reconnect_within']
  if (given === undefined) return patienceWhenGone
  const within = typeof given === 'string' || typeof given === 'number' ? parseDuration(given) : undefined
  if (within !== undefined) return within
  throw new RekeyError(`${name}: rekey_reconnect_within must be a duration such as 90s or 5m`, {
    code: 'inventory.reconnect-within',
    host: name,
  })
}
