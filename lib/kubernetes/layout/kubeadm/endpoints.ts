// The TLS ports of a cluster that kubeadm laid out, and the files of what they present.
import type { TlsEndpoint } from '../../components/endpoints.ts'
import { apiServerPort, kubelet, pair } from './files.ts'

/** The endpoints of a kubeadm master. etcd's peers are served on the node's address only. */
export function masterEndpoints(nodeAddress: string): TlsEndpoint[] {
  const local = '127.0.0.1'
  const of = (name: string) => [pair(name).certificate]
  return [
    {
      component: 'kube-apiserver',
      authority: 'kubernetes',
      address: local,
      port: apiServerPort,
      files: of('apiserver'),
    },
    { component: 'etcd (clients)', authority: 'etcd', address: local, port: 2379, files: of('etcd/server') },
    { component: 'etcd (peers)', authority: 'etcd', address: nodeAddress, port: 2380, files: of('etcd/peer') },
    {
      ...{ component: 'kube-controller-manager', authority: 'kubernetes', address: local, port: 10257 },
      files: of('kube-controller-manager'),
    },
    {
      ...{ component: 'kube-scheduler', authority: 'kubernetes', address: local, port: 10259 },
      files: of('kube-scheduler'),
    },
  ]
}

/** The port of every kubelet. */
export const kubeletEndpoint: TlsEndpoint = {
  component: 'kubelet',
  authority: 'kubernetes',
  address: '127.0.0.1',
  port: 10250,
  files: [kubelet.requestedServing, kubelet.serving.certificate],
}
