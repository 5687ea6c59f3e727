// Whom extension API servers and the scheduler let in: the CAs in a ConfigMap. Every API server adds its own to it and none takes
// one out (kubernetes/kubernetes#82429), so that a CA that was replaced, or whose key leaked, is trusted there until it expires.
import {
  type CertificateFacts,
  joinBundle,
  parseCertificate,
  parseCertificates,
  splitBundle,
} from '../../pki/certificates/certificate.ts'
import { foundAt, type KubernetesApi, type KubernetesObject } from '../api/api.ts'

/** The ConfigMap, as people call it. */
export const clientTrustName = 'ConfigMap kube-system/extension-apiserver-authentication'
const path = '/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication'

/** The CAs of a cluster that clients come from, PEM: those with certificates, and API servers that speak for somebody else. */
export interface ClientAuthorities {
  readonly kubernetes: string
  readonly frontProxy: string
}

/**
 * Takes the CAs that have the name of one of the cluster's, and are not one of `next`, out of what clients are trusted by; adds those of
 * `next` where they are missing, in each bundle that both are told for. CAs with names of their own stay. What an API server trusts itself it adds again, within a minute.
 * @returns the CAs that were taken out; none where it was well, or where there is no such ConfigMap
 * @throws ApiError with status 409 where an API server added to it at the same moment
 */
export async function tightenClientTrust(
  api: KubernetesApi,
  { old, next }: { readonly old: Partial<ClientAuthorities>; readonly next: Partial<ClientAuthorities> },
): Promise<CertificateFacts[]> {
  const found = await foundAt(api, path)
  if (!found) return []
  const changed = [
    tightened(found, 'client-ca-file', old.kubernetes, next.kubernetes),
    tightened(found, 'requestheader-client-ca-file', old.frontProxy, next.frontProxy),
  ].filter(bundle => bundle !== undefined)
  if (changed.length === 0) return []
  const data = Object.fromEntries(changed.map(({ key, after }) => [key, after]))
  await api.patch(path, { metadata: { resourceVersion: found.metadata.resourceVersion }, data }, 'merge')
  return changed.flatMap(({ removed }) => removed)
}

/** What is to be done with one bundle; `undefined` where nothing is, or where API servers, which are told of no such CA, write none. */
function tightened({ data }: KubernetesObject, key: string, old: string | undefined, next: string | undefined) {
  const before = data?.[key] as string | undefined
  if (before === undefined || old === undefined || next === undefined) return undefined
  const all = splitBundle(before).map(pem => parseCertificate(pem, clientTrustName))
  const own = parseCertificates(next)
  const names = [...own, ...parseCertificates(old)].map(({ subject }) => subject)
  const isOwn = (one: CertificateFacts) => own.some(({ fingerprint }) => fingerprint === one.fingerprint)
  const removed = all.filter(one => names.includes(one.subject) && !isOwn(one))
  const kept = all.filter(one => !removed.includes(one)).map(({ pem }) => pem)
  const after = joinBundle(...kept, next)
  if (after === joinBundle(before)) return undefined
  return { key, after, removed }
}
