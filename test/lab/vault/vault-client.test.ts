// rekey's Vault client, specs and templates against a real Vault; what comes out is checked with openssl.
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, sign } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { certificates } from '../../../lib/kubernetes/layout/plan.ts'
import { keyMatches, notCovered, parseCertificate, verifyChain } from '../../../lib/pki/certificates/certificate.ts'
import {
  type AuthorityPlan,
  authorityPlans,
  certificateData,
  issuingPolicy,
  notBeforeDuration,
  placePath,
  preparingPolicy,
  vaultRoles,
} from '../../../lib/pki/specs.ts'
import type { Vault } from '../../../lib/pki/vault/contract.ts'
import {
  createRunToken,
  type RunTokenRecord,
  revokeRunToken,
  runTokenPolicy,
} from '../../../lib/pki/vault/run-token.ts'
import { vaultSecrets } from '../../../lib/pki/vault/secrets.ts'
import { connectVault } from '../../../lib/pki/vault/vault.ts'
import { createRenderer } from '../../../lib/template/render.ts'
import { kubeadmMachine } from '../../kubernetes/layout/_kubeadm.ts'
import { labBinary, startVault, type VaultServer } from './_vault-server.ts'

const binary = labBinary('vault')
const ava = anyTest as TestFn<{ server: VaultServer; vault: Vault }>
const test = ava.serial
let server: VaultServer
let vault: Vault

ava.before(async () => {
  server = await startVault(binary)
  vault = await connectVault({ address: server.address, caFile: server.caFile, token: server.rootToken })
})
ava.after.always(async () => {
  vault?.close()
  await server?.stop()
})

const week = '168h'
const failure = async (work: Promise<unknown>) =>
  work.then(
    () => ({ code: 'nothing was refused', message: '', hint: '' }),
    (error: RekeyError) => error,
  )
const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString()

/** A mount with a root of its own and a role that allows only `a.example.org`. */
async function mountWithRole(mount: string): Promise<void> {
  await vault.ensureMount(mount, { maxLeaseTtl: '43800h' })
  const root = await vault.generateRoot(mount, { commonName: 'kubernetes', type: 'internal', ttl: '43800h' })
  await vault.setDefaultIssuer(mount, root.issuerId)
  await vault.ensureRole(mount, 'web', { allowed_domains: ['a.example.org'], allow_bare_domains: true, max_ttl: week })
}

test('health tells version, seal and the clock; a token tells its policies', async t => {
  const health = await vault.requireUnsealed()
  t.is(health.version, '1.21.0')
  t.true(Math.abs(health.serverTime.getTime() - Date.now()) < 5000)
  t.deepEqual(await vault.lookupSelf(), { policies: ['root'], displayName: 'root', ttl: undefined, renewable: false })
})

test('a mount is made once, and tuned when the maximum differs', async t => {
  t.deepEqual(await vault.ensureMount('pki_once', { maxLeaseTtl: '43800h' }), { changed: true })
  t.deepEqual(await vault.ensureMount('pki_once', { maxLeaseTtl: '43800h' }), { changed: false })
  t.deepEqual(await vault.ensureMount('pki_once', { maxLeaseTtl: '50000h' }), { changed: true })
  const { body } = await server.api('GET', 'sys/mounts/pki_once')
  t.is((body['config'] as { max_lease_ttl: number }).max_lease_ttl, 50_000 * 3600)
  t.is((await failure(vault.ensureMount('cubbyhole', { maxLeaseTtl: '1h' }))).code, 'issuer.wrong-mount')
})

