// What of the cluster concerns the keysets of a run; and of all that there are, which can't be rotated here, and why.
import { HostFailedError } from '../../../errors.ts'
import {
  type AuthorityKeys,
  authorityKeys,
  authorityShares,
  signerOf,
  signingKeysOf,
  trustedAuthorities,
} from '../../../kubernetes/layout/authorities.ts'
import type { MachineFacts } from '../../../kubernetes/layout/layout.ts'
import { layoutOfMachine, planOfCluster, unplannedCertificates } from '../../../kubernetes/layout/plan.ts'
import { digestOf } from '../../../pki/certificates/bundle-text.ts'
import type { KeysetName } from '../../../pki/keyset.ts'
import { type AuthorityName, type CertificateSpec, placePath } from '../../../pki/specs.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import { type Variables as ExtraVariables, specsOf } from '../../as-found/extra.ts'
import type { Mounts } from '../../authorities.ts'
import type { Variables as ConditionVariables } from '../../conditions.ts'
import type { OnCluster, OnHost } from '../../given/context.ts'
import { layoutOf, type Plan, planStep, readingOf } from '../../given/found.ts'
import { masters } from '../../given/hosts.ts'
import { machinesFound } from '../../preflight.ts'
import { askedKeysets, authoritiesIn, every, keysetOf, tokenKeyset, type Variables } from './chosen.ts'
import { refuseCopies, refuseOtherMasters, refuseUntried, refuseUntriedTokens } from './untried.ts'

type Needs = OnCluster<Variables & Mounts & ConditionVariables & ExtraVariables>

/**
 * Registers which keysets the run is about, and which certificates are of them: `planOf`. Of those that were named it fails where one can't be rotated
 * here; where all are meant, those are left out, and told with the reason.
 */
export const plan: StepDefinition<Needs> = {
  id: planStep,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Plan> => {
    const found = await machinesFound(ctx)
    const { specs, signed, keys, oldAuthorities, sharing } = certificatesOf(ctx, found)
    const { keysets, leftOut } = chosenOf(ctx, oldAuthorities, sharedRoles(ctx.vars, sharing, keys))
    const chosen = authoritiesIn(keysets)
    const own = signed.filter(({ authority }) => chosen.includes(authority))
    // Whoever goes by a copy is to be given the new CA, or accepted: that is no reason to leave a CA out.
    if (chosen.includes('etcd')) await refuseCopies(ctx, unplannedCertificates(found, specs), oldAuthorities.etcd ?? '')
    if (chosen.length > 0) ctx.log(`${own.length} certificates of ${chosen.map(keysetOf).join(', ')}`)
    return {
      specs: own,
      oldAuthorities: Object.fromEntries(chosen.map(name => [name, oldAuthorities[name] ?? ''])),
      ...{ sharing, keysets, leftOut },
      signs: ctx.hosts(masters).some(({ name }) => signingKeysOf(layoutOf(ctx, name)).length > 0),
      addresses: Object.fromEntries(found.map(({ name, addresses }) => [name, addresses[0] ?? ''])),
    }
  },
}

/**
 * The certificates of a cluster, as they lie there.
 * @param found its machines
 * @returns all that something names, of those what the cluster's CAs have signed, and the keys of these
 */
export function certificatesOf(ctx: OnHost<ExtraVariables>, found: readonly MachineFacts[]) {
  const { specs: named, oldAuthorities, sharing } = planOfCluster(found)
  const readings = found.map(({ name }) => readingOf(ctx, name))
  const trusted = trustedAuthorities(found, found.map(layoutOfMachine))
  const keys = authorityKeys(trusted)
  const specs = [...named, ...specsOf(ctx, readings, trusted)]
  const isOurs = isSigned(keys)
  const machineOf = (host: string) => found.find(({ name }) => name === host)
  const signed = specs
    .map(spec => ({ ...spec, hosts: spec.hosts.filter(host => isOurs(spec, machineOf(host))) }))
    .filter(({ hosts }) => hosts.length > 0)
  return { specs, signed, keys, oldAuthorities, sharing }
}

