// Where kubeadm keeps what, on masters and on nodes. Data only: nothing here looks at a host.
import type { AuthorityName } from '../../../pki/specs.ts'
import type { AuthorityFiles } from '../layout.ts'

/** All that kubeadm writes on a machine, but for etcd's data and the kubelet's. */
export const directory = '/etc/kubernetes'

/** Certificates and keys of the control plane. */
const pkiDirectory = `${directory}/pki`

/** Where kubelets look for the manifests of static pods. */
export const manifestDirectory = `${directory}/manifests`

/** The administrator's kubeconfig, on masters. */
export const adminKubeconfig = `${directory}/admin.conf`

/** The port of the API servers. */
export const apiServerPort = 6443

/** Where each CA lies. The key is on masters only. */
export const authorities: Readonly<Record<AuthorityName, AuthorityFiles>> = {
  kubernetes: { certificate: `${pkiDirectory}/ca.crt`, key: `${pkiDirectory}/ca.key` },
  etcd: { certificate: `${pkiDirectory}/etcd/ca.crt`, key: `${pkiDirectory}/etcd/ca.key` },
  'front-proxy': { certificate: `${pkiDirectory}/front-proxy-ca.crt`, key: `${pkiDirectory}/front-proxy-ca.key` },
}

/** What signs the tokens of service accounts, and what they are verified with. */
export const serviceAccountKeys = { publicKey: `${pkiDirectory}/sa.pub`, privateKey: `${pkiDirectory}/sa.key` }

/** A certificate of the control plane and its key, by the name that kubeadm gives to both. */
export function pair(name: string): { readonly certificate: string; readonly key: string } {
  return { certificate: `${pkiDirectory}/${name}.crt`, key: `${pkiDirectory}/${name}.key` }
}

/** What kubelets use. */
export const kubelet = {
  kubeconfig: `${directory}/kubelet.conf`,
  config: '/var/lib/kubelet/config.yaml',
  directory: '/var/lib/kubelet',
  pki: '/var/lib/kubelet/pki',
  /** A link to the newest of its client certificates, each a dated file with its key. */
  client: '/var/lib/kubelet/pki/kubelet-client-current.pem',
  /** The same for serving certificates that it asks the cluster for. */
  requestedServing: '/var/lib/kubelet/pki/kubelet-server-current.pem',
  /** A serving certificate that it signs itself, where nobody puts one there. */
  serving: { certificate: '/var/lib/kubelet/pki/kubelet.crt', key: '/var/lib/kubelet/pki/kubelet.key' },
} as const

/** etcd, stacked: a member on each master. */
export const etcd = {
  /** The only folder that host and container share for writing. */
  data: '/var/lib/etcd',
  client: 'https://127.0.0.1:2379',
  /** Plain HTTP on loopback: `/health`, `/livez`. */
  healthPort: 2381,
} as const

/** The folders in which anything is staged beside what it replaces. */
export const stagingFolders = [directory, kubelet.directory]

/** What a backup of a machine holds. */
export const backedUp = [directory, kubelet.pki, kubelet.config]

/** The folder below `templates/` that its certificates and kubeconfigs are rendered from. */
export const templates = 'kubeadm'
