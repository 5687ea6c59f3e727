// What the API servers of a lab encrypt by: an EncryptionConfiguration in a folder of its own, and what they are told of it.
import { randomBytes } from 'node:crypto'
import type { Encryption, Traits } from '../shape.ts'

/** The folder on each master: mounted as a whole, so that a file that takes another one's place is seen where it is mounted. */
export const encryptionFolder = '/etc/kubernetes/encryption'
export const encryptionFile = `${encryptionFolder}/configuration.yaml`

type Asked = Pick<Traits, 'encryption' | 'encryptionReload'>

/**
 * The file, the same for all masters of a lab: a key that stands in it is made anew at each call. What was plain before stays readable, as documents have it.
 * @returns undefined where API servers are to have none
 */
export function encryptionConfiguration({ encryption }: Pick<Asked, 'encryption'>): string | undefined {
  const providers = providersOf[encryption]?.()
  if (providers === undefined) return undefined
  return `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources:
      - secrets
    providers:
${providers}`
}

const keyed = (provider: string) => () =>
  `      - ${provider}:
          keys:
            - name: key1
              secret: ${randomBytes(32).toString('base64')}
      - identity: {}
`

/** The folder on each master in which the sockets of KMS plugins are: mounted as a whole, too. */
export const pluginFolder = '/var/lib/kms'
/** The socket of a plugin of that name. */
export const pluginEndpoint = (name: string) => `unix://${pluginFolder}/${name}.sock`

const plugged = () => `      - kms:
          apiVersion: v2
          name: first
          endpoint: ${pluginEndpoint('first')}
      - identity: {}
`

/** The providers of Secrets, as lines of the file. */
const providersOf: Readonly<Record<Encryption, (() => string) | undefined>> = {
  none: undefined,
  identity: () => '      - identity: {}\n',
  aescbc: keyed('aescbc'),
  secretbox: keyed('secretbox'),
  'kms-vault': plugged,
  'kms-hsm': plugged,
}

/** What API servers are told of it; nothing where they have none. */
export function encryptionFlags(
  { encryption, encryptionReload }: Asked,
  file = encryptionFile,
): readonly { readonly name: string; readonly value: string }[] {
  if (encryption === 'none') return []
  return [
    { name: 'encryption-provider-config', value: file },
    ...(encryptionReload === 'on' ? [{ name: 'encryption-provider-config-automatic-reload', value: 'true' }] : []),
  ]
}

/** The same as lines of a unit's `ExecStart`. */
export const encryptionLines = (asked: Asked, file = encryptionFile): string =>
  encryptionFlags(asked, file)
    .map(({ name, value }) => `  --${name}=${value} \\\n`)
    .join('')
