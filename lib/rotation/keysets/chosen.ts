// Which keysets a stage goes over, what of the cluster that concerns, and what of it can't be done.
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import {
  type AuthorityKeys,
  authorityKeys,
  signerOf,
  signingKeysOf,
  tokenFilesOfAuthorities,
  trustedAuthorities,
} from '../../kubernetes/layout/authorities.ts'
import type { MachineFacts } from '../../kubernetes/layout/layout.ts'
import { layoutOfMachine, planOfCluster, unplannedCertificates } from '../../kubernetes/layout/plan.ts'
import { besideThePlan } from '../../kubernetes/trust/beside.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { type KeysetName, keysetNames } from '../../pki/keyset.ts'
import { type AuthorityName, authorityNames, type CertificateSpec, placePath } from '../../pki/specs.ts'
import type { Host } from '../../playbook/host.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { type Variables as ExtraVariables, specsOf } from '../as-found/extra.ts'
import type { Mounts } from '../authorities.ts'
import { type Variables as ConditionVariables, isAccepted } from '../conditions.ts'
import type { OnCluster } from '../given/context.ts'
import { apiServerHosts, layoutOf, type Plan, planStep, readingOf } from '../given/found.ts'
import { etcdHosts, isMaster, masters } from '../given/hosts.ts'
import { machinesFound } from '../preflight.ts'

const wanted = `say which, by -e keysets=${keysetNames.join(',')}`