test('a second root is added beside the first, signs once it is the default, and the first can be deleted', async t => {
  const mount = 'pki_twice'
  await vault.ensureMount(mount, { maxLeaseTtl: '43800h' })
  const ask = { commonName: 'kubernetes', ttl: '43800h', notBeforeDuration } as const
  const first = await vault.generateRoot(mount, { ...ask, type: 'exported' })
  t.true(keyMatches(first.certificate, first.privateKey!))
  const age = Date.now() - parseCertificate(first.certificate).notBefore.getTime()
  t.true(age > 115_000 && age < 130_000)
  const names = { allowed_domains: ['a.example.org'], allow_bare_domains: true }
  await vault.ensureRole(mount, 'web', names)
  const before = await vault
    .issue(mount, 'web', { commonName: 'x', dnsNames: ['a.example.org'], ttl: week })
    .catch(e => e)
  t.is((before as RekeyError).code, 'issuer.role-refuses')
  await vault.ensureRole(mount, 'web', { ...names, cn_validations: ['disabled'] })
  const old = await vault.issue(mount, 'web', { commonName: 'x', dnsNames: ['a.example.org'], ttl: week })

  const second = await vault.generateRoot(mount, { ...ask, type: 'internal', keyType: 'ec', keyBits: 256 })
  t.is(second.privateKey, undefined)
  t.is((await vault.readIssuer(mount, 'default'))?.id, first.issuerId)
  await vault.setDefaultIssuer(mount, second.issuerId)
  t.is((await vault.readIssuer(mount, 'default'))?.id, second.issuerId)
  const next = await vault.issue(mount, 'web', { commonName: 'x', dnsNames: ['a.example.org'], ttl: week })
  t.is(verifyChain(next.certificate, second.certificate).length, 2)
  t.is(verifyChain(old.certificate, first.certificate).length, 2)
  t.throws(() => verifyChain(next.certificate, first.certificate), { message: /another key/ })

  t.deepEqual((await vault.listIssuers(mount)).sort(), [first.issuerId, second.issuerId].sort())
  await vault.deleteIssuer(mount, first.issuerId)
  await vault.deleteKey(mount, first.keyId)
  t.deepEqual(await vault.listIssuers(mount), [second.issuerId])
  t.is(await vault.readIssuer(mount, first.issuerId), undefined)
})

test('a role is written once, and again only when a setting differs', async t => {
  await mountWithRole('pki_roles')
  const settings = { allowed_domains: ['a.example.org', 'b'], organization: ['system:nodes'], max_ttl: '17520h' }
  t.deepEqual(await vault.ensureRole('pki_roles', 'nodes', settings), { changed: true })
  t.deepEqual(await vault.ensureRole('pki_roles', 'nodes', settings), { changed: false })
  t.deepEqual(await vault.ensureRole('pki_roles', 'nodes', { ...settings, max_ttl: '17521h' }), { changed: true })
  t.is(await vault.readRole('pki_roles', 'none'), undefined)
})

test('what Vault refuses is one message each: role, SAN, mount, TTL', async t => {
  const mount = 'pki_refusals'
  await mountWithRole(mount)
  const san = await failure(vault.issue(mount, 'web', { commonName: 'a.example.org', dnsNames: ['b.example.org'] }))
  t.is(san.code, 'issuer.role-refuses')
  t.regex(san.message, /subject alternate name b\.example\.org not allowed by this role/)
  t.is((await failure(vault.issue(mount, 'none', { commonName: 'x' }))).message, `There is no role "none" in ${mount}/`)
  t.is((await failure(vault.issue('pki_none', 'web', { commonName: 'x' }))).code, 'issuer.no-such-mount')
  const long = await failure(vault.issue(mount, 'web', { commonName: 'a.example.org', ttl: '99999h' }))
  t.is(long.code, 'issuer.ttl-shortened')
  t.regex(long.message, /shorter than the ttl of 99999h that was asked/)
  const root = await failure(vault.generateRoot(mount, { commonName: 'k', type: 'internal', ttl: '90000h' }))
  t.is(root.code, 'issuer.ttl-shortened')
})

