// What a rotation leaves behind is named: objects of others, kubeconfigs, certificates that were signed on request; and nothing else is.
import test from 'ava'
import type { CensusEntry } from '../../../lib/kubernetes/census/entry.ts'
import { leftInApi, leftInFiles, tellLeftBehind } from '../../../lib/kubernetes/trust/left-behind.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { startApiServer } from '../api/_api-server.ts'

const authority = (name: string) => issue({ name: `CN=${name}`, ca: true })
const [old, next, other] = await Promise.all(['kubernetes', 'kubernetes', 'company'].map(authority))
const blob = (text: string) => Buffer.from(text).toString('base64')
const client = (name: string, issuer = old, notAfter?: Date) =>
  issue({ name: `CN=${name}, O=team`, issuer: issuer!, notAfter })

test('objects with the CA, or with certificates of it, are named; those of other CAs are not', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const [ann, web] = [await client('ann'), await client('web', other)]
  const kubeconfig = `clusters:\n- cluster:\n    certificate-authority-data: ${blob(other!.pem + old!.pem)}\nusers:\n- user:\n    client-certificate-data: ${blob(ann.pem)}\n`
  const put = (list: string, name: string, rest: object) => server.put(list, { metadata: { name }, ...rest })
  put('/api/v1/namespaces/shop/configmaps', 'trust', {
    data: { 'ca.crt': `# old\n${old!.pem.replaceAll('\n', '\r\n')}` },
  })
  put('/api/v1/namespaces/shop/configmaps', 'kube-root-ca.crt', { data: { 'ca.crt': next!.pem } })
  put('/api/v1/namespaces/shop/secrets', 'kubeconfig', { type: 'Opaque', data: { config: blob(kubeconfig) } })
  put('/api/v1/namespaces/shop/secrets', 'etcd-client', {
    data: { 'tls.crt': blob(ann.pem), 'tls.key': blob(ann.keyPem) },
  })
  put('/api/v1/namespaces/shop/secrets', 'tls', { data: { 'tls.crt': blob(web.pem + other!.pem) } })
  put('/api/v1/namespaces/shop/secrets', 'broken', {
    data: { 'tls.crt': blob('-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----') },
  })
  put('/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations', 'hook', {
    webhooks: [{ name: 'a', clientConfig: { caBundle: blob(next!.pem) } }],
  })
  put('/apis/apiregistration.k8s.io/v1/apiservices', 'v1.metrics', { spec: { caBundle: blob(other!.pem + old!.pem) } })
  const { objects } = await leftInApi(server.api, old!.pem)
  t.deepEqual(objects, [
    { where: 'APIService v1.metrics', authority: true, certificates: [] },
    { where: 'ConfigMap shop/trust', authority: true, certificates: [] },
    { where: 'Secret shop/etcd-client', authority: false, certificates: ['CN=ann, O=team'] },
    { where: 'Secret shop/kubeconfig', authority: true, certificates: ['CN=ann, O=team'] },
  ])
  t.deepEqual(tellLeftBehind({ objects }), [
    [
      'objects with the old CA',
      'APIService v1.metrics\nConfigMap shop/trust\nSecret shop/etcd-client: CN=ann, O=team\nSecret shop/kubeconfig: the CA, and CN=ann, O=team',
    ],
  ])
  t.notRegex(JSON.stringify(objects), /PRIVATE|BEGIN/)
})

test('certificates that were signed on request are named until they end, those of kubelets are not', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const put = async (name: string, issuer: typeof old, more: { signerName?: string; notAfter?: Date } = {}) => {
    const { pem } = await client(name, issuer, more.notAfter)
    server.put('/apis/certificates.k8s.io/v1/certificatesigningrequests', {
      metadata: { name },
      spec: { signerName: more.signerName ?? 'kubernetes.io/kube-apiserver-client', username: 'admin' },
      status: { certificate: blob(pem) },
    })
  }
  const begun = Math.floor(Date.now() / 1_000) * 1_000
  const inHours = (hours: number) => new Date(begun + hours * 3_600_000)
  await put('ann', old, { notAfter: inHours(2) })
  await put('ended', old, { notAfter: inHours(0.5) })
  await put('new', next)
  await put('foreign', other, { signerName: 'example.org/signer' })
  await put('kubelet', old, { signerName: 'kubernetes.io/kube-apiserver-client-kubelet' })
  server.put('/apis/certificates.k8s.io/v1/certificatesigningrequests', { metadata: { name: 'pending' }, spec: {} })
  const { requests } = await leftInApi(server.api, old!.pem, { now: inHours(1) })
  t.deepEqual(requests, [
    {
      ...{ name: 'ann', signer: 'kubernetes.io/kube-apiserver-client', requester: 'admin' },
      ...{ subject: 'CN=ann, O=team', notAfter: inHours(2).toISOString() },
    },
  ])
  const [[label, value] = []] = tellLeftBehind({ requests })
  t.is(label, 'signed on request within an hour')
  t.regex(value!, /^CN=ann, O=team, until \d{4}-\d\d-\d\d, for admin \(ann, kubernetes\.io\/kube-apiserver-client\)$/)
})

test('files of hosts that hold the CA or a certificate of it are named once', async t => {
  const ann = await client('ann')
  const entry = (where: string, pem: string) => ({ where, kind: 'file', facts: parseCertificate(pem) }) as CensusEntry
  const files = leftInFiles(
    [
      entry('m1:/home/ann/.kube/config', old!.pem),
      entry('m1:/home/ann/.kube/config', ann.pem),
      entry('m1:/etc/kubernetes/pki/ca.crt', next!.pem),
      entry('m1:/etc/kubernetes/pki/ca.crt.old', old!.pem),
      entry('m1:/etc/ssl/company.pem', other!.pem),
    ],
    old!.pem,
  )
  t.deepEqual(files, [
    { where: 'm1:/home/ann/.kube/config', authority: true, certificates: ['CN=ann, O=team'] },
    { where: 'm1:/etc/kubernetes/pki/ca.crt.old', authority: true, certificates: [] },
  ])
  t.deepEqual(tellLeftBehind({ files }), [
    [
      'files with the old CA',
      'm1:/home/ann/.kube/config: the CA, and CN=ann, O=team\nm1:/etc/kubernetes/pki/ca.crt.old',
    ],
  ])
  t.deepEqual(tellLeftBehind({}), [])
})

test('machines that trust the old CA in all they do are told apart, with what to do', t => {
  const bundle = { where: 'm1:/usr/local/share/ca-certificates/all.crt', authority: true, certificates: [] }
  const file = { where: 'm1:/etc/kubernetes/ca.crt.old', authority: true, certificates: [] }
  t.deepEqual(tellLeftBehind({ files: [bundle, file], notFollowing: ['n1 does not trust it'] }), [
    ['files with the old CA', 'm1:/etc/kubernetes/ca.crt.old'],
    [
      'machines that trust the old CA in all they do',
      'm1:/usr/local/share/ca-certificates/all.crt: take the old CA out of it\nn1 does not trust it\nthen run update-ca-certificates, or update-ca-trust, there',
    ],
  ])
})

test('of very many objects the first are told, and how many more there are', t => {
  const objects = Array.from({ length: 120 }, (_, index) => ({
    where: `Secret a/s${index}`,
    authority: true,
    certificates: [],
  }))
  const [[, value] = []] = tellLeftBehind({ objects })
  t.is(value!.split('\n').length, 51)
  t.regex(value!, /\nand 70 more$/)
})
