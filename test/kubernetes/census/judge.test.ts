// The census: what is said of certificates that were found.
import 'reflect-metadata'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import test from 'ava'
import type { CensusEntry } from '../../../lib/kubernetes/census/entry.ts'
import { type JudgedEntry, judgeCensus, knowsTrust } from '../../../lib/kubernetes/census/judge.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'
import { entry } from './_machine.ts'

const day = 86_400_000

test.serial('says what is due, what has ended, and whose CA is nowhere; what is due or wrong comes first', async t => {
  const ca = await issue({ name: 'CN=kubernetes', ca: true, notAfter: new Date(Date.now() + 1000 * day) })
  const leaf = (days: number) =>
    issue({ name: 'CN=x', issuer: ca, notAfter: new Date(Date.now() + days * day + 60_000) })
  const gone = await issue({ name: 'CN=gone', ca: true })
  const expired = await issue({ name: 'CN=x', issuer: ca, notBefore: new Date(0), notAfter: new Date(1000) })
  const judged = judgeCensus(
    [
      entry('m1:/etc/kubernetes/pki/ca.crt', ca),
      entry('m1:/later', await leaf(400)),
      entry('m1:/soon', await leaf(10)),
      entry('m1:/orphan', await issue({ name: 'CN=y', issuer: gone, notAfter: new Date(Date.now() + 500 * day) })),
      entry('m1:/self', await issue({ name: 'CN=self', notAfter: new Date(Date.now() + 600 * day) })),
      entry('m1:/expired', expired),
      entry('m1:/tokens', expired, { uses: ['kube-apiserver service-account-key-file'] }),
    ],
    { within: 30 * day },
  )
  t.deepEqual(
    judged.map(({ where, due, problems }) => [where, due, problems.join()]),
    [
      ['m1:/expired', true, 'expired'],
      ['m1:/tokens', false, 'expired, which nobody minds: tokens are verified by its key'],
      ['m1:/soon', true, ''],
      ['m1:/orphan', false, 'was issued by "CN=gone", and that CA is nowhere'],
      ['m1:/self', false, 'is self-signed: nobody can verify it'],
      ['m1:/later', false, ''],
      ['m1:/etc/kubernetes/pki/ca.crt', false, ''],
    ],
  )
  t.is(judged.find(one => one.where === 'm1:/soon')!.daysLeft, 10)
  t.is(judged.find(one => one.where === 'm1:/soon')!.issuerFingerprint, parseCertificate(ca.pem).fingerprint)
})

test.serial(
  'after a rotation a copy of the old CA in the API is found, and a leaf of the old CA of the same name too',
  async t => {
    const [old, next] = [
      await issue({ name: 'CN=kubernetes', ca: true }),
      await issue({ name: 'CN=kubernetes', ca: true }),
    ]
    const inApi = (where: string, issued: Issued) =>
      entry(where, issued, { kind: 'api', host: undefined, place: undefined })
    const judged = judgeCensus(
      [
        entry('m1:/etc/kubernetes/pki/ca.crt', next),
        entry('m1:/new', await issue({ name: 'CN=x', issuer: next })),
        entry('m1:/old', await issue({ name: 'CN=x', issuer: old })),
        { ...inApi('ConfigMap default/kube-root-ca.crt', next), published: true },
        { ...inApi('ConfigMap kube-public/cluster-info', old), published: true },
        inApi('ValidatingWebhookConfiguration hook', await issue({ name: 'CN=hook', ca: true })),
      ],
      { within: 0 },
    )
    const problems = Object.fromEntries(judged.map(({ where, problems }) => [where, problems.join()]))
    t.deepEqual(problems, {
      'm1:/etc/kubernetes/pki/ca.crt': '',
      'm1:/new': '',
      'm1:/old': 'is of a CA that no master trusts',
      'ConfigMap default/kube-root-ca.crt': '',
      'ConfigMap kube-public/cluster-info': 'is a copy of a CA that no master has',
      'ValidatingWebhookConfiguration hook': '',
    })
  },
)

const told = (judged: readonly JudgedEntry[]) =>
  Object.fromEntries(
    judged.map(({ where, problems, stale }) => [where, `${stale ? 'STALE ' : ''}${problems.join('; ')}`]),
  )

test.serial('of the CAs that whole machines trust, those count that the cluster has elsewhere, or had', async t => {
  const [before, etcd, company] = await Promise.all(
    ['etcd-ca', 'etcd-ca 2026-11-28', 'company'].map(name => issue({ name: `CN=${name}`, ca: true })),
  )
  const anchors = '/usr/local/share/ca-certificates'
  const judged = judgeCensus(
    [
      entry('m1:/etc/ssl/etcd/ssl/ca.pem', etcd!),
      entry(`n1:${anchors}/etcd-ca.crt`, etcd!),
      entry(`n2:${anchors}/etcd-ca.crt`, before!),
      entry('n1:/etc/pki/ca-trust/source/anchors/company.crt', company!),
    ],
    { within: 0 },
  )
  t.deepEqual(told(judged), {
    'm1:/etc/ssl/etcd/ssl/ca.pem': '',
    [`n1:${anchors}/etcd-ca.crt`]: '',
    [`n2:${anchors}/etcd-ca.crt`]:
      'STALE is called like a CA of the cluster, no master has it, and the whole machine trusts it',
  })
})

