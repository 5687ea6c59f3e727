// Which Vault and whose token, from the environment, in the order of Vault's own client.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { vaultSettings } from '../../lib/pki/vault-environment.ts'

const home = mkdtempSync(join(tmpdir(), 'rekey-home-'))
const empty = mkdtempSync(join(tmpdir(), 'rekey-home-'))
writeFileSync(join(home, '.vault-token'), 'from-file')
test.after.always(() => {
  for (const folder of [home, empty]) rmSync(folder, { recursive: true, force: true })
})
const environment = { VAULT_ADDR: 'https://v:8200', VAULT_TOKEN: 'from-variable' }

test('what is given wins over the variables, and they over the file', t => {
  t.is(vaultSettings({ token: 'given' }, environment, home).token, 'given')
  t.is(vaultSettings({ tokenFile: '/t' }, environment, home).tokenFile, '/t')
  t.is(vaultSettings({}, environment, home).token, 'from-variable')
  t.is(vaultSettings({}, { VAULT_ADDR: 'https://v' }, home).tokenFile, join(home, '.vault-token'))
  t.is(vaultSettings({ address: 'https://other' }, environment, home).address, 'https://other')
  t.throws(() => vaultSettings({}, { VAULT_ADDR: 'https://v' }, empty), { code: 'vault.no-token' })
  t.throws(() => vaultSettings({}, {}, home), { code: 'vault.no-address' })
})

test('CA, namespace, name of the server and time-out are read', t => {
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

test('what would leave Vault unverified, or what rekey does not do, is refused and not left out', t => {
  t.throws(() => vaultSettings({}, { ...environment, VAULT_SKIP_VERIFY: 'true' }, home), { code: 'vault.insecure' })
  t.notThrows(() => vaultSettings({}, { ...environment, VAULT_SKIP_VERIFY: 'false' }, home))
  t.throws(() => vaultSettings({}, { ...environment, VAULT_CAPATH: '/cas' }, home), {
    message: /VAULT_CAPATH is not offered/,
  })
})