test('a token without rights learns every missing policy line at once', async t => {
  await vault.writePolicy('reader', [{ path: 'sys/mounts', capabilities: ['read'] }])
  const child = vault.withToken((await vault.createChildToken({ policies: ['reader'], ttl: '10m' })).token)
  const plans = authorityPlans('one')
  const missing = await failure(child.requireCapabilities(preparingPolicy(plans, [], 'rekey-run')))
  t.is(missing.code, 'vault.permission-denied')
  t.deepEqual(missing.hint?.split('\n'), [
    'Add to its policy:',
    'path "sys/mounts/pki_k8s" { capabilities = ["update"] }',
    'path "sys/mounts/pki_k8s/tune" { capabilities = ["update"] }',
    'path "pki_k8s/issuers/generate/root/exported" { capabilities = ["update"] }',
    'path "pki_k8s/config/issuers" { capabilities = ["update"] }',
    'path "pki_k8s/issuer/+" { capabilities = ["read", "delete"] }',
    'path "pki_k8s/key/+" { capabilities = ["delete"] }',
    'path "sys/policies/acl/rekey-run" { capabilities = ["update", "delete"] }',
    'path "auth/token/create" { capabilities = ["update", "sudo"] }',
    'path "auth/token/revoke-accessor" { capabilities = ["update"] }',
  ])
  const denied = await failure(child.issue('pki_k8s', 'web', { commonName: 'x' }))
  t.is(denied.message, 'Vault: permission denied for update on pki_k8s/issue/web')
  t.is(denied.hint, `Add to the token's policy: path "pki_k8s/issue/web" { capabilities = ["update"] }`)
  await child.revokeSelf()
  t.is((await failure(child.lookupSelf())).code, 'vault.bad-token')
})

test('a token with no more than the preparing policy prepares; one with the issuing policy renders every certificate', async t => {
  const machines = [
    kubeadmMachine('m1', { address: '10.0.0.1', master: true, superAdmin: true }),
    kubeadmMachine('n1', { address: '10.0.0.3' }),
  ]
  const specs = certificates(machines, { componentServing: true })
  for (const count of ['one', 'three'] as const) {
    const plans = authorityPlans(count, { mount: `pki_${count}` })
    const roles = vaultRoles(specs, plans, { ttl: '17520h' })
    const preparing = preparingPolicy(plans, roles, `run-${count}`)
    await vault.writePolicy(`prepare-${count}`, preparing)
    const operator = await vault.createChildToken({ policies: [`prepare-${count}`], ttl: '10m' })
    const preparer = vault.withToken(operator.token)
    await preparer.requireCapabilities(preparing)
    await prepare(preparer, plans, roles)
    await undoOne(preparer, plans)
    await preparer.writePolicy(`run-${count}`, issuingPolicy(roles))
    const run = vault.withToken((await preparer.createChildToken({ policies: [`run-${count}`], ttl: '10m' })).token)

    for (const spec of specs) {
      const data = certificateData(spec, plans, { ttl: '17520h' })
      const renderer = createRenderer({ secrets: vaultSecrets(run) })
      const render = async (name: string) =>
        (await renderer.render(readFileSync(`templates/kubeadm/${name}`, 'utf8'), { name, data })).output
      const [certificate, key, both, ca] = await Promise.all(
        ['certificate.crt.tpl', 'certificate.key.tpl', 'certificate.pem.tpl', 'ca.crt.tpl'].map(render),
      )
      t.is(both, `${certificate}${key}`)
      t.regex(certificate!, /^-----BEGIN CERTIFICATE-----\n[^-]+-----END CERTIFICATE-----\n$/)
      t.true(keyMatches(certificate!, key!))
      verifyChain(certificate!, ca!)
      const issued = parseCertificate(certificate!)
      t.is(issued.commonName, spec.commonName)
      t.deepEqual([...issued.organizations].sort(), [...spec.organizations].sort())
      t.deepEqual([...issued.dnsNames].sort(), [...spec.dnsNames].sort())
      t.deepEqual([...issued.ipAddresses].sort(), [...spec.ipAddresses].sort())
      t.deepEqual([...issued.extendedKeyUsages].sort(), [...spec.usages].sort())
      for (const host of spec.hosts) {
        const old = machines.find(machine => machine.name === host)!.certificates.get(placePath(spec.place))
        if (old) t.deepEqual(notCovered(spec.renamed ? { ...issued, commonName: old.commonName } : issued, old), [])
      }
      // The opinion of someone else.
      writeFileSync(join(server.folder, 'leaf.pem'), certificate!)
      writeFileSync(join(server.folder, 'root.pem'), ca!)
      const purpose = spec.usages.includes('serverAuth') ? 'sslserver' : 'sslclient'
      const files = ['-CAfile', join(server.folder, 'root.pem'), join(server.folder, 'leaf.pem')]
      t.regex(openssl('verify', '-x509_strict', '-purpose', purpose, ...files), /: OK/)
    }
  }
})

