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

/** Certificates that a step handed on under a name: most often the path of a file. */
export interface Sighting {
  readonly step: string
  readonly host: string
  readonly name: string
  readonly certificates: readonly Facts[]
}

/** A file, or what else has a name, on hosts of which the same is to be told. */
export interface Change {
  readonly name: string
  readonly hosts: readonly string[]
  readonly before: readonly Facts[]
  /** What was handed on later; nothing where nothing was. */
  readonly after: readonly Facts[]
  readonly afterStep?: string
}

const deepest = 12
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

/** The certificates in what a step returned. */
export function sightingsIn({ step, host, ...returned }: Returned): Sighting[] {
  const found: Sighting[] = []
  const walk = (value: unknown, path: readonly string[]) => {
    if (typeof value === 'string') {
      const certificates = certificatesIn(value)
      // The file says where it is; what led there says so where it is in none.
      const name = path.findLast(key => key.startsWith('/')) ?? path.join('.')
      if (certificates.length > 0) found.push({ step, host, name: name || 'what it returned', certificates })
    } else if (value instanceof Map) for (const [key, one] of value) walk(one, [...path, String(key)])
    else if (typeof value === 'object' && value !== null && path.length < deepest)
      for (const [key, one] of Object.entries(value)) walk(one, [...path, key])
  }
  if ('value' in returned) walk(returned.value, [])
  return found
}

/**
 * What was seen of each file first and last. Hosts of which the same is to be told stand together, CAs first.
 * @param sightings in the order in which they were made
 */
export function changesIn(sightings: readonly Sighting[]): Change[] {
  const files = Map.groupBy(
    sightings.filter(({ name }) => name.startsWith('/')),
    ({ host, name }) => JSON.stringify([host, name]),
  )
  const readBy = new Map<string, string>()
  for (const { host, step } of sightings) if (!readBy.has(host)) readBy.set(host, step)
  const changes = [...files.values()].map((seen): Change => {
    const [first, last] = [seen[0]!, seen.at(-1)!]
    // What was not there when the host was read is new.
    const isNew = first.step !== readBy.get(first.host)
    const later = last.step === first.step && !isNew ? undefined : last
    return {
      ...{ name: first.name, hosts: [first.host], before: isNew ? [] : first.certificates },
      ...{ after: later?.certificates ?? [], afterStep: later?.step },
    }
  })
  const alike = Map.groupBy(changes, ({ name, before, after, hosts: [host = ''] }) =>
    JSON.stringify([name, before.map(one => alikeOf(one, host)), after.map(one => alikeOf(one, host))]),
  )
  const isCa = ({ before }: Change) => Number(!before.some(({ isAuthority }) => isAuthority))
  return [...alike.values()]
    .map(group => ({ ...group[0]!, hosts: group.flatMap(({ hosts }) => hosts).sort() }))
    .sort((a, b) => isCa(a) - isCa(b) || (a.name < b.name ? -1 : Number(a.name > b.name)))
}

/** What of a certificate must be the same: of leaves the day, the issuer, and what the host's name is not part of. */
function alikeOf({ isAuthority, fingerprint, subject, issuer, until }: Facts, host: string): string {
  return isAuthority ? fingerprint : [subject.replaceAll(host, '*'), issuer, until.slice(0, 10)].join('\n')
}
