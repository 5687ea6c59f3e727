// The key of a fleet: an age identity, by which alone the folders of its runs can be read from the store.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { lstatSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { tellSecret } from '../../secrets/index.ts'
import { loadAge } from './libraries.ts'
import { readSecretFile } from './secret-file.ts'

/** What is stored of a fleet, sealed: whoever lacks the key can neither read it nor put something else in its place. */
export interface FleetKey {
  /** Who can read it: `age1…`. */
  readonly recipient: string
  /** @param place what it is, and whose: at another place it is refused */
  seal(place: readonly string[], bytes: Uint8Array): Promise<Uint8Array>
  /** Rejects with `RekeyError` where it is another key's, of another place, or was changed. */
  open(place: readonly string[], sealed: Uint8Array): Promise<Buffer>
}

/**
 * Reads the key of a fleet.
 * @param makes make one where there is none
 * @throws RekeyError where it can't be read, or others may read or write it
 */
export async function openKey(path: string, makes: boolean): Promise<FleetKey> {
  const age = await loadAge()
  if (makes && lstatSync(path, { throwIfNoEntry: false }) === undefined) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    writeFileSync(path, `${await age.generateX25519Identity()}\n`, { flag: 'wx', mode: 0o600, flush: true })
  }
  const identity = readIdentity(path)
  tellSecret(identity)
  const recipient = await age.identityToRecipient(identity)
  // Anybody may encrypt for a recipient: that it was one of us, the mark in it says.
  const markOf = (place: readonly string[], bytes: Uint8Array) =>
    createHmac('sha256', `rekey fleet ${identity}`).update(JSON.stringify(place)).update(bytes).digest()
  return {
    recipient,
    seal: (place, bytes) => {
      const encrypter = new age.Encrypter()
      encrypter.addRecipient(recipient)
      return encrypter.encrypt(Buffer.concat([markOf(place, bytes), bytes]))
    },
    open: async (place, sealed) => {
      const decrypter = new age.Decrypter()
      decrypter.addIdentity(identity)
      let bytes: Buffer
      try {
        bytes = Buffer.from(await decrypter.decrypt(new Uint8Array(sealed)))
      } catch (cause) {
        throw unreadable(path, (cause as Error).message)
      }
      const content = bytes.subarray(markLength)
      if (bytes.length < markLength || !timingSafeEqual(bytes.subarray(0, markLength), markOf(place, content)))
        throw unreadable(path, 'it was not written by a worker of the fleet for this place')
      return content
    },
  }
}

const markLength = 32

const unreadable = (path: string, why: string) =>
  new RekeyError(`what is stored of a run can't be read with ${path}: ${why}`, {
    code: 'fleet.key',
    hint: 'Give the key with which the fleet was begun: --key FILE. Where that is it, somebody changed what is stored.',
  })

function readIdentity(path: string): string {
  const text = readSecretFile(path, {
    ...{ what: 'the key of the fleet', code: 'fleet.key' },
    hint: 'Say where the key of the fleet is: --key FILE.',
  })
  const identity = /^AGE-SECRET-KEY-1[0-9A-Z]+$/m.exec(text)?.[0]
  if (identity !== undefined) return identity
  throw new RekeyError(`${path} holds no age identity`, {
    code: 'fleet.key',
    hint: 'Put there what age-keygen writes.',
  })
}
