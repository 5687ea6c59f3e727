// What a rotation knowingly leaves behind: kubeconfigs of people on the hosts, objects of others in the API, and certificates that the
// cluster signed for somebody, all of a CA that nobody trusts any more. Reads only.
import { X509Certificate } from 'node:crypto'
import { certificatesWithin, type PublicKeys, publicKeyOf, publicKeysOf } from '../../pki/certificates/bundle-text.ts'
import type { KubernetesApi, KubernetesObject } from '../api/api.ts'
import type { CensusEntry } from '../census/entry.ts'
import { isAnchor } from '../layout/discover.ts'
import { callers, keepers, whereOf } from './carriers.ts'

/** A place that holds something of the CA. Plain data. */
export interface LeftPlace {
  /** `Secret shop/kubeconfig`, `m1:/home/ann/.kube/config`. */
  readonly where: string
  /** It holds the CA itself: whoever reads it trusts nobody any more. */
  readonly authority: boolean
  /** The subjects of certificates in it that the CA signed: nobody lets them in any more. */
  readonly certificates: readonly string[]
}

/** A certificate that the cluster signed on request. Plain data. */
export interface LeftRequest {
  /** The CertificateSigningRequest. */
  readonly name: string
  readonly signer: string
  readonly requester: string
  readonly subject: string
  /** ISO 8601. */
  readonly notAfter: string
}

/** What is left in the API. Plain data. */
export interface LeftInApi {
  readonly objects: readonly LeftPlace[]
  readonly requests: readonly LeftRequest[]
}

/**
 * What the API holds of a CA that was replaced, and certificates that were signed by it on request and have not ended. Kubelets ask
 * for theirs by themselves: those are left out. The cluster forgets a request an hour after it signed it, so that there may be more.
 * @param ca PEM; several, where there are
 * @throws ApiError, HostFailedError where not everything can be read
 */
export async function leftInApi(
  api: KubernetesApi,
  ca: string,
  { now = new Date(), signal }: { now?: Date; signal?: AbortSignal } = {},
): Promise<LeftInApi> {
  const old = authorities(ca)
  const objects: LeftPlace[] = []
  for (const carrier of [...callers, ...keepers]) {
    for await (const object of api.each(carrier.list, { signal })) {
      const texts = carrier.fieldsOf(object).map(({ text }) => text)
      const found = ofAuthorities(texts.flatMap(certificatesWithin), old)
      if (found) objects.push({ where: whereOf(carrier, object), ...found })
    }
  }
  const requests: LeftRequest[] = []
  for await (const request of api.each('/apis/certificates.k8s.io/v1/certificatesigningrequests', { signal })) {
    const left = leftRequest(request, old, now)
    if (left) requests.push(left)
  }
  return { objects, requests }
}

/**
 * The objects of the API that hold one of these certificates, as people call them: `ConfigMap shop/trust`.
 * @param pems each as it stands there, whatever stands around it
 * @throws ApiError, HostFailedError where not everything can be read
 */
export async function objectsHolding(
  api: KubernetesApi,
  pems: readonly string[],
  signal?: AbortSignal,
): Promise<string[]> {
  const found: string[] = []
  for (const carrier of [...callers, ...keepers]) {
    for await (const object of api.each(carrier.list, { signal })) {
      const held = carrier.fieldsOf(object).flatMap(({ text }) => certificatesWithin(text))
      if (held.some(pem => pems.includes(pem))) found.push(whereOf(carrier, object))
    }
  }
  return found
}

/**
 * What files of hosts hold of a CA that was replaced, from what `fileCertificates` found there.
 * @param ca PEM; several, where there are
 */
export function leftInFiles(entries: readonly CensusEntry[], ca: string): LeftPlace[] {
  const old = authorities(ca)
  const files = Map.groupBy(entries, ({ where }) => where)
  return [...files].flatMap(([where, all]): LeftPlace[] => {
    const found = ofAuthorities(
      all.map(({ facts }) => facts.pem),
      old,
    )
    return found ? [{ where, ...found }] : []
  })
}

