// Where vault passwords come from: files, programs that print one, and the terminal.
import { execFile } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { RekeyError } from '../errors.ts'
import { tellSecret } from '../secrets/index.ts'
import { readText } from './variable-files.ts'
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

async function fromFile(
  id: string,
  source: string,
  { cwd, environment }: VaultPasswordContext,
  known: readonly VaultPassword[],
): Promise<string> {
  const file = source.startsWith('~/') ? join(environment['HOME'] ?? homedir(), source.slice(2)) : resolve(cwd, source)
  const stats = statSync(file, { throwIfNoEntry: false })
  if (!stats?.isFile()) throw noPassword(file, 'there is no such file')
  let password: string
  if (isExecutable(file)) {
    // Programs called …-client are told which id is wanted.
    const client = /-client(\.[^.]*)?$/.test(basename(file))
    password = (await runPasswordProgram(file, client ? ['--vault-id', id] : [], cwd, environment)).replace(
      /^[\r\n]+|[\r\n]+$/g,
      '',
    )
  } else {
    const text = readText(file).trim()
    password = isEncrypted(text) ? createVault(known).decrypt(text, file).trim() : text
  }
  if (password === '') throw noPassword(file, 'it gives an empty password')
  return password
}

function isExecutable(file: string): boolean {
  if ((statSync(file).mode & 0o111) === 0) return false
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function runPasswordProgram(
  file: string,
  args: readonly string[],
  cwd: string,
  environment: NodeJS.ProcessEnv,
): Promise<string> {
  return new Promise((resolvePassword, reject) => {
    const settings = { cwd, env: environment, timeout: 60_000, encoding: 'utf8' } as const
    execFile(file, args, settings, (error, stdout, stderr) => {
      if (!error) return resolvePassword(stdout)
      const why = error.killed
        ? 'it took more than 60 s'
        : stderr.trim().split('\n').at(-1) || `exit code ${error.code}`
      reject(noPassword(file, why, error))
    })
  })
}

function noPassword(file: string, why: string, cause?: unknown): RekeyError {
  return new RekeyError(`no vault password from ${file}: ${why}`, {
    code: 'inventory.vault-password',
    hint: 'A vault password file holds the password in one line, or is a program that prints it.',
    cause,
  })
}
