// The Vault of a run: asked with the operator's token to prepare, and with a short-lived one to issue.
import { existsSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { issuingPolicy, type VaultRole } from '../../pki/specs.ts'
import type { Vault } from '../../pki/vault/contract.ts'
import { createRunToken, type RunToken, type RunTokenRecord, revokeRunToken } from '../../pki/vault/run-token.ts'
import { connectVault } from '../../pki/vault/vault.ts'
import type { RunContext } from '../../playbook/model.ts'

export const variables = {
  vault_addr: z.url(),
  vault_cacert: z.string().optional(),
  vault_token_file: z.string(),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** A run with a Vault. */
export interface WithVault {
  readonly vault: RunVault
}

/** What the token of a run may do: issue from these roles, by a policy that is written for it. */
export interface Grant {
  readonly policy: string
  readonly roles: readonly VaultRole[]
}

export interface RunVault {
  /** Vault, with the operator's token. */
  operator(): Promise<Vault>
  /**
   * Vault with the short-lived token of this run. It is made the first time that anybody asks (in a resumed run all hosts may at
   * once) and revoked when the run ends: one that is gone on with makes another.
   */
  issuing(grant: Grant): Promise<Vault>
  /** Revokes the token that this run made, also where the process that made it was killed. */
  revoke(): Promise<void>
  /** Revokes the token, and hangs up. Never rejects. */
  close(): Promise<void>
}

/** Opens the Vault of a run; nothing is sent before somebody asks. */
export function openVault(run: RunContext<Variables>): RunVault {
  // Says which token the run made, for whoever ends it.
  const record = join(run.folder, 'vault-token.json')
  let connected: Promise<Vault> | undefined
  let token: Promise<RunToken> | undefined
  const operator = () => {
    connected ??= connectVault({
      address: run.vars.vault_addr,
      caFile: run.vars.vault_cacert,
      tokenFile: run.vars.vault_token_file,
      signal: run.signal,
    })
    return connected
  }
  const revoke = async () => {
    if (!existsSync(record)) return
    await revokeRunToken(await operator(), JSON.parse(await readFile(record, 'utf8')) as RunTokenRecord)
    await rm(record)
  }
  const makeToken = async ({ policy, roles }: Grant): Promise<RunToken> => {
    await revoke()
    const made = await createRunToken(await operator(), {
      policy,
      lines: issuingPolicy(roles),
      ttl: '30m',
      displayName: run.run,
      keep: made => writeFile(record, JSON.stringify(made), { mode: 0o600 }),
      onRenewalFailed: ({ message }) => run.log(`the run's Vault token could not be renewed: ${message}`),
    })
    run.redact(made.token)
    return made
  }
  return {
    operator,
    issuing: async grant => {
      token ??= makeToken(grant)
      return (await token).vault
    },
    revoke,
    close: async () => {
      await token?.then(made => made.revoke()).catch(() => {})
      await revoke().catch(({ message }: Error) =>
        run.log(`the run's Vault token could not be revoked, and ends within 30 minutes: ${message}`),
      )
      ;(await connected?.catch(() => undefined))?.close()
    },
  }
}
