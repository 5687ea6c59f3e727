// What commands on this machine get of rekey's own environment: not its secrets, but those that are named.
import { tellSecret } from '../secrets/index.ts'

/** Names of variables that hold a secret, as Vault, clouds, databases and rekey itself call them. */
const secretName =
  /(TOKEN|PASSWORD|PASSWD|_PWD|PASSPHRASE|SECRET|SECRET_ID|(ACCESS|API|PRIVATE|SECRET|ENCRYPTION|MASTER)_KEY)$/i
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
  if (!own.some(([name]) => secretName.test(name))) return environment
  return Object.fromEntries(own.filter(([name]) => !secretName.test(name) || kept.includes(name)))
}

/** Has the secrets of an environment replaced wherever they are shown. */
export function tellSecretsOf(environment: NodeJS.ProcessEnv): void {
  for (const [name, value = ''] of Object.entries(environment))
    if (secretName.test(name) && value.length >= shortestTold) tellSecret(value)
}
