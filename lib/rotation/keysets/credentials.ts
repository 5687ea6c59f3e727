// Credentials that may do nothing, by which servers are asked whom they let in: of a new CA, and of an old one as somebody could make or keep
// them. They are held in memory only.
import { join } from 'node:path'
import { HostFailedError } from '../../errors.ts'
import type { Visitor } from '../../kubernetes/probes/doors.ts'
import { keyMatches } from '../../pki/certificates/certificate.ts'
import { type CertificateSpec, mountOf, roleName } from '../../pki/specs.ts'
import { type Mounts, plansOf } from '../authorities.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnHost } from '../given/context.ts'
import { layoutOf, must, planOf } from '../given/found.ts'
import { masters } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'
import { keptFolder } from './kept.ts'
import type { Item, KeysetState } from './state.ts'

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
  const known = ctx.visitors.get(item.key)
  if (known && Date.now() - known.at < lasting) return known.made
  const made = issueVisitor(ctx, state, item)
  made.catch(() => ctx.visitors.delete(item.key))
  ctx.visitors.set(item.key, { made, at: Date.now() })
  return made
}

async function issueVisitor(ctx: Needs, { authority, name }: KeysetState, { id, issuer }: Item): Promise<Visitor> {
  const spec = clientOf(ctx, authority)
  const vault = await ctx.vault.operator()
  const said = `Vault has no key of ${id}, a CA of ${name}`
  const { certificate, privateKey } = await vault.issue(mountOf({ authority }, plansOf(ctx)), roleName(spec), {
    commonName: spec.commonName,
    issuer: must(issuer, said),
    ttl: '15m',
  })
  const key = must(privateKey, 'Vault has issued a certificate without a key')
  ctx.redact(key)
  return { credential: { certificate, key }, ...asWhom(ctx) }
}

/** A visitor by what API servers show to others now: the pair of the first master that has one. */
export async function currentVisitor(ctx: Needs, { authority, name }: KeysetState): Promise<Visitor> {
  const { hosts, place } = clientOf(ctx, authority)
  const host = must(
    ctx.hosts(masters).find(one => hosts.includes(one.name)),
    `no master has a client certificate of ${name}`,
  )
  const { files } = await ctx.on(host)
  const pair = must(place.kind === 'pair' ? place : undefined, `the client certificate of ${name} is no pair of files`)
  const [certificate, key] = await Promise.all([files.readText(pair.certificate), files.readText(pair.key)])
  ctx.redact(key)
  return { credential: { certificate, key }, ...asWhom(ctx) }
}

/** Visitors by what an old CA has signed, or could sign: its certificates that masters keep, and one made with its key, where that is known. */
export async function oldVisitors(
  ctx: OnHost<Mounts & BackupVariables> & WithVault & WithVisitors,
  state: KeysetState,
  item: Item,
): Promise<(Visitor & { readonly what: string })[]> {
  const spec = clientOf(ctx, state.authority)
  const visitors: (Visitor & { readonly what: string })[] = []
  if (item.issuer !== undefined)
    visitors.push({ ...(await visitorOf(ctx, state, item)), what: 'made with the old key' })
  for (const host of ctx.hosts(masters)) {
    const { files } = await ctx.on(host)
    const folder = keptFolder(ctx, state.name, item.id)
    const read = async (file: string) => {
      const path = join(folder, file)
      if (!(await files.exists(path))) return undefined
      const text = await files.readText(path)
      if (!file.endsWith('.crt')) ctx.redact(text)
      return text
    }
    const [certificate, key] = [await read(`${spec.id}.crt`), await read(`${spec.id}.key`)]
    if (certificate && key) {
      visitors.push({ credential: { certificate, key }, ...asWhom(ctx), what: `the old certificate of ${host.name}` })
    }
    const signing = item.issuer === undefined ? await read('ca.key') : undefined
    // What lay beside the CA may be another one's.
    if (
      signing &&
      keyMatches(item.certificate, signing) &&
      !visitors.some(({ what }) => what === 'made with the old key')
    ) {
      const { signClientCertificate } = await import('../../pki/issuer/client-certificate.ts')
      const { commonName } = spec
      const credential = await signClientCertificate({ authority: item.certificate, key: signing, commonName })
      ctx.redact(credential.key)
      visitors.push({ credential, ...asWhom(ctx), what: 'made with the old key' })
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

/** The planned certificate by which API servers speak for others. */
function clientOf(ctx: Needs, authority: KeysetState['authority']): CertificateSpec {
  const found = planOf(ctx).specs.find(spec => spec.authority === authority && spec.usages.includes('clientAuth'))
  return must(found, `nobody has a client certificate of ${authority}`)
}

/** By what header a proxy says for whom it speaks, as the first API server was told. */
function asWhom(ctx: OnHost): Pick<Visitor, 'user' | 'headers'> {
  const [first] = ctx.hosts(masters)
  const flags = first && layoutOf(ctx, first.name).components['kube-apiserver']?.flags
  const [header = 'X-Remote-User'] = flags?.['requestheader-username-headers']?.at(-1)?.split(',') ?? []
  return { user: nobody, headers: { [header]: nobody } }
}
