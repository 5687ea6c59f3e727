// Components that are clients of the API by certificates. Each presents what its process has read, which is not what lies there where that was replaced
// since: a promotion that was cut off, and not gone on with, leaves those of before in memory.
import { HostFailedError } from '../../../errors.ts'
import { processesOf, startTimesOf } from '../../../kubernetes/components/control.ts'
import { kubeletPresents } from '../../../kubernetes/components/kubelet.ts'
import type { ComponentName, FoundComponent } from '../../../kubernetes/layout/host-layout.ts'
import { ownClientFile } from '../../../kubernetes/layout/plan.ts'
import { parseCertificate } from '../../../pki/certificates/certificate.ts'
import { placePath } from '../../../pki/specs.ts'
import type { Host } from '../../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../../playbook/model.ts'
import { type Variables as ConditionVariables, isAccepted } from '../../conditions.ts'
import type { OnCluster, OnHost } from '../../given/context.ts'
import { isAbsent, layoutOf, planOf, readingOf } from '../../given/found.ts'
import { everyMachine } from '../../given/hosts.ts'
import { changedAt } from '../../restart/due.ts'
import { clusterKeysetOf, formerOf } from '../state.ts'

/** Those that come to the API by a certificate: what pods of the cluster are, comes by a token. */
const clients = [
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
] as const satisfies ComponentName[]

/** The certificates by which a component of a host comes to the API, as they are planned: files, or kubeconfigs that hold one. */
function certificatesOf(ctx: OnHost, { component, files, runs }: FoundComponent, host: string): string[] {
  if (runs.kind === 'pod') return []
  const named = new Set([
    ...files.flatMap(({ role, path, real }) => (role === 'kubeconfig' || role === 'client' ? [path, real] : [])),
    ...(component === 'kubelet' ? [ownClientFile(layoutOf(ctx, host))] : []),
  ])
  const { files: lying = {} } = readingOf(ctx, host)
  // A link that leads elsewhere is changed itself; what it leads to, where that is written anew.
  return planOf(ctx)
    .specs.filter(({ hosts, usages }) => hosts.includes(host) && usages.includes('clientAuth'))
    .map(({ place }) => [placePath(place), lying[placePath(place)]?.real ?? placePath(place)])
    .filter(paths => paths.some(path => named.has(path)))
    .flat()
}

/**
 * Whether a component presents what lies there now: all of its processes were started since that was put in place, or none runs; a kubelet may have made
 * it itself since.
 */
async function presentsWhatLiesThere(
  ctx: OnCluster,
  session: HostSession,
  found: FoundComponent,
  paths: readonly string[],
): Promise<boolean> {
  const [started, at] = [await startTimesOf(session, found), await changedAt(session, paths)]
  if (started.every(one => one >= at)) return started.length > 0 || (await processesOf(session, found)).length === 0
  if (found.component !== 'kubelet') return false
  const { nodeName, certificates } = readingOf(ctx, session.host.name)
  const pem = certificates[ownClientFile(layoutOf(ctx, session.host.name))]
  if (nodeName === undefined || pem === undefined) return false
  const asked = kubeletPresents(await ctx.cluster.api(), session, nodeName, parseCertificate(pem).notAfter)
  return asked.catch((error: Error) => {
    ctx.signal.throwIfAborted()
    ctx.log(`the kubelet of ${session.host.name} was not asked what it presents: ${error.message}`)
    return false
  })
}

/** The components of a host that may present what was there before. */
async function behindOn(ctx: OnCluster, host: Host): Promise<ComponentName[]> {
  const { components } = layoutOf(ctx, host.name)
  const own = clients.flatMap(component => {
    const found = components[component]
    const paths = found ? certificatesOf(ctx, found, host.name) : []
    return found && paths.length > 0 ? [{ found, paths }] : []
  })
  if (own.length === 0) return []
  if (isAbsent(ctx, host.name)) {
    ctx.log(`${host.name} is left out: its kubelet is refused from then on if it presents what was there before`)
    return []
  }
  const session = await ctx.on(host)
  const behind: ComponentName[] = []
  for (const { found, paths } of own)
    if (!(await presentsWhatLiesThere(ctx, session, found, paths))) behind.push(found.component)
  return behind
}

/**
 * Fails where a component runs since before its certificate was put in place, so that it may present what an old CA signed, and would be refused. Who is
 * accepted by name is told.
 */
export const allPresentTheNew: StepDefinition<OnCluster<ConditionVariables>> = {
  ...{ readOnly: true, runOnce: true, remember: true },
  when: ctx => {
    const state = clusterKeysetOf(ctx)
    return !ctx.check && state !== undefined && formerOf(state).length > 0
  },
  run: async ctx => {
    const found = ctx.hosts(everyMachine).map(async host =>
      (await behindOn(ctx, host)).map(component => ({
        text: `${component} of ${host.name}`,
        name: `client/${host.name}/${component}`,
      })),
    )
    const behind = (await Promise.all(found)).flat()
    for (const { text } of behind.filter(({ name }) => isAccepted(ctx, name)))
      ctx.log(`${text} may present what the old CA signed, and be refused until it is started anew: accepted`)
    const left = behind.filter(({ name }) => !isAccepted(ctx, name))
    if (left.length === 0) return
    throw new HostFailedError(
      `started before the certificates that they present to the API were replaced: ${left.map(({ text }) => text).join(', ')}`,
      {
        code: 'keysets.behind',
        hint: `They may come by what the old CA signed, and would be refused. Restart them, one host after the other; or run promote-keysets again, which does and makes certificates anew. Or let them be refused: accept: [${left.map(({ name }) => name).join(', ')}].`,
      },
    )
  },
}
