// Certificates in what steps returned: what a file of a host held before, and what it holds, or is to hold, after the run.
import { X509Certificate } from 'node:crypto'
import type { Returned } from '../../../run/registered/registered.ts'

/** What is told of a certificate. */
export interface Facts {
  readonly subject: string
  readonly issuer: string
  readonly serial: string
  /** ISO 8601. */
  readonly until: string
  /** SHA-256, in hexadecimal digits. */
  readonly fingerprint: string
  readonly isAuthority: boolean
}

/** All certificates of a file of a host, as a step read them there, or verified them where they lay ready. */
export interface Sighting {
  readonly step: string
  readonly host: string
  /** The path. */
  readonly name: string
  /** Where that leads. */
  readonly real?: string
  readonly certificates: readonly Facts[]
  /** Steps of which one puts in place what lay ready; none of what was read. */
  readonly placedBy?: readonly string[]
}

/** A file, or what else has a name, on hosts of which the same is to be told. */
export interface Change {
  readonly name: string
  readonly hosts: readonly string[]
  readonly before: readonly Facts[]
  /** What was read later, or was to take its place; nothing where nothing was. */
  readonly after: readonly Facts[]
  readonly afterStep?: string
  readonly came?: Placed
}

/** Whether what lay ready came into place; `unknown` where the step that does it did not end well. */
export type Placed = 'placed' | 'staged' | 'unknown'

/**
 * Steps that tell of the files of their own host, by their ids, before which a stage may stand: of what other steps return, such as the CAs that
 * others believe, no path says what a file holds. A step that verifies what lies ready comes with those that put it in place.
 */
const telling: ReadonlyMap<string, readonly string[] | undefined> = new Map([
  ['read-the-certificates', undefined],
  ['verify-what-is-staged', ['swap-certificates', 'put-the-certificates-in-place']],
  ['verify-the-staged-files', ['place-the-files']],
])

const block = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,20000}-----END CERTIFICATE-----/g
/** Most files of CAs are alike on all hosts. */
const known = new Map<string, Facts | undefined>()

/** The certificates in a text; none where there are none that can be read. */
export function certificatesIn(text: string): Facts[] {
  if (!text.includes('-----BEGIN CERTIFICATE-----')) return []
  return (text.match(block) ?? []).flatMap(pem => {
    if (!known.has(pem)) known.set(pem, factsOf(pem))
    return known.get(pem) ?? []
  })
}

function factsOf(pem: string): Facts | undefined {
  try {
    const { subject, issuer, serialNumber, validTo, fingerprint256, ca } = new X509Certificate(pem)
    return {
      ...{ subject: inOrder(subject), issuer: inOrder(issuer), serial: serialNumber.toLowerCase(), isAuthority: ca },
      until: new Date(validTo).toISOString(),
      fingerprint: fingerprint256.replaceAll(':', '').toLowerCase(),
    }
  } catch {
    return undefined
  }
}

const inOrder = (name: string | undefined) => (name ?? '').split('\n').join(', ')

/** A certificate in a line. */
export const nameOf = ({ subject, until, isAuthority, fingerprint }: Facts) =>
  `${isAuthority ? `CA ${fingerprint.slice(0, 8)} ` : ''}${subject || 'no subject'}, until ${until.slice(0, 10)}`

/** What a step told of the files of its host: nothing, where it is none that does. */
export function sightingsIn({ step, host, ...returned }: Returned): Sighting[] {
  const known = [...telling.keys()].find(id => step === id || step.endsWith(`-${id}`))
  if (known === undefined || !('value' in returned)) return []
  const { certificates, bundles, files } = (returned.value ?? {}) as Readonly<Record<string, unknown>>
  const stage = step.slice(0, -known.length)
  const placedBy = telling.get(known)?.map(id => stage + id)
  const [several, lies] = [entriesOf(bundles), entriesOf(files)]
  return [...entriesOf(certificates)].flatMap(([name, text]) => {
    const whole = several.get(name) ?? [text]
    const found = certificatesIn((Array.isArray(whole) ? whole : []).filter(one => typeof one === 'string').join('\n'))
    const real = (lies.get(name) as { readonly real?: unknown } | undefined)?.real
    if (found.length === 0) return []
    return {
      step,
      host,
      name,
      certificates: found,
      ...(typeof real === 'string' && { real }),
      ...(placedBy && { placedBy }),
    }
  })
}

const entriesOf = (value: unknown): ReadonlyMap<string, unknown> =>
  value instanceof Map ? value : new Map(Object.entries(typeof value === 'object' ? (value ?? {}) : {}))

/**
 * What was seen of each file first and last. Hosts of which the same is to be told stand together, CAs first.
 * @param sightings in the order in which they were made
 * @param placed whether one of some steps has put in place what lay ready on a host
 */
export function changesIn(
  sightings: readonly Sighting[],
  placed: (steps: readonly string[], host: string) => Placed,
): Change[] {
  // What is staged is told by where it lies, what is read by the link that leads there.
  const links = new Map(
    sightings.flatMap(({ host, name, real }) => (real === undefined ? [] : [[keyOf(host, real), name]])),
  )
  const named = sightings.map(one => ({ ...one, name: links.get(keyOf(one.host, one.name)) ?? one.name }))
  const files = Map.groupBy(named, ({ host, name }) => keyOf(host, name))
  const readBy = new Map<string, string>()
  for (const { host, step } of sightings) if (!readBy.has(host)) readBy.set(host, step)
  const changes = [...files.values()].map((seen): Change => {
    const [first, last] = [seen[0]!, seen.at(-1)!]
    // What was not there when the host was read is new.
    const isNew = first.step !== readBy.get(first.host) || first.placedBy !== undefined
    const later = last.step === first.step && !isNew ? undefined : last
    const before = isNew ? [] : first.certificates
    return {
      ...{ name: first.name, hosts: [first.host], before },
      ...{ after: later ? likeThose(before, later.certificates) : [], afterStep: later?.step },
      ...(later && { came: later.placedBy ? placed(later.placedBy, later.host) : 'placed' }),
    }
  })
  const alike = Map.groupBy(changes, ({ name, before, after, came, hosts: [host = ''] }) =>
    JSON.stringify([name, came, before.map(one => alikeOf(one, host)), after.map(one => alikeOf(one, host))]),
  )
  const isCa = ({ before }: Change) => Number(!before.some(({ isAuthority }) => isAuthority))
  return [...alike.values()]
    .map(group => ({ ...group[0]!, hosts: group.flatMap(({ hosts }) => hosts).sort() }))
    .sort((a, b) => isCa(a) - isCa(b) || (a.name < b.name ? -1 : Number(a.name > b.name)))
}

const keyOf = (host: string, path: string) => JSON.stringify([host, path])

/** Of a file whose first certificate is somebody's, only that is read: the CAs behind it, or in a kubeconfig, are no news. */
function likeThose(before: readonly Facts[], after: readonly Facts[]): readonly Facts[] {
  const isLeaf = ({ isAuthority }: Facts) => !isAuthority
  return before.length > 0 && before.every(isLeaf) && after.some(isLeaf) ? after.filter(isLeaf).slice(0, 1) : after
}

/** What of a certificate must be the same: of leaves the day, the issuer, and what the host's name is not part of. */
function alikeOf({ isAuthority, fingerprint, subject, issuer, until }: Facts, host: string): string {
  return isAuthority ? fingerprint : [subject.replaceAll(host, '*'), issuer, until.slice(0, 10)].join('\n')
}
