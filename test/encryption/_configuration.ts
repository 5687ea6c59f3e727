// EncryptionConfigurations for tests, with keys that are made for each.
import { randomBytes } from 'node:crypto'

export const base64Key = (bytes = 32) => randomBytes(bytes).toString('base64')

/** A file of one rule; its providers, indented by six, begin in line 6. */
export const configuration = (resources: string, providers: string) => `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources: [${resources}]
    providers:
${providers}`
