// `rekey template` by the command line, to a host over a real sshd, from a real Vault to which something happens once the first secret
// was told: one message, and nothing on the host has changed.
import { generateKeyPairSync, sign } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import http, { type Server } from 'node:http'
import https from 'node:https'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { parseCertificate } from '../../lib/pki/certificates/certificate.ts'
import type { Vault } from '../../lib/pki/vault/contract.ts'
import { connectVault } from '../../lib/pki/vault/vault.ts'
import { type Workbench, workbench } from '../cli/_rekey.ts'
import { startSshd, type TestSshd } from '../ssh/sshd.ts'
import { labBinary, startVault, type VaultServer } from './vault/_vault-server.ts'

const binary = labBinary('vault')
const test = anyTest.serial as TestFn
let server: VaultServer
let vault: Vault
let sshd: TestSshd
let bench: Workbench
let relay: { address: string; stop(): void }
/** What happens before a certificate is asked for. */
let happen: () => Promise<void> = async () => undefined

anyTest.before(async () => {
  server = await startVault(binary)
  sshd = await startSshd()
  bench = workbench(sshd, ['m1'])
  relay = await startRelay()
  vault = await connectVault({ address: server.address, caFile: server.caFile, token: server.rootToken })
  await vault.ensureMount('pki_k8s', { maxLeaseTtl: '43800h' })
  await vault.generateRoot('pki_k8s', { commonName: 'k', type: 'internal', ttl: '43800h', keyType: 'ec' })
  await vault.ensureRole('pki_k8s', 'web', role)
  await server.api('POST', 'sys/policies/acl/issuing', {
    policy: 'path "pki_k8s/issue/*" { capabilities = ["update"] }\npath "pki_k8s/cert/ca" { capabilities = ["read"] }',
  })
})
anyTest.after.always(async () => {
  vault?.close()
  relay?.stop()
  await Promise.all([server?.stop(), sshd?.stop()])
})

const role = { allowed_domains: ['example.org'], allow_subdomains: true, key_type: 'ec', key_bits: 256 } as const