async function prepare(preparer: Vault, plans: readonly AuthorityPlan[], roles: ReturnType<typeof vaultRoles>) {
  for (const { mount, commonName, keyOnMasters } of plans) {
    await preparer.ensureMount(mount, { maxLeaseTtl: '43800h' })
    const type = keyOnMasters ? 'exported' : 'internal'
    const root = await preparer.generateRoot(mount, { commonName, type, ttl: '43800h', notBeforeDuration })
    await preparer.setDefaultIssuer(mount, root.issuerId)
  }
  for (const role of roles) await preparer.ensureRole(role.mount, role.name, role.settings)
}

/** What a rollback does: a CA that was made is taken away again, with its key. */
async function undoOne(preparer: Vault, [plan]: readonly AuthorityPlan[]) {
  const { mount, commonName, keyOnMasters } = plan!
  const type = keyOnMasters ? 'exported' : 'internal'
  const before = (await preparer.readIssuer(mount, 'default'))!
  const root = await preparer.generateRoot(mount, { commonName, type, ttl: '43800h' })
  await preparer.setDefaultIssuer(mount, before.id)
  await preparer.deleteIssuer(mount, root.issuerId)
  await preparer.deleteKey(mount, root.keyId)
}

test('a kubeconfig is rendered with certificate and key of one issue', async t => {
  const plans = authorityPlans('one', { mount: 'pki_one' })
  const spec = certificates([kubeadmMachine('m1', { address: '10.0.0.1', master: true })]).find(
    one => one.id === 'admin',
  )!
  const data = {
    ...certificateData(spec, plans, { ttl: '17520h' }),
    Kubeconfig: {
      Cluster: 'kubernetes',
      Server: 'https://10.0.0.100:6443',
      User: 'kubernetes-admin',
      Context: 'kubernetes-admin@kubernetes',
      ClientCertificate: '/var/lib/kubelet/pki/kubelet-client-current.pem',
      ClientKey: '/var/lib/kubelet/pki/kubelet-client-current.pem',
    },
  }
  const render = async (name: string) =>
    (
      await createRenderer({ secrets: vaultSecrets(vault) }).render(readFileSync(`templates/kubeadm/${name}`, 'utf8'), {
        name,
        data,
      })
    ).output
  const kubeconfig = await render('kubeconfig.tpl')
  const blob = (field: string) =>
    Buffer.from(new RegExp(`^ +${field}: (\\S+)$`, 'm').exec(kubeconfig)![1]!, 'base64').toString()
  t.true(keyMatches(blob('client-certificate-data'), blob('client-key-data')))
  verifyChain(blob('client-certificate-data'), blob('certificate-authority-data'))
  t.is(
    kubeconfig.replaceAll(/data: \S+/g, 'data: …'),
    `apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster:
    server: https://10.0.0.100:6443
    certificate-authority-data: …
contexts:
- name: kubernetes-admin@kubernetes
  context:
    cluster: kubernetes
    user: kubernetes-admin
current-context: kubernetes-admin@kubernetes
users:
- name: kubernetes-admin
  user:
    client-certificate-data: …
    client-key-data: …
`,
  )
  t.true(
    (await render('kubelet.conf.tpl')).endsWith('    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem\n'),
  )
})

