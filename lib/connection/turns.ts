// Many hosts that answer at the same time: each takes some arithmetic, and the event loop is for others, too. What is over a slice of
// time waits for the next turn of the loop.
import type { Duplex } from 'node:stream'
import type { Client } from 'ssh2'

/** Milliseconds of each turn that hosts may take. */
const slice = 10

let began: number | undefined
const waiting: (() => void)[] = []

/** Whether this turn's slice is used up. The first to ask begins it. */
function isUsedUp(): boolean {
  if (began === undefined) {
    began = performance.now()
    setImmediate(() => {
      began = undefined
      goOn()
    })
  }
  return performance.now() - began > slice
}

/** Lets those that wait go, one after the other, while there is time. */
function goOn(): void {
  if (waiting.length === 0 || isUsedUp()) return
  waiting.shift()?.()
  // What it waited to do, and most of what follows from that, is done before it is the next one's turn, and counts.
  process.nextTick(queueMicrotask, () => process.nextTick(goOn))
}

/**
 * What to await before something that takes time: it resolves in a turn of the event loop that has some left. `undefined` where this
 * one has: then nothing is to be awaited, or many would all ask before the first of them begins.
 */
export function turnWithTime(): Promise<void> | undefined {
  return isUsedUp() ? new Promise<void>(resolve => waiting.push(resolve)) : undefined
}

/** Has a client that is connecting read what its host says in turns that have time left. */
export function takeTurns(client: Client): void {
  const { _sock: socket } = client as unknown as { _sock?: Duplex }
  if (!socket) return
  const on = socket.on.bind(socket)
  const listen = (event: string, listener: (...words: unknown[]) => void) => {
    if (event !== 'data') return on(event, listener)
    socket.on = on
    return on('data', (chunk: Buffer) => {
      if (!isUsedUp()) return listener(chunk)
      // It comes again, before the end of the stream.
      socket.pause()
      socket.unshift(chunk)
      waiting.push(() => void socket.resume())
    })
  }
  socket.on = listen as Duplex['on']
}
