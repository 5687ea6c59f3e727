// A webhook as Standard Webhooks has it (https://www.standardwebhooks.com): who gets it can tell that it is ours, which one it is, and how old.
import { createHmac } from 'node:crypto'
import type { Message } from './message.ts'
import { post } from './post.ts'

const prefix = 'whsec_'
/** Bytes that a secret has, as the standard says. */
const [fewest, most] = [24, 64]

/** Reads a secret: `whsec_` and 24 to 64 bytes in base64. `undefined` where it is none. */
export function readHookSecret(text: string): Buffer | undefined {
  const written = text.trim()
  if (!written.startsWith(prefix)) return undefined
  const secret = written.slice(prefix.length)
  const bytes = Buffer.from(secret, 'base64')
  const isWhole = bytes.toString('base64').replaceAll('=', '') === secret.replaceAll('=', '')
  return isWhole && bytes.length >= fewest && bytes.length <= most ? bytes : undefined
}

/** Sends a message, signed. Throws `RekeyError` where it was not taken. */
export async function sendHook(url: string, secret: Buffer, message: Message): Promise<void> {
  const { id, fleet, event } = message
  const { kind, at, text, ...of } = event
  const data = { fleet: fleet.name, fleet_id: fleet.id, playbook: fleet.playbook, kind, ...of, text }
  const body = JSON.stringify({ type: `rekey.fleet.${kind}`, timestamp: new Date(at).toISOString(), data })
  const timestamp = String(Math.floor(Date.now() / 1_000))
  const signature = createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64')
  await post(url, body, {
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${signature}`,
  })
}
