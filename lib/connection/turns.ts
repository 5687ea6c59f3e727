// Many hosts that log in at the same time: each takes milliseconds of arithmetic, and the event loop is for others, too. What is over
// a slice of time waits for the next turn of the loop.
import type { Duplex } from 'node:stream'
import type { Client } from 'ssh2'

/** Milliseconds of each turn that logging in may take. */
const slice = 20

let began: number | undefined
const waiting: (() => void)[] = []

/** Whether this turn's slice is used up. The first to ask begins it. */
function isUsedUp(): boolean {
  if (began === undefined) {
    began = performance.now()
    setImmediate(() => {
      began = undefined
      for (const go of waiting.splice(0)) go()
    })
  }
  return performance.now() - began > slice
}

/** Resolves in a turn of the event loop that has time left. */
export async function turnWithTime(): Promise<void> {
  while (isUsedUp()) await new Promise<void>(resolve => waiting.push(resolve))
}

/** Has a client that is connecting read what its host says in turns that have time left, until it is logged in. */
export function takeTurns(client: Client): void {
  const { _sock: socket } = client as unknown as { _sock?: Duplex }
  if (!socket) return
  let isIn = false
  client.once('ready', () => {
    isIn = true
  })
  const on = socket.on.bind(socket)
  const listen = (event: string, listener: (...words: unknown[]) => void) => {
    if (event !== 'data') return on(event, listener)
    socket.on = on
    return on('data', (chunk: Buffer) => {
      if (isIn || !isUsedUp()) return listener(chunk)
      // It comes again, before the end of the stream.
      socket.pause()
      socket.unshift(chunk)
      waiting.push(() => void socket.resume())
    })
  }
  socket.on = listen as Duplex['on']
}
