// Who can sign a certificate for a client of a cluster: a Vault, the API with its controller-manager. Where the key of the CA lies on a host, see
// host-signing.ts of the room pki.
import { RekeyError } from '../../errors.ts'
import { waitFor } from '../../operations/wait.ts'
import { parseCertificate } from '../../pki/certificates/certificate.ts'
import type { Vault } from '../../pki/vault/contract.ts'
import { requireLifetime } from '../../pki/vault/lifetimes.ts'
import { ApiError, type KubernetesApi, type KubernetesObject } from '../api/api.ts'

/**
 * Has an issuer of a Vault sign a client's request as it is, without a role: no role allows the names of just anybody.
 * @throws RekeyError where the token may not, or what comes holds shorter than was asked
 */
export async function signInVault(
  vault: Pick<Vault, 'write'>,
  { mount, issuer }: { readonly mount: string; readonly issuer: string },
  csr: string,
  seconds: number,
): Promise<string> {
  const path = `${mount}/issuer/${issuer}/sign-verbatim`
  const ttl = `${seconds}s`
  const usages = { key_usage: 'DigitalSignature,KeyEncipherment', ext_key_usage: 'ClientAuth' }
  const { data, warnings } = await vault.write(path, { csr, ttl, format: 'pem', ...usages })
  const facts = parseCertificate(String(data['certificate'] ?? ''), `answer of ${path}`)
  requireLifetime(facts, ttl, path, warnings)
  return facts.pem
}

const requests = '/apis/certificates.k8s.io/v1/certificatesigningrequests'

/** Seconds: less than this the API takes from nobody. */
const leastByApi = 600

/**
 * Has the API sign a client's request: it is made and approved by whom the API is asked as, and removed again.
 * @throws RekeyError where it can't be had like this, in words
 */
export async function signByApi(
  api: KubernetesApi,
  csr: string,
  { seconds, organizations, signal }: { seconds: number; organizations: readonly string[]; signal?: AbortSignal },
): Promise<string> {
  const cannot = (why: string, hint?: string, cause?: Error) =>
    new RekeyError(`the API can't sign it: ${why}`, { code: 'kubeconfig.unsigned', hint, cause })
  if (organizations.includes('system:masters'))
    throw cannot(
      'it signs nothing for the group system:masters',
      'Ask for a group that has its rights by a role binding.',
    )
  if (seconds < leastByApi) throw cannot(`it signs for ${leastByApi / 60} minutes at least`, 'Ask for a longer --ttl.')
  const made = await api
    .post(requests, {
      ...{ apiVersion: 'certificates.k8s.io/v1', kind: 'CertificateSigningRequest' },
      metadata: { generateName: 'rekey-kubeconfig-' },
      spec: {
        request: Buffer.from(csr).toString('base64'),
        signerName: 'kubernetes.io/kube-apiserver-client',
        expirationSeconds: seconds,
        usages: ['client auth'],
      },
    })
    .catch((error: Error) => {
      throw cannot(error.message, undefined, error)
    })
  const path = `${requests}/${made.metadata.name}`
  try {
    const message = 'rekey kubeconfig was asked for it'
    const condition = { type: 'Approved', status: 'True', reason: 'RekeyKubeconfig', message }
    await api.put(`${path}/approval`, { ...made, status: { conditions: [condition] } })
    const { pem, refused } = await waitFor(
      'the controller-manager to sign it',
      { within: 30_000, signal, every: 250 },
      async () => answered(await api.get(path)),
    )
    if (pem === undefined) throw cannot(refused ?? 'it was refused')
    const { notAfter } = parseCertificate(pem)
    const lasts = (notAfter.getTime() - Date.now()) / 1_000
    // Clocks differ, and it is dated back by minutes.
    if (lasts <= seconds + 900) return pem
    throw cannot(`it would hold until ${notAfter.toISOString()}, since this API does not bound it as it is asked to`)
  } catch (error) {
    if (error instanceof ApiError) throw cannot(error.message, undefined, error)
    throw error
  } finally {
    await api.delete(path).catch(() => undefined)
  }
}

/** What became of a request; `undefined` until something has. */
function answered({ status }: KubernetesObject): { pem?: string; refused?: string } | undefined {
  const { certificate, conditions = [] } = (status ?? {}) as {
    certificate?: string
    conditions?: { type: string; message?: string }[]
  }
  const refused = conditions.find(({ type }) => type === 'Denied' || type === 'Failed')
  if (refused) return { refused: refused.message || refused.type }
  return certificate ? { pem: Buffer.from(certificate, 'base64').toString('utf8') } : undefined
}