/** Passes requests on to Vault, whatever happens to it: a request for a certificate only once that has happened. */
async function startRelay() {
  const listening: Server = http.createServer(async (request, response) => {
    if (/\/(issue|sign)\//.test(request.url!)) await happen()
    const { host: _, ...headers } = request.headers
    const onward = https.request(
      `${server.address}${request.url}`,
      { method: request.method, headers, ca: readFileSync(server.caFile), agent: false },
      answer => {
        response.writeHead(answer.statusCode!, answer.headers)
        answer.pipe(response)
      },
    )
    // As the client of a Vault that is gone would see it.
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  })
  await new Promise<void>(resolve => listening.listen(0, '127.0.0.1', resolve))
  return {
    address: `http://127.0.0.1:${(listening.address() as { port: number }).port}`,
    stop: () => {
      listening.closeAllConnections()
      listening.close()
    },
  }
}

interface Attempt {
  /** The parameters of the certificate. */
  readonly asks?: string
  readonly mount?: string
  readonly token?: string
  readonly happens?: () => Promise<void>
  readonly variables?: Readonly<Record<string, string>>
}

let attempts = 0
/** A CA and a certificate, which lie there already, and a command that would tell that it ran. */
async function attempt({ asks = 'common_name=a.example.org" "ttl=1h', mount = 'pki_k8s', ...more }: Attempt) {
  const folder = join(bench.folder, `attempt-${++attempts}`)
  mkdirSync(folder)
  const place = (name: string) => join(folder, name)
  const block = (name: string, template: string) =>
    `template {\n contents = ${JSON.stringify(template)}\n destination = "${place(name)}"\n command = "touch ${place('ran')}"\n}\n`
  const config = join(bench.folder, `config-${attempts}.hcl`)
  const certificate = `{{ with secret "${mount}/issue/web" "${asks}" }}{{ .Data.certificate }}{{ end }}`
  writeFileSync(
    config,
    block('ca.pem', `{{ with secret "${mount}/cert/ca" }}{{ .Data.certificate }}{{ end }}`) +
      block('web.pem', certificate),
  )
  for (const name of ['ca.pem', 'web.pem']) writeFileSync(place(name), 'as it was')
  const state = () =>
    readdirSync(folder)
      .sort()
      .map(name => [name, readFileSync(place(name), 'utf8'), statSync(place(name)).mtimeMs])
  const before = state()
  happen = more.happens ?? (async () => undefined)
  const { code, stdout, stderr } = await bench.rekey(['template', 'm1', '-i', bench.inventory, '-c', config], {
    env: { VAULT_ADDR: relay.address, VAULT_TOKEN: more.token ?? server.rootToken, ...more.variables },
  })
  return {
    code,
    said: (stdout + stderr).replaceAll(/\s+/g, ' '),
    unchanged: JSON.stringify(state()) === JSON.stringify(before),
    certificate: () => parseCertificate(readFileSync(place('web.pem'), 'utf8')),
  }
}

const issuingToken = (more: Record<string, unknown> = {}) =>
  vault.createChildToken({ policies: ['issuing'], ttl: '10m', ...more })

/** A machine whose clock is an hour behind, as far as Node sees. */
const clockBehind = {
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(
    'const R = Date; globalThis.Date = class extends R {' +
      ' constructor(...a) { if (a.length) super(...a); else super(R.now() - 36e5) } static now() { return R.now() - 36e5 } }',
  )}`,
}

const where = String.raw`config-\d+\.hcl:\d+ \(contents\):1:9: `

const faults: [title: string, make: () => Promise<Attempt>, message: RegExp, after?: () => Promise<unknown>][] = [
  [
    'sealed',
    async () => ({ happens: () => server.seal() }),
    new RegExp(`${where}Vault at http\\S+ is sealed`),
    () => server.unseal(),
  ],
  [
    'gone',
    async () => ({ happens: () => server.kill(), variables: { VAULT_MAX_RETRIES: '1' } }),
    new RegExp(`${where}Vault at http\\S+ is unreachable \\(ECONNRESET\\)`),
    () => server.restart(),
  ],
  [
    'whose token has expired',
    async () => {
      const { token, accessor } = await issuingToken({ ttl: '2s' })
      const expired = async () => {
        while ((await server.api('POST', 'auth/token/lookup-accessor', { accessor })).status === 200) {
          await new Promise(resolve => setTimeout(resolve, 100))
        }
      }
      return { token, happens: expired }
    },
    new RegExp(`${where}Vault does not know the token: it expired`),
  ],
  [
    'whose token is revoked',
    async () => {
      const { token, accessor } = await issuingToken()
      return { token, happens: () => vault.revokeAccessor(accessor) }
    },
    new RegExp(`${where}Vault does not know the token`),
  ],
  [
    'that denies one path',
    async () => {
      await vault.writePolicy('reading', [{ path: 'pki_k8s/cert/ca', capabilities: ['read'] }])
      return { token: (await vault.createChildToken({ policies: ['reading'], ttl: '10m' })).token }
    },
    new RegExp(
      `${where}Vault: permission denied for update on pki_k8s/issue/web .*path "pki_k8s/issue/web" { capabilities = \\["update"\\] }`,
    ),
  ],
  [
    'whose role forbids the SAN',
    async () => ({ asks: 'common_name=a.example.org" "alt_names=b.example.com" "ttl=1h' }),
    new RegExp(`${where}The role refuses pki_k8s/issue/web: subject alternate name b\\.example\\.com not allowed`),
  ],
  [
    "whose mount's maximum is below the TTL",
    async () => {
      await vault.ensureMount('pki_k8s', { maxLeaseTtl: '1000h' })
      return { asks: 'common_name=a.example.org" "ttl=2000h' }
    },
    new RegExp(`${where}pki_k8s/issue/web answered with a certificate until \\S+, shorter than the ttl of 2000h`),
    () => vault.ensureMount('pki_k8s', { maxLeaseTtl: '43800h' }),
  ],
  [
    'whose certificate holds only later, by the clock of this machine',
    async () => ({ variables: clockBehind }),
    /ca\.pem: the certificate "CN=k" holds from \S+ to \S+, not now .*not_before_duration dates certificates back/,
  ],
]
for (const [title, make, message, after = async () => undefined] of faults) {
  test(`nothing has changed on the host after a Vault ${title}`, async t => {
    const made = await make()
    try {
      const { code, said, unchanged } = await attempt(made)
      t.is(code, 2, said)
      t.regex(said, message)
      t.true(unchanged)
      t.false(said.includes(made.token ?? server.rootToken))
    } finally {
      await after()
    }
    // And the next run works.
    const { code, said, certificate } = await attempt({ token: (await issuingToken()).token })
    t.is(code, 0, said)
    t.is(certificate().commonName, 'a.example.org')
  })
}

test('a role that dates certificates back has them hold on a machine whose clock is behind', async t => {
  const mount = 'pki_behind'
  await vault.ensureMount(mount, { maxLeaseTtl: '43800h' })
  const back = { notBeforeDuration: '2h' }
  await vault.generateRoot(mount, { commonName: 'k', type: 'internal', ttl: '43800h', keyType: 'ec', ...back })
  await vault.ensureRole(mount, 'web', role)
  const policy = `path "${mount}/*" { capabilities = ["update", "read"] }`
  await server.api('POST', 'sys/policies/acl/behind', { policy })
  const { token } = await vault.createChildToken({ policies: ['behind'], ttl: '10m' })
  const now = await attempt({ mount, token, variables: clockBehind })
  t.is(now.code, 2, now.said)
  t.regex(now.said, /web\.pem: the certificate "CN=a\.example\.org" holds from \S+ to \S+, not now/)
  t.true(now.unchanged)
  await vault.ensureRole(mount, 'web', { ...role, not_before_duration: '2h' })
  const { code, said } = await attempt({ mount, token, variables: clockBehind })
  t.is(code, 0, said)
})

test('a Vault that is restarted in the middle is asked again, and the run goes on', async t => {
  let times = 0
  const restarted = async () => {
    if (++times > 1) return
    await server.kill()
    setTimeout(() => void server.restart(), 500)
  }
  const { code, said, certificate } = await attempt({ happens: restarted, variables: { VAULT_MAX_RETRIES: '20' } })
  t.is(code, 0, said)
  t.true(times > 1)
  t.is(certificate().commonName, 'a.example.org')
})

test('logins: by AppRole, by a service account, by a certificate; the token ends with the run', async t => {
  await server.api('POST', 'sys/auth/approle', { type: 'approle' })
  await server.api('POST', 'auth/approle/role/rekey', { token_policies: ['issuing'], token_ttl: '10m' })
  const roleId = (await vault.read('auth/approle/role/rekey/role-id'))!.data['role_id'] as string
  const secretId = (await vault.write('auth/approle/role/rekey/secret-id')).data['secret_id'] as string
  const tokens = async () => ((await vault.list('auth/token/accessors')) ?? []).length
  const before = await tokens()
  const variables = { VAULT_AUTH_METHOD: 'approle', VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId }
  const byRole = await attempt({ token: '', variables })
  t.is(byRole.code, 0, byRole.said)
  t.is(await tokens(), before)
  const wrong = await attempt({ token: '', variables: { ...variables, VAULT_SECRET_ID: 'wrong' } })
  t.is(wrong.code, 2)
  t.regex(wrong.said, /Vault refuses the login at auth\/approle\/login: /)
  t.true(wrong.unchanged)

  const { publicKey, privateKey: signing } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  // Vault's engine for clusters that it can't ask: the login is the same request, the token is judged by its signature.
  await server.api('POST', 'sys/auth/kubernetes', { type: 'jwt' })
  await server.api('POST', 'auth/kubernetes/config', {
    jwt_validation_pubkeys: [publicKey.export({ type: 'spki', format: 'pem' })],
  })
  await server.api('POST', 'auth/kubernetes/role/pods', {
    ...{ role_type: 'jwt', user_claim: 'sub', bound_audiences: ['vault'], token_policies: ['issuing'] },
    bound_subject: 'system:serviceaccount:ops:rekey',
  })
  const ofPod = (account: string) => {
    const now = Math.floor(Date.now() / 1000)
    const claims = { aud: ['vault'], sub: `system:serviceaccount:ops:${account}`, iat: now, exp: now + 600 }
    const parts = [{ alg: 'ES256', typ: 'JWT' }, claims].map(one =>
      Buffer.from(JSON.stringify(one)).toString('base64url'),
    )
    const signature = sign('sha256', Buffer.from(parts.join('.')), { key: signing, dsaEncoding: 'ieee-p1363' })
    const file = join(server.folder, `${account}.jwt`)
    writeFileSync(file, [...parts, signature.toString('base64url')].join('.'), { mode: 0o600 })
    return { VAULT_AUTH_METHOD: 'kubernetes', VAULT_AUTH_ROLE: 'pods', VAULT_K8S_TOKEN_FILE: file }
  }
  const byPod = await attempt({ token: '', variables: ofPod('rekey') })
  t.is(byPod.code, 0, byPod.said)
  t.is(await tokens(), before)
  t.regex(
    (await attempt({ token: '', variables: ofPod('other') })).said,
    /Vault refuses the login at auth\/kubernetes\/login: /,
  )

  await server.api('POST', 'sys/auth/cert', { type: 'cert' })
  await vault.ensureRole('pki_k8s', 'people', { ...role, server_flag: false })
  const { certificate, privateKey } = await vault.issue('pki_k8s', 'people', { commonName: 'me.example.org' })
  const { certificate: authority } = (await vault.readIssuer('pki_k8s', 'default'))!
  await server.api('POST', 'auth/cert/certs/people', { certificate: authority, token_policies: ['issuing'] })
  const files = { VAULT_CLIENT_CERT: join(server.folder, 'me.crt'), VAULT_CLIENT_KEY: join(server.folder, 'me.key') }
  writeFileSync(files.VAULT_CLIENT_CERT, certificate)
  writeFileSync(files.VAULT_CLIENT_KEY, privateKey!, { mode: 0o600 })
  // Past the relay: Vault has to see the certificate itself.
  const direct = { VAULT_ADDR: server.address, VAULT_CACERT: server.caFile, VAULT_AUTH_METHOD: 'cert', ...files }
  const byCertificate = await attempt({ token: '', variables: direct })
  t.is(byCertificate.code, 0, byCertificate.said)
  t.is(await tokens(), before)
})
