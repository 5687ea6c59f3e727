// Getting a token: by AppRole, by a pod's service account, by the certificate of the connection, and through a proxy.
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import http, { type Server } from 'node:http'
import https from 'node:https'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import * as x509 from '@peculiar/x509'
import test, { type ExecutionContext } from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import type { VaultSettings } from '../../../lib/pki/vault/contract.ts'
import { createRunToken, revokeRunToken, runTokenPolicy } from '../../../lib/pki/vault/run-token.ts'
import { connectVault } from '../../../lib/pki/vault/vault.ts'
import { eventually } from '../../_eventually.ts'
import { startConnectProxy } from '../../_proxy.ts'
import { temporaryFolder } from '../../_temporary.ts'

const folder = temporaryFolder('login')
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

interface Asked {
  readonly what: string
  readonly token?: string
  readonly body: Record<string, unknown>
  /** The CN of the certificate that the connection showed. */
  readonly peer?: string
}

/** Answers `auth/…/login` with a token and everything else with nothing, and notes what was asked. */
async function server(t: ExecutionContext, answers: Record<string, [number, unknown]> = {}, tls?: https.ServerOptions) {
  const asked: Asked[] = []
  const handle: http.RequestListener = (request, response) => {
    let text = ''
    request.on('data', chunk => {
      text += chunk
    })
    request.on('end', () => {
      const what = `${request.method} ${request.url!.replace('/v1/', '')}`
      const peer = tls && (request.socket as TLSSocket).getPeerCertificate().subject?.CN
      const token = request.headers['x-vault-token'] as string | undefined
      asked.push({ what, token, body: text ? JSON.parse(text) : {}, peer: peer as string | undefined })
      const login = { auth: { client_token: 'made-by-login', accessor: 'a', lease_duration: 60, renewable: true } }
      const [status, body] = answers[what] ?? [200, what.endsWith('/login') ? login : { data: {} }]
      response.writeHead(status).end(JSON.stringify(body))
    })
  }
  const listening: Server = tls ? https.createServer(tls, handle) : http.createServer(handle)
  await new Promise<void>(resolve => listening.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    listening.closeAllConnections()
    listening.close()
  })
  const { port } = listening.address() as { port: number }
  return { asked, port, address: `${tls ? 'https' : 'http'}://127.0.0.1:${port}` }
}

async function connected(t: ExecutionContext, settings: VaultSettings) {
  const vault = await connectVault({ backoff: [10], ...settings })
  t.teardown(() => vault.close())
  return vault
}

const failure = async (work: Promise<unknown>): Promise<RekeyError> =>
  work.then(
    () => Promise.reject(new Error('nothing was refused')),
    (error: RekeyError) => error,
  )

test.serial('AppRole: role id and secret id are sent once, and the token that comes back does the rest', async t => {
  const { asked, address } = await server(t)
  const file = join(folder, 'secret-id')
  writeFileSync(file, 'the secret id\n')
  const vault = await connected(t, { address, login: { method: 'approle', roleId: 'r', secretIdFile: file } })
  t.true(vault.loggedIn)
  t.deepEqual(asked[0]?.body, { role_id: 'r', secret_id: 'the secret id' })
  t.falsy(asked[0]?.token)
  await vault.read('a')
  await vault.revokeSelf()
  t.deepEqual(
    asked.map(({ what, token }) => `${what} ${token || '-'}`),
    ['POST auth/approle/login -', 'GET a made-by-login', 'POST auth/token/revoke-self made-by-login'],
  )
})

test.serial('a login that is told to stop in the middle still gives its token back', async t => {
  const { asked, address } = await server(t)
  const stop = new AbortController()
  const login = { method: 'approle', roleId: 'r', secretId: 's' } as const
  const vault = await connected(t, { address, login, signal: stop.signal })
  stop.abort(new Error('Ctrl-C'))
  t.is((await failure(vault.read('a'))).name, 'AbortError')
  await vault.revokeSelf()
  t.deepEqual(
    asked.map(({ what }) => what),
    ['POST auth/approle/login', 'POST auth/token/revoke-self'],
  )
})

