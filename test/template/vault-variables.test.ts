// Every variable that says where Vault is, whom to trust and who asks, by the command line: a server with TLS that wants a certificate
// to be shown, and that keeps what it was told.
import 'reflect-metadata'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import https from 'node:https'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import test, { type ExecutionContext } from 'ava'
import { startConnectProxy } from '../_proxy.ts'
import { served } from '../_served.ts'
import { temporaryFolder } from '../_temporary.ts'
import { issue } from '../pki/certificates/_certificates.ts'

const folder = temporaryFolder('vault-variables')

interface Asked {
  readonly what: string
  readonly token?: string
  readonly namespace?: string
  /** The name that the client asked TLS for, and the CN that it showed. */
  readonly serverName?: string
  readonly client?: string
}

const asked: Asked[] = []
/** Statuses to answer the next requests for the secret with, before it is told. */
let turnedAway: number[] = []

function answer(request: IncomingMessage, response: ServerResponse): void {
  const { headers, socket, url = '' } = request
  const { servername, getPeerCertificate } = socket as TLSSocket & { servername?: string | false }
  asked.push({
    what: `${request.method} ${url.replace('/v1/', '')}`,
    token: headers['x-vault-token'] as string | undefined,
    namespace: headers['x-vault-namespace'] as string | undefined,
    serverName: servername || undefined,
    client: getPeerCertificate.call(socket).subject?.CN as string | undefined,
  })
  const status = url === '/v1/secret/app' ? turnedAway.shift() : undefined
  const body = url === '/v1/secret/app' ? { data: { word: 'told' } } : { data: { path: 'secret/', options: null } }
  response.writeHead(status ?? 200).end(JSON.stringify(status ? { errors: [`status ${status}`] } : body))
}

const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text, { mode: 0o600 })
  return join(folder, name)
}

const authority = await issue({ name: 'CN=ca of vault', ca: true })
const named = new SubjectAlternativeNameExtension([{ type: 'dns', value: 'vault.example.org' }])
const serving = await issue({ name: 'CN=vault', issuer: authority, extensions: [named] })
const client = await issue({ name: 'CN=operator', issuer: authority })
const server = https.createServer(
  { cert: serving.pem, key: serving.keyPem, ca: authority.pem, requestCert: true, rejectUnauthorized: true },
  answer,
)
await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
const { port } = server.address() as { port: number }