test.serial('copies of a CA that no master trusts any more are told wherever somebody goes by them', async t => {
  const [old, next, company] = await Promise.all(
    ['kubernetes', 'kubernetes 2026-11-28', 'company'].map(name => issue({ name: `CN=${name}`, ca: true })),
  )
  const san = new SubjectAlternativeNameExtension([
    { type: 'dns', value: 'api.example.org' },
    { type: 'ip', value: '10.0.0.1' },
  ])
  const apiserver = await issue({ name: 'CN=kube-apiserver', issuer: next!, extensions: [san] })
  const admin = await issue({ name: 'CN=admin', issuer: old! })
  const inApi = (where: string, issued: Issued, more: Partial<CensusEntry> = {}) =>
    entry(where, issued, { kind: 'api', host: undefined, place: undefined, ...more })
  const inKubeconfig = (where: string, issued: Issued, server?: string) =>
    entry(where, issued, { embedded: true, server })
  const entries = [
    entry('m1:/etc/kubernetes/pki/ca.crt', next!, { uses: ['kube-apiserver client-ca-file'] }),
    entry('m1:6443', apiserver, { kind: 'served', component: 'kube-apiserver' }),
    entry('m1:/etc/kubernetes/pki/apiserver.crt', apiserver, { uses: ['kube-apiserver tls-cert-file'] }),
    entry('m1:/etc/kubernetes/pki/oidc-ca.crt', company!),
    entry('m1:/etc/kubernetes/pki/ca.crt.old', old!),
    entry('n1:/etc/kubernetes/pki/ca.crt', old!),
    inKubeconfig('m1:/root/.kube/config', old!, 'https://api.example.org:6443'),
    inKubeconfig('m1:/root/.kube/config#user', admin),
    inKubeconfig('m1:/home/ann/.kube/config', old!, 'https://other.example.org:6443'),
    inKubeconfig('m1:/home/bob/.kube/config', company!, 'https://10.0.0.1:6443'),
    inApi('ConfigMap a/kube-root-ca.crt', next!, { published: true }),
    inApi('ConfigMap kube-public/cluster-info', old!, { published: true }),
    inApi('ConfigMap shop/trust', old!),
    inApi('Secret shop/tls', company!),
    inApi('Secret shop/client', admin),
    inApi('Secret capi/prod-ca', old!, { foreign: true }),
    inApi('ValidatingWebhookConfiguration hook', old!),
    inApi('ValidatingWebhookConfiguration own', company!),
  ]
  t.true(knowsTrust(entries))
  t.deepEqual(told(judgeCensus(entries, { within: 0 })), {
    'm1:/etc/kubernetes/pki/ca.crt': '',
    'm1:6443': '',
    'm1:/etc/kubernetes/pki/apiserver.crt': '',
    'm1:/etc/kubernetes/pki/oidc-ca.crt': '',
    'm1:/etc/kubernetes/pki/ca.crt.old': 'is called like a CA of the cluster, and no master has it',
    'n1:/etc/kubernetes/pki/ca.crt': 'STALE is a CA that no master has',
    'm1:/root/.kube/config': 'STALE a kubeconfig trusts this cluster by it, and no master has it',
    'm1:/root/.kube/config#user': 'STALE is of a CA that no master trusts',
    'm1:/home/ann/.kube/config': '',
    'm1:/home/bob/.kube/config': 'STALE a kubeconfig trusts this cluster by it, and no master has it',
    'ConfigMap a/kube-root-ca.crt': '',
    'ConfigMap kube-public/cluster-info': 'STALE is a copy of a CA that no master has',
    'ConfigMap shop/trust': 'STALE is a copy of a CA that is called like the cluster’s, and that no master has',
    'Secret shop/tls': '',
    'Secret shop/client': 'STALE is of a CA that no master trusts',
    'Secret capi/prod-ca': '',
    'ValidatingWebhookConfiguration hook':
      'STALE is a copy of a CA that is called like the cluster’s, and that no master has',
    'ValidatingWebhookConfiguration own': '',
  })
  // Without a master nobody can tell.
  const withoutMasters = entries.filter(({ kind }) => kind === 'api')
  t.false(knowsTrust(withoutMasters))
  t.true(judgeCensus(withoutMasters, { within: 0 }).every(({ stale }) => !stale))
})

test.serial('what components made for themselves, as kubeadm leaves it, is told as that and no more', async t => {
  const [ca, own] = [
    await issue({ name: 'CN=kubernetes', ca: true }),
    await issue({ name: 'CN=m1-ca@1795897512', ca: true }),
  ]
  const kubelet = await issue({ name: 'CN=m1@1795897512', issuer: own })
  const served = (issued: Issued, component: string) => entry('m1:10250', issued, { kind: 'served', component })
  const judged = judgeCensus(
    [entry('m1:/etc/kubernetes/pki/ca.crt', ca), served(kubelet, 'kubelet'), served(own, 'kubelet (chain)')],
    { within: 0 },
  )
  const [first, ...others] = judged
  t.deepEqual(first!.problems, ['is of a CA that its component made for itself: nobody can verify it'])
  t.true(others.every(({ problems }) => problems.length === 0))
  t.true(judged.every(({ stale }) => !stale))
})
