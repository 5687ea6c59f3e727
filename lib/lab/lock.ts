// One rekey at a time works on a lab. The lock is a socket in the kernel's own namespace of names: it is gone with
// the process that holds it, however that ends, and it answers whoever asks who that is.
import { connect, createServer } from 'node:net'
import { RekeyError } from '../errors.ts'

const address = (lab: string) => `\0rekey-lab-${lab}`

/**
 * Takes the lock of a lab for `doing`. Returns how to give it back.
 * Throws a `RekeyError` (`lab.busy`) that says which process has it, and what for.
 */
export async function lockLab(lab: string, doing: string): Promise<() => Promise<void>> {
  const started = new Date().toISOString()
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.end(`process ${process.pid}, 'rekey lab ${doing}', since ${started}`)
  })
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(address(lab), resolve)
    })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    throw new RekeyError(`lab '${lab}' is being worked on by ${await askHolder(lab)}`, {
      code: 'lab.busy',
      hint: 'Wait for it to end.',
    })
  }
  server.unref()
  return () => new Promise(resolve => server.close(() => resolve()))
}

async function askHolder(lab: string): Promise<string> {
  return new Promise(resolve => {
    let answer = ''
    const socket = connect(address(lab))
    socket.setTimeout(1000, () => socket.destroy())
    socket.on('data', chunk => {
      answer += chunk
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(answer || 'another process'))
  })
}
