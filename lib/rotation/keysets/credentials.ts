// Credentials that may do nothing, by which servers are asked whom they let in: of a new CA, and of an old one as somebody could make or keep
// them. They are held in memory only.
import { join } from 'node:path'
import { HostFailedError } from '../../errors.ts'
import { kubeconfigFields } from '../../kubernetes/api/kubeconfig.ts'
import type { Visitor } from '../../kubernetes/probes/doors.ts'
import { keyMatches, parseCertificate } from '../../pki/certificates/certificate.ts'
import { type CertificatePlace, type CertificateSpec, mountOf, placePath, roleName } from '../../pki/specs.ts'
import { type Mounts, plansOf } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnHost } from '../given/context.ts'
import { layoutOf, must, planOf } from '../given/found.ts'
import { masters } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import { keepers, keptFolder } from './kept.ts'
import { authoritiesOf, type Item, type KeysetState } from './state.ts'

/** What a run holds of them. */
export interface WithVisitors {
  readonly visitors: Map<string, { readonly made: Promise<Visitor>; readonly at: number }>
}

type Needs = OnHost<Mounts> & WithVault & WithVisitors

/** Whom a server is to call the visitor. */
const nobody = 'rekey-probe'

/** Milliseconds for which one is taken again: it holds three times as long. */
const lasting = 5 * 60_000

/** A visitor by a certificate that a CA in Vault signs now. Asked for once in a while. */
export function visitorOf(ctx: Needs, state: KeysetState, item: Item): Promise<Visitor> {
  // In each of its roles a CA may have clients of another kind.
  const name = `${state.authority} ${item.key}`
  const known = ctx.visitors.get(name)
  if (known && Date.now() - known.at < lasting) return known.made
  const made = issueVisitor(ctx, state, item)
  made.catch(() => ctx.visitors.delete(name))
  ctx.visitors.set(name, { made, at: Date.now() })
  return made
}

async function issueVisitor(ctx: Needs, state: KeysetState, { id, issuer }: Item): Promise<Visitor> {
  const { authority, name } = state
  const spec = clientOf(ctx, state)
  const vault = await ctx.vault.operator()
  const said = `Vault has no key of ${id}, a CA of ${name}`
  const { certificate, privateKey } = await vault.issue(mountOf({ authority }, plansOf(ctx)), roleName(spec), {
    commonName: nameOf(spec),
    issuer: must(issuer, said),
    ttl: '15m',
  })
  const key = must(privateKey, 'Vault has issued a certificate without a key')
  ctx.redact(key)
  return { credential: { certificate, key }, ...asWhom(ctx, authority) }
}

/**
 * A visitor by what clients show now: the certificate of the first master that has one.
 * @param at the host whose peers of etcd are asked: of these one that lies there comes first
 */
export async function currentVisitor(ctx: Needs, state: KeysetState, at?: string): Promise<Visitor> {
  const { authority, name } = state
  const { hosts, place, commonName } = clientOf(ctx, state, at)
  const host = must(
    ctx.hosts(keepers).find(one => one.name === at && hosts.includes(one.name)) ??
      ctx.hosts(masters).find(one => hosts.includes(one.name)),
    `no master has a client certificate of ${name}`,
  )
  const credential = await credentialIn(ctx.redact, await ctx.on(host), place)
  return { credential, ...(speaksForOthers(authority) ? asWhom(ctx, authority) : { user: commonName }) }
}

/** What lies in a place: a pair of files, or a kubeconfig that holds both. */
async function credentialIn(
  redact: OnHost['redact'],
  { files, host }: Pick<OnHost, 'files' | 'host'>,
  place: CertificatePlace,
): Promise<Visitor['credential']> {
  const path = placePath(place)
  const text = await files.readText(path)
  const kept =
    place.kind === 'kubeconfig'
      ? kubeconfigFields(text, `${host.name}:${path}`)
      : { certificate: text, key: place.kind === 'pair' ? await files.readText(place.key) : text }
  const { certificate, key } = kept
  if (certificate === undefined || key === undefined) {
    const code = 'keysets.no-client-certificate'
    throw new HostFailedError(`${host.name}:${path} holds no client certificate, or not its key`, { code })
  }
  redact(key)
  return { certificate, key }
}

/** Visitors by what an old CA has signed, or could sign: its certificates that masters keep, and one made with its key, where that is known. */
export async function oldVisitors(
  ctx: OnHost<Mounts & BackupVariables> & WithVault & WithVisitors,
  state: KeysetState,
  item: Item,
): Promise<(Visitor & { readonly what: string })[]> {
  const visitors: (Visitor & { readonly what: string })[] = []
  if (item.issuer !== undefined)
    visitors.push({ ...(await visitorOf(ctx, state, item)), what: 'made with the old key' })
  const whom = asWhom(ctx, state.authority)
  for (const host of ctx.hosts(keepers)) {
    const spec = clientOf(ctx, state, host.name)
    const { files } = await ctx.on(host)
    const folder = keptFolder(ctx, state.name, item.id)
    const read = async (file: string) => {
      const path = join(folder, file)
      if (!(await files.exists(path))) return undefined
      const text = await files.readText(path)
      if (!file.endsWith('.crt')) ctx.redact(text)
      return text
    }
    const kept = await keptCredential(spec, folder, read)
    if (kept) {
      ctx.redact(kept.key)
      const user = speaksForOthers(state.authority) ? whom : { user: spec.commonName }
      const named = isNamed(kept) ? { namedFor: host.name } : {}
      visitors.push({ credential: kept, ...user, ...named, what: `the old certificate of ${host.name}` })
    }
    const signing = item.issuer === undefined ? await read('ca.key') : undefined
    // What lay beside the CA may be another one's.
    if (
      signing &&
      keyMatches(item.certificate, signing) &&
      !visitors.some(({ what }) => what === 'made with the old key')
    ) {
      const { signClientCertificate } = await import('../../pki/issuer/client-certificate.ts')
      const commonName = nameOf(spec)
      const credential = await signClientCertificate({ authority: item.certificate, key: signing, commonName })
      ctx.redact(credential.key)
      visitors.push({ credential, ...whom, what: 'made with the old key' })
    }
  }
  if (visitors.length > 0) return visitors
  throw new HostFailedError(
    `nobody has a certificate of ${item.id}, the old CA of ${state.name}, to try whether it is refused`,
    {
      code: 'keysets.no-old-credential',
      hint: `promote-keysets keeps them in ${keptFolder(ctx, state.name, item.id)} on the masters.`,
    },
  )
}

