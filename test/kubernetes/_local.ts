// This machine as the host `m1` of an inventory, for tests that run what rekey runs on hosts.
import { connect } from '../../lib/connection/connect.ts'
import { remoteFiles } from '../../lib/connection/files.ts'
import { remoteShell } from '../../lib/connection/remote.ts'
import type { HostSession } from '../../lib/playbook/model.ts'

/** This machine as a host, each command as `wrap` makes it. */
export async function localSession(wrap: (command: string) => string = command => command): Promise<HostSession> {
  const settings = {
    kind: 'local',
    address: '127.0.0.1',
    port: 22,
    user: 'me',
    hostKeyChecking: 'yes',
    connectTimeout: 5,
  } as const
  const connection = await connect('m1', settings)
  const wrapped = Object.create(connection) as typeof connection
  wrapped.spawn = (command, options) => connection.spawn(wrap(command), options)
  return {
    host: { name: 'm1', groups: [], vars: {}, connection: settings },
    $: remoteShell(wrapped),
    files: remoteFiles(wrapped),
    forward: (address, port) => connection.forward(address, port),
  }
}
