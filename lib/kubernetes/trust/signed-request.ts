// What the cluster signs with, seen by what it signs: a request for a certificate that may do nothing, approved, and taken away again.
import { waitFor } from '../../operations/wait.ts'
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'
import type { KubernetesApi } from '../api/api.ts'

const requests = '/apis/certificates.k8s.io/v1/certificatesigningrequests'

/** What is asked for. */
export interface AskedToSign {
  /** Of the object; one that is there already is taken away first. */
  readonly name: string
  /** The request, PEM. */
  readonly request: string
  readonly within: number
  readonly signal?: AbortSignal
}

/**
 * Has the controller-manager sign a client's certificate.
 * @returns the certificate, PEM
 * @throws HostFailedError where it is not signed in time
 */
export async function signedOnRequest(
  api: () => Promise<KubernetesApi>,
  { name, request, within, signal }: AskedToSign,
): Promise<string> {
  const path = `${requests}/${name}`
  const takeAway = async () => (await api()).delete(path).catch(() => {})
  await takeAway()
  await (await api()).post(requests, {
    ...{ apiVersion: 'certificates.k8s.io/v1', kind: 'CertificateSigningRequest', metadata: { name } },
    spec: {
      request: Buffer.from(request).toString('base64'),
      signerName: 'kubernetes.io/kube-apiserver-client',
      usages: ['client auth'],
      expirationSeconds: 600,
    },
  })
  try {
    const approved = { type: 'Approved', status: 'True', reason: 'Rekey', message: 'to see which CA signs' }
    await (await api()).patch(`${path}/approval`, { status: { conditions: [approved] } }, 'merge')
    return await waitFor('the cluster to sign a certificate on request', { within, signal }, async () => {
      const { status } = await (await api()).get(path)
      const failed = (status?.['conditions'] as { type: string; message?: string }[])?.find(
        one => one.type === 'Failed',
      )
      if (failed) throw new Error(failed.message)
      return certificatesWithin(Buffer.from(String(status?.['certificate'] ?? ''), 'base64').toString('latin1'))[0]
    })
  } finally {
    await takeAway()
  }
}
