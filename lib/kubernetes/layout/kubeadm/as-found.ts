// What runs on a host that kubeadm laid out, in the words of what is found: for runs that began before anybody looked.
import type { ComponentName, FileRole, FoundComponent, HostLayout, NamedFile } from '../host-layout.ts'
import {
  apiServerPort,
  authorities,
  directory,
  etcd,
  kubelet,
  manifestDirectory,
  pair,
  serviceAccountKeys,
} from './files.ts'

/** A host as kubeadm lays it out, with a stacked etcd where it is a master. */
export function kubeadmLayout(host: string, controlPlane: boolean): HostLayout {
  const kubeletFound: FoundComponent = {
    component: 'kubelet',
    runs: { kind: 'unit', unit: 'kubelet.service', definition: [], environmentFiles: [], type: 'simple' },
    processes: [],
    flags: { config: [kubelet.config], kubeconfig: [kubelet.kubeconfig] },
    files: [
      named('config', '--config', kubelet.config),
      named('kubeconfig', '--kubeconfig', kubelet.kubeconfig),
      named('client', 'client-certificate', kubelet.client, kubelet.client),
      named('client-ca', 'authentication.x509.clientCAFile', authorities.kubernetes.certificate),
      named('serving', 'tls-cert-file', kubelet.serving.certificate, kubelet.serving.key),
    ],
    endpoints: [{ address: local, port: 10_250, role: 'serving' }],
    drift: [],
  }
  if (!controlPlane) return { host, components: { kubelet: kubeletFound } }
  return {
    host,
    components: {
      kubelet: kubeletFound,
      etcd: pod(
        'etcd',
        {
          'data-dir': [etcd.data],
          'listen-client-urls': [etcd.client],
          'listen-metrics-urls': [`http://${local}:${etcd.healthPort}`],
        },
        [
          ca('client-ca', 'trusted-ca-file', 'etcd'),
          ca('peer-ca', 'peer-trusted-ca-file', 'etcd'),
          ofPair('serving', 'cert-file', 'etcd/server'),
          ofPair('peer', 'peer-cert-file', 'etcd/peer'),
        ],
        2379,
      ),
      'kube-apiserver': pod(
        'kube-apiserver',
        { 'secure-port': [`${apiServerPort}`], 'etcd-servers': [etcd.client] },
        [
          ca('client-ca', 'client-ca-file', 'kubernetes'),
          ca('etcd-ca', 'etcd-cafile', 'etcd'),
          ca('front-proxy-ca', 'requestheader-client-ca-file', 'front-proxy'),
          ofPair('serving', 'tls-cert-file', 'apiserver'),
          ofPair('etcd-client', 'etcd-certfile', 'apiserver-etcd-client'),
          ofPair('kubelet-client', 'kubelet-client-certificate', 'apiserver-kubelet-client'),
          ofPair('front-proxy-client', 'proxy-client-cert-file', 'front-proxy-client'),
          named('service-account-verify', '--service-account-key-file', serviceAccountKeys.publicKey),
          named('service-account-sign', '--service-account-signing-key-file', serviceAccountKeys.privateKey),
        ],
        apiServerPort,
      ),
      'kube-controller-manager': pod(
        'kube-controller-manager',
        {},
        [
          named('kubeconfig', '--kubeconfig', `${directory}/controller-manager.conf`),
          ca('client-ca', 'client-ca-file', 'kubernetes'),
          ca('root-ca', 'root-ca-file', 'kubernetes'),
          ca('front-proxy-ca', 'requestheader-client-ca-file', 'front-proxy'),
          named(
            'signing',
            '--cluster-signing-cert-file',
            authorities.kubernetes.certificate,
            authorities.kubernetes.key,
          ),
          named('service-account-sign', '--service-account-private-key-file', serviceAccountKeys.privateKey),
        ],
        10_257,
      ),
      'kube-scheduler': pod(
        'kube-scheduler',
        {},
        [named('kubeconfig', '--kubeconfig', `${directory}/scheduler.conf`)],
        10_259,
      ),
    },
  }
}

const local = '127.0.0.1'

function named(role: FileRole, by: string, path: string, key?: string): NamedFile {
  return { role, by, path, real: path, ...(key !== undefined && { key: { path: key, real: key } }) }
}

const ca = (role: FileRole, flag: string, of: keyof typeof authorities) =>
  named(role, `--${flag}`, authorities[of].certificate)

function ofPair(role: FileRole, flag: string, name: string): NamedFile {
  const { certificate, key } = pair(name)
  return named(role, `--${flag}`, certificate, key)
}

function pod(
  component: ComponentName,
  flags: FoundComponent['flags'],
  files: readonly NamedFile[],
  port: number,
): FoundComponent {
  return {
    component,
    runs: { kind: 'static-pod', manifest: `${manifestDirectory}/${component}.yaml` },
    processes: [],
    flags,
    files,
    endpoints: [{ address: local, port, role: 'serving' }],
    drift: [],
  }
}
