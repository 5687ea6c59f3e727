// Whatever goes by a file that got another content, and does not read it again, started anew: one master at a time, gracefully, and the next one
// when that is well. What was started since is left alone, so that it may be done again from anywhere.
import { restartComponent, startTimesOf } from '../../kubernetes/components/control.ts'
import { flagFilesOf } from '../../kubernetes/components/flags.ts'
import { hasWrittenItself, restartKubelet } from '../../kubernetes/components/kubelet.ts'
import {
  type ComponentName,
  componentNames,
  type FileRole,
  type FoundComponent,
  type HostLayout,
} from '../../kubernetes/layout/host-layout.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { isAbsent, layoutOf, must, readingOf } from '../given/found.ts'
import { etcdHosts, etcdOnly, everyMachine, isMaster, machines, masters } from '../given/hosts.ts'
import { leadingLast } from './controllers.ts'
import { backInTraffic, type Drained, type Variables as DrainVariables, restartDrained, together } from './drained.ts'
import { wentRound } from './kubelets.ts'
import { requireQuorum } from './members.ts'
import { requireGapAccepted } from './traffic.ts'

type Drains = OnCluster<DrainVariables>

/** What was changed of the files of a cluster. */
export interface Changes<in Needs = Drains> {
  /** The files of a host that hold something else than before, links followed. */
  files(ctx: OnHost, host: string): readonly string[]
  /** Whether a component goes on with what it had read of a file that it names for this; where nothing is said, they all do. */
  keeps?(component: ComponentName, role: FileRole): boolean
  /**
   * On the way back: when the files of a host had been put in place, by its clock. What was started before that has never read them; where it
   * was not registered, nothing was. Without it, all is started anew that runs since before they were put back.
   */
  placedAt?(ctx: OnHost, host: string): number | undefined
  /** It counts when files were written, and not when they were put where they lie: what was put back is as old as it was before. */
  readonly byWriting?: true
  /** On the way there: proves of a member of etcd, or of an API server, what it is to do since it was started anew, before the next one is. */
  seen?(ctx: Needs, session: HostSession): Promise<void>
}

/** What components of 1.34 and etcd of 3.6 read again by themselves, by what they name it for; of etcd and the kubelet's pairs at each handshake. */
const reread: Readonly<Record<ComponentName, readonly FileRole[]>> = {
  'kube-apiserver': [
    ...(['client-ca', 'front-proxy-ca', 'serving', 'sni'] as const),
    ...(['front-proxy-client', 'kubelet-client', 'etcd-client'] as const),
  ],
  'kube-controller-manager': ['client-ca', 'front-proxy-ca', 'serving', 'signing'],
  'kube-scheduler': ['client-ca', 'front-proxy-ca', 'serving'],
  kubelet: ['client-ca', 'serving'],
  'kube-proxy': [],
  etcd: ['serving', 'peer', 'etcd-client'],
}

/** Whether a component goes on with what it had read of a file, until it is started anew. */
export const keepsWhatItRead = (component: ComponentName, role: FileRole): boolean => !reread[component].includes(role)

const controllerNames = ['kube-controller-manager', 'kube-scheduler'] as const

/** What serves the API on a master, in the order that it is told in. */
const serving = ['kube-apiserver', 'etcd'] as const

/** On how many nodes a kubelet or a kube-proxy is restarted at once: nothing that runs there notices. */
const nodesAtOnce = 5

/** Does something to what runs on every host: to that of masters one after the other, to the others a few at a time. */
export async function fewAtOnce(hosts: readonly Host[], work: (host: Host) => Promise<void>): Promise<void> {
  for (const host of hosts.filter(one => isMaster({ host: one }))) await work(host)
  const others = hosts.filter(one => !isMaster({ host: one }))
  for (let first = 0; first < others.length; first += nodesAtOnce)
    await Promise.all(others.slice(first, first + nodesAtOnce).map(work))
}

/** The files that a component goes by, and that were changed; those that it has its flags from among them. */
function changedOf(changes: Changes<never>, ctx: OnHost, found: FoundComponent, host: string): string[] {
  const { component, files } = found
  const changed = new Set(changes.files(ctx, host))
  // A link that leads elsewhere is changed itself, and not what it led to.
  const own = files.flatMap(({ path, real, role }) =>
    changes.keeps?.(component, role) === false ? [] : [real, path].filter(one => changed.has(one)),
  )
  const flags = flagFilesOf(found).filter(path => changed.has(path))
  return [...new Set([...own, ...flags])]
}

/** The component of a host, where one of its files gets another content; none that the API gave to the node, which goes on with what it has. */
function holderOf(
  changes: Changes<never>,
  ctx: OnHost,
  component: ComponentName,
  host: string,
): FoundComponent | undefined {
  const found = layoutOf(ctx, host).components[component]
  if (!found || found.runs.kind === 'pod') return undefined
  return changedOf(changes, ctx, found, host).length > 0 ? found : undefined
}

/**
 * When the last of these files was put where it lies, in seconds by the clock of its host: a rename changes that; or when it was written. One that
 * is not there was taken away when its folder changed last.
 */
