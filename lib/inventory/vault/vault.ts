// Ansible Vault: encrypted files and strings, opened only when something reads them.
import { createRequire } from 'node:module'
import type * as AnsibleVault from 'ansible-vault'
import { RekeyError } from '../../errors.ts'

const load = createRequire(import.meta.url)

/** A vault password and the id that `--vault-id id@source` gave it (`default` without one). */
export interface VaultPassword {
  readonly id: string
  readonly password: string
  /** Where it came from, for messages: a file's name, `prompt`. Never the password. */
  readonly source: string
}

/** Opens what was encrypted with any of its passwords. */
export interface Vault {
  readonly passwords: readonly VaultPassword[]
  /** The plain text of a vault document. Throws `RekeyError` naming `where` when no password opens it. */
  decrypt(ciphertext: string, where: string): string
}

/** True when a file's text is a vault document. */
export function isEncrypted(text: string): boolean {
  return text.startsWith('$ANSIBLE_VAULT')
}

/** A vault that tries the password of the document's own id first, then the others, as Ansible does. */
export function createVault(passwords: readonly VaultPassword[]): Vault {
  const opened = new Map<string, string>()
  return {
    passwords,
    decrypt(ciphertext, where) {
      const document = ciphertext
        .split(/\r?\n/)
        .map(line => line.trim())
        .filter(line => line !== '')
        .join('\n')
      const known = opened.get(document)
      if (known !== undefined) return known
      const plain = open(document, passwords, where)
      opened.set(document, plain)
      return plain
    },
  }
}

function open(document: string, passwords: readonly VaultPassword[], where: string): string {
  const header = /^\$ANSIBLE_VAULT;([^;]*);([^;\n]*)(?:;([^\n]*))?\n/.exec(document)
  if (!header || !['1.1', '1.2'].includes(header[1] ?? '') || header[2] !== 'AES256') {
    throw new RekeyError(`${where}: not an Ansible Vault document that can be read`, {
      code: 'inventory.vault-format',
      hint: 'Formats 1.1 and 1.2 with AES256 are read; encrypt it again with a current ansible-vault.',
    })
  }
  const id = header[3]?.trim()
  const label = id ? `vault id "${id}"` : 'no vault id'
  if (passwords.length === 0) {
    throw new RekeyError(`${where}: encrypted with Ansible Vault (${label}), and no vault password was given`, {
      code: 'inventory.vault-password-missing',
      hint: `Give one with --vault-password-file FILE, --vault-id ${id || 'default'}@FILE or --ask-vault-pass.`,
    })
  }
  const own = passwords.filter(candidate => candidate.id === (id || 'default'))
  const others = passwords.filter(candidate => !own.includes(candidate))
  // Few inventories have something encrypted, and a start is done sooner without what opens it.
  const { Vault: Cipher } = load('ansible-vault') as typeof AnsibleVault
  for (const { password } of [...own, ...others]) {
    try {
      const plain = new Cipher({ password }).decryptSync(document, undefined)
      if (plain !== undefined) return plain
    } catch {
      // The wrong password for this document; another one may fit.
    }
  }
  const tried = passwords.map(candidate => `${candidate.id}@${candidate.source}`).join(', ')
  throw new RekeyError(`${where}: no vault password opens it (${label}; tried ${tried})`, {
    code: 'inventory.vault-password-wrong',
    hint: 'Check which password it was encrypted with, or whether the text is complete.',
  })
}
