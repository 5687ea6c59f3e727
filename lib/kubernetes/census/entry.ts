// What a census of certificates is made of.
import { RekeyError } from '../../errors.ts'
import { type CertificateFacts, parseCertificate } from '../../pki/certificates/certificate.ts'

/** One certificate at one place. */
export interface CensusEntry {
  /** `m1:/etc/kubernetes/pki/apiserver.crt`, `m1:6443`, `ConfigMap default/kube-root-ca.crt`. */
  readonly where: string
  readonly kind: 'file' | 'served' | 'api'
  readonly host?: string
  /** The file, or the port. */
  readonly place?: string
  readonly component: string
  readonly facts: CertificateFacts
  /** Which components use the file for what, by their flags: `kube-apiserver client-ca-file`. */
  readonly uses?: readonly string[]
  /** It stands within a kubeconfig. */
  readonly embedded?: boolean
  /** A kubeconfig trusts this API server by it: `https://10.0.0.1:6443`. */
  readonly server?: string
  /** The cluster itself publishes it there: it has to be the cluster's CA. */
  readonly published?: boolean
  /** The fields of the object that have it: `data/ca.crt`. */
  readonly fields?: readonly string[]
  /** It is kept for another cluster. */
  readonly foreign?: boolean
}

/** What can be read of certificates, each once; what can't is told to `notice`. */
export function readable(
  pems: Iterable<string>,
  where: string,
  notice: (text: string) => void,
): readonly CertificateFacts[] {
  return [...new Set(pems)].flatMap(pem => {
    try {
      return [parseCertificate(pem, where)]
    } catch (error) {
      if (!(error instanceof RekeyError)) throw error
      notice(error.message)
      return []
    }
  })
}
