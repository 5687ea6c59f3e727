// The plan for a kubeadm cluster: every file, its CA, who holds it, with which names; roles and policy that fit it.
import test from 'ava'
import type { CertificateFacts } from '../../lib/pki/certificate.ts'
import {
  authorityPlans,
  certificateData,
  issuingPolicy,
  kubeadmCertificates,
  type MachineFacts,
  placePath,
  roleName,
  unplannedCertificates,
  vaultRoles,
} from '../../lib/pki/specs.ts'
import { facts, kubeadmMachine } from './_kubeadm.ts'

const cluster = [
  kubeadmMachine('m1', { address: '10.0.0.1', master: true, superAdmin: true }),
  kubeadmMachine('m2', { address: '10.0.0.2', master: true }),
  kubeadmMachine('n1', { address: '10.0.0.3' }),
]

const only = (machines: readonly MachineFacts[], id: string) =>
  kubeadmCertificates(machines).filter(spec => spec.id === id)

test.serial('plans every certificate of a kubeadm cluster, shared ones once for all masters', t => {
  const found = kubeadmCertificates(cluster).map(spec => `${spec.id} ${spec.hosts.join('+')} ${placePath(spec.place)}`)
  t.deepEqual(found, [
    'apiserver m1+m2 /etc/kubernetes/pki/apiserver.crt',
    'apiserver-kubelet-client m1+m2 /etc/kubernetes/pki/apiserver-kubelet-client.crt',
    'apiserver-etcd-client m1+m2 /etc/kubernetes/pki/apiserver-etcd-client.crt',
    'front-proxy-client m1+m2 /etc/kubernetes/pki/front-proxy-client.crt',
    'etcd-server m1 /etc/kubernetes/pki/etcd/server.crt',
    'etcd-server m2 /etc/kubernetes/pki/etcd/server.crt',
    'etcd-peer m1 /etc/kubernetes/pki/etcd/peer.crt',
    'etcd-peer m2 /etc/kubernetes/pki/etcd/peer.crt',
    'etcd-healthcheck-client m1+m2 /etc/kubernetes/pki/etcd/healthcheck-client.crt',
    'admin m1+m2 /etc/kubernetes/admin.conf',
    'super-admin m1 /etc/kubernetes/super-admin.conf',
    'controller-manager m1+m2 /etc/kubernetes/controller-manager.conf',
    'scheduler m1+m2 /etc/kubernetes/scheduler.conf',
    'kubelet-client m1 /var/lib/kubelet/pki/kubelet-client-current.pem',
    'kubelet-client m2 /var/lib/kubelet/pki/kubelet-client-current.pem',
    'kubelet-client n1 /var/lib/kubelet/pki/kubelet-client-current.pem',
    'kubelet-serving m1 /var/lib/kubelet/pki/kubelet.crt',
    'kubelet-serving m2 /var/lib/kubelet/pki/kubelet.crt',
    'kubelet-serving n1 /var/lib/kubelet/pki/kubelet.crt',
  ])
})

test.serial("the API servers' shared certificate holds the names of all of them, and the inventory's", t => {
  const [spec] = kubeadmCertificates(cluster, {
    apiServer: { dnsNames: ['api.example.org'], ipAddresses: ['10.9.9.9'] },
  })
  t.is(spec!.commonName, 'kube-apiserver')
  t.deepEqual(spec!.dnsNames, ['kubernetes', 'kubernetes.default.svc.cluster.local', 'm1', 'm2', 'api.example.org'])
  t.deepEqual(spec!.ipAddresses, ['10.96.0.1', '10.0.0.1', '10.0.0.2', '10.9.9.9'])
})

test.serial('names and organizations are those of the certificates that are there', t => {
  const old = new Map(cluster[0]!.certificates)
  old.set('/etc/kubernetes/admin.conf', facts({ commonName: 'kubernetes-admin', organizations: ['system:masters'] }))
  const [admin] = only([{ ...cluster[0]!, certificates: old }, cluster[1]!], 'admin')
  t.is(admin!.commonName, 'kubernetes-admin')
  t.deepEqual(admin!.organizations, ['system:masters', 'kubeadm:cluster-admins'])
})

test.serial("a kubelet's self-signed serving certificate gets the node's name, and covers what it served", t => {
  const [spec] = only(cluster, 'kubelet-serving')
  t.is(spec!.commonName, 'system:node:m1')
  t.deepEqual(spec!.organizations, ['system:nodes'])
  t.deepEqual(spec!.dnsNames, ['m1'])
  t.deepEqual(spec!.ipAddresses, ['10.0.0.1'])
  t.true(spec!.renamed)
  t.false(only(cluster, 'kubelet-client')[0]!.renamed)
})

test.serial('a kubelet that lets the cluster sign its serving certificate keeps it in one file with the key', t => {
  const certificates = new Map(cluster[2]!.certificates)
  certificates.set('/var/lib/kubelet/pki/kubelet-server-current.pem', facts({ commonName: 'system:node:n1' }))
  const [spec] = only([{ ...cluster[2]!, certificates }], 'kubelet-serving')
  t.deepEqual(spec!.place, { kind: 'combined', path: '/var/lib/kubelet/pki/kubelet-server-current.pem' })
})

