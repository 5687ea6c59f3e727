// Logging in to Vault: what each method sends, and to which path. The token that comes back belongs to the run.
import { readFileSync } from 'node:fs'
import { RekeyError } from '../../errors.ts'
import { tellSecret } from '../../secrets/index.ts'

/** How to get a token where none is given. */
export type VaultLogin =
  | {
      readonly method: 'approle'
      /** Where the method is mounted (default `approle`). */
      readonly mount?: string
      readonly roleId: string
      /** Left out where the role is bound to something else than a secret id. */
      readonly secretId?: string
      readonly secretIdFile?: string
    }
  | {
      readonly method: 'kubernetes'
      /** Default `kubernetes`. */
      readonly mount?: string
      readonly role: string
      /** The service account's token itself, or the file that holds it (default: where pods find theirs). */
      readonly token?: string
      readonly tokenFile?: string
    }
  | {
      /** By the certificate of the connection: `clientCertificateFile` and `clientKeyFile`. */
      readonly method: 'cert'
      /** Default `cert`. */
      readonly mount?: string
      /** Without it Vault tries every role. */
      readonly role?: string
    }

/** Where a pod finds the token of its service account. */
const podTokenFile = '/var/run/secrets/kubernetes.io/serviceaccount/token'

/** The path and the body of a login. Throws `RekeyError` where a file can't be read. */
export function loginRequest(login: VaultLogin): { path: string; data: Record<string, unknown> } {
  const path = `auth/${(login.mount ?? login.method).replaceAll(/^\/+|\/+$/g, '')}/login`
  if (login.method === 'approle') {
    const { roleId, secretId, secretIdFile } = login
    const read = secretIdFile === undefined ? undefined : readOneLine(secretIdFile, 'the secret id')
    const id = secretId ?? read
    if (id !== undefined) tellSecret(id, 'the secret id')
    return { path, data: { role_id: roleId, secret_id: id } }
  }
  if (login.method === 'kubernetes') {
    const jwt = login.token ?? readOneLine(login.tokenFile ?? podTokenFile, "the service account's token")
    tellSecret(jwt)
    return { path, data: { role: login.role, jwt } }
  }
  return { path, data: { name: login.role } }
}

function readOneLine(file: string, what: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new RekeyError(`${file}: can't read ${what} (${(cause as NodeJS.ErrnoException).code})`, {
      code: 'vault.file',
      cause,
    })
  }
}
