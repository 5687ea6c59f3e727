// What has ended or is half done, what is down because of it, and what is to be done: from what lies on the hosts and runs there, without an API.
import { quote } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { authorityOf } from '../../kubernetes/layout/authorities.ts'
import type { MachineFacts } from '../../kubernetes/layout/layout.ts'
import { machineFacts } from '../../kubernetes/trust/machine.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { dayOfEnd, parseCertificate } from '../../pki/certificates/certificate.ts'
import { type AuthorityName, type CertificateSpec, placePath } from '../../pki/specs.ts'
import { durationSeconds } from '../../pki/vault/duration.ts'
import { duration } from '../../playbook/duration.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { Variables as ExtraVariables } from '../as-found/extra.ts'
import { beforehand, type OnHost, seconds } from '../given/context.ts'
import { type LookingOnHost, layoutOf, readingOf } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import { keysetOf } from '../keysets/which/chosen.ts'
import { type Variables as LeafVariables, leafPlanOf, variables as ofLeaves, planBy } from '../leaves/plan.ts'
import {
  authoritiesByKey,
  authoritiesOf,
  namesOf,
  type OldAuthority,
  variables as ofRenewal,
  type RolesOfAuthority,
  planStep as renewalStep,
  withSigner,
} from '../renewal/authorities.ts'
import { filesWith } from '../renewal/leaves.ts'
import { downOf, seenOf } from './look.ts'

const { components: _, ...ofAllLeaves } = ofLeaves

export const variables = {
  ...ofAllLeaves,
  /** What ends within this time is made anew with what has ended. A CA is signed anew where it has ended. */
  within: duration.default(seconds(30 * 86_400)),
  /** For how long a CA is signed anew that has ended. */
  ca_ttl: ofRenewal.ca_ttl,
}

export type Variables = LeafVariables & { readonly within: number; readonly ca_ttl: string }

type Needs = OnHost<Variables & ExtraVariables> & WithVault
/** What it takes to look up what was found on hosts. */
export type Hosts = LookingOnHost & Pick<OnHost, 'hosts'>

/** The certificates of a CA in all files of a host that are to hold it, whenever they were made. */
const copiesOf = (ctx: OnHost, certificate: string, host: string): string[] =>
  filesWith(ctx, [certificate], host).own.flatMap(({ certificates }) =>
    certificates.filter(pem => publicKeyOf(pem) === publicKeyOf(certificate)),
  )

/** All that the hosts hold of a CA, what ends first before the others: somebody may have signed it anew for some hosts only. */
function byTheirEnds(ctx: OnHost, certificate: string): [string, ...string[]] {
  const all = new Set([certificate, ...ctx.hosts(everyMachine).flatMap(({ name }) => copiesOf(ctx, certificate, name))])
  const ends = new Map([...all].map(pem => [pem, parseCertificate(pem).notAfter.getTime()]))
  return [...all].toSorted((one, other) => ends.get(one)! - ends.get(other)!) as [string, ...string[]]
}

const firstToEnd = (ctx: OnHost, certificate: string): string => byTheirEnds(ctx, certificate)[0]

/** A CA that ends sooner than this signs nothing that would help, in milliseconds. */
const tooSoon = seconds(3_600)

/** Registers the CAs that have ended on any host, with whoever signs them anew. Fails where one's key is nowhere. */
export const planAuthorities: StepDefinition<Needs> = {
  id: renewalStep,
  ...beforehand,
  runOnce: true,
  run: async (ctx): Promise<OldAuthority[]> => {
    const planned: OldAuthority[] = []
    for (const one of authoritiesByKey(ctx)) {
      const [first, ...others] = byTheirEnds(ctx, one.certificate)
      if (!endsWithin(first, tooSoon)) continue
      requireLonger(ctx, one, others.at(-1) ?? first)
      planned.push(
        await withSigner(
          ctx,
          one,
          'there is no way but new CAs, with all that is under them: by hand, or by what made the cluster.',
        ),
      )
    }
    return planned
  },
}

