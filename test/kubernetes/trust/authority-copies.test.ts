// Copies of the CA in the API, on an API server that keeps them: each bundle as it should be after a rotation, and as it was after a
// rollback, whatever stands beside the CA and whoever writes meanwhile.
import test, { type ExecutionContext } from 'ava'
import { Secret } from '../../../lib/connection/shell.ts'
import {
  type AuthorityCopy,
  authorityCopies,
  clusterInfo,
  replaceCopies,
  restoreCopies,
} from '../../../lib/kubernetes/trust/authority-copies.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { type StandIn, startApiServer } from '../api/_api-server.ts'

const authority = async (name: string) => (await issue({ name: `CN=${name}`, ca: true })).pem
const [old, next, other] = (await Promise.all(['kubernetes', 'kubernetes', 'company'].map(authority))) as [
  string,
  string,
  string,
]
const change = { old, next }
const blob = (text: string) => Buffer.from(text, 'latin1').toString('base64')
const text = (value: string) => Buffer.from(value, 'base64').toString('latin1')

/** Bundles as they are met on clusters, and what they should hold after a rotation. */
const bundles: Record<string, [before: string, after: string]> = {
  alone: [old, next],
  first: [old + other, next + other],
  second: [other + old, other + next],
  comment: [`# the cluster's\n${old}`, `# the cluster's\n${next}`],
  crlf: [old.replaceAll('\n', '\r\n'), next],
  unended: [old.trimEnd(), next],
  twice: [old + other + old, next + other],
  garbage: [`\xff\xfe\n${old}-----BEGIN CERTIFICATE-----\nQUJD`, `\xff\xfe\n${next}-----BEGIN CERTIFICATE-----\nQUJD`],
  foreign: [other, other],
}

const admission = '/apis/admissionregistration.k8s.io/v1'
const hooks = `${admission}/validatingwebhookconfigurations`
const kubeconfig = (ca: string) =>
  `apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: ${blob(ca)}\n    server: https://10.0.0.1:6443\n  name: ""\n`

const webhook = (server: StandIn, name: string, bundle: string, more: object[] = []) =>
  server.put(hooks, {
    metadata: { name },
    webhooks: [
      ...more,
      { name: `${name}.example.org`, clientConfig: { caBundle: blob(bundle), service: { name: 'x' } } },
    ],
  })

const bundleOf = (server: StandIn, name: string, index = 0) =>
  text(server.get(`${hooks}/${name}`)!['webhooks'][index].clientConfig.caBundle)

async function cluster(t: ExecutionContext): Promise<StandIn> {
  const server = await startApiServer()
  t.teardown(server.close)
  for (const [name, [before]] of Object.entries(bundles)) webhook(server, name, before)
  server.put(`${admission}/mutatingwebhookconfigurations`, {
    metadata: { name: 'mutating' },
    webhooks: [
      { name: 'a', clientConfig: { url: 'https://x' } },
      { name: 'b', clientConfig: { caBundle: blob(other + old) } },
    ],
  })
  server.put('/apis/apiregistration.k8s.io/v1/apiservices', {
    metadata: { name: 'v1.metrics' },
    spec: { caBundle: blob(old) },
  })
  server.put('/apis/apiregistration.k8s.io/v1/apiservices', { metadata: { name: 'v1.apps' }, spec: {} })
  server.put('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
    metadata: { name: 'things.example.org' },
    spec: { conversion: { strategy: 'Webhook', webhook: { clientConfig: { caBundle: blob(`# c\n${old}`) } } } },
  })
  server.put('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
    metadata: { name: 'others.example.org' },
    spec: { conversion: { strategy: 'None' } },
  })
  server.put('/api/v1/namespaces/kube-public/configmaps', {
    metadata: { name: 'cluster-info' },
    data: { kubeconfig: kubeconfig(old), 'jws-kubeconfig-x': 'y' },
  })
  server.put('/api/v1/namespaces/shop/configmaps', {
    metadata: { name: 'trust' },
    data: { 'ca.crt': old, more: `a: |\n  ${old.trimEnd().replaceAll('\n', '\n  ')}\n` },
    binaryData: { 'ca.bin': blob(old) },
  })
  server.put('/api/v1/namespaces/shop/secrets', {
    metadata: { name: 'kubeconfig' },
    type: 'Opaque',
    data: { config: blob(kubeconfig(old)), password: 'eA==' },
  })
  server.put('/api/v1/namespaces/shop/configmaps', { metadata: { name: 'kube-root-ca.crt' }, data: { 'ca.crt': old } })
  return server
}

