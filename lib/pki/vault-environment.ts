// Which Vault, and who asks: from the VAULT_… variables and ~/.vault-token, as Vault's own client reads them.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { durationSeconds, type VaultSettings } from './vault.ts'

/** What Vault's client would take from here and rekey does not. */
const refused: Record<string, string> = {
  VAULT_CAPATH: 'name one file in VAULT_CACERT',
  VAULT_PROXY_ADDR: 'rekey connects directly',
  VAULT_HTTP_PROXY: 'rekey connects directly',
  VAULT_CLIENT_CERT: 'log in first, and give the token',
  VAULT_WRAP_TTL: 'answers must not be wrapped',
}

const falsy = new Set(['', '0', 'f', 'F', 'false', 'FALSE', 'False'])

/**
 * The settings of the environment; what `given` has wins. A token is looked for in this order: `given`, `VAULT_TOKEN`,
 * `~/.vault-token`.
 * Throws `RekeyError` where no address is set, and for variables that ask for something that rekey does not do.
 */
export function vaultSettings(
  given: Partial<VaultSettings>,
  environment: Readonly<Record<string, string | undefined>>,
  home: string,
): VaultSettings {
  const address = given.address ?? environment['VAULT_ADDR']
  if (!address) {
    throw new RekeyError('No Vault is named', {
      code: 'vault.no-address',
      hint: 'Set VAULT_ADDR, or vault { address }.',
    })
  }
  if (!falsy.has(environment['VAULT_SKIP_VERIFY'] ?? '')) {
    throw new RekeyError("VAULT_SKIP_VERIFY is set, and Vault's certificate is not left unverified", {
      code: 'vault.insecure',
      hint: 'Unset it, and name the CA of its certificate in VAULT_CACERT.',
    })
  }
  for (const [name, instead] of Object.entries(refused)) {
    if (environment[name]) throw new RekeyError(`${name} is not offered: ${instead}`, { code: 'vault.unsupported' })
  }
  const timeout = environment['VAULT_CLIENT_TIMEOUT']
  const named = {
    address,
    caFile: given.caFile ?? (environment['VAULT_CACERT'] || undefined),
    namespace: given.namespace ?? (environment['VAULT_NAMESPACE'] || undefined),
    serverName: given.serverName ?? (environment['VAULT_TLS_SERVER_NAME'] || undefined),
    timeout: given.timeout ?? (timeout ? durationSeconds(timeout) * 1000 : undefined),
    signal: given.signal,
  }
  if (given.token) return { ...named, token: given.token }
  if (given.tokenFile) return { ...named, tokenFile: given.tokenFile }
  if (environment['VAULT_TOKEN']) return { ...named, token: environment['VAULT_TOKEN'] }
  const file = join(home, '.vault-token')
  if (existsSync(file)) return { ...named, tokenFile: file }
  throw new RekeyError('No Vault token is given', {
    code: 'vault.no-token',
    hint: 'Set VAULT_TOKEN, or log in with `vault login`, which writes ~/.vault-token.',
  })
}
