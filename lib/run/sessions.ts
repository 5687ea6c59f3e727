// The open connections of a run: one a host, opened when first needed, and anew after one was lost.
import { connect } from '../connection/connect.ts'
import type { Connection } from '../connection/connection.ts'
import { limiter } from '../connection/limiter.ts'
import type { Host } from '../playbook/host.ts'

/** Connections by host. */
export interface Sessions {
  /** The open connection of a host. Rejects with `UnreachableError`. */
  open(host: Host): Promise<Connection>
  /** The connection of a host where one is open: none is made. */
  opened(host: Host): Connection | undefined
  /** Why the connection of a host is lost, if it is. */
  lost(host: Host): Error | undefined
  closeAll(): void
}

/**
 * Keeps the connections of a run.
 * @param forks how many connect at the same time
 */
export function openSessions(forks: number, signal: AbortSignal): Sessions {
  const limit = limiter(forks)
  const sessions = new Map<string, { opening: Promise<Connection>; connection?: Connection }>()
  return {
    open: host => {
      const known = sessions.get(host.name)
      if (known && !known.connection?.lost) return known.opening
      const session: { opening: Promise<Connection>; connection?: Connection } = {
        opening: limit(() => connect(host.name, host.connection, signal)),
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
    closeAll: () => {
      for (const { connection } of sessions.values()) connection?.close()
    },
  }
}
