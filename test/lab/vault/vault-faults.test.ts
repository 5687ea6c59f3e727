// A Vault that fails in the middle of a rendering: each fault is one message with the template's line, and the next try works.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import type { Vault } from '../../../lib/pki/vault/contract.ts'
import { vaultSecrets } from '../../../lib/pki/vault/secrets.ts'
import { connectVault } from '../../../lib/pki/vault/vault.ts'
import { readConfiguration } from '../../../lib/template/configuration.ts'
import { createRenderer, type SecretSource } from '../../../lib/template/render.ts'
import { renderConfiguration } from '../../../lib/template/render-configuration.ts'
import { labBinary, startVault, type VaultServer } from './_vault-server.ts'

const binary = labBinary('vault')
const consulTemplate = labBinary('consul-template')
const test = anyTest.serial as TestFn
let server: VaultServer
let vault: Vault

anyTest.before(async () => {
  server = await startVault(binary)
  vault = await connectVault({ address: server.address, caFile: server.caFile, token: server.rootToken })
  await vault.ensureMount('pki_k8s', { maxLeaseTtl: '43800h' })
  const ask = { commonName: 'kubernetes-ca', type: 'internal', ttl: '43800h', keyType: 'ec' } as const
  await vault.setDefaultIssuer('pki_k8s', (await vault.generateRoot('pki_k8s', ask)).issuerId)
  // The document's role, but for the key type, which is quicker.
  await vault.ensureRole('pki_k8s', 'kubernetes', {
    allowed_domains: ['kubernetes', 'default', 'svc', 'yourdomain.tld'],
    allow_subdomains: true,
    allow_bare_domains: true,
    allow_glob_domains: false,
    allow_any_name: true,
    max_ttl: '43800h',
    key_type: 'ec',
    key_bits: 256,
  })
})
anyTest.after.always(async () => {
  vault?.close()
  await server?.stop()
})

/** Asks for the CA, and then, with its serial number in hand, for a certificate. */
const twoSteps =
  '{{ with secret "pki_k8s/cert/ca" }}{{ $ca := .Data.certificate }}\n{{ with secret "pki_k8s/issue/kubernetes" (printf "common_name=c%d" (len $ca)) "ttl=1h" }}{{ .Data.certificate }}{{ end }}{{ end }}'

/** Vault as a source that lets something happen before the second request. */
function between(client: Vault, happen: () => Promise<void>): SecretSource {
  const ask = vaultSecrets(client)
  return async (path, data) => {
    if (data) await happen()
    return ask(path, data)
  }
}

async function failure(client: Vault, happen: () => Promise<void>): Promise<RekeyError> {
  return createRenderer({ secrets: between(client, happen) })
    .render(twoSteps, { name: 'two.tpl' })
    .then(
      () => Promise.reject(new Error('it was rendered')),
      (error: RekeyError) => error,
    )
}

const works = async () =>
  (await createRenderer({ secrets: vaultSecrets(vault) }).render(twoSteps, { name: 'two.tpl' })).output

test('sealed in the middle', async t => {
  const error = await failure(vault, () => server.seal())
  t.is(error.message, `two.tpl:2:9: Vault at ${server.address} is sealed`)
  t.is(error.code, 'vault.sealed')
  await server.unseal()
  t.regex(await works(), /BEGIN CERTIFICATE/)
})

test('a token that is used up in the middle', async t => {
  const { token } = await vault.createChildToken({ policies: ['root'], ttl: '10m', numUses: 1 })
  const child = vault.withToken(token)
  // The CA may be read by anyone: its one use is spent here.
  const error = await failure(child, async () => void (await child.lookupSelf()))
  t.is(error.code, 'vault.bad-token')
  t.regex(error.message, /^two\.tpl:2:9: Vault does not know the token/)
  t.false(`${error.message}${error.hint}`.includes(token))
})

test('a token that is revoked in the middle', async t => {
  const { token, accessor } = await vault.createChildToken({ policies: ['root'], ttl: '10m' })
  const error = await failure(vault.withToken(token), () => vault.revokeAccessor(accessor))
  t.is(error.code, 'vault.bad-token')
})

