// Where the private keys of the CAs of a keyset lie on a host. A file's name is a guess: a key is a CA's where it fits that.
import { keyNamesOf } from '../../kubernetes/layout/authorities.ts'
import { privateKeysWithin } from '../../pki/certificates/bundle-text.ts'
import { keyMatches } from '../../pki/certificates/certificate.ts'
import type { OnHost } from '../given/context.ts'
import { layoutOf } from '../given/found.ts'
import { type Item, type KeysetState, statesOf } from './state.ts'

/** Whether a text is the private key of a certificate. */
export function fits(certificate: string, text: string): boolean {
  if (privateKeysWithin(text).length === 0) return false
  try {
    return keyMatches(certificate, text)
  } catch {
    // With a passphrase, or broken: nobody signs with it as it lies there.
    return false
  }
}

/** What a file of a host holds, or nothing; private keys in it are not written down. */
export async function keyIn({ files, redact }: Pick<OnHost, 'files' | 'redact'>, path: string): Promise<string> {
  if (!(await files.exists(path))) return ''
  const text = await files.readText(path)
  for (const key of privateKeysWithin(text)) redact(key)
  return text
}

/** What may be the key of a CA of a keyset on a host, beside the files that components name: copies are other people's. */
export function keyFilesBeside(ctx: OnHost, { bundles }: KeysetState): string[] {
  const named = new Set(
    Object.values(layoutOf(ctx).components).flatMap(({ files }) => files.flatMap(({ path, real }) => [path, real])),
  )
  const mine = Object.keys(bundles[ctx.host.name] ?? {}).filter(path => named.has(path))
  return [...new Set(mine.flatMap(keyNamesOf))]
}

/** The same of all keysets of the run: what a backup is to hold, too. */
export const everyKeyFile = (ctx: OnHost): string[] => statesOf(ctx).flatMap(state => keyFilesBeside(ctx, state))

/** Those of some files that hold the key of one of these CAs. */
export async function holdingKeyOf(
  ctx: OnHost,
  paths: readonly string[],
  items: readonly Pick<Item, 'certificate'>[],
): Promise<string[]> {
  const found: string[] = []
  for (const path of paths) {
    const text = await keyIn(ctx, path)
    if (items.some(({ certificate }) => fits(certificate, text))) found.push(path)
  }
  return found
}