/** What a folder keeps of a client certificate; undefined where it keeps none. */
async function keptCredential(
  { id, place }: CertificateSpec,
  folder: string,
  read: (file: string) => Promise<string | undefined>,
): Promise<Visitor['credential'] | undefined> {
  const kubeconfig = place.kind === 'kubeconfig' ? await read(`${id}.conf`) : undefined
  const { certificate, key } =
    kubeconfig === undefined
      ? { certificate: await read(`${id}.crt`), key: await read(`${id}.key`) }
      : kubeconfigFields(kubeconfig, join(folder, `${id}.conf`))
  return certificate !== undefined && key !== undefined ? { certificate, key } : undefined
}

/** Whether a certificate is for hosts or addresses. */
function isNamed({ certificate }: NonNullable<Visitor['credential']>): boolean {
  const { dnsNames, ipAddresses } = parseCertificate(certificate)
  return dnsNames.length + ipAddresses.length > 0
}

/** Whether clients of a CA are whom they say that they speak for, and not whom their certificates name. */
const speaksForOthers = (authority: KeysetState['authority']) => authority === 'front-proxy'

/** Whom a visitor's certificate names: a proxy must have one of the names that servers were told; anybody else may be nobody. */
const nameOf = ({ authority, commonName }: CertificateSpec) => (speaksForOthers(authority) ? commonName : nobody)

/** Groups whose members may do something: nobody is one of them. */
const mayDoSomething = /^(system:masters|kubeadm:.*|system:nodes)$/

/** Those of them that may be a visitor's, the best first. */
function clientsAmong(
  authority: KeysetState['authority'],
  all: readonly CertificateSpec[],
  leading: readonly { readonly name: string }[],
): CertificateSpec[] {
  if (speaksForOthers(authority)) return [...all]
  // To etcd all clients are alike, and members are clients of each other: those of masters that are nothing else come first.
  if (authority === 'etcd')
    return all
      .filter(({ hosts }) => leading.some(({ name }) => hosts.includes(name)))
      .toSorted((a, b) => a.usages.length - b.usages.length)
  // What is a client alone comes first, and then what is no server's for all that its makers let it be.
  const rank = ({ usages, place }: CertificateSpec) => usages.length * 2 + (place.kind === 'kubeconfig' ? 0 : 1)
  return all
    .filter(({ organizations }) => !organizations.some(one => mayDoSomething.test(one)))
    .toSorted((a, b) => rank(a) - rank(b) || a.organizations.length - b.organizations.length)
}

/** Whether what a CA with several roles has signed is shown to servers that know clients of it in one of the others than the cluster's own. */
const isShownIn = (authority: KeysetState['authority'], { id, component }: CertificateSpec) =>
  speaksForOthers(authority)
    ? id.startsWith('front-proxy-client')
    : component === 'etcd' || id.startsWith('apiserver-etcd')

/**
 * The planned certificate by which API servers speak for others; of another CA that of a client who is in the fewest groups. Where a CA that has
 * several roles has signed none for this one alone, one that is shown in it: a member of etcd hangs up on a peer whose certificate is another host's, as
 * those of components may be, and proxies have names of their own. Where there is none of these either, that of any role will do.
 * @param at the host on which members of etcd are asked: each may have certificates of its own, in files of its own (Kubespray's `member-HOST.pem`), and
 *   copies of others' beside them
 */
function clientOf(ctx: Needs, state: KeysetState, at?: string): CertificateSpec {
  const { authority } = state
  const all = planOf(ctx).specs.filter(
    spec => authoritiesOf(state).includes(spec.authority) && spec.usages.includes('clientAuth'),
  )
  const own = [all.filter(spec => spec.authority === authority), all.filter(spec => isShownIn(authority, spec))].find(
    ({ length }) => length > 0,
  )
  const there = authority === 'etcd' && at !== undefined ? (own ?? []).filter(({ hosts }) => hosts.includes(at)) : []
  if (there.length > 0) {
    const rank = ({ hosts, usages }: CertificateSpec) => usages.length * 2 + (hosts[0] === at ? 0 : 1)
    return there.toSorted((a, b) => rank(a) - rank(b))[0]!
  }
  const [found] = own
    ? clientsAmong(authority, own, ctx.hosts(masters))
    : clientsAmong('kubernetes', all, ctx.hosts(masters))
  return must(found, `nobody has a client certificate of ${authority}`)
}

/** Whom servers are to call a visitor; where proxies speak for others, by what header, as the first API server was told. */
function asWhom(ctx: OnHost, authority: KeysetState['authority']): Pick<Visitor, 'user' | 'headers'> {
  if (!speaksForOthers(authority)) return { user: nobody }
  const [first] = ctx.hosts(masters)
  const flags = first && layoutOf(ctx, first.name).components['kube-apiserver']?.flags
  const [header = 'X-Remote-User'] = flags?.['requestheader-username-headers']?.at(-1)?.split(',') ?? []
  return { user: nobody, headers: { [header]: nobody } }
}
