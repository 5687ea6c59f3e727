// A KMS plugin of v2 asked over its socket, as an API server asks it (k8s.io/kms, apis/v2): by the curl of its host, since only root there may open
// the socket. What is encrypted to try it are random bytes.
import { randomBytes } from 'node:crypto'
import { HostFailedError, shown } from '../../errors.ts'
import { type Answer, type Call, callGrpc, socketOf, textOf } from '../../operations/grpc/call.ts'
import type { HostSession } from '../../playbook/model.ts'

/** What a plugin made of some bytes: what an API server keeps beside the values. */
export interface Sealed {
  readonly ciphertext: Buffer
  readonly keyId: string
  readonly annotations: readonly Buffer[]
}

/** How long a plugin is waited for, in seconds. */
const within = 10
/** The longest key id that an API server takes. */
const longestKeyId = 1024

/**
 * Asks which key a plugin encrypts with.
 * @param endpoint as an API server has it: `unix:///run/kms/first.sock`
 * @throws HostFailedError where it does not answer, or not as an API server would take it
 */
export async function pluginKeyId(session: HostSession, endpoint: string): Promise<string> {
  const answer = await ask(session, endpoint, 'Status', [])
  const [version, healthz, keyId] = [1, 2, 3].map(field => textOf(answer, field))
  if (version !== 'v2' && version !== 'v2beta1')
    throw wrong(session, endpoint, `says that it is of version ${shown(version)}`)
  if (healthz !== 'ok') throw wrong(session, endpoint, `says of its health: ${shown(healthz)}`)
  return checkedKeyId(session, endpoint, keyId!)
}

/** Has a plugin encrypt. Throws as `pluginKeyId` does. */
export async function sealWith(session: HostSession, endpoint: string, plaintext: Uint8Array): Promise<Sealed> {
  const answer = await ask(session, endpoint, 'Encrypt', [
    [1, plaintext],
    [2, uid()],
  ])
  const ciphertext = answer.get(1)?.at(-1) ?? Buffer.alloc(0)
  if (ciphertext.length === 0 || ciphertext.length > longestKeyId)
    throw wrong(session, endpoint, `encrypts 32 bytes as ${ciphertext.length}, and an API server takes 1 to 1024`)
  return {
    ciphertext,
    keyId: checkedKeyId(session, endpoint, textOf(answer, 2)),
    annotations: answer.get(3) ?? [],
  }
}

/** Has a plugin decrypt what it, or one with the same keys, has encrypted. Throws as `pluginKeyId` does. */
export async function openWith(
  session: HostSession,
  endpoint: string,
  { ciphertext, keyId, annotations }: Sealed,
): Promise<Buffer> {
  const answer = await ask(session, endpoint, 'Decrypt', [
    [1, ciphertext],
    [2, uid()],
    [3, keyId],
    ...annotations.map(one => [4, one] as const),
  ])
  return answer.get(1)?.at(-1) ?? Buffer.alloc(0)
}

/**
 * Tries a plugin before any API server hears of it: its status, and whether it decrypts what it has encrypted.
 * @returns the id of the key that it encrypts with
 * @throws HostFailedError where it does not do so
 */
export async function tryPlugin(session: HostSession, endpoint: string): Promise<string> {
  const keyId = await pluginKeyId(session, endpoint)
  // An API server's seed is as long.
  const plaintext = randomBytes(32)
  const sealed = await sealWith(session, endpoint, plaintext)
  if (sealed.keyId !== keyId)
    throw wrong(session, endpoint, `says that its key is ${shown(keyId)}, and encrypts with ${shown(sealed.keyId)}`)
  if (!plaintext.equals(await openWith(session, endpoint, sealed)))
    throw wrong(session, endpoint, 'does not decrypt what it has encrypted')
  return keyId
}

const uid = () => randomBytes(8).toString('hex')

function checkedKeyId(session: HostSession, endpoint: string, keyId: string): string {
  if (keyId === '' || Buffer.byteLength(keyId) > longestKeyId)
    throw wrong(
      session,
      endpoint,
      `has a key id of ${Buffer.byteLength(keyId)} bytes, and an API server takes 1 to 1024`,
    )
  return keyId
}

const wrong = ({ host }: HostSession, endpoint: string, what: string, hint?: string) =>
  new HostFailedError(`the KMS plugin of ${host.name} at ${endpoint} ${what}`, {
    code: 'encryption.plugin',
    host: host.name,
    hint: hint ?? 'Its own log says more. No API server has been told of it by this step.',
  })

/** One call; what does not come of it is an error of the plugin. */
async function ask(
  session: HostSession,
  endpoint: string,
  method: 'Status' | 'Encrypt' | 'Decrypt',
  fields: Call['fields'],
): Promise<Answer> {
  const call = { socket: socketOf(endpoint), service: 'v2.KeyManagementService', method, fields, within }
  const outcome = await callGrpc(session, call)
  if (outcome.kind === 'answer') return outcome.fields
  if (outcome.kind === 'refused') throw wrong(session, endpoint, `refuses ${method}: ${shown(outcome.why)}`)
  throw wrong(session, endpoint, outcome.why, outcome.hint)
}