test("a CSR is signed without its key, with the role's key type", async t => {
  await mountWithRole('pki_csr')
  const [key, csr] = [join(server.folder, 'csr.key'), join(server.folder, 'csr.pem')]
  openssl('req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', csr, '-subj', '/CN=a.example.org')
  const signed = await vault.signCsr('pki_csr', 'web', readFileSync(csr, 'utf8'), { commonName: 'a.example.org' })
  t.is(signed.privateKey, undefined)
  t.true(keyMatches(signed.certificate, readFileSync(key, 'utf8')))
})

test('AppRole logs in, and its token makes a token for the run that ends with it', async t => {
  const { address, caFile } = server
  await server.api('POST', 'sys/auth/approle', { type: 'approle' })
  const policy = 'rekey-approle-run'
  await vault.writePolicy('approle-parent', [...runTokenPolicy(policy), { path: 'sys/mounts', capabilities: ['read'] }])
  await server.api('POST', 'auth/approle/role/rekey', { token_policies: ['approle-parent'], token_ttl: '10m' })
  const roleId = (await vault.read('auth/approle/role/rekey/role-id'))!.data['role_id'] as string
  const { data } = await vault.write('auth/approle/role/rekey/secret-id')
  const secretId = data['secret_id'] as string
  const parent = await connectVault({ address, caFile, login: { method: 'approle', roleId, secretId } })
  t.teardown(() => parent.close())
  t.deepEqual((await parent.lookupSelf()).policies, ['approle-parent', 'default'])
  const wrong = connectVault({ address, caFile, login: { method: 'approle', roleId, secretId: 'wrong' } })
  t.is((await failure(wrong)).code, 'vault.login')

  const kept: RunTokenRecord[] = []
  const request = { policy, lines: [{ path: 'sys/mounts', capabilities: ['read'] }], ttl: '2s' }
  const run = await createRunToken(parent, { ...request, keep: record => void kept.push(record) })
  // Beyond its ttl: it lives because it was renewed.
  await new Promise(resolve => setTimeout(resolve, 3500))
  t.truthy(await run.vault.read('sys/mounts'))
  t.is((await failure(run.vault.read('sys/auth'))).code, 'vault.permission-denied')
  // As after a crash: by the record alone, and again where it is gone already.
  await revokeRunToken(parent, kept[0]!)
  t.is((await failure(run.vault.read('sys/mounts'))).code, 'vault.bad-token')
  await run.revoke()
  await parent.revokeSelf()
  t.is((await failure(parent.lookupSelf())).code, 'vault.bad-token')
})

test('a TLS certificate logs in, and one of another CA does not', async t => {
  const { address, caFile, folder } = server
  await server.api('POST', 'sys/auth/cert', { type: 'cert' })
  const own = async (mount: string, name: string) => {
    await vault.ensureMount(mount, { maxLeaseTtl: '43800h' })
    const root = await vault.generateRoot(mount, { commonName: mount, type: 'internal', ttl: '43800h', keyType: 'ec' })
    await vault.setDefaultIssuer(mount, root.issuerId)
    const settings = { allow_any_name: true, server_flag: false, key_type: 'ec', key_bits: 256 } as const
    await vault.ensureRole(mount, 'people', settings)
    const { certificate, privateKey } = await vault.issue(mount, 'people', { commonName: 'operator.example.org' })
    const files = { clientCertificateFile: join(folder, `${name}.crt`), clientKeyFile: join(folder, `${name}.key`) }
    writeFileSync(files.clientCertificateFile, certificate)
    writeFileSync(files.clientKeyFile, privateKey!, { mode: 0o600 })
    return { root, files }
  }
  const [known, stranger] = [await own('pki_people', 'operator'), await own('pki_strangers', 'stranger')]
  await server.api('POST', 'auth/cert/certs/operators', {
    ...{ certificate: known.root.certificate, allowed_common_names: 'operator.example.org' },
    ...{ token_policies: ['reader'], token_ttl: '10m' },
  })
  const login = { method: 'cert', role: 'operators' } as const
  const client = await connectVault({ address, caFile, ...known.files, login })
  t.teardown(() => client.close())
  t.deepEqual((await client.lookupSelf()).policies, ['default', 'reader'])
  t.is((await failure(connectVault({ address, caFile, ...stranger.files, login }))).code, 'vault.login')
})

