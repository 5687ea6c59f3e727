// Where the stand-in answers: a port of loopback, in the process of the test. A process of its own for each call would cost more than all of rekey.
import { createServer, type Socket } from 'node:net'
import { answer, Killed } from './call.ts'

/** The words that `kops` beside this file sends: how many there are, the kubeconfig, what goes to its stdin, and themselves. */
function callIn(received: Buffer): { kubeconfig: string; input: Buffer; args: string[] } | undefined {
  const fields = received.toString('utf8').split('\0')
  const [count, kubeconfig = '', input = '', ...rest] = fields
  // What comes after the last end is no field.
  if (rest.length <= Number(count)) return undefined
  return { kubeconfig, input: Buffer.from(input, 'base64'), args: rest.slice(0, -1) }
}

/**
 * Answers calls until it is closed.
 * @param kill ends rekey, from whom a call comes
 */
export async function serveStandIn(kill: () => void): Promise<{ port: number; close(): void }> {
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    let received = Buffer.alloc(0)
    let isCalled = false
    socket.on('data', async chunk => {
      received = Buffer.concat([received, chunk as Buffer])
      const call = isCalled ? undefined : callIn(received)
      if (!call) return
      isCalled = true
      try {
        const { code, stdout, stderr } = await answer({ ...call, isGone: () => socket.destroyed })
        const lengths = [stdout, stderr].map(text => Buffer.byteLength(text))
        socket.end(`${[code, ...lengths].join(' ')}\n${stdout}${stderr}`)
      } catch (error) {
        if (error instanceof Killed) kill()
        socket.destroy()
        if (!(error instanceof Killed)) throw error
      }
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  server.unref()
  return {
    port: (server.address() as { port: number }).port,
    close: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}
