// What kubeadm 1.34 puts on a machine, as facts.
import type { MachineFacts } from '../../../lib/kubernetes/layout/layout.ts'
import type { CertificateFacts } from '../../../lib/pki/certificates/certificate.ts'

/** Facts of a certificate of which only names and usages matter. */
export function facts(some: Partial<CertificateFacts>): CertificateFacts {
  return {
    subject: `CN=${some.commonName}`,
    commonName: '',
    organizations: [],
    dnsNames: [],
    ipAddresses: [],
    emailAddresses: [],
    uris: [],
    serialNumber: '01',
    notBefore: new Date(0),
    notAfter: new Date(1),
    issuer: 'CN=kubernetes',
    issuerCommonName: 'kubernetes',
    fingerprint: 'AA',
    isAuthority: false,
    keyType: 'RSA-2048',
    keyUsages: [],
    extendedKeyUsages: [],
    pem: '',
    ...some,
  }
}

/** A machine as kubeadm leaves it: a node, or a master of stacked etcd. */
export function kubeadmMachine(
  name: string,
  { address, master = false, superAdmin = false }: { address: string; master?: boolean; superAdmin?: boolean },
): MachineFacts {
  const client = (commonName: string, ...organizations: string[]) =>
    facts({ commonName, organizations, extendedKeyUsages: ['clientAuth'] })
  const local = { dnsNames: ['localhost', name], ipAddresses: [address, '127.0.0.1', '::1'] }
  const etcd = facts({ commonName: name, ...local, extendedKeyUsages: ['serverAuth', 'clientAuth'] })
  const certificates = new Map<string, CertificateFacts>([
    ['/etc/kubernetes/pki/ca.crt', facts({ commonName: 'kubernetes', isAuthority: true })],
    ['/var/lib/kubelet/pki/kubelet-client-current.pem', client(`system:node:${name}`, 'system:nodes')],
    [
      '/var/lib/kubelet/pki/kubelet.crt',
      facts({ commonName: `${name}@1763700000`, dnsNames: [name], extendedKeyUsages: ['serverAuth'] }),
    ],
  ])
  if (master) {
    const apiServer = facts({
      commonName: 'kube-apiserver',
      dnsNames: ['kubernetes', 'kubernetes.default.svc.cluster.local', name],
      ipAddresses: ['10.96.0.1', address],
      extendedKeyUsages: ['serverAuth'],
    })
    const pki = '/etc/kubernetes/pki'
    certificates.set(`${pki}/apiserver.crt`, apiServer)
    certificates.set(
      `${pki}/apiserver-kubelet-client.crt`,
      client('kube-apiserver-kubelet-client', 'kubeadm:cluster-admins'),
    )
    certificates.set(`${pki}/apiserver-etcd-client.crt`, client('kube-apiserver-etcd-client'))
    certificates.set(`${pki}/front-proxy-ca.crt`, facts({ commonName: 'front-proxy-ca', isAuthority: true }))
    certificates.set(`${pki}/front-proxy-client.crt`, client('front-proxy-client'))
    certificates.set(`${pki}/etcd/ca.crt`, facts({ commonName: 'etcd-ca', isAuthority: true }))
    certificates.set(`${pki}/etcd/server.crt`, etcd)
    certificates.set(`${pki}/etcd/peer.crt`, etcd)
    certificates.set(`${pki}/etcd/healthcheck-client.crt`, client('kube-etcd-healthcheck-client'))
    certificates.set('/etc/kubernetes/admin.conf', client('kubernetes-admin', 'kubeadm:cluster-admins'))
    if (superAdmin) {
      certificates.set('/etc/kubernetes/super-admin.conf', client('kubernetes-super-admin', 'system:masters'))
    }
    certificates.set('/etc/kubernetes/controller-manager.conf', client('system:kube-controller-manager'))
    certificates.set('/etc/kubernetes/scheduler.conf', client('system:kube-scheduler'))
  }
  return { name, nodeName: name, controlPlane: master, addresses: [address], certificates }
}
