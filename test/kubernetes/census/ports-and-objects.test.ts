// The census: certificates found on ports and in the API.
import 'reflect-metadata'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import test from 'ava'
import { judgeCensus } from '../../../lib/kubernetes/census/judge.ts'
import { apiCertificates } from '../../../lib/kubernetes/census/objects.ts'
import { endpointsOf, nodeAddress, servedCertificates } from '../../../lib/kubernetes/census/ports.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'
import { localSession } from '../_local.ts'
import { startApiServer } from '../api/_api-server.ts'
import { entry } from './_machine.ts'

const folder = mkdtempSync(join(tmpdir(), 'rekey-census-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const noNotice = (text: string) => {
  throw new Error(text)
}

test.serial('tells what a port serves from memory apart from what its file holds', async t => {
  const ca = await issue({ name: 'CN=kubernetes', ca: true })
  const [old, next] = [await issue({ name: 'CN=a', issuer: ca }), await issue({ name: 'CN=a', issuer: ca })]
  const server = createServer({ cert: old.pem, key: old.keyPem })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  t.teardown(() => server.close())
  const endpoint = { address: '127.0.0.1', port, component: 'kubelet', authority: 'kubernetes', files: [] } as const
  const closed = { ...endpoint, port: 1 }
  const served = await servedCertificates(await localSession(), noNotice, [endpoint, closed])
  t.deepEqual(
    served.map(one => one.facts.fingerprint),
    [parseCertificate(old.pem).fingerprint],
  )

  const asKubelet = { ...served[0]!, place: '10250', where: 'm1:10250' }
  const file = (issued: Issued) => entry('m1:/var/lib/kubelet/pki/kubelet.crt', issued)
  const judge = (issued: Issued) =>
    judgeCensus([asKubelet, file(issued), entry('m1:/etc/kubernetes/pki/ca.crt', ca)], { within: 0 })
  t.deepEqual(
    judge(old).flatMap(one => one.problems),
    [],
  )
  const [first] = judge(next)
  t.is(first!.where, 'm1:10250')
  t.deepEqual(first!.problems, [
    'is not what /var/lib/kubelet/pki/kubelet.crt holds: the component has not read that yet',
  ])
  // Where nobody knows by name which file a component serves from.
  const elsewhere = (issued: Issued) =>
    judgeCensus([asKubelet, entry('m1:/opt/tls/node.pem', issued), entry('m1:/etc/etcd/ca.pem', ca)], { within: 0 })
  t.deepEqual(
    elsewhere(old).flatMap(one => one.problems),
    [],
  )
  t.deepEqual(elsewhere(next)[0]!.problems, [
    'lies in no file of this machine: the component has not read yet what is there now',
  ])
})

test.serial(
  'finds what the API keeps: published CAs, Secrets, kubeconfigs in ConfigMaps, webhooks, conversions',
  async t => {
    const [ca, other] = [
      await issue({ name: 'CN=kubernetes', ca: true }),
      await issue({ name: 'CN=webhook', ca: true }),
    ]
    const leaf = await issue({ name: 'CN=ingress', issuer: other })
    const blob = ({ pem }: Issued) => Buffer.from(pem).toString('base64')
    const server = await startApiServer()
    t.teardown(server.close)
    const put = (namespace: string, kind: string, name: string, rest: object) =>
      server.put(`/api/v1/namespaces/${namespace}/${kind}`, { metadata: { name }, ...rest })
    put('default', 'configmaps', 'kube-root-ca.crt', { data: { 'ca.crt': ca.pem } })
    put('kube-public', 'configmaps', 'cluster-info', {
      data: {
        kubeconfig: `clusters:\n- cluster:\n    certificate-authority-data: ${blob(ca)}\n    server: https://10.0.0.1:6443\n`,
      },
    })
    put('default', 'configmaps', 'other', { data: { text: 'nothing' } })
    put('default', 'configmaps', 'json', { data: { text: JSON.stringify({ ca: other.pem, more: 1 }) } })
    put('a', 'secrets', 'token', {
      type: 'kubernetes.io/service-account-token',
      data: { 'ca.crt': blob(ca), token: 'x' },
    })
    put('a', 'secrets', 'tls', { data: { 'tls.crt': blob(leaf), 'tls.key': 'x' } })
    put('monitoring', 'secrets', 'etcd-client', { type: 'Opaque', data: { any: blob(leaf) } })
    put('a', 'secrets', 'helm', { type: 'helm.sh/release.v1', data: { release: blob(ca) } })
    put('capi', 'secrets', 'prod-ca', { type: 'cluster.x-k8s.io/secret', data: { 'tls.crt': blob(ca) } })
    put('a', 'secrets', 'password', { data: { password: 'eA==' } })
    server.put('/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations', {
      metadata: { name: 'hook' },
      webhooks: [
        { name: 'a', clientConfig: { caBundle: Buffer.from(`# c\n${other.pem}${ca.pem}`).toString('base64') } },
        { name: 'b', clientConfig: {} },
      ],
    })
    server.put('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      metadata: { name: 'crd' },
      spec: { conversion: { webhook: { clientConfig: { caBundle: blob(other) } } } },
    })
    const found = await apiCertificates(server.api, noNotice)
    t.deepEqual(
      found.map(({ where, facts, published, server, foreign }) =>
        [where, facts.commonName, published && 'published', server, foreign && 'foreign'].filter(Boolean).join(' '),
      ),
      [
        'ConfigMap default/json webhook',
        'ConfigMap default/kube-root-ca.crt kubernetes published',
        'ConfigMap kube-public/cluster-info kubernetes published https://10.0.0.1:6443',
        'Secret a/tls ingress',
        'Secret a/token kubernetes published',
        'Secret capi/prod-ca kubernetes foreign',
        'Secret monitoring/etcd-client ingress',
        'ValidatingWebhookConfiguration hook webhook',
        'ValidatingWebhookConfiguration hook kubernetes',
        'CustomResourceDefinition crd webhook',
      ],
    )
  },
)

test.serial("etcd's peers are looked for on the address that the API has for the node", async t => {
  const node = (name: string, address: string) => ({
    metadata: { name },
    status: {
      addresses: [
        { type: 'InternalIP', address },
        { type: 'Hostname', address: name },
      ],
    },
  })
  const nodes = [node('m1.example.org', '10.0.0.1'), node('m2', '10.0.0.2')]
  const machine = (name: string, address: string, hostname: string) => ({
    host: { name, groups: [], vars: { node_ip: '10.0.0.9' }, connection: { address } },
    $: async () => ({ stdout: `${hostname}\n` }),
  })
  const addressOf = (...of: [string, string, string]) =>
    nodeAddress(machine(...of) as unknown as Parameters<typeof nodeAddress>[0], nodes)
  t.is(await addressOf('m2', 'bastion', 'x'), '10.0.0.2')
  t.is(await addressOf('first', '10.0.0.1', 'x'), '10.0.0.1')
  t.is(await addressOf('first', '192.0.2.1', 'm1.example.org'), '10.0.0.1')
  t.is(await addressOf('lb', '192.0.2.9', 'lb'), undefined)
  const host = machine('m2', 'bastion', 'x').host as unknown as Parameters<typeof endpointsOf>[0]
  const peers = (address?: string) => endpointsOf(host, address).find(({ port }) => port === 2380)?.address
  t.deepEqual([peers('10.0.0.2'), peers()], ['10.0.0.2', '10.0.0.9'])
})
