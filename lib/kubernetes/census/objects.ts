// Certificates that the API keeps: published CAs, Secrets of any type, ConfigMaps, webhooks, API services, conversions. Reads only.
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'
import type { KubernetesApi, KubernetesObject } from '../api/api.ts'
import { callers, keepers, whereOf } from '../trust/carriers.ts'
import { tokenSecretType } from '../trust/tokens.ts'
import { type CensusEntry, readable } from './entry.ts'
import { clustersWithin } from './kubeconfigs.ts'

/** Every certificate that the API keeps. What can't be read as one is told to `notice`. */
export async function apiCertificates(
  api: KubernetesApi,
  notice: (text: string) => void,
  signal?: AbortSignal,
): Promise<CensusEntry[]> {
  const found: CensusEntry[] = []
  for (const carrier of [...keepers, ...callers]) {
    for await (const object of api.each(carrier.list, { signal })) {
      const fieldsOf = carrier.fieldsOf(object)
      const texts = fieldsOf.map(({ text }) => text)
      const held = fieldsOf.flatMap(({ id, text }) => certificatesWithin(text).map(pem => ({ id, pem })))
      const pems = held.map(({ pem }) => pem)
      if (pems.length === 0) continue
      const servers = new Map(
        texts
          .flatMap(clustersWithin)
          .flatMap(({ server, authorities }) => authorities.map(pem => [pem, server] as const)),
      )
      const where = whereOf(carrier, object)
      const base = { where, kind: 'api' as const, component: 'API', published: isPublished(where, object) }
      const foreign = object['type'] === 'cluster.x-k8s.io/secret'
      for (const facts of readable(pems, where, notice)) {
        const fields = held.flatMap(({ id, pem }) => (pem === facts.pem ? [id] : []))
        found.push({
          ...base,
          facts,
          fields,
          foreign,
          server: servers.get(facts.pem),
          embedded: servers.has(facts.pem),
        })
      }
    }
  }
  return found
}

/** What the controller-manager, API servers and kubeadm publish the cluster's CA in. */
const published =
  /^ConfigMap (.*\/kube-root-ca\.crt|kube-public\/cluster-info|kube-system\/extension-apiserver-authentication)$/

function isPublished(where: string, object: KubernetesObject): boolean {
  return published.test(where) || object['type'] === tokenSecretType
}