export const variables = {
  /** Which keysets: a list, or names with commas between them. */
  keysets: z.preprocess(
    value => (typeof value === 'string' ? value.split(',').map(name => name.trim()) : value),
    z.array(z.enum(keysetNames), { error: wanted }).min(1, wanted),
  ),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** The roles of CAs that a run is about. */
export function chosenAuthorities({ vars }: { readonly vars: Variables }): AuthorityName[] {
  return authorityNames.filter(authority => vars.keysets.includes(keysetOf(authority)))
}

/** Whether a run is about the key that signs tokens of service accounts, which is no CA's. */
export function tokensChosen({ vars }: { readonly vars: Variables }): boolean {
  return vars.keysets.includes(tokenKeyset)
}

/** The keyset of a role. */
export function keysetOf(authority: AuthorityName): KeysetName {
  return `${authority}-ca`
}

/** The keyset without certificates. */
export const tokenKeyset = 'service-account'

/** Registers which certificates are of the keysets that were asked for: `planOf`. Fails where another keyset has the same CA, or there is none. */
export const plan: StepDefinition<OnCluster<Variables & Mounts & ConditionVariables & ExtraVariables>> = {
  id: planStep,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Plan> => {
    const chosen = chosenAuthorities(ctx)
    const found = await machinesFound(ctx)
    const { specs: named, oldAuthorities, sharing } = planOfCluster(found)
    const readings = found.map(({ name }) => readingOf(ctx, name))
    const trusted = trustedAuthorities(found, found.map(layoutOfMachine))
    const specs = [...named, ...specsOf(ctx, readings, trusted)]
    refuseShared(ctx, sharing, chosen)
    if (tokensChosen(ctx)) refuseUntriedTokens(ctx)
    const isOurs = isSigned(authorityKeys(trusted))
    const own = specs
      .filter(({ authority }) => chosen.includes(authority))
      .map(spec => ({
        ...spec,
        hosts: spec.hosts.filter(host =>
          isOurs(
            spec,
            found.find(({ name }) => name === host),
          ),
        ),
      }))
      .filter(({ hosts }) => hosts.length > 0)
    for (const authority of chosen) {
      if (oldAuthorities[authority]) continue
      throw new HostFailedError(`the cluster has no ${keysetOf(authority)}`, {
        code: 'keysets.none',
        hint: `Leave it out of keysets.`,
      })
    }
    if (chosen.includes('kubernetes')) refuseOtherMasters(ctx)
    if (chosen.includes('etcd')) {
      refuseUntried(ctx)
      await refuseCopies(ctx, unplannedCertificates(found, specs), oldAuthorities.etcd ?? '')
    }
    if (chosen.length > 0) ctx.log(`${own.length} certificates of ${chosen.map(keysetOf).join(', ')}`)
    return {
      specs: own,
      oldAuthorities: Object.fromEntries(chosen.map(name => [name, oldAuthorities[name] ?? ''])),
      sharing,
      signs: ctx.hosts(masters).some(({ name }) => signingKeysOf(layoutOf(ctx, name)).length > 0),
      addresses: Object.fromEntries(found.map(({ name, addresses }) => [name, addresses[0] ?? ''])),
    }
  },
}

/** Whether a CA of the cluster signed what a machine has in this place: what a component signs for itself is nobody's to replace. */
const isSigned =
  (trusted: AuthorityKeys) =>
  ({ place }: CertificateSpec, machine: MachineFacts | undefined): boolean => {
    const pem = machine?.certificates.get(placePath(place))?.pem
    return pem !== undefined && signerOf(pem, trusted) !== undefined
  }

function refuseShared(
  { vars }: { readonly vars: Mounts },
  sharing: Plan['sharing'],
  chosen: readonly AuthorityName[],
): void {
  const all = vars.pki_authorities === 'one' ? [['kubernetes', 'etcd', 'front-proxy'] as const] : (sharing ?? [])
  for (const group of all) {
    const left = group.filter(name => !chosen.includes(name))
    if (left.length === 0 || left.length === group.length) continue
    throw new HostFailedError(
      `one CA serves ${group.map(keysetOf).join(', ')}: they can only be rotated together${vars.pki_authorities === 'one' ? ' (pki_authorities: one)' : ''}`,
      { code: 'keysets.shared', hint: 'rotate-ca replaces all of them, the hard way.' },
    )
  }
}

/** Fails where members of etcd, or the API servers that ask them, run as none was seen to come through it, or no member is known. */
export function refuseUntried(ctx: OnCluster): void {
  if (etcdHosts(ctx).length === 0) {
    throw new HostFailedError(
      'etcd-ca can be rotated gracefully where the inventory has the hosts of etcd, and it has none',
      {
        code: 'keysets.layout',
        hint: 'Where etcd is somebody else’s, its CA is theirs to rotate; otherwise say who has a member: docs/from-ansible.md.',
      },
    )
  }
  const others = [
    ...etcdHosts(ctx).filter(host => isUntried(ctx, 'etcd', host.name) || isUnitBesideStaticPod(ctx, host)),
    ...apiServerHosts(ctx).filter(({ name }) => isUntried(ctx, 'kube-apiserver', name)),
  ]
  if (others.length === 0) return
  throw new HostFailedError(
    `etcd-ca can be rotated gracefully where API servers are static pods, and etcd is, too, or runs as units on hosts of its own; not as on ${others.map(({ name }) => name).join(', ')}`,
    { code: 'keysets.layout', hint: 'rotate-ca replaces it, the hard way.' },
  )
}

const isUntried = (ctx: Pick<OnCluster, 'registered' | 'host'>, component: 'etcd' | 'kube-apiserver', host: string) =>
  !tried[component].includes(layoutOf(ctx, host).components[component]?.runs.kind ?? '')

/** Whether a member of etcd is a unit of a master, whose API server is none: nobody has tried that yet. */
const isUnitBesideStaticPod = (ctx: OnCluster, host: Host) =>
  isMaster({ host }) && layoutOf(ctx, host.name).components.etcd?.runs.kind === 'unit'

/** As what components were seen to come through it. */
const tried: Readonly<Record<'etcd' | 'kube-apiserver', readonly string[]>> = {
  etcd: ['static-pod', 'unit'],
  'kube-apiserver': ['static-pod'],
}

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

/** Fails where a master is not what kubeadm makes of it, etcd included: no other layout was seen to come through with the cluster's own CA. Tokens have a key of their own there. */
export function refuseOtherMasters(ctx: Pick<OnCluster, 'hosts' | 'registered' | 'host'>): void {
  const parts = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'etcd'] as const
  for (const { name } of ctx.hosts(masters)) {
    const { components } = layoutOf(ctx, name)
    if (parts.every(part => components[part]?.runs.kind === 'static-pod')) {
      refuseTokensOfAuthority(ctx, name)
      continue
    }
    throw new HostFailedError(
      `${keysetOf('kubernetes')} can be rotated gracefully where kubeadm has made control plane and etcd, not as on ${name}`,
      { code: 'keysets.layout', host: name, hint: 'rotate-ca replaces it, the hard way.' },
    )
  }
}