test.serial('a wrapped token is exchanged once, and one that was exchanged before is told', async t => {
  const { asked, address } = await server(t, { 'POST sys/wrapping/unwrap': [200, { auth: { client_token: 'real' } }] })
  const vault = await connected(t, { address, token: 'wrapped', unwrapToken: true })
  t.false(vault.loggedIn)
  await vault.read('a')
  t.deepEqual(
    asked.map(({ what, token }) => `${what} ${token}`),
    ['POST sys/wrapping/unwrap wrapped', 'GET a real'],
  )
  const used = await server(t, {
    'POST sys/wrapping/unwrap': [400, { errors: ['wrapping token is not valid or does not exist'] }],
  })
  const error = await failure(connectVault({ address: used.address, token: 'wrapped', unwrapToken: true }))
  t.is(error.message, 'Vault does not exchange the wrapped token: it expired, or was exchanged before')
  t.is(used.asked.length, 1)
})

test.serial("Kubernetes: the service account's token is read from its file, at the mount that is named", async t => {
  const { asked, address } = await server(t)
  const file = join(folder, 'jwt')
  writeFileSync(file, 'a.b.c')
  const login = { method: 'kubernetes', mount: 'k8s/prod', role: 'rekey', tokenFile: file } as const
  await connected(t, { address, login })
  t.is(asked[0]?.what, 'POST auth/k8s/prod/login')
  t.deepEqual(asked[0]?.body, { role: 'rekey', jwt: 'a.b.c' })
  const none = { ...login, tokenFile: join(folder, 'none') }
  t.regex(
    (await failure(connectVault({ address, login: none }))).message,
    /none: can't read the service account's token/,
  )
})

test.serial('TLS certificate: the connection shows it, and the login names the role', async t => {
  const { certificate, key } = await selfSigned('CN=operator')
  const [serving, files] = [await selfSigned('CN=vault'), ['client.crt', 'client.key'].map(name => join(folder, name))]
  writeFileSync(files[0]!, certificate)
  writeFileSync(files[1]!, key, { mode: 0o600 })
  const ask = { requestCert: true, rejectUnauthorized: false }
  const { asked, address } = await server(t, {}, { cert: serving.certificate, key: serving.key, ...ask })
  const settings = {
    address,
    authorities: serving.certificate,
    clientCertificateFile: files[0],
    clientKeyFile: files[1],
    login: { method: 'cert', role: 'operators' },
  } as const
  await connected(t, settings)
  t.is(asked[0]?.peer, 'operator')
  t.deepEqual(asked[0]?.body, { name: 'operators' })
  t.regex(
    (await failure(connectVault({ ...settings, clientKeyFile: undefined }))).message,
    /needs a certificate and its key/,
  )
  const other = { ...settings, authorities: certificate }
  t.is((await failure(connectVault(other))).code, 'vault.tls')
  t.true((await connected(t, { ...other, skipVerify: true })).loggedIn)
})

test.serial('a login that is refused says where, and never what was sent', async t => {
  const refusals: [number, unknown][] = [
    [400, { errors: ['invalid role or secret ID'] }],
    [403, { errors: ['permission denied'] }],
    [200, { auth: null }],
  ]
  for (const refusal of refusals) {
    const { address } = await server(t, { 'POST auth/approle/login': refusal })
    const error = await failure(
      connectVault({ address, login: { method: 'approle', roleId: 'r', secretId: 's3cr3t' } }),
    )
    t.is(error.code, 'vault.login')
    t.regex(error.message, /^Vault refuses the login at auth\/approle\/login: /)
    t.false(JSON.stringify([error, error.message, error.hint, String(error.cause)]).includes('s3cr3t'))
  }
})

test.serial('a proxy is asked for the way to Vault, and learns nothing but its address', async t => {
  const { certificate, key } = await selfSigned('CN=vault')
  const { asked, address, port } = await server(t, {}, { cert: certificate, key })
  const { url: through, ways } = await startConnectProxy(t, port)
  const settings = { address, token: 't', authorities: certificate }
  await (await connected(t, { ...settings, proxies: { HTTPS_PROXY: through } })).read('a')
  t.deepEqual(ways, [`127.0.0.1:${port}`])
  await (await connected(t, settings)).read('b')
  t.deepEqual([ways.length, asked.length], [1, 2])
})