test.serial('a file that kubeadm makes and that is missing is named with its host', t => {
  const certificates = new Map(cluster[1]!.certificates)
  certificates.delete('/etc/kubernetes/pki/apiserver.crt')
  t.throws(() => kubeadmCertificates([cluster[0]!, { ...cluster[1]!, certificates }]), {
    message: 'm2 has no /etc/kubernetes/pki/apiserver.crt, which kubeadm makes',
  })
  const noEtcd = new Map(cluster[1]!.certificates)
  noEtcd.delete('/etc/kubernetes/pki/etcd/peer.crt')
  t.throws(() => kubeadmCertificates([cluster[0]!, { ...cluster[1]!, certificates: noEtcd }]), {
    message: 'm2 has no /etc/kubernetes/pki/etcd/peer.crt, which kubeadm makes',
  })
})

test.serial('masters that disagree on the CN of a shared certificate are named', t => {
  const certificates = new Map(cluster[1]!.certificates)
  certificates.set('/etc/kubernetes/pki/apiserver.crt', facts({ commonName: 'other' }))
  t.throws(() => kubeadmCertificates([cluster[0]!, { ...cluster[1]!, certificates }]), {
    message: /don't agree on the CN of .*apiserver\.crt \(m1: kube-apiserver, m2: other\)/,
  })
})

test.serial('a certificate that no plan knows is found, superseded ones of the kubelet are not', t => {
  const certificates = new Map<string, CertificateFacts>(cluster[2]!.certificates)
  certificates.set('/etc/kubernetes/pki/monitoring.crt', facts({ commonName: 'monitoring' }))
  certificates.set('/var/lib/kubelet/pki/kubelet-client-2025-01-01-10-00-00.pem', facts({ commonName: 'x' }))
  const machines = [cluster[0]!, cluster[1]!, { ...cluster[2]!, certificates }]
  const specs = kubeadmCertificates(machines)
  t.deepEqual(unplannedCertificates(machines, specs), [{ host: 'n1', path: '/etc/kubernetes/pki/monitoring.crt' }])
  t.deepEqual(unplannedCertificates(cluster, kubeadmCertificates(cluster)), [])
})

test.serial('one CA has one mount, three have one each, and only a key that must sign leaves Vault', t => {
  t.deepEqual(
    authorityPlans('one').map(plan => [plan.mount, plan.commonName, plan.authorities.join('+'), plan.keyOnMasters]),
    [['pki_k8s', 'kubernetes', 'kubernetes+etcd+front-proxy', true]],
  )
  t.deepEqual(
    authorityPlans('three', { mount: 'pki' }).map(plan => [plan.mount, plan.commonName, plan.keyOnMasters]),
    [
      ['pki', 'kubernetes', true],
      ['pki_etcd', 'etcd-ca', false],
      ['pki_front_proxy', 'front-proxy-ca', false],
    ],
  )
  t.false(authorityPlans('one', { controllerManagerSigns: false })[0]!.keyOnMasters)
})

test.serial('there is a role for each CA, usage and organization, and it allows no name beyond its certificates', t => {
  const specs = kubeadmCertificates(cluster)
  const roles = vaultRoles(specs, authorityPlans('three'), { ttl: '17520h' })
  t.deepEqual(
    roles.map(role => `${role.mount}/${role.name}`),
    [
      'pki_k8s/kubernetes-server',
      'pki_k8s/kubernetes-client-kubeadm-cluster-admins',
      'pki_k8s_etcd/etcd-client',
      'pki_k8s_front_proxy/front-proxy-client',
      'pki_k8s_etcd/etcd-server-client',
      'pki_k8s/kubernetes-client-system-masters',
      'pki_k8s/kubernetes-client',
      'pki_k8s/kubernetes-client-system-nodes',
      'pki_k8s/kubernetes-server-system-nodes',
    ],
  )
  const nodes = roles.at(-1)!.settings
  t.deepEqual(nodes.allowed_domains, ['m1', 'm2', 'n1'])
  t.deepEqual(nodes.organization, ['system:nodes'])
  t.true(nodes.server_flag)
  t.false(nodes.client_flag)
  t.false(roles.find(role => role.name === 'kubernetes-client')!.settings.allow_ip_sans)
  t.deepEqual(issuingPolicy(roles)[0], { path: 'pki_k8s/issue/kubernetes-server', capabilities: ['update'] })
})

test.serial('templates get the mount, the role and the names of a certificate', t => {
  const [spec] = only(cluster, 'etcd-peer')
  t.is(roleName(spec!), 'etcd-server-client')
  t.deepEqual(certificateData(spec!, authorityPlans('three'), { ttl: '17520h' }), {
    Vault: { Mount: 'pki_k8s_etcd', Role: 'etcd-server-client' },
    Certificate: {
      CommonName: 'm1',
      DNSNames: ['localhost', 'm1'],
      IPAddresses: ['10.0.0.1', '127.0.0.1', '::1'],
      TTL: '17520h',
    },
  })
})