test("a service account's token logs in where a Kubernetes login is asked for, and another account's does not", async t => {
  const { address, caFile, folder } = server
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  // Vault's engine for clusters that it can't ask: the login is the same request, the token is judged by its signature.
  await server.api('POST', 'sys/auth/kubernetes', { type: 'jwt' })
  const pem = publicKey.export({ type: 'spki', format: 'pem' })
  await server.api('POST', 'auth/kubernetes/config', {
    jwt_validation_pubkeys: [pem],
    bound_issuer: 'https://kubernetes',
  })
  const subject = (name: string) => `system:serviceaccount:ops:${name}`
  await server.api('POST', 'auth/kubernetes/role/pods', {
    ...{ role_type: 'jwt', user_claim: 'sub', bound_audiences: ['vault'], bound_subject: subject('rekey') },
    ...{ token_policies: ['reader'], token_ttl: '10m' },
  })
  const tokenOf = (name: string) => {
    const now = Math.floor(Date.now() / 1000)
    const claims = { iss: 'https://kubernetes', aud: ['vault'], sub: subject(name), iat: now, nbf: now, exp: now + 600 }
    const signed = [{ alg: 'RS256', typ: 'JWT' }, claims].map(one =>
      Buffer.from(JSON.stringify(one)).toString('base64url'),
    )
    const signature = sign('sha256', Buffer.from(signed.join('.')), privateKey).toString('base64url')
    const tokenFile = join(folder, `${name}.jwt`)
    writeFileSync(tokenFile, [...signed, signature].join('.'), { mode: 0o600 })
    return { method: 'kubernetes', role: 'pods', tokenFile } as const
  }
  const client = await connectVault({ address, caFile, login: tokenOf('rekey') })
  t.teardown(() => client.close())
  t.deepEqual((await client.lookupSelf()).policies, ['default', 'reader'])
  t.is((await failure(connectVault({ address, caFile, login: tokenOf('other') }))).code, 'vault.login')
})

test('a wrapped token is exchanged once', async t => {
  const { address, caFile } = server
  const ask = { policies: ['reader'], ttl: '10m' }
  const { body } = await server.api('POST', 'auth/token/create', ask, '60s')
  const { token } = body['wrap_info'] as { token: string }
  const client = await connectVault({ address, caFile, token, unwrapToken: true })
  t.teardown(() => client.close())
  t.deepEqual((await client.lookupSelf()).policies, ['default', 'reader'])
  const again = await failure(connectVault({ address, caFile, token, unwrapToken: true }))
  t.is(again.message, 'Vault does not exchange the wrapped token: it expired, or was exchanged before')
})

test('a mount without a root is refused where a template would have got nothing', async t => {
  await vault.ensureMount('pki_empty', { maxLeaseTtl: '1h' })
  const template = '{{ with secret "pki_empty/cert/ca" }}{{ .Data.certificate }}{{ end }}'
  const rendered = createRenderer({ secrets: vaultSecrets(vault) }).render(template, { name: 'ca.tpl' })
  t.regex((await failure(rendered)).message, /^ca\.tpl:1:9: .*no default issuer currently configured/)
})

test('a Vault whose certificate is not trusted, or that is sealed, gets one message', async t => {
  const untrusted = await connectVault({ address: server.address, token: server.rootToken })
  t.is((await failure(untrusted.health())).code, 'vault.tls')
  const clear = await connectVault({ address: server.address.replace('https', 'http'), token: server.rootToken })
  t.is((await failure(clear.health())).message, `Vault at ${clear.address} speaks TLS only`)
  await server.seal()
  t.is((await failure(vault.requireUnsealed())).message, `Vault at ${server.address} is sealed`)
  t.is((await failure(vault.issue('pki_csr', 'web', { commonName: 'x' }))).code, 'vault.sealed')
  await server.unseal()
  t.false((await vault.requireUnsealed()).sealed)
})