export async function changedAt({ $ }: HostSession, paths: readonly string[], byWriting = false): Promise<number> {
  const { stdout } = await $({
    quiet: true,
  })`for f in ${paths}; do while [ ! -e "$f" ]; do f=$(dirname "$f"); done; stat -c ${byWriting ? '%.9Y' : '%.9Z'} "$f"; done`
  return Math.max(...stdout.trim().split('\n').map(Number))
}

/** A component of a host that still goes by what it read before: not all of its processes were started since. */
async function dueOf(changes: Changes<never>, ctx: OnHost, component: ComponentName, host: Host) {
  const found = holderOf(changes, ctx, component, host.name)
  if (!found) return undefined
  const session = await ctx.on(host)
  const started = await startTimesOf(session, found)
  // On the way back: who was started before the files were put in place has never read them.
  const first =
    ctx.mode === 'rollback' && changes.placedAt ? (changes.placedAt(ctx, host.name) ?? Number.POSITIVE_INFINITY) : 0
  const isDone = async (files: readonly string[]) => {
    if (files.length === 0) return true
    const at = await changedAt(session, files, changes.byWriting)
    return started.length > 0 && started.every(one => one >= at || one < first)
  }
  const changed = changedOf(changes, ctx, found, host.name)
  if (await isDone(changed)) return undefined
  const others = await withoutItsOwn(session, layoutOf(ctx, host.name), found, { started, changed })
  return others.length < changed.length && (await isDone(others)) ? undefined : { session, found }
}

/** Those of the changed files of a component that it has not written itself: a kubelet that joins writes its kubeconfig, and knows what that holds. */
async function withoutItsOwn(
  session: HostSession,
  layout: HostLayout,
  { component, files }: FoundComponent,
  { started, changed }: { readonly started: readonly number[]; readonly changed: readonly string[] },
): Promise<readonly string[]> {
  const own = files.find(({ role, real }) => role === 'kubeconfig' && changed.includes(real))
  const isItsOwn =
    component === 'kubelet' && own !== undefined && (await hasWrittenItself(session, layout, own.real, started))
  return isItsOwn ? changed.filter(path => path !== own.real) : changed
}

/** The hosts that have such a component, in the order that they are restarted in. */
const holders = (changes: Changes<never>, ctx: OnHost, component: ComponentName, hosts: readonly Host[]) =>
  hosts.filter(({ name }) => holderOf(changes, ctx, component, name) !== undefined)

const told = (changes: Changes<never>, ctx: OnHost, component: ComponentName, hosts: readonly Host[]) =>
  holders(changes, ctx, component, hosts).map(
    ({ name }) => `restart ${component} of ${name} gracefully, and wait until it is well`,
  )

/** Restarts the kubelet of a host, and waits until its node is Ready; on a master, where it starts others, until it went round its pods, too. */
export async function restartKubeletOf(ctx: OnCluster, host: Host, { runs }: FoundComponent): Promise<void> {
  const node = must(readingOf(ctx, host.name).nodeName, `no kubelet was found on ${host.name}`)
  const unit = runs.kind === 'unit' ? runs.unit : undefined
  const heartbeat = await restartKubelet(ctx.cluster, await ctx.on(host), node, unit)
  await ctx.cluster.nodesReady([node], { within: seconds(120), notBy: { [node]: heartbeat } })
  if (isMaster({ host })) await wentRound(ctx, host)
}

/** What restarts those that go by changed files: steps, in the order that they are done in, and what is told of them. */
export interface Restarts<in Needs extends Drains = Drains> {
  /** Fails where the only API server would be restarted, and nobody has accepted that the API is away meanwhile. */
  readonly mayBeAway: StepDefinition<Drains>
  /**
   * Restarts the kubelets: those of masters one after the other, each until it went round its pods, since what is ended before that is started
   * half a minute later; the others a few at a time.
   */
  readonly kubelets: StepDefinition<OnCluster>
  /** Restarts etcd where it is on machines of its own, one member after the other, another one leading. */
  readonly etcdMembers: StepDefinition<Needs>
  /**
   * Restarts what serves the API, master by master: an API server and the member of etcd beside it, while another master answers. One whose
   * run ended between its start and the return of its traffic gets that back.
   */
  readonly apiServers: StepDefinition<Needs>
  /** Restarts controller-managers and schedulers: those that lead last, so that the lead changes once. */
  readonly controllers: StepDefinition<OnCluster>
  /** Restarts kube-proxy where it is a unit with a kubeconfig of its own: on masters one after the other, elsewhere a few at a time. */
  readonly kubeProxies: StepDefinition<OnCluster>
  /** What of a host still goes by a file that was there before: nothing, once all is done. */
  notStartedSince(ctx: OnHost, host?: Host): Promise<ComponentName[]>
  /** What of the cluster is started anew, a line each, for a plan and a report. */
  restarted(ctx: OnHost): [component: string, hosts: string][]
}

