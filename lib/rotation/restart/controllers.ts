// Controller-managers and schedulers started anew, their flags, and what shows that they are back.
import { splitPath } from '../../connection/safe-folder.ts'
import { killComponent, restartComponent, startedAnew } from '../../kubernetes/components/control.ts'
import { flagFilesOf, plannedFlags, reread, updateFlags } from '../../kubernetes/components/flags.ts'
import type { FlagEditor } from '../../kubernetes/components/static-pods.ts'
import type { FoundComponent } from '../../kubernetes/layout/host-layout.ts'
import { signingFlags } from '../../kubernetes/layout/named-files.ts'
import { restoreFiles } from '../../operations/restore.ts'
import type { Host } from '../../playbook/host.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { Variables as AuthorityVariables } from '../authorities.ts'
import { archiveOf, type Variables as BackupVariables } from '../backup.ts'
import { afterwards, nothing, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { componentOf, layoutOf, planOf, readingOf } from '../given/found.ts'
import { freshKubelet } from './kubelets.ts'
import { ending, killing } from './told.ts'

const controllerNames = ['kube-controller-manager', 'kube-scheduler'] as const

/**
 * Restarts a master's controller-manager and scheduler, with flags that have them present certificates of the CA where such are planned;
 * registers which processes they were, for `controllersRun`.
 */
export const controllers: StepDefinition<OnHost<Pick<AuthorityVariables, 'controller_manager_signs'>>> = {
  id: 'restart-the-controller-manager-and-the-scheduler',
  plan: async ctx => [
    ...(await Promise.all(controllersOf(ctx).map(found => plannedFlags(ctx, found, servedByTheCa(ctx, found))))).flat(),
    ...controllersOf(ctx).map(({ component }) => killing(ctx, component)),
  ],
  run: async ctx => {
    for (const found of controllersOf(ctx)) await updateFlags(ctx, found, servedByTheCa(ctx, found))
    return killControllers(ctx)
  },
}

/**
 * Ends a component of a master gracefully, and waits until it serves again: a step of a play over the masters, `serial: 1`. Nobody asks
 * anything of one that waits for its turn to lead; of the others, one leads as soon as the lease of this one is over.
 */
export function gently<Vars>(
  component: (typeof controllerNames)[number],
  wanted: (ctx: OnCluster<Vars>) => boolean = () => true,
): StepDefinition<OnCluster<Vars>> {
  return {
    when: ctx => wanted(ctx) && layoutOf(ctx).components[component] !== undefined,
    plan: ctx => ending(ctx, component),
    run: async ctx => {
      await freshKubelet(ctx, ctx, [component])
      await restartComponent(ctx, componentOf(ctx, component), { within: seconds(180), signal: ctx.signal })
    },
    rollback: nothing,
  }
}

/** The same with the flags that the archive of the host has. */
export const controllersAsTheyWere: StepDefinition<OnHost<BackupVariables>> = {
  run: async ctx => {
    for (const found of controllersOf(ctx)) await flagsAsTheyWere(ctx, found)
    return killControllers(ctx)
  },
}

/** Waits until a master's controller-manager and scheduler, which a step killed, run again. */
export function controllersRun(restart: string): StepDefinition<OnHost> {
  return {
    ...afterwards,
    run: async ctx => {
      const killed = ctx.registered<Record<string, number[]>>(restart, ctx.host.name)
      for (const found of controllersOf(ctx))
        await startedAnew(ctx, found, killed?.[found.component] ?? [], { within: seconds(90), signal: ctx.signal })
    },
  }
}

/** Hosts with such a component, the one that leads last, as its lease tells: so the lead changes once. */
export async function leadingLast(ctx: OnCluster, component: string, hosts: readonly Host[]): Promise<Host[]> {
  const api = await ctx.cluster.api()
  const leases = await api.list('/apis/coordination.k8s.io/v1/namespaces/kube-system/leases')
  const holder = leases.find(({ metadata }) => metadata.name === component)?.spec?.holderIdentity
  const leader = typeof holder === 'string' ? holder.replace(/_[0-9a-f-]+$/, '') : undefined
  const leads = ({ name }: Host) => readingOf(ctx, name).nodeName === leader || name === leader
  return hosts.toSorted((a, b) => Number(leads(a)) - Number(leads(b)))
}

/** Whether a component is one of those that hear of the CAs through the API. */
export function isController(component: string): boolean {
  return controllerNames.some(one => one === component)
}

/** Those of the controllers that a host has. */
const controllersOf = (ctx: OnHost) =>
  controllerNames.map(name => layoutOf(ctx).components[name]).filter(found => found !== undefined)

/** What makes it present a certificate of the CA, from its next start on, instead of one that it signs itself: where one is planned. */
function servedByTheCa(
  ctx: OnHost<Pick<AuthorityVariables, 'controller_manager_signs'>>,
  found: FoundComponent,
): (flags: FlagEditor) => void {
  const { component } = found
  const place = planOf(ctx).specs.find(
    spec =>
      spec.component === component &&
      spec.usages.includes('serverAuth') &&
      spec.place.kind === 'pair' &&
      spec.hosts.includes(ctx.host.name),
  )?.place
  return flags => {
    if (component === 'kube-controller-manager' && !ctx.vars.controller_manager_signs) {
      // The key stays in Vault: without these flags it signs nothing, with them it would not start.
      for (const name of signingFlags.flat()) if (name in found.flags) flags.flag(name, undefined)
    }
    if (place?.kind !== 'pair') return
    flags.flag('tls-cert-file', place.certificate)
    flags.flag('tls-private-key-file', place.key)
    flags.mountReadOnly('k8s-certs', splitPath(place.certificate).folder)
  }
}

/** Puts the files back that a component has its flags from. A file whose folder was never made was never written either. */
export async function flagsAsTheyWere(ctx: OnHost<BackupVariables>, found: FoundComponent): Promise<void> {
  const paths = flagFilesOf(found)
  const folders = paths.map(path => splitPath(path).folder)
  const { stdout } = await ctx.$({ quiet: true })`for f in ${folders}; do [ -d "$f" ] && echo yes || echo no; done`
  const there = stdout.trim().split('\n')
  await restoreFiles(
    ctx,
    ctx.run,
    archiveOf(ctx),
    paths.filter((_, index) => there[index] === 'yes'),
  )
  await reread(ctx, found)
}

/** Kills a master's controller-manager and scheduler, and tells which processes they were. */
async function killControllers(ctx: OnHost): Promise<Record<string, number[]>> {
  const killed: Record<string, number[]> = {}
  for (const found of controllersOf(ctx)) killed[found.component] = await killComponent(ctx, found)
  return killed
}
