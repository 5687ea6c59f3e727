// The traffic of a master's API server handed to the API server of another one, and proven to be there.
import { isIP } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import { servedAt } from '../../kubernetes/components/control.ts'
import { presentedCertificates } from '../../kubernetes/components/endpoints.ts'
import { type Destination, type HandedOver, handOver } from '../../kubernetes/components/handover.ts'
import { serviceOfTheApi } from '../../kubernetes/workloads.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession } from '../../playbook/model.ts'
import { type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { componentOf } from '../given/found.ts'
import { machines, masters } from '../given/hosts.ts'

export const variables = {
  /** Whether the only API server of a cluster may be away while it starts anew. */
  accept_gap: z.boolean().default(false),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** How long after the handover an API server is left alone: who has connected just before has asked by then. */
const connectedWithin = seconds(2)

/**
 * Hands the traffic of a master over, and proves it from every other host. Undefined where there is no other API server, or the host can't hand
 * anything over: that is told, and its clients then have what load balancers and kube-proxies do for them.
 */
export async function handedToAnother(
  ctx: OnCluster<Variables>,
  session: HostSession,
): Promise<HandedOver | undefined> {
  const { host } = session
  const another = nextTo(ctx.hosts(masters), host)
  if (!another) {
    requireGapAccepted(ctx, host)
    ctx.log(`${host.name} has the only API server: the API is away until it is back`)
    return undefined
  }
  const own = reachedAt(ctx, host)
  const services = await serviceOfTheApi(await ctx.cluster.api())
  let handed: HandedOver | undefined
  try {
    handed = await handOver(session, { port: own.port, to: reachedAt(ctx, another), services })
    await proven(ctx, session, handed, [own, ...services])
    ctx.log(`new connections to the API server of ${host.name} go to ${another.name}`)
    await delay(connectedWithin, undefined, { signal: ctx.signal })
    return handed
  } catch (error) {
    await handed?.takeBack()
    ctx.signal.throwIfAborted()
    if (!(error instanceof HostFailedError)) throw error
    ctx.log(`${error.message}. Calls to its API server fail from its end until load balancers and nodes have noticed`)
    return undefined
  }
}

/** Throws `HostFailedError` where no gap is accepted, for a master whose API server no other can stand in for. */
export function requireGapAccepted(ctx: { readonly vars: Variables }, { name }: Host): void {
  requireAccepted(ctx, `${name} has the only API server: no other can take its traffic`, {
    code: 'drained.alone',
    host: name,
  })
}

/** Throws `HostFailedError` where no gap is accepted, with why there would be one. */
export function requireAccepted(
  { vars }: { readonly vars: Variables },
  why: string,
  of: { readonly code: string; readonly host?: string },
): void {
  if (vars.accept_gap) return
  throw new HostFailedError(why, {
    ...of,
    hint: 'With -e accept_gap=true it is restarted, and the API is away until it is back.',
  })
}

/** The one after a host, round and round; undefined where it is alone. */
export function nextTo(all: readonly Host[], { name }: Host): Host | undefined {
  const at = all.findIndex(one => one.name === name)
  return [...all.slice(at + 1), ...all.slice(0, at)][0]
}

/** Where other hosts reach a master's API server. */
export function reachedAt(ctx: OnHost, { name, connection }: Host): Destination {
  const found = componentOf(ctx, 'kube-apiserver', name)
  const address = found.flags['advertise-address']?.at(-1) ?? connection.address
  const { port } = servedAt(found)
  if (isIP(address)) return { address, port }
  throw new HostFailedError(`the API server of ${name} says nowhere at which address it is reached`, {
    code: 'drained.address',
    host: name,
    hint: `Set its --advertise-address, or ansible_host of ${name} to its address: ${address} is a name.`,
  })
}

/**
 * Proves that who asks for a master's API server from another host, or for the Service from that one, is answered by another: it shakes
 * hands, and the kernel has counted it.
 */
async function proven(
  ctx: OnHost,
  session: HostSession,
  handed: HandedOver,
  [own, ...services]: readonly [Destination, ...Destination[]],
): Promise<void> {
  const { name } = session.host
  const askers = await Promise.all(
    ctx
      .hosts(machines)
      .filter(host => host.name !== name)
      .map(host => ctx.on(host)),
  )
  const family = services.filter(({ address }) => isIP(address) === isIP(own.address))
  const asked = [...askers.map(asker => [asker, own] as const), ...family.map(service => [session, service] as const)]
  await waitFor(
    `connections to the API server of ${name} to be handed over`,
    { within: seconds(30), every: 500, signal: ctx.signal, host: name },
    async () => {
      const before = await handed.count()
      await Promise.all(
        asked.map(([asker, { address, port }]) =>
          presentedCertificates(
            () => asker.forward(address, port),
            `${address}:${port}, as ${asker.host.name} reaches it,`,
          ),
        ),
      )
      const more = (await handed.count()) - before
      if (more >= asked.length) return true
      throw new Error(`of ${asked.length} only ${more} were`)
    },
  )
}
