// The plan for a kubeadm cluster: every file, its CA, who holds it, with which names.
import test from 'ava'
import type { MachineFacts } from '../../../lib/kubernetes/layout/layout.ts'
import { certificates as plan, unplannedCertificates } from '../../../lib/kubernetes/layout/plan.ts'
import { type CertificateFacts, parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { placePath } from '../../../lib/pki/specs.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { facts, kubeadmMachine } from './_kubeadm.ts'

const cluster = [
  kubeadmMachine('m1', { address: '10.0.0.1', master: true, superAdmin: true }),
  kubeadmMachine('m2', { address: '10.0.0.2', master: true }),
  kubeadmMachine('n1', { address: '10.0.0.3' }),
]

const only = (machines: readonly MachineFacts[], id: string) => plan(machines).filter(spec => spec.id === id)

test.serial('plans every certificate of a kubeadm cluster, shared ones once for all masters', t => {
  const found = plan(cluster).map(spec => `${spec.id} ${spec.hosts.join('+')} ${placePath(spec.place)}`)
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
  const [spec] = plan(cluster, {
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
  t.throws(() => plan([cluster[0]!, { ...cluster[1]!, certificates }]), {
    message: 'm2 has no /etc/kubernetes/pki/apiserver.crt, which kube-apiserver names',
  })
  const noEtcd = new Map(cluster[1]!.certificates)
  noEtcd.delete('/etc/kubernetes/pki/etcd/peer.crt')
  t.throws(() => plan([cluster[0]!, { ...cluster[1]!, certificates: noEtcd }]), {
    message: 'm2 has no /etc/kubernetes/pki/etcd/peer.crt, which etcd names',
  })
})

test.serial('masters that disagree on the CN of a shared certificate are named', t => {
  const certificates = new Map(cluster[1]!.certificates)
  certificates.set('/etc/kubernetes/pki/apiserver.crt', facts({ commonName: 'other' }))
  t.throws(() => plan([cluster[0]!, { ...cluster[1]!, certificates }]), {
    message: /don't agree on the CN of .*apiserver\.crt \(m1: kube-apiserver, m2: other\)/,
  })
})

test.serial('a certificate that no plan knows is found, superseded ones of the kubelet are not', t => {
  const certificates = new Map<string, CertificateFacts>(cluster[2]!.certificates)
  certificates.set('/etc/kubernetes/pki/monitoring.crt', facts({ commonName: 'monitoring' }))
  certificates.set('/var/lib/kubelet/pki/kubelet-client-2025-01-01-10-00-00.pem', facts({ commonName: 'x' }))
  const machines = [cluster[0]!, cluster[1]!, { ...cluster[2]!, certificates }]
  const specs = plan(machines)
  t.deepEqual(unplannedCertificates(machines, specs), [{ host: 'n1', path: '/etc/kubernetes/pki/monitoring.crt' }])
  t.deepEqual(unplannedCertificates(cluster, plan(cluster)), [])
})

test.serial('while one CA follows another, what either of them signed is the cluster’s own', async t => {
  const [old, next] = await Promise.all(['old', 'next'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const leaf = await issue({ name: 'CN=front-proxy-client', issuer: next })
  const path = '/etc/kubernetes/pki/front-proxy-ca.crt'
  const master = kubeadmMachine('m1', { address: '10.0.0.1', master: true })
  const certificates = new Map([
    ...master.certificates,
    [path, parseCertificate(old?.pem ?? '')],
    ['/etc/kubernetes/pki/front-proxy-client.crt', parseCertificate(leaf.pem)],
  ])
  t.deepEqual(only([{ ...master, certificates }], 'front-proxy-client'), [], 'of a CA that nobody trusts')
  const bundles = new Map([[path, [old?.pem ?? '', next?.pem ?? '']]])
  t.is(only([{ ...master, certificates, bundles }], 'front-proxy-client').length, 1)
})
