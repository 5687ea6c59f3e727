// Hops on the way to hosts (ProxyJump): one connection to each, however many hosts are behind it, and a few handshakes through
// it at a time. A bastion that a hundred hosts are reached through would else see a hundred logins at once, and drop most.
import { RekeyError, UnreachableError } from '../../errors.ts'
import { limiter } from '../limiter.ts'
import type { ConnectionSettings } from '../settings.ts'

/** sshd begins to drop connections at 10 that have not logged in yet (`MaxStartups 10:30:100`). */
const handshakesAtOnce = 8

/** An open connection to a hop. */
export interface Hop {
  close(): void
  /** Calls back once, when it is lost or closed. */
  onClose(listener: () => void): void
}

/** A hop that others may use, too. */
export interface Bastion<H extends Hop> {
  /** Connects to something behind it, when it is our turn. */
  turn<T>(connect: (hop: H) => Promise<T>): Promise<T>
  /** To be called once by everybody who entered; the last one closes it. */
  leave(): void
}

/** Connects to a hop, through the one before it if there is one. */
export type OpenHop<H extends Hop> = (
  name: string,
  settings: ConnectionSettings,
  before: H | undefined,
  signal?: AbortSignal,
) => Promise<H>

/**
 * Bastions that all who reach hosts in one way share. Returns what enters the last of a host's hops, through those before it;
 * it rejects with `UnreachableError` when one can't be reached or does not let us in.
 */
export function sharedBastions<H extends Hop>(open: OpenHop<H>) {
  const inUse = new Map<string, { opening: Promise<H>; limit: ReturnType<typeof limiter>; users: number }>()

  const openLast = async (settings: ConnectionSettings, hops: readonly string[], signal?: AbortSignal): Promise<H> => {
    const name = `the bastion ${hops.at(-1)}`
    const own = hopSettings(hops.at(-1)!, settings)
    if (hops.length === 1) return open(name, own, undefined, signal)
    const before = await enter(name, settings, hops.slice(0, -1), signal)
    try {
      const hop = await before.turn(through => open(name, own, through, signal))
      hop.onClose(before.leave)
      return hop
    } catch (error) {
      before.leave()
      throw error
    }
  }

  const enter = async (
    name: string,
    settings: ConnectionSettings,
    hops: readonly string[],
    signal?: AbortSignal,
  ): Promise<Bastion<H>> => {
    const { user, privateKeyFile, password, knownHostsFiles, hostKeyChecking } = settings
    const key = JSON.stringify([hops, user, privateKeyFile, password, knownHostsFiles, hostKeyChecking])
    const known = inUse.get(key)
    const shared = known ?? { opening: openLast(settings, hops, signal), limit: limiter(handshakesAtOnce), users: 0 }
    const forget = () => {
      if (inUse.get(key) === shared) inUse.delete(key)
    }
    if (!known) {
      inUse.set(key, shared)
      // One that is lost, or was never there, is connected to anew by the next who needs it.
      shared.opening.then(hop => hop.onClose(forget), forget)
    }
    shared.users++
    const leave = () => {
      if (--shared.users > 0) return
      forget()
      shared.opening.then(hop => hop.close()).catch(() => {})
    }
    const hop = await shared.opening.catch((error: Error) => {
      leave()
      throw error instanceof UnreachableError ? behind(name, error) : error
    })
    return { leave, turn: connect => shared.limit(() => connect(hop)) }
  }
  return enter
}

/** The same for a host behind it. */
function behind(name: string, error: UnreachableError): UnreachableError {
  const { code, hint } = error
  return new UnreachableError(`${name} can't be reached: ${error.message}`, { code, host: name, hint, cause: error })
}

/** How to reach a hop: as its host, except where it says otherwise itself. */
function hopSettings(hop: string, target: ConnectionSettings): ConnectionSettings {
  const match = /^(?:ssh:\/\/)?(?:([^@]+)@)?(\[[^\]]+\]|[^:@]+)(?::(\d+))?$/.exec(hop)
  if (!match) {
    throw new RekeyError(`ProxyJump: "${hop}" is no user@address:port`, { code: 'inventory.connection-variable' })
  }
  const [, user = target.user, host = '', port = '22'] = match
  const address = host.replace(/^\[|\]$/g, '')
  const openssh = target.openssh && { ...target.openssh, destination: address, options: [] }
  return { ...target, user, address, port: Number(port), openssh, proxyJump: undefined, become: undefined }
}
