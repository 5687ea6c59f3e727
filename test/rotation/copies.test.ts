// The steps that replace the copies of the CA and put them back, on an API server that keeps them: also for a run that was killed, and for
// one that an earlier version began.
import test from 'ava'
import { parseCertificate } from '../../lib/pki/certificates/certificate.ts'
import { note, putBack, replace } from '../../lib/rotation/copies.ts'
import { type StandIn, startApiServer } from '../kubernetes/api/_api-server.ts'
import { issue } from '../pki/certificates/_certificates.ts'

const [old, next, other] = (
  await Promise.all(['kubernetes', 'kubernetes', 'company'].map(name => issue({ name: `CN=${name}`, ca: true })))
).map(({ pem }) => pem) as [string, string, string]
const of = (ca: string) => () => ({ kubernetes: ca, frontProxy: ca })
const before = `# mine\n${other}${old.trimEnd()}`

const path = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations'
const blob = (text: string) => Buffer.from(text).toString('base64')
const bundle = ({ get }: StandIn) =>
  Buffer.from(get(`${path}/hook`)!['webhooks'][0].clientConfig.caBundle, 'base64').toString()
const clients = ({ get }: StandIn) =>
  get('/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication')!['data']

async function scene(t: import('ava').ExecutionContext) {
  const server = await startApiServer()
  t.teardown(server.close)
  server.put(path, { metadata: { name: 'hook' }, webhooks: [{ name: 'a', clientConfig: { caBundle: blob(before) } }] })
  server.put('/api/v1/namespaces/kube-system/configmaps', {
    metadata: { name: 'extension-apiserver-authentication' },
    data: { 'client-ca-file': old },
  })
  const registered = new Map<string, unknown>()
  const said: string[] = []
  const ctx = {
    ...{ vars: { ca_copies: [] }, signal: new AbortController().signal },
    cluster: { api: async () => server.api },
    log: (text: string) => void said.push(text),
    registered: (step: string) => registered.get(step),
  } as unknown as Parameters<ReturnType<typeof note>['run']>[0]
  return { server, registered, said, ctx }
}

test('copies are noted, replaced, and put back byte for byte, and so are those by whom clients are let in', async t => {
  const { server, registered, said, ctx } = await scene(t)
  registered.set('note-copies', await note(of(old)).run(ctx))
  t.deepEqual(await replace(of(old), of(next)).plan!(ctx), [
    'put the new CA into ValidatingWebhookConfiguration hook',
    'take the old CAs out of ConfigMap kube-system/extension-apiserver-authentication, to which API servers only add',
  ])
  const replaced = await replace(of(old), of(next)).run(ctx)
  t.is(bundle(server), `# mine\n${other}${next}`)
  t.deepEqual(clients(server), { 'client-ca-file': next })
  t.deepEqual(said, [
    'ValidatingWebhookConfiguration hook',
    `ConfigMap kube-system/extension-apiserver-authentication: without CN=kubernetes (${parseCertificate(old).fingerprint.slice(0, 11)})`,
  ])
  // Cut off before it could register anything, and not.
  for (const kept of [undefined, replaced]) {
    registered.set('update-copies', kept)
    t.like(await putBack(of(old), of(next)).run(ctx), { restored: ['ValidatingWebhookConfiguration hook'] })
    t.is(bundle(server), before)
    t.deepEqual(clients(server), { 'client-ca-file': old })
    await replace(of(old), of(next)).run(ctx)
  }
})

test('a run of an earlier version, which kept no bytes, has the CA put back', async t => {
  const { server, registered, said, ctx } = await scene(t)
  await replace(of(old), of(next)).run(ctx)
  registered.set('update-copies', ['ValidatingWebhookConfiguration hook'])
  await putBack(of(old), of(next)).run(ctx)
  t.is(bundle(server), `# mine\n${other}${old}`)
  t.true(said.includes('ValidatingWebhookConfiguration hook: changed since, and only its CA is put back'))
})
