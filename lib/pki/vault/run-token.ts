// A Vault token for one run: least privilege, short-lived, renewed while the run lasts, revoked at its end or by whoever
// takes the run up again.
import { RekeyError } from '../../errors.ts'
import type { PolicyLine, Vault } from './contract.ts'
import { durationSeconds } from './duration.ts'

/** What a journal keeps of a run's token: enough to revoke it, not enough to use it. */
export interface RunTokenRecord {
  readonly accessor: string
  /** The policy that was written for it. */
  readonly policy: string
}

/** A run's token at work. */
export interface RunToken extends RunTokenRecord {
  /** Vault, asked with this token. */
  readonly vault: Vault
  /** The token itself, for redaction. */
  readonly token: string
  /** End the renewing, revoke the token and delete its policy. May be called twice. */
  revoke(): Promise<void>
}

export interface RunTokenRequest {
  /** The policy's name; what stands under it is overwritten. */
  readonly policy: string
  /** What the token may do, and nothing else. */
  readonly lines: readonly PolicyLine[]
  /** How long it holds when nobody renews it any more: a crash leaves it behind for no longer than that. */
  readonly ttl: string
  /** Its end, however often it is renewed (default `24h`). */
  readonly longest?: string
  readonly displayName?: string
  /** Gets the record before the token is used, to write it down. */
  readonly keep: (record: RunTokenRecord) => void | Promise<void>
  /** Gets the reason where a renewal failed: the token ends with its ttl. */
  readonly onRenewalFailed?: (error: Error) => void
}

/**
 * Write the policy, make the token, have its record kept, and renew it at half of its time until `revoke`.
 * Where the record can't be kept the token is revoked, and that failure is passed on.
 */
export async function createRunToken(parent: Vault, request: RunTokenRequest): Promise<RunToken> {
  const { policy, lines, ttl, longest = '24h', displayName, keep, onRenewalFailed } = request
  await parent.writePolicy(policy, lines)
  const { token, accessor } = await parent.createChildToken({
    ...{ policies: [policy], ttl, longest, renewable: true, displayName },
  })
  const record: RunTokenRecord = { accessor, policy }
  try {
    await keep(record)
  } catch (error) {
    await revokeRunToken(parent, record).catch(() => undefined)
    throw error
  }
  const vault = parent.withToken(token)
  const stop = renewed(vault, durationSeconds(ttl), onRenewalFailed ?? (() => undefined))
  return {
    ...record,
    vault,
    token,
    revoke: async () => {
      stop()
      await revokeRunToken(parent, record)
    },
  }
}

/**
 * Revoke a token that a run left behind, and delete its policy: `resume` and `rollback` do so with the record that the
 * journal has. One that is gone already counts as revoked.
 */
export async function revokeRunToken(parent: Vault, { accessor, policy }: RunTokenRecord): Promise<void> {
  try {
    await parent.revokeAccessor(accessor)
  } catch (error) {
    if (
      !(error instanceof RekeyError) ||
      !/invalid accessor|failed to find accessor|token not found/.test(error.message)
    )
      throw error
  }
  await parent.deletePolicy(policy)
}

/** The lines that the parent's policy needs for all of this. */
export function runTokenPolicy(policy: string): PolicyLine[] {
  return [
    { path: `sys/policies/acl/${policy}`, capabilities: ['update', 'delete'] },
    { path: 'auth/token/create', capabilities: ['update', 'sudo'] },
    { path: 'auth/token/revoke-accessor', capabilities: ['update'] },
  ]
}

/** Renews at half of what is left each time. Its timer keeps no process alive. */
function renewed(vault: Vault, seconds: number, failed: (error: Error) => void): () => void {
  let timer: NodeJS.Timeout | undefined
  let ended = false
  const plan = (left: number) => {
    if (ended) return
    timer = setTimeout(async () => {
      try {
        plan(await vault.renewSelf())
      } catch (error) {
        if (!ended) failed(error as Error)
      }
    }, left * 500)
    timer.unref()
  }
  plan(seconds)
  return () => {
    ended = true
    clearTimeout(timer)
  }
}
