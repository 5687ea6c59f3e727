// A component acted upon on its host, whichever way it runs there: started anew, ended, killed, and seen to be back.
import { quote, raw } from '../../connection/shell.ts'
import { waitFor } from '../../operations/wait.ts'
import type { HostSession } from '../../playbook/model.ts'
import { getFromLoopback } from '../api/loopback.ts'
import type { ComponentName, FoundComponent } from '../layout/host-layout.ts'
import { reachable } from '../layout/named-files.ts'
import { presentedCertificates } from './endpoints.ts'
import { kubeProxySynced } from './kube-proxy.ts'

/** How long to wait, in milliseconds. */
export interface Patience {
  readonly within: number
  readonly signal?: AbortSignal
}

/** The processes of a component on its host: the main one of its unit, or those of its pod by the name that they were started with. */
export async function processesOf({ $ }: HostSession, { component, runs }: FoundComponent): Promise<number[]> {
  const quietly = $({ nothrow: true, quiet: true })
  if (runs.kind === 'unit') {
    const { stdout } = await quietly`systemctl show -p MainPID --value ${runs.unit}`
    return stdout.split('\n').map(Number).filter(Boolean)
  }
  // One grep over all command lines: their words end in NUL, and one of them must be the name, with or without a folder.
  const { stdout } = await quietly`grep -lzxE ${`(/[^ ]*/)?${component}`} /proc/[0-9]*/cmdline 2>/dev/null`
  return stdout
    .split('\n')
    .filter(Boolean)
    .map(path => Number(path.split('/')[2]))
}

/** When each process of a component was started, in seconds by the clock of its host, to a hundredth; empty where none runs. */
export async function startTimesOf(session: HostSession, found: FoundComponent): Promise<number[]> {
  const processes = await processesOf(session, found)
  if (processes.length === 0) return []
  // The 22nd field, counted from behind the name, which may hold anything: ticks since the machine was started.
  const { stdout } = await session.$({ nothrow: true, quiet: true })`
hz=$(getconf CLK_TCK 2>/dev/null) || hz=100
read -r up _ </proc/uptime; now=$(date +%s.%N)
for p in ${processes}; do
  s=$(cat "/proc/$p/stat" 2>/dev/null) || continue
  set -- $(printf '%s' "\${s##*) }"); shift 19
  echo "$now $up $1 $hz"
done`
  return stdout
    .split('\n')
    .filter(Boolean)
    .map(line => {
      const [now = 0, up = 0, ticks = 0, hz = 100] = line.split(' ').map(Number)
      return now - up + ticks / hz
    })
}

/**
 * Kills a component, and has it started anew; nobody waits for connections to drain. A pod is started by its kubelet: at once the first time
 * that it sees this happen, and only after a back-off of 10 s and more the next times; a kubelet that was restarted before has forgotten the
 * others. A unit is started at once, whatever its pause between restarts. Nobody waits for its start either: an etcd notifies only when it
 * has a quorum.
 * @returns the ids of the processes that were killed, for `startedAnew`
 */
export function killComponent(session: HostSession, found: FoundComponent): Promise<number[]> {
  return end(session, found, 'KILL')
}

/** Ends a component gracefully (SIGTERM), and has it started anew. Returns as `killComponent` does. */
export function endComponent(session: HostSession, found: FoundComponent): Promise<number[]> {
  return end(session, found, 'TERM')
}

async function end(session: HostSession, found: FoundComponent, how: 'KILL' | 'TERM'): Promise<number[]> {
  const { runs } = found
  const before = await processesOf(session, found)
  if (runs.kind !== 'unit') {
    if (before.length > 0) await session.$({ nothrow: true })`kill -${how} ${before}`
    return before
  }
  // Several in a row are no crash loop: what systemd counted is forgotten.
  const anew = raw(
    `{ systemctl reset-failed ${quote(runs.unit)} 2>/dev/null; systemctl restart --no-block ${quote(runs.unit)}; }`,
  )
  if (how === 'TERM' || before.length === 0) await session.$`${anew}`
  // A start that systemd has put off begins with a restart only; what it has begun itself by then is left alone.
  else
    await session.$`kill -KILL ${before} 2>/dev/null; n=0
while [ $n -lt 100 ]; do
  case $(systemctl show -p MainPID --value ${runs.unit}) in ${before[0]}) sleep 0.05 ;; 0) ${anew}; exit ;; *) exit 0 ;; esac
  n=$((n + 1))
done; ${anew}`
  return before
}