/** A CA that another host holds for longer would end sooner there than now; one that ends at once would be signed again and again. */
function requireLonger(ctx: OnHost<Variables>, one: RolesOfAuthority, last: string): void {
  const next = Date.now() + seconds(durationSeconds(ctx.vars.ca_ttl))
  if (next > parseCertificate(last).notAfter.getTime() && next > Date.now() + tooSoon) return
  throw new HostFailedError(
    `${namesOf(one)} would be signed for ${ctx.vars.ca_ttl}, and another file holds it until ${dayOfEnd(last)} already`,
    { code: 'rescue.ca-ttl', hint: 'Give a longer ca_ttl.' },
  )
}

export const endsWithin = (pem: string, within: number) =>
  parseCertificate(pem).notAfter.getTime() <= Date.now() + within

/** Registers which certificates are made anew: what has ended or ends soon, and what is half done. */
export const plan: StepDefinition<Needs> = {
  ...planBy<Needs>({
    machines: async ctx => machinesByThemselves(ctx),
    isDue: (ctx, { place }, host) => {
      const pem = readingOf(ctx, host).certificates[placePath(place)]
      return (
        (pem !== undefined && beginsLater(pem)) ||
        seenOf(ctx, host).damage.some(({ path }) => path === placePath(place))
      )
    },
    isRenewed: (ctx, certificate) =>
      authoritiesOf(ctx).some(one => publicKeyOf(one.certificate) === publicKeyOf(certificate)),
  }),
  when: beforehand.when,
}

/** The machines with their addresses as their own flags have them: what a node says of itself in the API can't be asked. */
export function machinesByThemselves(ctx: Hosts): MachineFacts[] {
  return ctx.hosts(everyMachine).map(({ name }) => {
    const { kubelet, 'kube-apiserver': apiServer } = layoutOf(ctx, name).components
    const told = [kubelet?.flags['node-ip'], apiServer?.flags['advertise-address']].find(one => one !== undefined)
    return machineFacts(readingOf(ctx, name), (told?.at(-1) ?? '').split(',').filter(Boolean))
  })
}

/** Whether a CA is signed anew. */
export const anyRenewed = (ctx: LookingOnHost): boolean => authoritiesOf(ctx).length > 0

/** Whether anything is to be put in place. */
export const anyChange = (ctx: LookingOnHost): boolean => leafPlanOf(ctx).specs.length > 0 || anyRenewed(ctx)

/** Whether there is anything to do: something has ended, or is half done, or is down although nothing has. */
export const anyTrouble = (ctx: Hosts): boolean =>
  anyChange(ctx) || ctx.hosts(everyMachine).some(({ name }) => downOf(ctx, name).length > 0)

/** Tells what has ended, what is half done, what is down and why, and what will be done. Changes nothing. */
export const tell: StepDefinition<OnHost<Variables>> = {
  ...beforehand,
  runOnce: true,
  run: ctx => {
    const told = toldOf(ctx)
    for (const line of told) ctx.log(line)
    return told
  },
}

