// What is proven of Secrets, on an API server that keeps them: who is told of what, and what is kept of what they hold.
import test from 'ava'
import { Secret } from '../../../lib/connection/shell.ts'
import { compareSecrets, secretsBefore, tellSecrets } from '../../../lib/kubernetes/before/secrets.ts'
import { type StandIn, startApiServer } from '../api/_api-server.ts'

const tokenType = 'kubernetes.io/service-account-token'
const password = Buffer.from('correct horse battery staple').toString('base64')

const put = (server: StandIn, name: string, data: Record<string, string>, type = 'Opaque') =>
  server.put('/api/v1/namespaces/a/secrets', { metadata: { name }, type, data })

async function withSecrets(t: import('ava').ExecutionContext): Promise<StandIn> {
  const server = await startApiServer()
  t.teardown(server.close)
  for (const name of ['kept', 'written', 'touched', 'deleted', 'recreated'])
    put(server, name, { password, user: 'eA==' })
  put(server, 'token', { token: 'b2xk', 'ca.crt': 'b2xk' }, tokenType)
  return server
}

test('who wrote, deleted or made a Secret meanwhile is told, and only what nobody wrote is wrong', async t => {
  const server = await withSecrets(t)
  const before = await secretsBefore(server.api)
  t.deepEqual(await compareSecrets(server.api, before), {
    ...{ unchanged: 6, damaged: [], written: [], deleted: [], recreated: [], added: 0 },
  })
  put(server, 'written', { password: 'bmV3' })
  // Written, but with what it held: another order of its fields is nothing.
  put(server, 'touched', { user: 'eA==', password })
  put(server, 'token', { token: 'bmV3', 'ca.crt': 'bmV3' }, tokenType)
  server.remove('/api/v1/namespaces/a/secrets/deleted')
  server.remove('/api/v1/namespaces/a/secrets/recreated')
  put(server, 'recreated', { password })
  put(server, 'sh.helm.release.v1.x', {}, 'helm.sh/release.v1')
  const after = await compareSecrets(server.api, before)
  t.deepEqual(after, {
    ...{
      unchanged: 3,
      damaged: [],
      written: ['a/written'],
      deleted: ['a/deleted'],
      recreated: ['a/recreated'],
      added: 1,
    },
  })
  t.deepEqual(tellSecrets(after), [
    'Secrets written meanwhile by somebody else: a/written',
    'Secrets deleted meanwhile: a/deleted',
    'Secrets deleted and made anew meanwhile: a/recreated',
    'Secrets that are new: 1',
  ])
})

test('contents that are others although nobody wrote them are found', async t => {
  const server = await withSecrets(t)
  const before = await secretsBefore(server.api)
  Object.assign(server.get('/api/v1/namespaces/a/secrets/kept')!['data'], { password: 'b3RoZXI=' })
  t.deepEqual((await compareSecrets(server.api, before)).damaged, ['a/kept'])
})

test('what is kept holds nothing of what they hold, and nothing that can be tried without the salt', async t => {
  const server = await withSecrets(t)
  const [one, other] = [await secretsBefore(server.api), await secretsBefore(server.api)]
  t.true(one.salt instanceof Secret)
  t.notRegex(JSON.stringify(one), /correct|horse|Y29ycmVj/)
  t.false(one.lines.includes(one.salt.reveal()))
  const digests = ({ lines }: typeof one) => lines.split('\n').map(line => line.split(' ').at(-1))
  t.is(new Set(digests(one)).size, 2)
  t.true(digests(one).every(digest => digest === '-' || !digests(other).includes(digest)))
})

test('of 20,000 Secrets two megabytes are kept', async t => {
  const make = (index: number) => ({
    metadata: {
      namespace: `namespace-${index % 500}`,
      name: `secret-with-a-name-${index}`,
      resourceVersion: String(1e8 + index),
    },
    data: { password: `${password}${index}` },
  })
  const server = await startApiServer({ '/api/v1/secrets': { count: 20_000, make } })
  t.teardown(server.close)
  const before = await secretsBefore(server.api)
  t.true(before.lines.length < 2_000_000, `${before.lines.length}`)
  t.is((await compareSecrets(server.api, before)).unchanged, 20_000)
})

test('an API server that can not read one of them is an error that says which', async t => {
  const server = await withSecrets(t)
  const before = await secretsBefore(server.api)
  server.instead = (_, response) => {
    response.writeHead(500).end('{"message":"unable to transform key \\"/registry/secrets/a/kept\\""}')
    return true
  }
  await t.throwsAsync(compareSecrets(server.api, before), { message: /500 unable to transform key .*a\/kept/ })
})

test('where no Secret was there, new ones are nobody’s fault', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  const before = await secretsBefore(server.api)
  put(server, 'x', {})
  t.like(await compareSecrets(server.api, before), { unchanged: 0, deleted: [], added: 1 })
})
