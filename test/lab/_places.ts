// Where somebody who looks from outside at a cluster that kubeadm made finds what a rotation changes, by its layout. Said here once more, and not asked
// of what is tested. Layouts of units are judged by _units.ts.
import type * as lab from '../../lib/lab/index.ts'

/** A certificate and its key. */
type Pair = readonly [certificate: string, key: string]

export interface Places {
  /** The administrator's kubeconfig, on each master. */
  readonly kubeconfig: string
  /** The CAs, on each master; the same file where one CA is for more than one thing. */
  readonly authorities: { readonly kubernetes: string; readonly etcd: string; readonly frontProxy?: string }
  /** Files and folders of any machine in which a rotation may change something. */
  readonly touched: readonly string[]
  /** What the API server of the first master shows etcd. */
  readonly etcdClient: Pair
  /** What it shows extension API servers; undefined where the cluster has no front proxy. */
  readonly frontProxyClient?: Pair
  /** Whether a file of a machine that nothing uses may hold a certificate of the old CAs afterwards. */
  readonly leftAlone: (machine: string, file: string) => boolean
}

/** Where they are in the cluster of this lab. */
export const placesOf = (shape: lab.Shape): Places => {
  const places = byLayout[shape.layout === 'external-etcd' ? shape.layout : 'kubeadm']
  if (!shape.without.includes('front-proxy')) return places
  const { frontProxyClient: _, authorities, ...others } = places
  return { ...others, authorities: { kubernetes: authorities.kubernetes, etcd: authorities.etcd } }
}

const kubelet = ['/var/lib/kubelet/pki', '/var/lib/kubelet/config.yaml']

const ofKubeadm = (certificates: string) => ({
  kubeconfig: '/etc/kubernetes/admin.conf',
  frontProxyClient: [`${certificates}/front-proxy-client.crt`, `${certificates}/front-proxy-client.key`] as const,
})

const pki = '/etc/kubernetes/pki'
const ssl = '/etc/kubernetes/ssl'
const etcd = '/etc/ssl/etcd/ssl'

const byLayout: Readonly<Record<'kubeadm' | 'external-etcd', Places>> = {
  kubeadm: {
    ...ofKubeadm(pki),
    authorities: { kubernetes: `${pki}/ca.crt`, etcd: `${pki}/etcd/ca.crt`, frontProxy: `${pki}/front-proxy-ca.crt` },
    touched: ['/etc/kubernetes', ...kubelet],
    etcdClient: [`${pki}/apiserver-etcd-client.crt`, `${pki}/apiserver-etcd-client.key`],
    leftAlone: () => false,
  },
  'external-etcd': {
    ...ofKubeadm(ssl),
    authorities: { kubernetes: `${ssl}/ca.crt`, etcd: `${etcd}/ca.pem`, frontProxy: `${ssl}/front-proxy-ca.crt` },
    touched: [
      ...['/etc/kubernetes', '/etc/ssl/etcd', '/etc/etcd.env', '/usr/local/share/ca-certificates', ...kubelet],
      ...['/etc/systemd/system/etcd.service', '/etc/systemd/system/kubelet.service'],
    ],
    etcdClient: [`${etcd}/node-m1.pem`, `${etcd}/node-m1-key.pem`],
    // What Kubespray copies to each of etcd's hosts and only another one uses, and what a node has for a pod network that is not there.
    leftAlone: (machine, file) => {
      if (file === `${etcd}/ca.pem`) return machine.startsWith('n')
      const [, kind, whose] = /\/etc\/ssl\/etcd\/ssl\/(member|admin|node)-(\w+)\.pem$/.exec(file) ?? []
      if (kind === 'node') return whose !== 'm1' || !machine.startsWith('m')
      return kind !== undefined && whose !== machine
    },
  },
}