/** The same, a line each. */
function toldOf(ctx: OnHost<Variables>): string[] {
  const hosts = ctx.hosts(everyMachine).map(({ name }) => name)
  const { specs, all } = leafPlanOf(ctx)
  // Of all hosts, which may be hundreds: once for each CA.
  const authorities = authoritiesOf(ctx).map(one => ({ ...one, first: firstToEnd(ctx, one.certificate) }))
  const over = authorities.flatMap(({ roles, first }) => (endsWithin(first, 0) ? roles : []))
  const lines = [
    ...authorities.map(one => `${namesOf(one)} ${ended(one.first)}`),
    ...hosts.flatMap(host => endedOn(ctx, host)),
    ...hosts.flatMap(host =>
      seenOf(ctx, host).damage.map(
        ({ path, why }) =>
          `${host}: ${path}: ${why}${isPlanned(ctx, host, path) ? '' : '. No CA of the cluster has signed it: it is left as it is'}`,
      ),
    ),
    ...hosts.flatMap(host =>
      seenOf(ctx, host).unreadable.map(
        ({ user, path }) =>
          `${host}: ${path} can not be read by ${user}, as whom it is read, unless by a group: chown ${quote(user)} ${quote(path)}?`,
      ),
    ),
    ...hosts.flatMap(host => downLines(ctx, host, over)),
  ]
  if (lines.length === 0)
    return ['nothing has ended, nothing is half done, and everything serves: there is nothing to do']
  return [
    ...lines,
    ...authorities.map(one => `to do: sign ${namesOf(one)} anew with the key that it has, for ${ctx.vars.ca_ttl}`),
    ...(specs.length > 0
      ? [`to do: make ${specs.length} of ${all.length} certificates anew, for ${ctx.vars.certificate_ttl}`]
      : []),
    anyRenewed(ctx)
      ? 'to do: start whatever goes by such a CA anew on all hosts at once, etcd and the API servers first'
      : 'to do: start etcd, then the API servers, then controller-managers, schedulers and kubelets, where they do not serve or go by what has ended',
  ]
}

/** Whether what lies in a file of a host is made anew. */
const isPlanned = (ctx: Hosts, host: string, path: string): boolean =>
  leafPlanOf(ctx).specs.some(({ hosts, place }) => hosts.includes(host) && placePath(place) === path)

/** Made while a clock was ahead. */
const beginsLater = (pem: string) => parseCertificate(pem).notBefore.getTime() > Date.now()

export const ended = (pem: string) =>
  beginsLater(pem) ? `holds only from ${parseCertificate(pem).notBefore.toISOString()} on` : endsOn(pem)

const endsOn = (pem: string) =>
  `${endsWithin(pem, 0) ? 'has ended' : 'ends'} on ${parseCertificate(pem).notAfter.toISOString()}`

/** What of a host is made anew since it has ended or ends soon; those that have ended at one time in one line. */
function endedOn(ctx: Hosts & Pick<OnHost<Variables>, 'vars'>, host: string): string[] {
  const { certificates } = readingOf(ctx, host)
  const own = leafPlanOf(ctx).specs.filter(({ hosts }) => hosts.includes(host))
  const ending = own.flatMap(({ place }) => {
    const pem = certificates[placePath(place)]
    return pem !== undefined && (beginsLater(pem) || endsWithin(pem, ctx.vars.within))
      ? [{ path: placePath(place), pem }]
      : []
  })
  return [...Map.groupBy(ending, ({ pem }) => ended(pem))].map(
    ([when, those]) => `${host}: ${when}: ${those.map(({ path }) => path).join(', ')}`,
  )
}

/**
 * What is down on a host, and what of it has ended: its certificates, and the CAs that it goes by.
 * @param over what those CAs are for that have ended
 */
function downLines(ctx: OnHost, host: string, over: readonly AuthorityName[]): string[] {
  return downOf(ctx, host).map(({ what, detail }) => {
    const leaves = leafPlanOf(ctx)
      .specs.filter(spec => spec.hosts.includes(host) && isOf(spec, what) && hasEnded(ctx, host, spec))
      .map(({ id }) => id)
    const because = [...leaves, ...endedAuthoritiesOf(ctx, host, what, over)]
    return `${host}: ${what} is down (${detail})${because.length > 0 ? `; it goes by what has ended: ${because.join(', ')}` : ''}`
  })
}

function endedAuthoritiesOf(ctx: OnHost, host: string, what: string, over: readonly AuthorityName[]): string[] {
  const found = Object.values(layoutOf(ctx, host).components).find(({ component }) => component === what)
  const named = found?.files.map(({ role }) => authorityOf(found.component, role)) ?? []
  return over.filter(role => named.includes(role)).map(keysetOf)
}

const isOf = ({ component }: CertificateSpec, what: string) => component === what

function hasEnded(ctx: Hosts, host: string, { place }: CertificateSpec): boolean {
  const pem = readingOf(ctx, host).certificates[placePath(place)]
  return pem !== undefined && endsWithin(pem, 0)
}
