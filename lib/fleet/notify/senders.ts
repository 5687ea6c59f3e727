// The ways to those who are told what happens, opened: their secrets are read before anything is begun.
import { resolve } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { tellSecret } from '../../secrets/index.ts'
import type { Fleet } from '../definition/fleet-file.ts'
import { type Receiver, wrongWithAddress } from '../definition/receivers.ts'
import { readSecretFile } from '../store/secret-file.ts'
import { sendMail } from './mail.ts'
import type { Message } from './message.ts'
import { sendSlack } from './slack.ts'
import { readHookSecret, sendHook } from './webhook.ts'

/** A way to somebody. */
export interface Sender {
  readonly title: string
  /** Rejects with `RekeyError` where it was not taken. */
  send(message: Message): Promise<void>
}

/**
 * Opens the ways to all whom fleet.yml names, in its order.
 * @throws RekeyError where a secret can't be read, others may read it, or it is none
 */
export const openSenders = ({ folder, notify }: Pick<Fleet, 'folder' | 'notify'>): Sender[] =>
  notify.map(({ way, title }: Receiver) => {
    if (way.kind === 'mail') return { title, send: message => sendMail(way.to, way.from, message) }
    const path = resolve(folder, way.kind === 'slack' ? way.urlFile : way.secretFile)
    const what = way.kind === 'slack' ? 'the address of a webhook of Slack' : 'the secret of a webhook'
    const text = readSecretFile(path, {
      ...{ what, code: 'fleet.notify' },
      hint: 'fleet.yml names it at notify: every worker must have it. Nothing was begun.',
    }).trim()
    if (way.kind === 'slack') {
      const wrong = wrongWithAddress(text)
      if (wrong !== undefined)
        throw new RekeyError(`${path} holds no address of a webhook of Slack: ${wrong}`, { code: 'fleet.notify' })
      tellSecret(text)
      tellSecret(new URL(text).pathname)
      return { title, send: message => sendSlack(text, message) }
    }
    const secret = readHookSecret(text)
    if (!secret)
      throw new RekeyError(`${path} holds no secret of a webhook: whsec_ and 24 to 64 bytes in base64`, {
        code: 'fleet.notify',
        hint: `Make one: (umask 077; echo "whsec_$(openssl rand -base64 32)" >${path})`,
      })
    tellSecret(text)
    return { title, send: message => sendHook(way.url, secret, message) }
  })