test('a token that expires in the middle', async t => {
  const { token, accessor } = await vault.createChildToken({ policies: ['root'], ttl: '1s' })
  const error = await failure(vault.withToken(token), async () => {
    // Gone when even its accessor is not known any more.
    for (;;) {
      const { status } = await server.api('POST', 'auth/token/lookup-accessor', { accessor })
      if (status !== 200) return
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  })
  t.is(error.code, 'vault.bad-token')
  t.regex(error.message, /^two\.tpl:2:9: Vault does not know the token: it expired/)
})

test('a role that forbids the SAN', async t => {
  await vault.ensureRole('pki_k8s', 'narrow', { allowed_domains: ['kubernetes'], allow_bare_domains: true })
  const template =
    '{{ with secret "pki_k8s/issue/narrow" "common_name=kubernetes" "alt_names=b.example.org" "ttl=1h" }}x{{ end }}'
  const rendered = createRenderer({ secrets: vaultSecrets(vault) }).render(template, { name: 'san.tpl' })
  const error = await t.throwsAsync<RekeyError>(rendered)
  t.is(error.code, 'issuer.role-refuses')
  t.regex(error.message, /^san\.tpl:1:9: .*subject alternate name b\.example\.org not allowed by this role/)
})

test('a ttl above the maximum of the mount', async t => {
  // A role's own maximum would count instead.
  await vault.ensureRole('pki_k8s', 'open', { allow_any_name: true, key_type: 'ec', key_bits: 256 })
  await vault.ensureMount('pki_k8s', { maxLeaseTtl: '1000h' })
  t.teardown(() => vault.ensureMount('pki_k8s', { maxLeaseTtl: '43800h' }))
  const template = '{{ with secret "pki_k8s/issue/open" "common_name=kubernetes" "ttl=2000h" }}x{{ end }}'
  const rendered = createRenderer({ secrets: vaultSecrets(vault) }).render(template, { name: 'ttl.tpl' })
  const error = await t.throwsAsync<RekeyError>(rendered)
  t.is(error.code, 'issuer.ttl-shortened')
  t.regex(error.message, /^ttl\.tpl:1:9: .*shorter than the ttl of 2000h that was asked/)
})

test('no permission on one of two paths', async t => {
  await vault.writePolicy('reader', [{ path: 'pki_k8s/cert/ca', capabilities: ['read'] }])
  const { token } = await vault.createChildToken({ policies: ['reader'], ttl: '10m' })
  const error = await failure(vault.withToken(token), async () => undefined)
  t.is(error.message, 'two.tpl:2:9: Vault: permission denied for update on pki_k8s/issue/kubernetes')
  t.is(error.hint, `Add to the token's policy: path "pki_k8s/issue/kubernetes" { capabilities = ["update"] }`)
})

test('a ttl above the maximum of the role', async t => {
  const template = '{{ with secret "pki_k8s/issue/kubernetes" "common_name=kubernetes" "ttl=50000h" }}x{{ end }}'
  const rendered = createRenderer({ secrets: vaultSecrets(vault) }).render(template, { name: 'ttl.tpl' })
  const error = await t.throwsAsync<RekeyError>(rendered)
  t.true(['issuer.ttl-shortened', 'issuer.refused'].includes(error.code), error.message)
  t.regex(error.message, /^ttl\.tpl:1:9: /)
})

test("the document's configuration and template: rekey's files are those of consul-template, but for the keys", async t => {
  const folder = join(server.folder, 'document')
  mkdirSync(folder)
  const template = readFileSync(new URL('../../template/cases/document.json', import.meta.url), 'utf8')
  const { template: source } = (JSON.parse(template) as { title: string; template: string }[])[0]!
  const named = source.replace(/IP\.ADDRESS\.MASTER\.(\d)/g, '10.0.0.$1')
  writeFileSync(join(folder, 'apiserver-cert.tpl'), named)
  writeFileSync(join(folder, 'ca.pem.tpl'), '{{ with secret "pki_k8s/cert/ca" }}\n{{ .Data.certificate }}{{ end}}')
  const block = (name: string) =>
    `template {\n  source = "${folder}/${name}.tpl"\n  destination = "${folder}/${name}"\n}\n`
  const config = join(folder, 'consul-template-config-master.hcl')
  writeFileSync(config, block('ca.pem') + block('apiserver-cert'))

  execFileSync(consulTemplate, ['-once', '-config', config], {
    env: { VAULT_ADDR: server.address, VAULT_CACERT: server.caFile, VAULT_TOKEN: server.rootToken, HOME: folder },
    stdio: 'pipe',
  })
  const ours = await renderConfiguration(readConfiguration(config), createRenderer({ secrets: vaultSecrets(vault) }), {
    readSource: async path => readFileSync(path, 'utf8'),
  })
  for (const { block, output } of ours) {
    const theirs = readFileSync(block.destination, 'utf8')
    const shape = (text: string) => text.replaceAll(/[A-Za-z0-9+/=]{20,}\n/g, 'x')
    t.is(shape(output), shape(theirs))
    const [mine, other] = [parseCertificate(output), parseCertificate(theirs)]
    t.deepEqual([mine.subject, mine.dnsNames, mine.ipAddresses], [other.subject, other.dnsNames, other.ipAddresses])
    t.is(mine.issuer, other.issuer)
  }
  t.is(ours[0]!.output, readFileSync(join(folder, 'ca.pem'), 'utf8'))
})

test('stopped in the middle, and there again', async t => {
  const error = await failure(vault, () => server.kill())
  t.is(error.code, 'vault.unreachable')
  t.regex(error.message, /^two\.tpl:2:9: Vault at .* is unreachable \(ECONN/)
  await server.restart()
  // The same client, whose connections have ended.
  t.regex(await works(), /BEGIN CERTIFICATE/)
})