/** Waits until a component has a process that is none of `before`. Throws `HostFailedError` after `within` milliseconds. */
export async function startedAnew(
  session: HostSession,
  found: FoundComponent,
  before: readonly number[],
  { within, signal }: Patience,
): Promise<void> {
  const { name } = session.host
  await waitFor(
    `${found.component} of ${name} to be started anew`,
    { within, every: 250, signal, host: name },
    async () => (await processesOf(session, found)).some(pid => !before.includes(pid)),
  )
}

/**
 * Ends a component gracefully, and waits until it serves again. The start of a unit that notifies returns when it is ready; all are asked.
 * Throws `HostFailedError` after `within` milliseconds.
 */
export async function restartComponent(
  session: HostSession,
  found: FoundComponent,
  { within, signal }: Patience,
): Promise<void> {
  const { name } = session.host
  if (found.runs.kind === 'unit') await restartUnit(session, found.runs.unit)
  else await startedAnew(session, found, await endComponent(session, found), { within, signal })
  await waitFor(`${found.component} of ${name} to serve`, { within, every: 250, signal, host: name }, () =>
    componentServes(session, found),
  )
}

/** Restarts a unit of systemd, whatever came of its starts before, and waits as long as this one takes. Throws `HostFailedError` where it doesn't start. */
export async function restartUnit({ $ }: HostSession, unit: string): Promise<void> {
  await $`systemctl reset-failed ${unit} 2>/dev/null; systemctl restart ${unit} && systemctl is-active ${unit}`
}

/** Where components serve when nothing else was found. */
const usualPorts: Readonly<Record<ComponentName, number>> = {
  etcd: 2379,
  'kube-apiserver': 6443,
  'kube-controller-manager': 10_257,
  'kube-scheduler': 10_259,
  kubelet: 10_250,
  'kube-proxy': 10_256,
}

/** Where a component serves with TLS, as its host reaches it. */
export function servedAt({ component, endpoints }: FoundComponent): { address: string; port: number } {
  const { address, port } = endpoints.find(({ role }) => role === 'serving') ?? {
    address: '127.0.0.1',
    port: usualPorts[component],
  }
  return { address: reachable(address), port }
}

/**
 * Whether a component serves, ready or not: by its own word where it has one, or a handshake. May reject with `HostFailedError` where it does
 * not even listen. Of an etcd, `etcdServes` knows more.
 */
export async function componentServes(session: HostSession, found: FoundComponent): Promise<boolean> {
  const { address, port } = servedAt(found)
  const open = () => session.forward(address, port)
  switch (found.component) {
    case 'kubelet':
      return (await getFromLoopback(session, flagPort(found, 'healthz-port', 10_248), '/healthz')) === 'ok'
    case 'kube-proxy':
      // One that shows no metrics is taken at its unit's word.
      return (await kubeProxySynced(session, kubeProxyPort(found))) ?? true
    case 'kube-controller-manager':
    case 'kube-scheduler':
      return (await getFromLoopback(session, port, '/healthz', { address, tls: {} })) === 'ok'
    default:
      return (await presentedCertificates(open, `${session.host.name}:${port}`)) !== ''
  }
}

/** Where a kube-proxy shows its metrics. */
export const kubeProxyPort = (found: FoundComponent) => flagPort(found, 'metrics-bind-address', 10_249)

/** The port that a flag gives, alone or behind an address. */
function flagPort({ flags }: FoundComponent, name: string, usual: number): number {
  const port = Number(flags[name]?.at(-1)?.split(':').at(-1))
  return port > 0 ? port : usual
}
