// Where vault passwords come from: files, programs that print one, and the terminal.
import { basename } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { tellSecret } from '../../secrets/index.ts'
import { readPasswordFile } from './password-file.ts'
import { createVault, isEncrypted, type VaultPassword } from './vault.ts'

export interface VaultOptions {
  /** `--vault-id`: `id@file`, `id@prompt`, or without an id. */
  readonly vaultIds?: readonly string[]
  /** `--vault-password-file`. */
  readonly vaultPasswordFiles?: readonly string[]
  /** `--ask-vault-pass`. */
  readonly askVaultPassword?: boolean
}

export interface VaultPasswordContext {
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly ask?: (prompt: string) => Promise<string>
}

/** Reads every vault password that was asked for. Throws `RekeyError` naming the source that gave none. */
export async function readVaultPasswords(
  options: VaultOptions,
  context: VaultPasswordContext,
): Promise<VaultPassword[]> {
  const passwords: VaultPassword[] = []
  const add = async (id: string, source: string): Promise<void> => {
    const password =
      source === 'prompt' || source === 'prompt_ask_vault_pass'
        ? await prompt(id, context)
        : await fromFile(id, source, context, passwords)
    tellSecret(password, `the vault password ${id}`)
    passwords.push({ id, source, password })
  }
  for (const slug of options.vaultIds ?? []) {
    const cut = slug.indexOf('@')
    await add(cut > 0 ? slug.slice(0, cut) : 'default', cut === -1 ? slug : slug.slice(cut + 1))
  }
  for (const file of options.vaultPasswordFiles ?? []) await add('default', file)
  if (options.askVaultPassword) await add('default', 'prompt')
  return passwords
}

async function prompt(id: string, { ask }: VaultPasswordContext): Promise<string> {
  const password = await ask?.(id === 'default' ? 'Vault password: ' : `Vault password (${id}): `)
  if (password) return password
  throw new RekeyError(`no vault password was typed for the vault id "${id}"`, {
    code: 'inventory.vault-password',
    hint: 'Type it when asked, or give a file: --vault-password-file FILE.',
  })
}

function fromFile(
  id: string,
  source: string,
  { cwd, environment }: VaultPasswordContext,
  known: readonly VaultPassword[],
): Promise<string> {
  return readPasswordFile(
    source,
    { what: 'vault password', code: 'inventory.vault-password', cwd, environment },
    // Programs called …-client are told which id is wanted.
    file => (/-client(\.[^.]*)?$/.test(basename(file)) ? ['--vault-id', id] : []),
    (text, file) => (isEncrypted(text) ? createVault(known).decrypt(text, file) : text),
  )
}
