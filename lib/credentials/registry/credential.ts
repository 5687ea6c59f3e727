// The new credential: from a file of this machine or from Vault, never from a command line. It is kept sealed off in the run's folder.
import { open } from 'node:fs/promises'
import { type Secret, secret } from '../../connection/shell.ts'
import { vaultSecrets } from '../../pki/vault/secrets.ts'
import { connectVault } from '../../pki/vault/vault.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { refused } from '../given.ts'
import { basicOf, type Credential, credentialFrom } from './docker-config.ts'
import { type Context, ids } from './given.ts'

/** Reads it; a run that is gone on with has it. */
export const read: StepDefinition<Context> = {
  id: ids.read,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<{ user: string; password: Secret }> => {
    const { user, password } = checked(await given(ctx))
    secret(basicOf({ user, password }))
    ctx.log(`for the user ${user}`)
    return { user, password: secret(password) }
  },
}

function given(ctx: Context): Promise<Credential> {
  const { registry_new_file: file, registry_new_vault: path } = ctx.vars
  if ((file === undefined) === (path === undefined))
    throw wrong('one of registry_new_file and registry_new_vault says where the new credential is')
  return file === undefined ? fromVault(ctx, path!) : fromFile(file)
}

const wrong = (
  message: string,
  hint = 'A file holds one line, USER:PASSWORD. It may be a pipe: -e registry_new_file=<(…)',
) => refused('registry.new-credential', message, hint)

/** More is no line with a credential. */
const mostBytes = 64 * 1024

async function fromFile(path: string): Promise<Credential> {
  const file = await open(path).catch((cause: Error) => {
    throw wrong(`${path} can not be read: ${cause.message}`)
  })
  try {
    const stat = await file.stat()
    if (stat.isFile() && (stat.mode & 0o077) !== 0)
      throw wrong(
        `${path} may be read by others than its owner`,
        `chmod 600 ${path}; what others have read is no secret.`,
      )
    const text = (await file.readFile('utf8')).slice(0, mostBytes).replace(/\r?\n$/, '')
    const found = credentialFrom(text)
    if (!found) throw wrong(`${path} holds no USER:PASSWORD`)
    return found
  } finally {
    await file.close()
  }
}

async function fromVault({ vars, signal }: Context, path: string): Promise<Credential> {
  if (vars.vault_addr === undefined) throw wrong('registry_new_vault needs vault_addr', 'Set it, and vault_token_file.')
  const vault = await connectVault({
    address: vars.vault_addr,
    caFile: vars.vault_cacert,
    tokenFile: vars.vault_token_file,
    signal,
  })
  try {
    const { data = {} } = (await vaultSecrets(vault)(path)) ?? {}
    const fields = (data['metadata'] && data['data'] ? data['data'] : data) as Record<string, unknown>
    const { username, password } = fields
    if (typeof username === 'string' && typeof password === 'string') return { user: username, password }
    throw wrong(`Vault has no username and password at ${path}`, `vault kv put ${path} username=… password=-`)
  } finally {
    vault.close()
  }
}

/** Throws where a registry, or what keeps it, could not take it. */
function checked(one: Credential): Credential {
  if (one.user === '' || /[:\x00-\x1f\x7f]/.test(one.user))
    throw wrong('the user is empty, or has a colon or a control character')
  if (one.password.length < 3 || /[\x00-\x1f\x7f]/.test(one.password))
    throw wrong('the password is shorter than three characters, or has a line break or another control character')
  return one
}