const auth = { client_token: 'of-the-run', accessor: 'the-accessor' }

test.serial(
  "a run's token is written down before it is used, renewed at half its time, and revoked with its policy",
  async t => {
    const { asked, address } = await server(t, {
      'POST auth/token/create': [200, { auth }],
      'POST auth/token/renew-self': [200, { auth: { lease_duration: 1 } }],
    })
    const parent = await connected(t, { address, token: 'parent' })
    const kept: unknown[] = []
    const run = await createRunToken(parent, {
      ...{ policy: 'rekey-run', lines: [{ path: 'pki/issue/web', capabilities: ['update'] }], ttl: '1s' },
      keep: record => void kept.push(record),
    })
    t.deepEqual(kept, [{ accessor: 'the-accessor', policy: 'rekey-run' }])
    t.like(asked[1]?.body, { policies: ['rekey-run'], ttl: '1s', explicit_max_ttl: '24h', renewable: true })
    const told = () => asked.map(({ what, token }) => `${what} ${token}`)
    const isRenewal = (line: string) => line === 'POST auth/token/renew-self of-the-run'
    await eventually(() => told().filter(isRenewal).length >= 2)
    await run.vault.read('a')
    await run.revoke()
    const others = told().filter(line => !isRenewal(line))
    t.deepEqual(others.slice(-3), [
      'GET a of-the-run',
      'POST auth/token/revoke-accessor parent',
      'DELETE sys/policies/acl/rekey-run parent',
    ])
    const count = asked.length
    await new Promise(resolve => setTimeout(resolve, 700))
    t.is(asked.length, count)
  },
)

test.serial('a token whose record can not be kept is revoked at once', async t => {
  const { asked, address } = await server(t, { 'POST auth/token/create': [200, { auth }] })
  const parent = await connected(t, { address, token: 'parent' })
  const keep = () => Promise.reject(new Error('the disk is full'))
  const made = createRunToken(parent, { policy: 'p', lines: [], ttl: '5m', keep })
  t.is((await failure(made)).message, 'the disk is full')
  t.deepEqual(asked.at(-2)?.body, { accessor: 'the-accessor' })
})

test.serial('what a crashed run left behind is revoked by its record, also when it is gone already', async t => {
  const path = 'POST auth/token/revoke-accessor'
  const gone = await server(t, { [path]: [400, { errors: ['1 error occurred: invalid accessor'] }] })
  await revokeRunToken(await connected(t, { address: gone.address, token: 'x' }), { accessor: 'old', policy: 'p' })
  t.deepEqual(
    gone.asked.map(({ what }) => what),
    [path, 'DELETE sys/policies/acl/p'],
  )
  const denied = await server(t, { [path]: [403, { errors: ['permission denied'] }] })
  const parent = await connected(t, { address: denied.address, token: 'x' })
  const error = await failure(revokeRunToken(parent, { accessor: 'old', policy: 'p' }))
  t.is(error.hint, `Add to the token's policy: path "auth/token/revoke-accessor" { capabilities = ["update"] }`)
  t.true(runTokenPolicy('p').some(line => line.path === 'auth/token/revoke-accessor'))
})

test.serial('a renewal that fails is told', async t => {
  const { address } = await server(t, {
    'POST auth/token/create': [200, { auth }],
    'POST auth/token/renew-self': [403, { errors: ['permission denied', 'invalid token'] }],
  })
  const parent = await connected(t, { address, token: 'parent' })
  const { promise, resolve } = Promise.withResolvers<Error>()
  const run = await createRunToken(parent, {
    ...{ policy: 'p', lines: [], ttl: '1s', keep: () => undefined, onRenewalFailed: resolve },
  })
  t.is(((await promise) as RekeyError).code, 'vault.bad-token')
  await run.revoke()
})

async function selfSigned(name: string): Promise<{ certificate: string; key: string }> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...{ name, keys, signingAlgorithm: algorithm },
    ...{ notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) },
    extensions: [
      new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }]),
      new x509.BasicConstraintsExtension(true, undefined, true),
    ],
  })
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  return { certificate: `${certificate.toString('pem')}\n`, key: x509.PemConverter.encode(key, 'PRIVATE KEY') }
}