/** Whether a CA of the cluster signed what a machine has in this place: what a component signs for itself is nobody's to replace. */
const isSigned =
  (trusted: AuthorityKeys) =>
  ({ place }: CertificateSpec, machine: MachineFacts | undefined): boolean => {
    const pem = machine?.certificates.get(placePath(place))?.pem
    return pem !== undefined && signerOf(pem, trusted) !== undefined
  }

/** A keyset that a run about all of them leaves out. */
type LeftOut = NonNullable<Plan['leftOut']>[number]

/**
 * The keysets that a run goes over, and those that it leaves out, of all.
 * @param shared roles that have one CA between them
 * @throws HostFailedError where one that was named can't be rotated here, or none can
 */
export function chosenOf(
  ctx: Pick<Needs, 'vars' | 'hosts' | 'registered' | 'host' | 'log'>,
  old: Readonly<Partial<Record<AuthorityName, string>>>,
  shared: readonly (readonly AuthorityName[])[],
): { keysets: KeysetName[]; leftOut: LeftOut[] } {
  const isAll = ctx.vars.keysets === every
  const leftOut: LeftOut[] = []
  const may = (keyset: KeysetName, refuse: () => void): boolean => {
    try {
      refuse()
      return true
    } catch (error) {
      if (!isAll || !(error instanceof HostFailedError)) throw error
      leftOut.push({ keyset, why: error.message })
      return false
    }
  }
  const each = askedKeysets(ctx.vars).filter(name => may(name, () => refuseAlone(ctx, name, old)))
  const keysets = each.filter(name => may(name, () => refuseShared(name, each, shared)))
  if (keysets.length === 0) {
    throw new HostFailedError(`no keyset of this cluster can be rotated gracefully: ${leftOut.map(tell).join('; ')}`, {
      code: 'keysets.none',
      hint: 'rotate-ca replaces all of them, the hard way.',
    })
  }
  for (const one of leftOut) ctx.log(`left out: ${tell(one)}`)
  return { keysets, leftOut }
}

const tell = ({ keyset, why }: LeftOut) => (why.startsWith(keyset) ? why : `${keyset}: ${why}`)

/** Fails where the cluster has no such keyset, or runs as none was seen to come through with it. */
function refuseAlone(
  ctx: Pick<Needs, 'hosts' | 'registered' | 'host'>,
  keyset: KeysetName,
  old: Readonly<Partial<Record<AuthorityName, string>>>,
): void {
  if (keyset === tokenKeyset) refuseUntriedTokens(ctx)
  const [authority] = authoritiesIn([keyset])
  if (authority && !old[authority]) {
    throw new HostFailedError(`the cluster has no ${keyset}`, {
      code: 'keysets.none',
      hint: `Leave it out of keysets.`,
    })
  }
  if (authority === 'kubernetes') refuseOtherMasters(ctx)
  if (authority === 'etcd') refuseUntried(ctx)
}

/** The roles that have one CA between them, or are to have: one file or one certificate serves them, or their files hold one key. */
export function sharedRoles(
  vars: Pick<Mounts, 'pki_authorities'>,
  sharing: Plan['sharing'],
  keys: AuthorityKeys,
): readonly (readonly AuthorityName[])[] {
  const byKey = Map.groupBy(keys, ([, key]) => digestOf(key)).values()
  const wanted = vars.pki_authorities === 'one' ? [keys.map(([name]) => name)] : []
  return authorityShares([...(sharing ?? []), ...[...byKey].map(those => those.map(([name]) => name)), ...wanted])
}

/** Fails where a keyset has a CA with another one that is not to be rotated with it. */
function refuseShared(
  keyset: KeysetName,
  chosen: readonly KeysetName[],
  shared: readonly (readonly AuthorityName[])[],
): void {
  const group = shared.map(roles => roles.map(keysetOf)).find(names => names.includes(keyset)) ?? []
  if (group.every(name => chosen.includes(name))) return
  throw new HostFailedError(`one CA serves ${group.join(', ')}: they can only be rotated together`, {
    code: 'keysets.shared',
    hint: `Name them all: -e keysets=${group.join(',')}; where one can’t be rotated gracefully, rotate-ca replaces all of them, the hard way.`,
  })
}
