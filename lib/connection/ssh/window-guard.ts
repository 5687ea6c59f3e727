// What a host may send before some of it was read is agreed with it (RFC 4254, 5.2). ssh2 takes more all the same, and holds it in memory:
// it tells nobody of the parts that this takes, so it is pinned in package.json, and whatever is not there as expected is left as it is.
import type { Duplex } from 'node:stream'
import type { Client } from 'ssh2'

type Handler = (protocol: unknown, recipient: number, data: Buffer, type?: number) => void

interface InnerClient {
  readonly _sock?: Duplex
  readonly _chanMgr?: { get(id: number): { readonly incoming?: { readonly window: number } } | undefined }
  readonly _protocol?: { readonly _handlers?: Record<'CHANNEL_DATA' | 'CHANNEL_EXTENDED_DATA', Handler> }
}

/** Hangs up on a host that sends more than it may. */
export function guardWindows(client: Client): void {
  const { _sock: socket, _chanMgr: channels, _protocol: protocol } = client as unknown as InnerClient
  const handlers = protocol?._handlers
  if (!socket || !channels || !handlers) return
  for (const kind of ['CHANNEL_DATA', 'CHANNEL_EXTENDED_DATA'] as const) {
    const take = handlers[kind]
    handlers[kind] = (from, recipient, data, type) => {
      const window = channels.get(recipient)?.incoming?.window
      if (window === undefined || data.length <= window) return take(from, recipient, data, type)
      socket.destroy(new Error('the host sent more than it was allowed to'))
    }
  }
}
