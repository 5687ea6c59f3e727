// A socket in a folder that a process listens on as long as it lives: the kernel takes it away with the process, however that ends, and
// whoever sees the folder on the same kernel can ask, from any container.
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'

/** A socket that is listened on. */
export interface LifeSocket {
  readonly name: string
  close(): void
}

const prefix = '.alive-'
/** The kernel answers at once; nobody is waited for. */
const patience = 2_000

/** Whether a name in a folder may be that of such a socket. */
export function isLifeSocket(name: string): boolean {
  return new RegExp(`^\\${prefix}[0-9a-f]{16}$`).test(name)
}

/** Listens in a folder. `undefined` where its file system has no sockets. */
export async function openLifeSocket(folder: string): Promise<LifeSocket | undefined> {
  const name = `${prefix}${randomBytes(8).toString('hex')}`
  const descriptor = openSync(folder, 'r')
  const server = createServer(socket => socket.destroy())
  const close = () => {
    server.close()
    rmSync(join(folder, name), { force: true })
    closeSync(descriptor)
  }
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ path: shortPath(folder, descriptor, name), exclusive: true }, resolve)
    })
  } catch {
    close()
    return undefined
  }
  // What becomes of who only asked is nobody's concern.
  server.on('error', () => {})
  server.unref()
  return { name, close }
}

/** Whether somebody on this kernel listens there; `undefined` where nobody can tell. */
export async function isListenedOn(folder: string, name: string): Promise<boolean | undefined> {
  if (!isLifeSocket(name)) return undefined
  let descriptor: number
  try {
    descriptor = openSync(folder, 'r')
  } catch {
    return undefined
  }
  const socket = connect({ path: shortPath(folder, descriptor, name) })
  try {
    return await new Promise<boolean | undefined>(resolve => {
      socket.once('connect', () => resolve(true))
      socket.once('error', ({ code }: NodeJS.ErrnoException) =>
        // EAGAIN: so many ask that the next one would have to wait.
        resolve(code === 'ECONNREFUSED' ? false : code === 'EAGAIN' ? true : undefined),
      )
      socket.setTimeout(patience, () => resolve(undefined))
    })
  } finally {
    socket.destroy()
    closeSync(descriptor)
  }
}

/** The path of a socket may have 107 letters. */
function shortPath(folder: string, descriptor: number, name: string): string {
  return existsSync('/proc/self/fd') ? `/proc/self/fd/${descriptor}/${name}` : join(folder, name)
}
