// The control plane stopped on a host, so that nothing writes and no API server keeps what it remembers.
import { processesOf } from '../../kubernetes/components/control.ts'
import type { ComponentName, FoundComponent } from '../../kubernetes/layout/host-layout.ts'
import { waitFor } from '../../operations/wait.ts'
import type { HostSession } from '../../playbook/model.ts'
import { type OnHost, seconds } from '../given/context.ts'
import { layoutOf } from '../given/found.ts'

/** In the order in which they are stopped; the other way round they are started. */
export const controlPlane = ['kube-scheduler', 'kube-controller-manager', 'kube-apiserver', 'etcd'] as const

/** What of these a host has. */
export const own = (ctx: OnHost, names: readonly ComponentName[] = controlPlane): FoundComponent[] =>
  names.flatMap(name => {
    const found = layoutOf(ctx).components[name]
    return found && found.runs.kind !== 'pod' ? [found] : []
  })

/** Whether a host has a part of the control plane. */
export const isMember = (ctx: OnHost) => own(ctx).length > 0

/** Those that are units of systemd, by their names. */
export const units = (found: readonly FoundComponent[]) =>
  found.flatMap(({ runs }) => (runs.kind === 'unit' ? [runs.unit] : []))

/** The kubelet of a host, where it starts something of the control plane. */
export const kubeletOf = (ctx: OnHost): string[] =>
  own(ctx).some(({ runs }) => runs.kind === 'static-pod')
    ? units(own(ctx, ['kubelet'])).concat(own(ctx, ['kubelet']).length === 0 ? ['kubelet.service'] : [])
    : []

/**
 * The processes of a component that a host runs by. Of a pod those that are called so and are in a pod with the network of the host: an
 * archiver of its data and a tenant's etcd are somebody else's.
 */
export async function processesOn(session: HostSession, found: FoundComponent): Promise<number[]> {
  const named = await processesOf(session, found)
  if (found.runs.kind === 'unit' || named.length === 0) return named
  const { stdout } = await session.$({ nothrow: true, quiet: true })`net=$(readlink /proc/self/ns/net)
for p in ${named}; do
  [ "$(readlink "/proc/$p/ns/net")" = "$net" ] && grep -q kubepods "/proc/$p/cgroup" || continue
  first=$(tr '\\0' '\\n' <"/proc/$p/cmdline" | head -n 1); exe=$(readlink "/proc/$p/exe")
  if [ "\${first##*/}" = ${found.component} ] || [ "\${exe##*/}" = ${found.component} ]; then echo "$p"; fi
done 2>/dev/null`
  return stdout.split('\n').filter(Boolean).map(Number)
}

/** How long what is told to end may take until it is killed. */
const patience = 20

/**
 * Stops what a host has of the control plane: the kubelet first that would start it again, where it is pods. Graceful, for a while; then killed.
 * @throws HostFailedError where something of it goes on
 */
export async function stopped(ctx: OnHost): Promise<void> {
  const found = own(ctx)
  const pods = found.filter(({ runs }) => runs.kind === 'static-pod')
  const names = [...kubeletOf(ctx), ...units(found)]
  for (const unit of names)
    await ctx.$({ nothrow: true, quiet: true })`timeout 60 systemctl stop ${unit} || systemctl kill -s KILL ${unit}`
  for (const unit of names)
    await waitFor(
      `${unit} of ${ctx.host.name} to stop`,
      { within: seconds(30), every: 250, signal: ctx.signal, host: ctx.host.name },
      async () => {
        const { stdout } = await ctx.$({ nothrow: true, quiet: true })`systemctl show -p ActiveState --value ${unit}`
        return ['inactive', 'failed'].includes(stdout.trim())
      },
    )
  const running = (await Promise.all(pods.map(one => processesOn(ctx, one)))).flat()
  if (running.length > 0)
    await ctx.$({ nothrow: true })`kill -TERM ${running} 2>/dev/null; n=0
while [ $n -lt ${patience * 5} ]; do
  left=; for p in ${running}; do ! kill -0 $p 2>/dev/null || left="$left $p"; done
  [ "$left" ] || exit 0
  sleep 0.2; n=$((n + 1))
done
kill -KILL $left 2>/dev/null || :`
  await waitFor(
    `the control plane of ${ctx.host.name} to end`,
    { within: seconds(30), every: 250, signal: ctx.signal, host: ctx.host.name },
    async () => (await Promise.all(found.map(one => processesOn(ctx, one)))).flat().length === 0,
  )
}