/** Everything that may hold a CA, without what counts versions. */
const stateOf = (server: StandIn) =>
  ['alone', 'first', 'second', 'comment', 'crlf', 'unended', 'twice', 'garbage', 'foreign']
    .map(name => bundleOf(server, name))
    .concat(
      JSON.stringify(
        [
          `${admission}/mutatingwebhookconfigurations/mutating`,
          '/apis/apiregistration.k8s.io/v1/apiservices/v1.metrics',
          '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.org',
          '/api/v1/namespaces/kube-public/configmaps/cluster-info',
          '/api/v1/namespaces/shop/configmaps/trust',
          '/api/v1/namespaces/shop/secrets/kubeconfig',
        ].map(path => ({ ...server.get(path), metadata: {} })),
      ),
    )

const names = (copies: readonly AuthorityCopy[]) => copies.map(({ where }) => where)
const everywhere = [
  ...['alone', 'comment', 'crlf', 'first', 'garbage', 'second', 'twice', 'unended'].map(
    name => `ValidatingWebhookConfiguration ${name}`,
  ),
  'MutatingWebhookConfiguration mutating',
  'APIService v1.metrics',
  'CustomResourceDefinition things.example.org',
  'ConfigMap kube-public/cluster-info',
]

test('copies are found wherever they are, in bundles of any kind, and nothing else', async t => {
  const server = await cluster(t)
  t.deepEqual(names(await authorityCopies(server.api, old)), everywhere)
  t.deepEqual(names(await authorityCopies(server.api, next)), [])
  t.true(server.asked.every(one => one.startsWith('GET ')))
})

test('each bundle holds what it should after the rotation, and byte for byte what it held after the rollback', async t => {
  const server = await cluster(t)
  const before = stateOf(server)
  const noted = await authorityCopies(server.api, old)
  const replaced = await replaceCopies(server.api, change)
  t.deepEqual(names(replaced), everywhere)
  for (const [name, [, after]] of Object.entries(bundles)) t.is(bundleOf(server, name), after, name)
  const info = server.get('/api/v1/namespaces/kube-public/configmaps/cluster-info')!['data']
  t.deepEqual(info, { kubeconfig: kubeconfig(next), 'jws-kubeconfig-x': 'y' })
  const { webhooks } = server.get(`${admission}/mutatingwebhookconfigurations/mutating`)!
  t.is(text(webhooks[1].clientConfig.caBundle), other + next)
  t.deepEqual(await replaceCopies(server.api, change), [])
  t.deepEqual(await authorityCopies(server.api, old), [])
  // As a run that was killed in the middle of it has it, and as one that came to its end.
  const kept = (copies: AuthorityCopy[]) => JSON.parse(JSON.stringify(copies)) as AuthorityCopy[]
  for (const copies of [kept(noted), kept([...noted, ...replaced]), kept(replaced)]) {
    const result = await restoreCopies(server.api, copies, change)
    t.deepEqual(result, { restored: everywhere, changed: [], left: [] })
    t.deepEqual(stateOf(server), before)
    t.deepEqual(await restoreCopies(server.api, copies, change), result)
    await replaceCopies(server.api, change)
  }
})

