// One door to every kind of connection.
import type { Connection } from './connection.ts'
import { connectLocal } from './local.ts'
import type { ConnectionSettings } from './settings.ts'

/**
 * Opens a connection to a host.
 * @param name the inventory name, for messages
 * @throws UnreachableError when the host can't be reached or does not let us in
 */
export async function connect(name: string, settings: ConnectionSettings, signal?: AbortSignal): Promise<Connection> {
  if (settings.kind === 'local') return connectLocal(name, settings)
  if (settings.kind === 'ssh') {
    // node-ssh takes 47 ms to import: not for those who only list or work locally.
    const { connectSsh } = await import('./ssh/ssh.ts')
    return connectSsh(name, settings, signal)
  }
  const { connectOpenssh } = await import('./openssh/openssh.ts')
  return connectOpenssh(name, settings, signal)
}
