// The Vault that an inventory names, as commands that read a cluster ask it.
import { RekeyError } from '../../errors.ts'
import type { Vault } from '../../pki/vault/contract.ts'
import { connectVault } from '../../pki/vault/vault.ts'
import type { Reading } from './cluster.ts'

/** Asks it something. Where that fails `failed` is told why, and it gives `undefined`, as where the inventory names none. */
export async function inVault<T>(
  { hosts, masters, signal }: Pick<Reading, 'hosts' | 'masters' | 'signal'>,
  ask: (vault: Vault, vars: Readonly<Record<string, unknown>>) => Promise<T>,
  failed: (message: string) => void,
): Promise<T | undefined> {
  const { vars } = masters[0] ?? hosts[0]!
  const text = (name: string) => (typeof vars[name] === 'string' ? vars[name] : undefined)
  const [address, tokenFile] = [text('vault_addr'), text('vault_token_file')]
  if (address === undefined || tokenFile === undefined) return undefined
  let vault: Vault | undefined
  try {
    vault = await connectVault({ address, caFile: text('vault_cacert'), tokenFile, signal })
    return await ask(vault, vars)
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof RekeyError)) throw error
    failed(error.message)
    return undefined
  } finally {
    vault?.close()
  }
}
