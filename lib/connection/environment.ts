// What commands on this machine get of rekey's own environment: not its secrets, but those that are named.
import { tellSecret } from '../secrets/index.ts'

/** Names of variables that hold a secret, as Vault, clouds, databases and rekey itself call them. */
const secretName =
  /(TOKEN|PASSWORD|PASSWD|_PWD|(^|_|SSH)PASS|PASSPHRASE|SECRET|SECRET_ID|_AUTH|AUTH_CONFIG|APIKEY|KEY_DATA|(ACCESS|ACCOUNT|API|DEPLOY|ENCRYPTION|MASTER|PRIVATE|SECRET|SIGNING|STORAGE|UNSEAL)_KEY)$/i
/** The same where the value is a key, and not the file of one: those are called alike. */
const secretOrFile = /(CREDENTIALS?|_KEY)$/i

function isSecret(name: string, value = ''): boolean {
  return secretName.test(name) || (secretOrFile.test(name) && isKey(value))
}

/** A key as text, or credentials as JSON. */
function isKey(value: string): boolean {
  return /^\s*(\{|-----BEGIN )/.test(value)
}

/** User and password in an address. */
const inAddress = /^[a-z][a-z0-9+.-]{0,30}:\/\/([^\s/?#@:]{0,300}):([^\s/?#@]{1,1000})@/i
/** Shorter values are words that stand everywhere; where one of them is used as a secret, it is told there. */
const shortestTold = 8

/**
 * An environment without its secrets.
 * @param kept the names of secrets that a command needs
 */
export function withoutSecrets(
  environment: NodeJS.ProcessEnv,
  kept: readonly string[] = [],
): Record<string, string | undefined> {
  const own = Object.entries(environment)
  if (!own.some(([name, value]) => isSecret(name, value))) return environment
  return Object.fromEntries(own.filter(([name, value]) => !isSecret(name, value) || kept.includes(name)))
}

/** Has the secrets of an environment replaced wherever they are shown; also the passwords in addresses, of a proxy for one, which commands get. */
export function tellSecretsOf(environment: NodeJS.ProcessEnv): void {
  const tell = (value: string) => value.length >= shortestTold && tellSecret(value)
  for (const [name, value = ''] of Object.entries(environment)) {
    if (isSecret(name, value)) tell(value)
    const [, user, password] = inAddress.exec(value) ?? []
    // One that is the user's name, as examples have it, is a word that stands everywhere.
    if (password !== undefined && password !== user) for (const one of new Set([password, decoded(password)])) tell(one)
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