const usual = {
  VAULT_ADDR: `https://127.0.0.1:${port}`,
  VAULT_CACERT: file('ca.crt', authority.pem),
  VAULT_CLIENT_CERT: file('client.crt', client.pem),
  VAULT_CLIENT_KEY: file('client.key', client.keyPem),
  VAULT_TLS_SERVER_NAME: 'vault.example.org',
  VAULT_TOKEN: 'of-the-variable',
}
let scenes = 0
test.after.always(() => {
  server.closeAllConnections()
  server.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Renders the secret on this machine with these variables, and nothing else in the environment. */
async function render(variables: Record<string, string>, { home = folder, block = '' } = {}) {
  const here = join(folder, `scene-${++scenes}`)
  mkdirSync(here)
  const template = '{{ with secret "secret/app" }}{{ .Data.word }}{{ end }}'
  const placed = join(here, 'placed')
  writeFileSync(
    join(here, 'config.hcl'),
    `${block}\ntemplate {\n contents = ${JSON.stringify(template)}\n destination = "${placed}"\n}\n`,
  )
  writeFileSync(join(here, 'hosts'), `a ansible_connection=local rekey_directory=${join(here, 'on-host')}\n`)
  asked.length = 0
  const env = {
    ...{ PATH: process.env['PATH'], HOME: home, XDG_STATE_HOME: here },
    XDG_CACHE_HOME: process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
    ...variables,
  }
  const args = ['template', 'a', '-i', join(here, 'hosts'), '-c', join(here, 'config.hcl')]
  const { code, stdout, stderr } = await served({ args, cwd: process.cwd(), env })
  return {
    code,
    all: (stdout + stderr).replaceAll(/\s+/g, ' '),
    told: code === 0 ? readFileSync(placed, 'utf8') : undefined,
  }
}

const without = (...names: (keyof typeof usual)[]) =>
  Object.fromEntries(Object.entries(usual).filter(([name]) => !names.includes(name as keyof typeof usual)))

async function renders(t: ExecutionContext, variables: Record<string, string>, how = {}) {
  const { told, all } = await render(variables, how)
  t.is(told, 'told', all)
  return asked.find(({ what }) => what === 'GET secret/app')
}

async function fails(t: ExecutionContext, variables: Record<string, string>, message: RegExp) {
  const { code, all } = await render(variables)
  t.is(code, 2, all)
  t.regex(all, message)
}

test.serial('address, CA, client certificate, name of the server, namespace and token', async t => {
  t.deepEqual(await renders(t, { ...usual, VAULT_NAMESPACE: 'team/web' }), {
    what: 'GET secret/app',
    token: 'of-the-variable',
    namespace: 'team/web',
    serverName: 'vault.example.org',
    client: 'operator',
  })
})

test.serial('the CA may stand in a folder, or in the variable itself', async t => {
  mkdirSync(join(folder, 'cas'))
  file('cas/one.pem', authority.pem)
  await renders(t, { ...without('VAULT_CACERT'), VAULT_CAPATH: join(folder, 'cas') })
  await renders(t, { ...without('VAULT_CACERT'), VAULT_CACERT_BYTES: authority.pem })
})

test.serial(
  'the token of vault login is that of the home folder; a block of the configuration comes first',
  async t => {
    const home = join(folder, 'home')
    mkdirSync(home)
    file('home/.vault-token', 'of-the-file\n')
    t.is((await renders(t, without('VAULT_TOKEN'), { home }))?.token, 'of-the-file')
    const block = 'vault {\n token = "of-the-block"\n namespace = "block"\n}\n'
    const first = await renders(t, { ...usual, VAULT_NAMESPACE: 'variable' }, { home, block })
    t.deepEqual([first?.token, first?.namespace], ['of-the-block', 'block'])
  },
)

test.serial('a server that is not trusted, or has another name, is told nothing', async t => {
  await fails(t, without('VAULT_CACERT'), /its TLS certificate is not trusted/)
  await fails(t, without('VAULT_TLS_SERVER_NAME'), /its TLS certificate is not trusted: .*does not match/)
  t.deepEqual(asked, [])
})

test.serial('a certificate is left unverified where that is asked twice, and not where it is asked once', async t => {
  const open = without('VAULT_CACERT', 'VAULT_TLS_SERVER_NAME')
  await fails(t, { ...open, VAULT_SKIP_VERIFY: 'true' }, /REKEY_VAULT_SKIP_VERIFY=true/)
  t.deepEqual(asked, [])
  await renders(t, { ...open, VAULT_SKIP_VERIFY: 'true', REKEY_VAULT_SKIP_VERIFY: '1' })
})

test.serial('a client certificate without its key is refused, and so is the other way round', async t => {
  await fails(t, without('VAULT_CLIENT_KEY'), /a client certificate, and no key for it is named/)
  await fails(t, without('VAULT_CLIENT_CERT'), /a client key, and no certificate for it is named/)
})

test.serial('a proxy is asked for the way', async t => {
  const { url: through, ways } = await startConnectProxy(t, port)
  // A name that only the proxy can lead to Vault.
  const far = { ...usual, VAULT_ADDR: `https://vault.example.org:${port}` }
  await renders(t, { ...far, VAULT_PROXY_ADDR: through })
  await renders(t, { ...far, HTTPS_PROXY: through })
  t.deepEqual([...new Set(ways)], [`vault.example.org:${port}`])
  const before = ways.length
  await renders(t, { ...usual, HTTPS_PROXY: through })
  t.is(ways.length, before)
})

test.serial('412, 429 and 5xx are tried again after a while, as often as is said', async t => {
  t.teardown(() => {
    turnedAway = []
  })
  turnedAway = [412, 429, 502]
  const started = performance.now()
  await renders(t, usual)
  t.is(asked.filter(({ what }) => what === 'GET secret/app').length, 4)
  t.true(performance.now() - started > 3700)
  turnedAway = [500, 500]
  await fails(t, { ...usual, VAULT_MAX_RETRIES: '1' }, /Vault refused GET secret\/app \(status 500\): status 500/)
  t.is(asked.filter(({ what }) => what === 'GET secret/app').length, 2)
})

test.serial('what Vault would take and rekey does not is refused by its name', async t => {
  await fails(t, { ...usual, VAULT_WRAP_TTL: '60s' }, /VAULT_WRAP_TTL is not offered: answers must not be wrapped/)
  t.deepEqual(asked, [])
})
