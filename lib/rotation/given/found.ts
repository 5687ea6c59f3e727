// What the first steps of a run found, and later ones go by: the machines as they were, and the plan that was made from them.
import { HostFailedError } from '../../errors.ts'
import type { SystemWorkloads } from '../../kubernetes/before/conditions.ts'
import type { TlsEndpoint } from '../../kubernetes/components/endpoints.ts'
import type { AuthorityFile } from '../../kubernetes/layout/authorities.ts'
import type { ComponentName, FoundComponent, HostLayout } from '../../kubernetes/layout/host-layout.ts'
import { kubeadmLayout } from '../../kubernetes/layout/kubeadm/index.ts'
import { servedEndpoints } from '../../kubernetes/layout/served.ts'
import type { ClientAuthorities } from '../../kubernetes/trust/client-trust.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import type { KeysetName } from '../../pki/keyset.ts'
import type { AuthorityName, CertificateSpec } from '../../pki/specs.ts'
import type { Host } from '../../playbook/host.ts'
import type { RunContext, StepContext } from '../../playbook/model.ts'
import { masters } from './hosts.ts'

/** What it takes to look up what steps of the run returned. */
export type Looking = Pick<RunContext<unknown>, 'registered'>

/** The same on a host. */
export type LookingOnHost = Looking & Pick<StepContext<unknown>, 'host'>

/** The step that registers a `MachineReading` for each host. */
export const readingStep = 'read-the-certificates'

/** The step that registers the `Plan`. */
export const planStep = 'plan-the-certificates'

/** What is planned from what was found. Plain data: it is registered. */
export interface Plan {
  readonly specs: CertificateSpec[]
  /** The CAs of before, PEM, by their role. */
  readonly oldAuthorities: Readonly<Record<string, string>>
  /** The address of each host as a node. */
  readonly addresses: Readonly<Record<string, string>>
  /** Roles that have one CA between them; of runs of earlier versions, none. */
  readonly sharing?: readonly (readonly AuthorityName[])[]
  /** Whether any controller-manager signs, where that counts: the key of a CA goes to no master for nothing. */
  readonly signs?: boolean
  /** The keysets that the run is about, where it rotates them one by one; of runs of earlier versions, none. */
  readonly keysets?: readonly KeysetName[]
  /** Those that it was to go over with all others, and that can't be rotated on this cluster, each with the reason. */
  readonly leftOut?: readonly { readonly keyset: KeysetName; readonly why: string }[]
  /** Files with a CA that no component names, but that something else does, by host. */
  readonly authorityCopies?: Readonly<Record<string, readonly AuthorityFile[]>>
}

/** The step that registers `Conditions`. */
export const conditionsStep = 'check-the-nodes'

/** What the cluster was like before the first change, as far as later steps go by it. Plain data. */
export interface Conditions {
  readonly workloads: SystemWorkloads
  /** Nodes that are away, or not in the inventory, and were accepted by name. */
  readonly absent: readonly string[]
  /** What was out of the ordinary, a line each. */
  readonly told: readonly string[]
}

/** What a run of an earlier version went by. */
const asKubeadmHasIt: Conditions = {
  workloads: {
    kubeProxy: { kind: 'DaemonSet', namespace: 'kube-system', name: 'kube-proxy' },
    dns: { kind: 'Deployment', namespace: 'kube-system', name: 'coredns' },
    dnsService: { namespace: 'kube-system', name: 'kube-dns' },
  },
  absent: [],
  told: [],
}

/** What the cluster was like. */
export function conditionsOf(ctx: Looking): Conditions {
  return ctx.registered<Conditions>(conditionsStep) ?? asKubeadmHasIt
}

/** A machine as it was read before the first change. Throws `HostFailedError` where it was not. */
export function readingOf(ctx: LookingOnHost, host = ctx.host.name): MachineReading {
  return must(ctx.registered<MachineReading>(readingStep, host), 'the certificates were not read')
}

/** Whether the node of a host was away, or not Ready, before the run, and was accepted by name. */
export function isAbsent(ctx: LookingOnHost, host = ctx.host.name): boolean {
  const { absent } = conditionsOf(ctx)
  return absent.length > 0 && absent.includes(readingOf(ctx, host).nodeName ?? '')
}

