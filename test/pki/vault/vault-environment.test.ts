// Which Vault and whose token, from the environment, in the order of Vault's own client.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { vaultSettings } from '../../../lib/pki/vault/vault-environment.ts'
import { issue } from '../certificates/_certificates.ts'

const home = mkdtempSync(join(tmpdir(), 'rekey-home-'))
const empty = mkdtempSync(join(tmpdir(), 'rekey-home-'))
writeFileSync(join(home, '.vault-token'), 'from-file')
test.after.always(() => {
  for (const folder of [home, empty]) rmSync(folder, { recursive: true, force: true })
})
const environment = { VAULT_ADDR: 'https://v:8200', VAULT_TOKEN: 'from-variable' }

test.serial('what is given wins over the variables, and they over the file', t => {
  t.is(vaultSettings({ token: 'given' }, environment, home).token, 'given')
  t.is(vaultSettings({ tokenFile: '/t' }, environment, home).tokenFile, '/t')
  t.is(vaultSettings({}, environment, home).token, 'from-variable')
  t.is(vaultSettings({}, { VAULT_ADDR: 'https://v' }, home).tokenFile, join(home, '.vault-token'))
  t.is(vaultSettings({ address: 'https://other' }, environment, home).address, 'https://other')
  t.throws(() => vaultSettings({}, { VAULT_ADDR: 'https://v' }, empty), { code: 'vault.no-token' })
  t.throws(() => vaultSettings({}, {}, home), { code: 'vault.no-address' })
})

test.serial('CA, namespace, name of the server and time-out are read', t => {
  const more = {
    VAULT_CACERT: '/ca.pem',
    VAULT_NAMESPACE: 'team',
    VAULT_TLS_SERVER_NAME: 'vault.example.org',
    VAULT_CLIENT_TIMEOUT: '1m30s',
  }
  const settings = vaultSettings({}, { ...environment, ...more }, home)
  t.is(settings.caFile, '/ca.pem')
  t.is(settings.namespace, 'team')
  t.is(settings.serverName, 'vault.example.org')
  t.is(settings.timeout, 90_000)
  t.is(vaultSettings({}, { ...environment, VAULT_CLIENT_TIMEOUT: '45' }, home).timeout, 45_000)
})

test.serial("Vault's certificate is left unverified only where that is asked twice", t => {
  const asked = { ...environment, VAULT_SKIP_VERIFY: 'true' }
  t.throws(() => vaultSettings({}, asked, home), { code: 'vault.insecure', message: /VAULT_SKIP_VERIFY is set/ })
  t.true(vaultSettings({}, { ...asked, REKEY_VAULT_SKIP_VERIFY: 'true' }, home).skipVerify)
  t.false(vaultSettings({}, { ...environment, REKEY_VAULT_SKIP_VERIFY: 'true' }, home).skipVerify)
  t.false(vaultSettings({}, { ...environment, VAULT_SKIP_VERIFY: 'false' }, home).skipVerify)
  t.throws(() => vaultSettings({ skipVerify: true }, environment, home), { message: /ssl\.verify = false is set/ })
  // Over plain http nothing is verified: there is nothing to leave out.
  const plain = { ...asked, VAULT_ADDR: 'http://127.0.0.1:8200' }
  t.false(vaultSettings({ skipVerify: true }, plain, home).skipVerify)
  t.throws(() => vaultSettings({}, { ...environment, VAULT_SKIP_VERIFY: 'perhaps' }, home), { code: 'vault.insecure' })
})

test.serial("Vault's CAs are those of the file, else of the variable, else of the folder", async t => {
  const [one, two] = [(await issue({ name: 'CN=one' })).pem, (await issue({ name: 'CN=two' })).pem]
  const folder = mkdtempSync(join(tmpdir(), 'rekey-cas-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'one.pem'), one)
  const more = { ...environment, VAULT_CAPATH: folder }
  t.is(vaultSettings({}, more, home).authorities, one)
  t.is(vaultSettings({}, { ...more, VAULT_CACERT_BYTES: two }, home).authorities, two)
  const named = vaultSettings({}, { ...more, VAULT_CACERT: '/ca.pem' }, home)
  t.deepEqual([named.caFile, named.authorities], ['/ca.pem', undefined])
  rmSync(join(folder, 'one.pem'))
  t.throws(() => vaultSettings({}, more, home), { message: /there is no certificate in the files of this folder/ })
})

test.serial("the proxy is Vault's own, else that of the system, which is not asked for this machine", t => {
  const system = { ...environment, https_proxy: 'http://p:3128', NO_PROXY: 'example.org' }
  t.deepEqual(vaultSettings({}, system, home).proxies, {
    HTTP_PROXY: undefined,
    HTTPS_PROXY: 'http://p:3128',
    NO_PROXY: 'example.org,localhost,127.0.0.1,::1',
  })
  const own = vaultSettings({}, { ...system, VAULT_HTTP_PROXY: 'http://a', VAULT_PROXY_ADDR: 'http://b' }, home)
  t.deepEqual(own.proxies, { HTTP_PROXY: 'http://b', HTTPS_PROXY: 'http://b' })
})

test.serial('a login is named by its method, after a token and before the file', t => {
  const approle = {
    VAULT_ADDR: 'https://v',
    VAULT_AUTH_METHOD: 'approle',
    VAULT_ROLE_ID: 'r',
    VAULT_SECRET_ID_FILE: '/s',
  }
  t.like(vaultSettings({}, approle, home).login, { method: 'approle', roleId: 'r', secretIdFile: '/s' })
  t.is(vaultSettings({}, { ...approle, VAULT_TOKEN: 't' }, home).login, undefined)
  t.throws(() => vaultSettings({}, { ...approle, VAULT_ROLE_ID: '' }, home), { message: /needs VAULT_ROLE_ID/ })
  const pod = { ...approle, VAULT_AUTH_METHOD: 'kubernetes', VAULT_AUTH_ROLE: 'pods', VAULT_AUTH_PATH: 'k8s' }
  t.like(vaultSettings({}, pod, home).login, { method: 'kubernetes', role: 'pods', mount: 'k8s' })
  t.is(vaultSettings({}, { ...approle, VAULT_AUTH_METHOD: 'cert' }, home).login?.method, 'cert')
  t.throws(() => vaultSettings({}, { ...approle, VAULT_AUTH_METHOD: 'ldap' }, home), { code: 'vault.login' })
})

test.serial('an agent is asked before Vault itself; tries are counted; what rekey does not do is refused', t => {
  t.is(
    vaultSettings({}, { ...environment, VAULT_AGENT_ADDR: 'http://127.0.0.1:1' }, home).address,
    'http://127.0.0.1:1',
  )
  t.is(vaultSettings({}, { ...environment, VAULT_MAX_RETRIES: '0' }, home).retries, 0)
  t.throws(() => vaultSettings({}, { ...environment, VAULT_MAX_RETRIES: 'many' }, home), { code: 'vault.unsupported' })
  t.throws(() => vaultSettings({}, { ...environment, VAULT_SRV_LOOKUP: '1' }, home), {
    message: /VAULT_SRV_LOOKUP is not offered/,
  })
})