/** What is left behind, for a report: a label and its lines; nothing where nothing is. */
export function tellLeftBehind({
  files = [],
  notFollowing = [],
  objects = [],
  requests = [],
}: Partial<LeftInApi> & { readonly files?: readonly LeftPlace[]; readonly notFollowing?: readonly string[] }): [
  label: string,
  value: string,
][] {
  const anchors = files.filter(({ where }) => isAnchor(where.slice(where.indexOf(':/') + 1)))
  const machines = [...anchors.map(({ where }) => `${where}: take the old CA out of it`), ...notFollowing]
  const rows: [string, readonly string[]][] = [
    ['files with the old CA', files.filter(one => !anchors.includes(one)).map(tellPlace)],
    [
      'machines that trust the old CA in all they do',
      machines.length > 0 ? [...machines, 'then run update-ca-certificates, or update-ca-trust, there'] : [],
    ],
    ['objects with the old CA', objects.map(tellPlace)],
    [
      // It forgets them then; there may be others.
      'signed on request within an hour',
      requests.map(
        ({ name, signer, requester, subject, notAfter }) =>
          `${subject}, until ${notAfter.slice(0, 10)}, for ${requester} (${name}, ${signer})`,
      ),
    ],
  ]
  return rows.filter(([, lines]) => lines.length > 0).map(([label, lines]) => [label, someOf(lines).join('\n')])
}

const mostTold = 50

const someOf = (lines: readonly string[]) =>
  lines.length > mostTold ? [...lines.slice(0, mostTold), `and ${lines.length - mostTold} more`] : lines

function tellPlace({ where, authority, certificates }: LeftPlace): string {
  if (certificates.length === 0) return where
  return `${where}: ${authority ? 'the CA, and ' : ''}${certificates.join('; ')}`
}

/** A CA that was replaced: its keys, and its certificates to verify others with. */
interface Authorities {
  readonly keys: PublicKeys
  readonly certificates: readonly X509Certificate[]
}

const authorities = (ca: string): Authorities => ({
  keys: publicKeysOf(ca),
  certificates: certificatesWithin(ca).map(pem => new X509Certificate(pem)),
})

function ofAuthorities(pems: readonly string[], old: Authorities): Omit<LeftPlace, 'where'> | undefined {
  const authority = pems.some(pem => old.keys.has(publicKeyOf(pem) ?? ''))
  const certificates = [...new Set(pems.flatMap(pem => signedBy(pem, old)?.subject ?? []))]
  return authority || certificates.length > 0 ? { authority, certificates: certificates.map(oneLine) } : undefined
}

/** A certificate that one of the authorities signed, other than their own. */
function signedBy(pem: string, { keys, certificates }: Authorities): X509Certificate | undefined {
  const key = publicKeyOf(pem)
  if (key === undefined || keys.has(key)) return undefined
  const certificate = new X509Certificate(pem)
  const signed = certificates.some(one => certificate.issuer === one.subject && certificate.verify(one.publicKey))
  return signed ? certificate : undefined
}

/** Whoever asks for these asks again by itself. */
const ofKubelets = /^kubernetes\.io\/(kube-apiserver-client-kubelet|kubelet-serving)$/

function leftRequest(
  { metadata, spec, status }: KubernetesObject,
  old: Authorities,
  now: Date,
): LeftRequest | undefined {
  if (ofKubelets.test(spec?.signerName) || typeof status?.certificate !== 'string') return undefined
  const [pem = ''] = certificatesWithin(Buffer.from(status.certificate, 'base64').toString('latin1'))
  const certificate = signedBy(pem, old)
  if (!certificate || new Date(certificate.validTo) <= now) return undefined
  return {
    name: metadata.name,
    signer: String(spec?.signerName),
    requester: String(spec?.username),
    subject: oneLine(certificate.subject),
    notAfter: new Date(certificate.validTo).toISOString(),
  }
}

const oneLine = (subject: string) => subject.replaceAll('\n', ', ')