/** The restarts that a change of files makes necessary. */
export function restartsOf<Needs extends Drains = Drains>(changes: Changes<Needs>): Restarts<Needs> {
  const due = (ctx: OnHost, component: ComponentName, host: Host) => dueOf(changes, ctx, component, host)
  const tell = (ctx: OnHost, component: ComponentName, hosts: readonly Host[]) => told(changes, ctx, component, hosts)
  const any = (ctx: OnHost, components: readonly ComponentName[], hosts: readonly Host[]) =>
    components.some(component => holders(changes, ctx, component, hosts).length > 0)
  const restart = async (ctx: Needs, session: HostSession, wanted: readonly Drained[]) => {
    await restartDrained(ctx, session, wanted)
    await see(ctx, session)
  }
  const see = async (ctx: Needs, session: HostSession) => {
    if (ctx.mode !== 'rollback') await changes.seen?.(ctx, session)
  }
  const over = <In extends OnCluster>(
    id: string,
    components: readonly ComponentName[],
    hosts: (ctx: OnCluster) => readonly Host[],
    run: (ctx: In) => Promise<void>,
  ): StepDefinition<In> => ({
    id,
    runOnce: true,
    when: ctx => any(ctx, components, hosts(ctx)),
    plan: ctx => components.flatMap(component => tell(ctx, component, hosts(ctx))),
    run,
  })
  const onMasters = (ctx: OnCluster) => ctx.hosts(masters)
  return {
    mayBeAway: {
      readOnly: true,
      runOnce: true,
      run: ctx => {
        const [alone, ...others] = ctx.hosts(masters)
        if (alone && others.length === 0 && any(ctx, serving, [alone])) requireGapAccepted(ctx, alone)
        if (any(ctx, ['etcd'], etcdHosts(ctx))) requireQuorum(ctx)
      },
    },
    kubelets: over<OnCluster>(
      'restart-the-kubelets',
      ['kubelet'],
      ctx => ctx.hosts(machines),
      async ctx => {
        await fewAtOnce(ctx.hosts(machines), async host => {
          const isNamed = holders(changes, ctx, 'kubelet', [host]).length > 0
          // It would be waited for until its node is Ready.
          if (isNamed && isAbsent(ctx, host.name))
            return ctx.log(`the kubelet of ${host.name} is left out: it goes by what it has read`)
          const found = await due(ctx, 'kubelet', host)
          if (found) await restartKubeletOf(ctx, host, found.found)
        })
        ctx.milestone('nodes ready')
      },
    ),
    etcdMembers: over<Needs>('restart-the-members-of-etcd', ['etcd'], etcdOnly, async ctx => {
      for (const host of etcdOnly(ctx)) {
        const found = await due(ctx, 'etcd', host)
        if (found) await restart(ctx, found.session, ['etcd'])
      }
    }),
    apiServers: {
      ...over<Needs>('restart-etcd-and-the-api-servers', serving, onMasters, async ctx => {
        for (const host of ctx.hosts(masters)) {
          const session = await ctx.on(host)
          const found = await Promise.all(serving.map(component => due(ctx, component, host)))
          const wanted = serving.filter((_, index) => found[index] !== undefined)
          if (wanted.length > 0) await restart(ctx, session, together(ctx, wanted, host.name))
          else if (layoutOf(ctx, host.name).components['kube-apiserver']) {
            await backInTraffic(ctx, session)
            // The run may have ended between its start and that.
            await see(ctx, session)
          }
        }
      }),
      plan: ctx => ctx.hosts(masters).flatMap(host => serving.flatMap(component => tell(ctx, component, [host]))),
    },
    controllers: over<OnCluster>(
      'restart-controller-managers-and-schedulers',
      controllerNames,
      onMasters,
      async ctx => {
        for (const component of controllerNames) {
          for (const host of await leadingLast(ctx, component, ctx.hosts(masters))) {
            const found = await due(ctx, component, host)
            if (found) await restartComponent(found.session, found.found, { within: seconds(120), signal: ctx.signal })
          }
        }
      },
    ),
    kubeProxies: over<OnCluster>(
      'restart-kube-proxies',
      ['kube-proxy'],
      ctx => ctx.hosts(everyMachine),
      async ctx => {
        await fewAtOnce(ctx.hosts(everyMachine), async host => {
          // As its kubelet: of a machine whose node is away nothing is asked.
          if (isAbsent(ctx, host.name)) return
          const found = await due(ctx, 'kube-proxy', host)
          if (found) await restartComponent(found.session, found.found, { within: seconds(90), signal: ctx.signal })
        })
      },
    ),
    notStartedSince: async (ctx, host = ctx.host) => {
      const all = await Promise.all(componentNames.map(component => due(ctx, component, host)))
      return all.flatMap(one => (one ? [one.found.component] : []))
    },
    restarted: ctx =>
      componentNames.flatMap((component): [string, string][] => {
        const hosts = holders(changes, ctx, component, ctx.hosts(everyMachine)).map(({ name }) => name)
        return hosts.length > 0 ? [[component, hosts.join(', ')]] : []
      }),
  }
}
