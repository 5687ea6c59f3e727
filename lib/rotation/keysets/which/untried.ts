// What of a cluster keeps a keyset from being rotated gracefully: components that run as none was seen to come through it, copies of a CA that others
// go by, a CA's own key that signs tokens.
import { HostFailedError } from '../../../errors.ts'
import { tokenFilesOfAuthorities } from '../../../kubernetes/layout/authorities.ts'
import { besideThePlan } from '../../../kubernetes/trust/beside.ts'
import { publicKeyOf } from '../../../pki/certificates/bundle-text.ts'
import type { Host } from '../../../playbook/host.ts'
import { type Variables as ConditionVariables, isAccepted } from '../../conditions.ts'
import type { OnCluster } from '../../given/context.ts'
import { apiServerHosts, layoutOf, readingOf } from '../../given/found.ts'
import { etcdHosts, masters } from '../../given/hosts.ts'
import { keysetOf, tokenKeyset } from './chosen.ts'

/** Fails where members of etcd, or the API servers that ask them, run as none was seen to come through it, or no member is known. */
export function refuseUntried(ctx: Pick<OnCluster, 'hosts' | 'registered' | 'host'>): void {
  if (etcdHosts(ctx).length === 0) {
    throw new HostFailedError(
      'etcd-ca can be rotated gracefully where the inventory has the hosts of etcd, and it has none',
      {
        code: 'keysets.layout',
        hint: 'Where etcd is somebody else’s, its CA is theirs to rotate; otherwise say who has a member: docs/from-ansible.md.',
      },
    )
  }
  const unknown = etcdHosts(ctx).filter(({ name }) => layoutOf(ctx, name).components.etcd === undefined)
  const others = [
    ...unknown,
    ...[...etcdHosts(ctx), ...apiServerHosts(ctx)].filter(host => !isTriedWithEtcd(ctx, host)),
  ]
  if (others.length === 0) return
  throw new HostFailedError(
    `etcd-ca can be rotated gracefully where API servers are static pods, and etcd is, too, or runs as units on hosts of its own; or where all of each master is units, etcd among them; not as on ${[...new Set(others.map(({ name }) => name))].join(', ')}`,
    { code: 'keysets.layout', hint: 'rotate-ca replaces it, the hard way.' },
  )
}

/** Whether API server and member of etcd of a host, as far as it has them, run as was seen to come through it. */
function isTriedWithEtcd(ctx: Pick<OnCluster, 'registered' | 'host'>, { name }: Host): boolean {
  const { 'kube-apiserver': server, etcd } = layoutOf(ctx, name).components
  if (etcd && !triedEtcd.includes(etcd.runs.kind)) return false
  if (!server) return true
  return server.runs.kind === 'static-pod' ? etcd?.runs.kind !== 'unit' : isOfUnits(ctx, name)
}

/** As what etcd was seen to come through it. */
const triedEtcd: readonly string[] = ['static-pod', 'unit']

const controlPlane = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const

/** Whether all of a master is units, a member of etcd among them. */
const isOfUnits = (ctx: Pick<OnCluster, 'registered' | 'host'>, host: string) =>
  [...controlPlane, 'etcd' as const].every(part => layoutOf(ctx, host).components[part]?.runs.kind === 'unit')

/**
 * Fails where something else than a component, a pod network with its store in etcd for one, goes by a copy of etcd's CA: it would not believe
 * members any more once they present what the new one signed.
 */
export async function refuseCopies(
  ctx: OnCluster<ConditionVariables>,
  unplanned: readonly { readonly host: string; readonly path: string }[],
  authority: string,
): Promise<void> {
  const key = publicKeyOf(authority)
  const copies = unplanned.filter(
    ({ host, path }) => publicKeyOf(readingOf(ctx, host).certificates[path] ?? '') === key,
  )
  const found = await Promise.all(
    [...Map.groupBy(copies, ({ host }) => host)].map(async ([host, those]) =>
      besideThePlan(await ctx.on(host), new Map(those.map(({ path }) => [path, authority])), [authority]),
    ),
  )
  const used = found
    .flat()
    .filter(({ kind, host, path }) => kind === 'in use' && !isAccepted(ctx, `certificate/${host}:${path}`))
  if (used.length === 0) return
  const names = used.map(({ host, path }) => `certificate/${host}:${path}`)
  throw new HostFailedError(
    `others go by copies of etcd's CA: ${used.map(({ host, path, by }) => `${host}:${path} (${by})`).join(', ')}`,
    {
      code: 'keysets.copy',
      hint: `Have them believe the new CA yourself after stage-keysets, and accept them by name: accept: [${names.join(', ')}]; or have rotate-ca replace the CA, the hard way.`,
    },
  )
}

/** Fails where API servers run as none was seen to come through it, and where a CA's own key signs tokens, as kubeasz has it. */
export function refuseUntriedTokens(ctx: Pick<OnCluster, 'hosts' | 'registered' | 'host'>): void {
  for (const { name } of ctx.hosts(masters)) {
    const layout = layoutOf(ctx, name)
    const { runs } = layout.components['kube-apiserver'] ?? {}
    refuseTokensOfAuthority(ctx, name)
    if (runs === undefined || runs.kind !== 'pod') continue
    throw new HostFailedError(
      `${tokenKeyset} can be rotated gracefully where API servers are static pods or units, not as on ${name}`,
      {
        code: 'keysets.layout',
        host: name,
        hint: 'rotate-ca replaces it, the hard way: rotate_service_account_keys: true.',
      },
    )
  }
}

/** Without a CA's key, which leaves the masters as the next one signs, nothing that signs tokens with it would start. */
function refuseTokensOfAuthority(ctx: Pick<OnCluster, 'registered' | 'host'>, name: string): void {
  if (tokenFilesOfAuthorities(layoutOf(ctx, name)).length === 0) return
  throw new HostFailedError(`${name}: a CA's own key signs the tokens of service accounts`, {
    code: 'keysets.shared',
    host: name,
    hint: 'Give tokens a key of their own first (--service-account-signing-key-file, --service-account-key-file, and --service-account-private-key-file of the controller-manager), or have rotate-ca replace the CA, the hard way.',
  })
}

/**
 * Fails where a part of a master is not what kubeadm makes of it, or etcd is neither that nor a unit beside it; and not all masters are units either. No other
 * layout was seen to come through with the cluster's own CA. Tokens have a key of their own there.
 */
export function refuseOtherMasters(ctx: Pick<OnCluster, 'hosts' | 'registered' | 'host'>): void {
  const ofUnits = ctx.hosts(masters).filter(({ name }) => isOfUnits(ctx, name))
  const areAlike = ofUnits.length === 0 || ofUnits.length === ctx.hosts(masters).length
  for (const { name } of ctx.hosts(masters)) {
    const { components } = layoutOf(ctx, name)
    const isEtcdBeside = triedEtcd.includes(components.etcd?.runs.kind ?? '')
    const isOfKubeadm = isEtcdBeside && controlPlane.every(part => components[part]?.runs.kind === 'static-pod')
    if (areAlike && (isOfKubeadm || isOfUnits(ctx, name))) {
      refuseTokensOfAuthority(ctx, name)
      continue
    }
    throw new HostFailedError(
      `${keysetOf('kubernetes')} can be rotated gracefully where kubeadm has made the control plane, or all of each master is units, and etcd is beside it, not as on ${name}`,
      { code: 'keysets.layout', host: name, hint: 'rotate-ca replaces it, the hard way.' },
    )
  }
}
