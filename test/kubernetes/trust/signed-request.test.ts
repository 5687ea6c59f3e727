// What a cluster signs on request: by whoever stands in for its controller-manager, and never a request that is left behind.
import test from 'ava'
import { signedOnRequest } from '../../../lib/kubernetes/trust/signed-request.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { startApiServer } from '../api/_api-server.ts'

const requests = '/apis/certificates.k8s.io/v1/certificatesigningrequests'

test('a request is approved, what was signed is given, and the request is gone; one that nobody signs is said, and gone, too', async t => {
  const { pem } = await issue({ name: 'CN=rekey-probe' })
  const server = await startApiServer()
  t.teardown(server.close)
  const ask = { name: 'rekey-1', request: 'a request', within: 3_000 }
  server.instead = (request, response) => {
    if (!request.startsWith(`PATCH ${requests}/rekey-1/approval`)) return false
    const there = server.get(`${requests}/rekey-1`)
    if (there) server.put(requests, { ...there, status: { certificate: Buffer.from(pem).toString('base64') } })
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    return true
  }
  t.is(await signedOnRequest(async () => server.api, ask), pem)
  t.is(server.get(`${requests}/rekey-1`), undefined)

  server.instead = (request, response) => {
    if (!request.includes('/approval')) return false
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    return true
  }
  const error = await t.throwsAsync(signedOnRequest(async () => server.api, { ...ask, within: 300 }))
  t.regex(error?.message ?? '', /the cluster to sign a certificate on request/)
  t.is(server.get(`${requests}/rekey-1`), undefined)
})
