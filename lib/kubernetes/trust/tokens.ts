// Service-account tokens that are kept in Secrets, and the key pair that signs all tokens.
import { generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'
import { Secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { waitFor } from '../../operations/wait.ts'
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'
import { foundAt, type KubernetesApi, type KubernetesObject } from '../api/api.ts'

/** A Secret of the type `kubernetes.io/service-account-token`. */
export interface TokenSecret {
  readonly namespace: string
  readonly name: string
  readonly token: Secret
}

/** What the API calls a Secret with a token. */
export const tokenSecretType = 'kubernetes.io/service-account-token'

/** Where the API lists every one of them. */
export const tokenSecretsPath = `/api/v1/secrets?fieldSelector=${encodeURIComponent(`type=${tokenSecretType}`)}`

/** The token of a token Secret; nothing where it has none yet. */
export function tokenIn(data: KubernetesObject['data']): string {
  return Buffer.from(String(data?.token ?? ''), 'base64').toString('utf8')
}

/** Every token Secret of the cluster, by namespace and name. */
export async function tokenSecrets(api: KubernetesApi): Promise<TokenSecret[]> {
  const found: TokenSecret[] = []
  for await (const { metadata, data } of api.each(tokenSecretsPath)) {
    const token = new Secret(tokenIn(data))
    found.push({ namespace: metadata.namespace ?? '', name: metadata.name, token })
  }
  return found.sort((a, b) => `${a.namespace}/${a.name}`.localeCompare(`${b.namespace}/${b.name}`))
}

/**
 * Every token Secret as the API has it, the Secrets of a namespace together: no more than those are in memory. A namespace may come
 * again, with Secrets that were made while the list was read.
 * @throws HostFailedError where a namespace is called what no namespace can be called
 */
export async function* tokenSecretsByNamespace(
  api: KubernetesApi,
  signal?: AbortSignal,
): AsyncGenerator<{ namespace: string; secrets: KubernetesObject[] }> {
  let group: { namespace: string; secrets: KubernetesObject[] } | undefined
  for await (const one of api.each(tokenSecretsPath, { signal })) {
    const { namespace = '' } = one.metadata
    if (group?.namespace !== namespace) {
      if (group) yield group
      // It becomes the name of a file.
      if (!/^[a-z0-9-]+$/.test(namespace))
        throw new HostFailedError(`${JSON.stringify(namespace)} is no name of a namespace`, { code: 'api.namespace' })
      group = { namespace, secrets: [] }
    }
    group.secrets.push(one)
  }
  if (group) yield group
}

/**
 * Has the controller-manager write a new token into a Secret: the old one is taken out, and it fills it in again.
 * @param ca the CA that the Secret must carry when this is over; PEM
 * @returns the new token
 * @throws HostFailedError where it is gone meanwhile (`tokens.gone`), or nobody fills it in; ApiError where it may not be written
 */
export async function regenerateToken(
  api: KubernetesApi,
  { namespace, name }: TokenSecret,
  { ca, within, signal }: { ca: string; within: number; signal?: AbortSignal },
): Promise<Secret> {
  const path = `/api/v1/namespaces/${namespace}/secrets/${name}`
  await api.patch(path, { data: { token: null } }, 'merge')
  const renewed = await waitFor(
    `a new token in Secret ${namespace}/${name}`,
    { within, signal, every: 200 },
    async () => {
      const found = await foundAt(api, path)
      if (!found) return 'gone'
      const { data } = found
      const token = tokenIn(data)
      // Signed with the same key it is the very same token again: these hold no time.
      if (token === '') return undefined
      const carried = Buffer.from(String(data?.['ca.crt'] ?? ''), 'base64').toString('utf8')
      if (!isSame(carried, ca)) throw new Error('it has a token, but not the new CA yet')
      return new Secret(token)
    },
  )
  if (renewed !== 'gone') return renewed
  throw new HostFailedError(`Secret ${namespace}/${name} is gone`, { code: 'tokens.gone' })
}

/** The namespaces whose `kube-root-ca.crt` is not `ca` (yet). */
export async function namespacesWithOtherCa(api: KubernetesApi, ca: string): Promise<string[]> {
  const current = new Set<string | undefined>()
  for await (const { metadata, data } of api.each(
    '/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt',
  )) {
    if (isSame(String(data?.['ca.crt']), ca)) current.add(metadata.namespace)
  }
  const others: string[] = []
  for await (const { metadata, status } of api.each('/api/v1/namespaces')) {
    if (!current.has(metadata.name) && status?.phase === 'Active') others.push(metadata.name)
  }
  return others
}

/** Whether two bundles hold the same certificates, in this order, whatever stands around them. */
function isSame(one: string, other: string): boolean {
  const [certificates, others] = [certificatesWithin(one), certificatesWithin(other)]
  return certificates.length === others.length && certificates.every((pem, index) => pem === others[index])
}

/** A new key pair for service-account tokens: RSA 2048, as kubeadm makes it. */
export async function serviceAccountKeyPair(): Promise<{ publicKey: string; privateKey: Secret }> {
  const { publicKey, privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 })
  return {
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    privateKey: new Secret(privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()),
  }
}

/** A Secret as it is kept in a backup: what `kubectl apply` needs to put it back. */
export function backupForm({ metadata, data, ...rest }: KubernetesObject): Record<string, unknown> {
  const { name, namespace, labels, annotations } = metadata
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace, labels, annotations },
    type: rest['type'],
    data,
  }
}
