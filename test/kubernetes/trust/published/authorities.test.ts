// What clients in the cluster are told to believe: in each namespace, in token Secrets, in volumes of pods.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import {
  certificatesOfTokenSecrets,
  publishedAuthorities,
  volumesBehind,
} from '../../../../lib/kubernetes/trust/published/authorities.ts'
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

test('the volumes of pods that tell something else are named', async t => {
  const folder = temporaryFolder('published')
  const path = (pod: string) => join(folder, 'pods', pod, 'volumes/kubernetes.io~projected/kube-api-access-x')
  for (const [pod, text] of [
    ['a', 'both'],
    ['b', 'old'],
  ] as const) {
    mkdirSync(path(pod), { recursive: true })
    writeFileSync(join(path(pod), 'ca.crt'), text)
  }
  const kubelet = { flags: { 'root-dir': [folder] } } as never
  t.deepEqual(await volumesBehind(await localSession(), kubelet, 'both'), [`m1:${join(path('b'), 'ca.crt')}`])
})