test('ConfigMaps and Secrets of others are touched where the inventory names them, and only there', async t => {
  const server = await cluster(t)
  const before = stateOf(server)
  const options = { also: [clusterInfo, 'ConfigMap shop/trust', 'Secret shop/kubeconfig', 'ConfigMap shop/not-there'] }
  const noted = await authorityCopies(server.api, old, options)
  t.deepEqual(names(noted), [...everywhere, 'ConfigMap shop/trust', 'Secret shop/kubeconfig'])
  // What a Secret held is one in the run's folder, too.
  t.true(noted.at(-1)!.fields['data/config'] instanceof Secret)
  await replaceCopies(server.api, change, options)
  const { data, binaryData } = server.get('/api/v1/namespaces/shop/configmaps/trust')!
  t.deepEqual(data, { 'ca.crt': next, more: `a: |\n  ${next.trimEnd().replaceAll('\n', '\n  ')}\n` })
  t.is(text(binaryData['ca.bin']), next)
  const secret = server.get('/api/v1/namespaces/shop/secrets/kubeconfig')!['data']
  t.deepEqual([text(secret.config), secret.password], [kubeconfig(next), 'eA=='])
  t.is(server.get('/api/v1/namespaces/shop/configmaps/kube-root-ca.crt')!['data']['ca.crt'], old)
  await restoreCopies(server.api, noted, change, options)
  t.deepEqual(stateOf(server), before)
  for (const name of ['Secret x', 'Pod a/b', 'ConfigMap ../a/b', 'APIService'])
    await t.throwsAsync(authorityCopies(server.api, old, { also: [name] }), { message: /names no object/ })
})

test('what somebody has changed since is theirs: only the CA goes back, and what has none is left and told', async t => {
  const server = await cluster(t)
  const noted = await authorityCopies(server.api, old)
  await replaceCopies(server.api, change)
  webhook(server, 'first', `# mine\n${next}${other}`)
  webhook(server, 'second', other)
  webhook(server, 'made-since', next)
  // Another one was put before it: it is known by its name.
  webhook(server, 'alone', next, [{ name: 'before', clientConfig: { caBundle: blob(other) } }])
  server.remove(`${hooks}/crlf`)
  const { restored, changed, left } = await restoreCopies(server.api, noted, change)
  t.deepEqual(changed, ['ValidatingWebhookConfiguration first', 'ValidatingWebhookConfiguration made-since'])
  t.deepEqual(left, ['ValidatingWebhookConfiguration crlf', 'ValidatingWebhookConfiguration second'])
  t.is(restored.length, everywhere.length - 3)
  t.is(bundleOf(server, 'first'), `# mine\n${old}${other}`)
  t.is(bundleOf(server, 'second'), other)
  t.is(bundleOf(server, 'made-since'), old)
  t.is(bundleOf(server, 'alone', 1), old)
})

test('a bundle that somebody writes at the same moment is read again, and nothing of theirs is lost', async t => {
  const server = await cluster(t)
  let writes = 0
  server.instead = request => {
    if (request === `PATCH ${hooks}/first` && writes++ < 2) webhook(server, 'first', `# ${writes}\n${old}${other}`)
    return false
  }
  const replaced = await replaceCopies(server.api, change)
  t.is(bundleOf(server, 'first'), `# 2\n${next}${other}`)
  const { fields } = replaced.find(({ where }) => where.endsWith(' first'))!
  t.deepEqual(fields, { 'webhooks/first.example.org': blob(`# 2\n${old}${other}`) })
  server.instead = request => {
    if (request === `PATCH ${hooks}/second`) webhook(server, 'second', `# ${writes++}\n${next}`)
    return false
  }
  await t.throwsAsync(replaceCopies(server.api, { old: next, next: old }), { message: /422/ })
})

test('where there is no cluster-info, the rest is replaced', async t => {
  const server = await cluster(t)
  server.remove('/api/v1/namespaces/kube-public/configmaps/cluster-info')
  t.deepEqual(names(await replaceCopies(server.api, change)), everywhere.slice(0, -1))
})
