// Which store an address is of.
import { RekeyError } from '../../errors.ts'
import { fileStore } from './file-store.ts'
import { s3Store } from './s3-store.ts'
import type { StateStore } from './store.ts'

/** The store at an address, or undefined where rekey has no means to write there. */
export function openStore(address: string): StateStore | undefined {
  const [, scheme = '', rest = ''] = /^([a-z0-9]+):\/\/(.*)$/.exec(address) ?? []
  if (scheme === 'file') return fileStore(rest)
  if (scheme !== 's3') return undefined
  const [bucket = '', ...prefix] = rest.split('/').filter(Boolean)
  if (bucket === '') throw new RekeyError(`${address} names no bucket`, { code: 'kops.state-store' })
  return s3Store(bucket, prefix.join('/'))
}