/** The nodes that hosts are; those that have no kubelet are none. */
export function nodesOf(ctx: LookingOnHost, hosts: readonly { readonly name: string }[]): string[] {
  return hosts.flatMap(({ name }) => readingOf(ctx, name).nodeName ?? [])
}

/** What runs on a host, as it was found before the first change; as kubeadm has it, where the run was begun by a version that did not look. */
export function layoutOf(ctx: LookingOnHost, host = ctx.host.name): HostLayout {
  const { layout, controlPlane } = readingOf(ctx, host)
  return layout ?? kubeadmLayout(host, controlPlane)
}

/** The masters that have an API server. */
export function apiServerHosts(ctx: LookingOnHost & Pick<RunContext, 'hosts'>): Host[] {
  return ctx.hosts(masters).filter(({ name }) => layoutOf(ctx, name).components['kube-apiserver'] !== undefined)
}

/** The files of a host in which certificates were found. */
export function filesOf(ctx: LookingOnHost, host = ctx.host.name): string[] {
  const { certificates, kubeconfigs } = readingOf(ctx, host)
  return [...new Set([...Object.keys(certificates), ...Object.keys(kubeconfigs)])]
}

/** A component of a host. Throws `HostFailedError` where none was found there. */
export function componentOf(ctx: LookingOnHost, component: ComponentName, host = ctx.host.name): FoundComponent {
  const found = layoutOf(ctx, host).components[component]
  if (found) return found
  throw new HostFailedError(`no ${component} was found on ${host}`, {
    code: 'rotation.no-component',
    host,
    hint: 'Is the host in the right group of the inventory?',
  })
}

/** Whether a host has a component, or nobody has looked: then whoever needs it says so. */
export function mayHave(ctx: LookingOnHost, component: ComponentName, host = ctx.host.name): boolean {
  return ctx.registered<MachineReading>(readingStep, host) === undefined || runsAs(ctx, component, host) !== undefined
}

/** How a component of a host runs; `undefined` where nobody has looked, or it was not found. */
export function runsAs(
  ctx: LookingOnHost,
  component: ComponentName,
  host = ctx.host.name,
): FoundComponent['runs'] | undefined {
  const looked = ctx.registered<MachineReading>(readingStep, host) !== undefined
  return looked ? layoutOf(ctx, host).components[component]?.runs : undefined
}

/** Where a file of a host lies when links are followed, as it was found; its path, where none was. */
export function realOf(ctx: LookingOnHost, path: string, host = ctx.host.name): string {
  return readingOf(ctx, host).files?.[path]?.real ?? path
}

/** Every TLS port of a host on which a planned certificate is presented. */
export function endpointsOf(ctx: LookingOnHost, host = ctx.host.name): TlsEndpoint[] {
  return servedEndpoints(layoutOf(ctx, host), planOf(ctx).specs, path => realOf(ctx, path, host))
}

/** The plan. Throws `HostFailedError` where there is none. */
export function planOf(ctx: Looking): Plan {
  return must(ctx.registered<Plan>(planStep), 'the certificates were not planned')
}

/** The cluster's CA of before, PEM. */
export function oldClusterAuthority(ctx: LookingOnHost): string {
  return readingOf(ctx).authority || (planOf(ctx).oldAuthorities['kubernetes'] ?? '')
}

/** Whom clients came from before. */
export function oldClientAuthorities(ctx: LookingOnHost): ClientAuthorities {
  const { 'front-proxy': frontProxy } = planOf(ctx).oldAuthorities
  return { kubernetes: oldClusterAuthority(ctx), frontProxy: frontProxy || oldClusterAuthority(ctx) }
}

/** What an earlier step returned. Throws `HostFailedError` saying `what` where it did not. */
export function must<T>(value: T | undefined, what: string): T {
  if (value === undefined) {
    throw new HostFailedError(what, { code: 'rotation.missing', hint: 'Run the playbook from its beginning.' })
  }
  return value
}
