// Every token Secret written anew, where one of them is not as the others.
import test, { type ExecutionContext } from 'ava'
import { renewTokens } from '../../../lib/kubernetes/trust/renewed-tokens.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { startApiServer } from '../api/_api-server.ts'

const ca = (await issue({ name: 'CN=new', ca: true })).pem
const blob = (text: string) => Buffer.from(text).toString('base64')

/** Secrets of accounts that are there; a controller-manager fills in those that are in `filled`. */
async function started(t: ExecutionContext, names: readonly string[], filled: readonly string[]) {
  const server = await startApiServer()
  t.teardown(server.close)
  const path = '/api/v1/namespaces/ci/secrets'
  const put = (
    name: string,
    account = name,
    uid = server.get(`/api/v1/namespaces/ci/serviceaccounts/${account}`)?.metadata.uid,
  ) =>
    server.put(path, {
      metadata: {
        name,
        annotations: {
          'kubernetes.io/service-account.name': account,
          ...(uid !== undefined && { 'kubernetes.io/service-account.uid': uid }),
        },
      },
      type: 'kubernetes.io/service-account-token',
      data: { token: blob(`t-${name}`), 'ca.crt': blob(ca) },
    })
  for (const name of names) {
    server.put('/api/v1/namespaces/ci/serviceaccounts', { metadata: { name } })
    put(name)
  }
  let [writing, most] = [0, 0]
  server.instead = request => {
    const [method, url = ''] = request.split(' ')
    const name = url.slice(path.length + 1)
    if (method === 'PATCH') most = Math.max(most, ++writing)
    const current = server.get(url)
    if (method === 'GET' && filled.includes(name) && current && !current['data']?.token) {
      writing--
      put(name)
    }
    return false
  }
  const told: string[] = []
  const redacted: string[] = []
  const renew = (within = 20_000) =>
    renewTokens(server.api, {
      ...{ ca, within, signal: new AbortController().signal },
      ...{ redact: value => void redacted.push(value), log: line => void told.push(line) },
    })
  return { server, put, path, renew, told, redacted, most: () => most }
}

test('not more than ten at a time, and each new token is kept from being shown', async t => {
  const names = Array.from({ length: 25 }, (_, index) => `s${index}`)
  const { renew, redacted, most } = await started(t, names, names)
  t.deepEqual(await renew(), { namespaces: 1, secrets: 25, failed: [] })
  t.is(redacted.length, 25)
  t.true(most() > 1 && most() <= 10, String(most()))
})

test('one whose account is gone, that goes meanwhile, or that may not be written stops no other, and is named', async t => {
  const { server, put, path, renew, told } = await started(t, ['gone', 'kept', 'well'], ['well'])
  put('stray', 'nobody')
  put('earlier', 'well', 'another')
  const before = server.instead
  server.instead = async (request, response) => {
    if (request === `PATCH ${path}/kept`) {
      response.writeHead(403, { 'content-type': 'application/json' })
      response.end('{"message": "no"}')
      return true
    }
    if (request === `GET ${path}/gone` && server.get(`${path}/gone`)?.['data']?.token === undefined)
      server.remove(`${path}/gone`)
    return (await before?.(request, response)) ?? false
  }
  const { secrets, failed } = await renew()
  t.is(secrets, 1)
  t.deepEqual([...failed].sort(), [
    'ci/earlier: its service account is another one of that name',
    'ci/gone: it is gone',
    `ci/kept: PATCH ${path}/kept: 403 no`,
    'ci/stray: its service account is gone',
  ])
  t.true(told.includes('not written anew: ci/gone: it is gone'))
})

test('one that nobody fills in stops no other; where nobody fills in any, that is a failure', async t => {
  const one = await started(t, ['slow', 'well'], ['well'])
  const { secrets, failed } = await one.renew(50)
  t.is(secrets, 1)
  t.regex(failed.join(), /^ci\/slow: waited 0 s for a new token in Secret ci\/slow/)
  const names = Array.from({ length: 40 }, (_, index) => `s${index}`)
  const none = await started(t, names, [])
  await t.throwsAsync(none.renew(50), { code: 'tokens.not-renewed', message: /^\d+ token Secrets in a row got no new/ })
  t.true(none.server.asked.filter(asked => asked.startsWith('PATCH')).length < 40)
})
