// What clients in the cluster are told to believe: in each namespace, in token Secrets, in volumes of pods.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import {
  certificatesOfTokenSecrets,
  publishedAuthorities,
  volumesBehind,
} from '../../../../lib/kubernetes/trust/published/authorities.ts'
import { publishedVolumes } from '../../../../lib/kubernetes/trust/published/volumes.ts'
import { temporaryFolder } from '../../../_temporary.ts'
import { localSession } from '../../_local.ts'
import { startApiServer } from '../../api/_api-server.ts'

test('each namespace that is not ending is told something, or is named with nothing; token Secrets say theirs', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  for (const [name, phase] of [
    ['shop', 'Active'],
    ['new', 'Active'],
    ['going', 'Terminating'],
  ] as const)
    server.put('/api/v1/namespaces', { metadata: { name }, status: { phase } })
  server.put('/api/v1/namespaces/shop/configmaps', {
    metadata: { name: 'kube-root-ca.crt' },
    data: { 'ca.crt': 'both' },
  })
  const data = { 'ca.crt': Buffer.from('old').toString('base64') }
  server.put('/api/v1/namespaces/shop/secrets', {
    ...{ metadata: { name: 'token' }, type: 'kubernetes.io/service-account-token', data },
  })
  const told = await publishedAuthorities(server.api)
  t.deepEqual(
    told.toSorted((a, b) => a.where.localeCompare(b.where)),
    [
      { where: 'ConfigMap new/kube-root-ca.crt', text: '' },
      { where: 'ConfigMap shop/kube-root-ca.crt', text: 'both' },
    ],
  )
  t.deepEqual(await certificatesOfTokenSecrets(server.api), [{ where: 'Secret shop/token', text: 'old' }])
})

test('the volumes of pods that tell something else are named, whatever they are called; of those that nothing is put into any more it is said whose they are', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const folder = temporaryFolder('published')
  const write = (uid: string, path: string, text: string) => {
    const file = join(folder, 'pods', uid, 'volumes', path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
  const map = (more = {}) => ({ configMap: { name: 'kube-root-ca.crt', ...more } })
  const access = { name: 'kube-api-access-x', projected: { sources: [{ serviceAccountToken: {} }, map()] } }
  const put = (uid: string, volumes: object[], { account = 'default', meta = {}, phase = 'Running' } = {}) =>
    server.put('/api/v1/namespaces/shop/pods', {
      metadata: { name: uid, uid, ...meta },
      spec: { nodeName: 'n1', serviceAccountName: account, volumes },
      status: { phase },
    } as never)
  server.put('/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: 'default' } })
  server.put('/api/v1/namespaces/shop/secrets', {
    ...{ metadata: { name: 'token' }, type: 'kubernetes.io/service-account-token' },
  })
  const projected = 'kubernetes.io~projected/kube-api-access-x/ca.crt'
  put('a', [access])
  write('a', projected, 'both')
  const items = [{ key: 'ca.crt', path: 'certs/root.pem' }]
  put('b', [
    access,
    { name: 'trust', ...map({ items }) },
    { name: 'token', secret: { secretName: 'token' } },
    { name: 'other', configMap: { name: 'other' } },
  ])
  for (const path of [
    projected,
    'kubernetes.io~configmap/trust/certs/root.pem',
    'kubernetes.io~secret/token/ca.crt',
    'kubernetes.io~configmap/other/ca.crt',
  ])
    write('b', path, 'old')
  put('ending', [access], { meta: { deletionTimestamp: '2026-01-01T00:00:00Z' } })
  put('over', [access], { phase: 'Succeeded' })
  put('orphaned', [access, { name: 'trust', ...map() }], { account: 'gone' })
  for (const uid of ['ending', 'over', 'orphaned', 'nobody']) write(uid, projected, 'old')
  write('orphaned', 'kubernetes.io~configmap/trust/ca.crt', 'old')
  const kubelet = { flags: { 'root-dir': [folder] } } as never
  const files = (await publishedVolumes(server.api)).get('n1') ?? []
  t.deepEqual(await volumesBehind(await localSession(), kubelet, 'both', files), [
    { path: `pods/b/volumes/${projected}` },
    { path: 'pods/b/volumes/kubernetes.io~configmap/trust/certs/root.pem' },
    { path: 'pods/b/volumes/kubernetes.io~secret/token/ca.crt' },
    { path: `pods/ending/volumes/${projected}`, never: 'Pod shop/ending, which is being deleted' },
    { path: `pods/orphaned/volumes/${projected}`, never: 'Pod shop/orphaned, whose ServiceAccount gone is gone' },
    { path: 'pods/orphaned/volumes/kubernetes.io~configmap/trust/ca.crt' },
    { path: `pods/over/volumes/${projected}`, never: 'Pod shop/over, which has ended' },
  ])
})
