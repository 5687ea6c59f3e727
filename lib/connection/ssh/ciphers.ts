// Whether ssh2's ciphers were compiled when it was installed: by a script of the package, which npm may have been told not to run.
import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)

/** Without them every packet is sealed in JavaScript: it works, and takes several times as long where much is sent. */
export function areCiphersCompiled(): boolean {
  return (load('ssh2/lib/protocol/crypto.js') as { readonly bindingAvailable: boolean }).bindingAvailable
}
