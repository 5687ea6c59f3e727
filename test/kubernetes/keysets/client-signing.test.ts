// Certificates for clients, signed by a Vault or by the API.
import test from 'ava'
import { signByApi, signInVault } from '../../../lib/kubernetes/keysets/client-signing.ts'
import type { Vault } from '../../../lib/pki/vault/contract.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { type StandIn, startApiServer } from '../api/_api-server.ts'

const requests = '/apis/certificates.k8s.io/v1/certificatesigningrequests'
const csr = 'the request'
const lasting = async (seconds: number) =>
  issue({
    name: 'CN=jane',
    issuer: await issue({ name: 'CN=ca', ca: true }),
    notAfter: new Date(Date.now() + seconds * 1_000),
  })

/** An API whose controller-manager answers an approval with this status. */
async function answering(t: { teardown(end: () => void): void }, status: object): Promise<StandIn> {
  const server = await startApiServer()
  t.teardown(() => server.close())
  server.instead = (request, response) => {
    const [, name] = /^PUT .*\/([^/]+)\/approval$/.exec(request) ?? []
    if (name === undefined) return false
    const made = server.get(`${requests}/${name}`)!
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(server.put(requests, { ...made, metadata: { name }, status } as never)))
    return true
  }
  return server
}

test('the API signs what was approved, as it was asked to, and the request is gone afterwards', async t => {
  const { pem } = await lasting(3_600)
  const server = await answering(t, { certificate: Buffer.from(pem).toString('base64') })
  t.is(await signByApi(server.api, csr, { seconds: 3_600, organizations: ['dev'] }), pem)
  const path = `${requests}/rekey-kubeconfig-x`
  t.deepEqual(server.asked, [`POST ${requests}`, `PUT ${path}/approval`, `GET ${path}`, `DELETE ${path}`])
  t.is(server.get(path), undefined)
})

test('a refusal, and a certificate that holds longer than was asked, are said in words, and leave no request', async t => {
  const refusing = await answering(t, { conditions: [{ type: 'Failed', message: 'no such signer' }] })
  const ask = { seconds: 3_600, organizations: [] }
  await t.throwsAsync(signByApi(refusing.api, csr, ask), { message: "the API can't sign it: no such signer" })
  t.is(refusing.get(`${requests}/rekey-kubeconfig-x`), undefined)
  const { pem } = await lasting(86_400)
  const generous = await answering(t, { certificate: Buffer.from(pem).toString('base64') })
  await t.throwsAsync(signByApi(generous.api, csr, ask), {
    message: /would hold until .*, since this API does not bound it/,
  })
})

test('what the API signs for nobody is said before it is asked', async t => {
  const server = await answering(t, {})
  const message = /it signs nothing for the group system:masters/
  await t.throwsAsync(signByApi(server.api, csr, { seconds: 3_600, organizations: ['system:masters'] }), { message })
  await t.throwsAsync(signByApi(server.api, csr, { seconds: 60, organizations: [] }), {
    message: /for 10 minutes at least/,
  })
  t.deepEqual(server.asked, [])
})

test('a Vault signs by the issuer that is meant, for clients alone; what it shortens is refused', async t => {
  const asked: [string, unknown][] = []
  const vaultGiving = (pem: string): Pick<Vault, 'write'> => ({
    write: async (path, data) => {
      asked.push([path, data])
      return { data: { certificate: pem } }
    },
  })
  const { pem } = await lasting(3_600)
  const where = { mount: 'pki_k8s', issuer: 'one' }
  t.is(await signInVault(vaultGiving(pem), where, csr, 3_600), pem)
  t.is(asked[0]![0], 'pki_k8s/issuer/one/sign-verbatim')
  t.like(asked[0]![1], { csr, ttl: '3600s', ext_key_usage: 'ClientAuth' })
  await t.throwsAsync(signInVault(vaultGiving(pem), where, csr, 86_400), { code: 'issuer.ttl-shortened' })
})
