// What every layout of a cluster tells in the same words: what was found on a machine, and where a CA lies.
import type { CertificateFacts } from '../../pki/certificates/certificate.ts'
import type { HostLayout } from './host-layout.ts'

/** The files of a CA. */
export interface AuthorityFiles {
  readonly certificate: string
  readonly key: string
}

/** What was found on one machine. */
export interface MachineFacts {
  /** Its inventory name. */
  readonly name: string
  /** Undefined where it has no kubelet. */
  readonly nodeName?: string
  readonly controlPlane: boolean
  /** The addresses of the node: what its serving certificates must hold. */
  readonly addresses: readonly string[]
  /** The first certificate in each file that was found, kubeconfigs by their client certificate. */
  readonly certificates: ReadonlyMap<string, CertificateFacts>
  /** Every certificate, PEM, of the files that hold several CAs, by path. */
  readonly bundles?: ReadonlyMap<string, readonly string[]>
  /** What runs there; kubeadm's, where nobody looked. */
  readonly layout?: HostLayout
  /** Where files lie that links lead to, by the path of the link. */
  readonly reals?: ReadonlyMap<string, string>
}

/** Names to add to the API servers' certificate, beside those that it has. */
export interface ExtraNames {
  readonly dnsNames?: readonly string[]
  readonly ipAddresses?: readonly string[]
}
