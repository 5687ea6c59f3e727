// The library that reads and writes X.509, loaded when a certificate is first looked at: it takes longer to load than all the
// rest of rekey, and most commands never need it.
import { createRequire } from 'node:module'
import type * as X509 from '@peculiar/x509'

const load = createRequire(import.meta.url)
let loaded: typeof X509 | undefined

/** Gives the library. */
export function x509(): typeof X509 {
  if (!loaded) {
    // It registers its parts by decorators, which need this one first.
    load('reflect-metadata')
    loaded = load('@peculiar/x509') as typeof X509
  }
  return loaded
}
