// Connections by the system's ssh, for what ssh2 can't do: certificates, security tokens, GSSAPI, an unusual configuration. One
// master logs in, and every command is a channel of it.

import { sshConnection } from '../commands/channels.ts'
import { cannotReach } from '../connect-errors.ts'
import type { Connection } from '../connection.ts'
import type { ConnectionSettings } from '../settings.ts'
import { type Bastion, sharedBastions } from '../ssh/bastions.ts'
import { patiently } from '../ssh/ssh.ts'
import { type Master, openMaster, requireOpenssh } from './master.ts'
import { openSharedChannels } from './shared-channels.ts'

/**
 * Connects to a host by the system's ssh.
 * @param name the inventory name, for messages
 * @param signal gives up the attempt
 * @throws UnreachableError when it can't be reached, its key is not the known one, or it does not let us in
 */
export async function connectOpenssh(
  name: string,
  settings: ConnectionSettings,
  signal?: AbortSignal,
): Promise<Connection> {
  requireOpenssh(name)
  const hops = settings.proxyJump ?? []
  const bastion = hops.length > 0 ? await enterBastion(name, settings, hops, signal) : undefined
  try {
    const master = await patiently(settings, signal, () => openThrough(bastion, name, settings, signal))
    try {
      const channels = await openSharedChannels(master.controlPath)
      master.onClose(() => channels.end())
      return sshConnection(name, channels, settings, () => {
        channels.end()
        master.close()
        bastion?.leave()
      })
    } catch (error) {
      master.close()
      throw cannotReach(name, settings, (error as Error).message, error as Error)
    }
  } catch (error) {
    bastion?.leave()
    throw error
  }
}

const enterBastion = sharedBastions<Master>(openMaster)

function openThrough(
  bastion: Bastion<Master> | undefined,
  name: string,
  settings: ConnectionSettings,
  signal?: AbortSignal,
): Promise<Master> {
  if (!bastion) return openMaster(name, settings, undefined, signal)
  return bastion.turn(hop => openMaster(name, settings, hop, signal))
}
