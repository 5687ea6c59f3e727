// Token Secrets and the published CA, on an API server that keeps them.
import test from 'ava'
import { Secret } from '../../../lib/connection/shell.ts'
import {
  namespacesWithOtherCa,
  regenerateToken,
  tokenSecrets,
  tokenSecretsByNamespace,
} from '../../../lib/kubernetes/trust/tokens.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { type StandIn, startApiServer } from '../api/_api-server.ts'

const type = 'kubernetes.io/service-account-token'
const [old, next] = (await Promise.all(['old', 'new'].map(name => issue({ name: `CN=${name}`, ca: true })))).map(
  one => one.pem,
) as [string, string]
const blob = (text: string) => Buffer.from(text).toString('base64')

const token = (server: StandIn, namespace: string, name: string, ca = old) =>
  server.put(`/api/v1/namespaces/${namespace}/secrets`, {
    metadata: { name },
    type,
    data: { token: blob(`t-${name}`), 'ca.crt': blob(ca) },
  })

async function withTokens(t: import('ava').ExecutionContext): Promise<StandIn> {
  const server = await startApiServer()
  t.teardown(server.close)
  for (const [namespace, name] of [
    ['a', 'one'],
    ['b', 'two'],
    ['a', 'three'],
  ] as const)
    token(server, namespace, name)
  server.put('/api/v1/namespaces/a/secrets', { metadata: { name: 'other' }, type: 'Opaque', data: {} })
  return server
}

test('token Secrets come by namespace and name, and together with those of their namespace', async t => {
  const server = await withTokens(t)
  t.deepEqual(
    (await tokenSecrets(server.api)).map(({ namespace, name, token }) => [namespace, name, token.reveal()]),
    [
      ['a', 'one', 't-one'],
      ['a', 'three', 't-three'],
      ['b', 'two', 't-two'],
    ],
  )
  const groups: string[] = []
  for await (const { namespace, secrets } of tokenSecretsByNamespace(server.api))
    groups.push(`${namespace} ${secrets.length}`)
  t.deepEqual(groups, ['a 2', 'b 1'])
})

test('a namespace that is no name of one becomes no file', async t => {
  const make = () => ({ metadata: { namespace: '../../x', name: 'a' }, type })
  const server = await startApiServer({ '/api/v1/secrets': { count: 1, make } })
  t.teardown(server.close)
  await t.throwsAsync(tokenSecretsByNamespace(server.api).next(), { message: '"../../x" is no name of a namespace' })
})

test('namespaces whose published CA is another one are named, whatever stands around it', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const namespace = (name: string, ca?: string, phase = 'Active') => {
    server.put('/api/v1/namespaces', { metadata: { name }, status: { phase } })
    if (ca !== undefined)
      server.put(`/api/v1/namespaces/${name}/configmaps`, {
        metadata: { name: 'kube-root-ca.crt' },
        data: { 'ca.crt': ca },
      })
  }
  namespace('well', next)
  namespace('crlf', next.replaceAll('\n', '\r\n'))
  namespace('old', old)
  namespace('both', old + next)
  namespace('none')
  namespace('going', old, 'Terminating')
  t.deepEqual(await namespacesWithOtherCa(server.api, `# of the cluster\n${next}`), ['both', 'none', 'old'])
})

test('a token that is taken out is waited for until it is there with the new CA', async t => {
  const server = await withTokens(t)
  const given = { namespace: 'a', name: 'one', token: new Secret('x') }
  server.instead = request => {
    // The controller-manager writes it anew, at first with the CA that it had.
    if (request.startsWith('GET')) token(server, 'a', 'one', server.asked.length > 3 ? next : old)
    return false
  }
  const renewed = await regenerateToken(server.api, given, { ca: next, within: 30_000 })
  t.is(renewed.reveal(), 't-one')
  t.true(server.asked.length > 3)
  t.true(server.asked[0]!.startsWith('PATCH'))
})
