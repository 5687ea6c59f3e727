// Connections over SSH, by node-ssh: one a host, every command a channel of it.
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from 'ssh2'
import type { UnreachableError } from '../../errors.ts'
import { sshConnection } from '../commands/channels.ts'
import { cannotReach } from '../connect-errors.ts'
import type { Connection } from '../connection.ts'
import type { ConnectionSettings } from '../settings.ts'
import { type Hop, sharedBastions } from './bastions.ts'
import { leaveClient, openClient } from './client.ts'
import { startProxy } from './proxy-command.ts'

/**
 * Connects to a host over SSH, its host key checked before anything is sent to it.
 * @param name the inventory name, for messages
 * @param signal gives up the attempt
 * @throws UnreachableError when it can't be reached, its key is not the known one, or it does not let us in
 */
export async function connectSsh(
  name: string,
  settings: ConnectionSettings,
  signal?: AbortSignal,
): Promise<Connection> {
  const another = async () => {
    const { client, close } = await reach(name, settings)
    return sshConnection(name, client, settings, close)
  }
  const { client, close } = await reach(name, settings, signal)
  return sshConnection(name, client, settings, close, another)
}

/** Logs in, whichever way leads there. Returns what ends the connection, and the way. */
async function reach(
  name: string,
  settings: ConnectionSettings,
  signal?: AbortSignal,
): Promise<{ client: Client; close: () => void }> {
  signal?.throwIfAborted()
  const { proxyJump = [], proxyCommand } = settings
  const connected = (client: Client, leave?: () => void) => {
    const close = () => {
      leaveClient(client)
      leave?.()
    }
    return { client, close }
  }
  if (proxyCommand !== undefined) {
    const proxy = startProxy(settings, proxyCommand)
    try {
      return connected(await openClient(name, settings, proxy.stream, signal), proxy.end)
    } catch (error) {
      proxy.end()
      throw error
    }
  }
  if (proxyJump.length === 0) {
    return connected(await patiently(settings, signal, () => openClient(name, settings, undefined, signal)))
  }
  const bastion = await enterBastion(name, settings, proxyJump, signal)
  try {
    const open = async (hop: ClientHop) => openClient(name, settings, await hop.way(name, settings), signal)
    return connected(await patiently(settings, signal, () => bastion.turn(open)), bastion.leave)
  } catch (error) {
    bastion.leave()
    throw error
  }
}

interface ClientHop extends Hop {
  /** A stream to a host behind it. Rejects with `UnreachableError`. */
  way(name: string, to: ConnectionSettings): Promise<Duplex>
}

const enterBastion = sharedBastions<ClientHop>(async (hopName, hop, before, signal) => {
  const client = await openClient(hopName, hop, await before?.way(hopName, hop), signal)
  client.on('error', () => {})
  return {
    close: () => leaveClient(client),
    onClose: listener => void client.once('close', listener),
    way: (name, to) => wayThrough(client, hopName, name, to),
  }
})

/** A host that swallows what is sent to it must not keep the others from their turn. */
function wayThrough(client: Client, hopName: string, name: string, to: ConnectionSettings): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string, cause?: Error) => reject(cannotReach(name, to, `${reason} (from ${hopName})`, cause))
    let late = false
    const timer = setTimeout(() => {
      late = true
      fail(`no answer within ${to.connectTimeout} s`)
    }, to.connectTimeout * 1_000)
    try {
      client.forwardOut('127.0.0.1', 0, to.address, to.port, (error, channel) => {
        clearTimeout(timer)
        if (error) return fail(error.message.replace(/^\(SSH\) Channel open failure: /, ''), error)
        // Nobody may wait for it any more.
        if (late) return void channel.destroy()
        resolve(channel)
      })
    } catch (error) {
      clearTimeout(timer)
      fail('the connection to it was lost', error as Error)
    }
  })
}

/**
 * An sshd drops what is over its MaxStartups before it says a word: that is worth another try, a little later. Whatever else
 * it says no to is not.
 */
export async function patiently<T>(
  { connectTimeout }: ConnectionSettings,
  signal: AbortSignal | undefined,
  open: () => Promise<T>,
): Promise<T> {
  const until = performance.now() + connectTimeout * 1_000
  for (let pause = 200; ; pause = Math.min(2 * pause, 1_000)) {
    try {
      return await open()
    } catch (error) {
      const early = (error as UnreachableError).code === 'connection.closed-early'
      if (!early || signal?.aborted || performance.now() > until) throw error
    }
    // Not all at the same moment again.
    await delay(pause * (0.5 + Math.random()), undefined, { signal }).catch(() => {})
  }
}
