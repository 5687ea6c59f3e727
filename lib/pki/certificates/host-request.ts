// A certificate request whose key is made on the host and never leaves it.

import type { Remote } from '../../connection/remote.ts'
import { RekeyError } from '../../errors.ts'

/** What is asked of the host. Names come from the role and from `signCsr`, unless they are in the request. */
export interface HostRequest {
  /** Where the key is made, 0600. One that is there already is used again. */
  readonly keyPath: string
  readonly keyType: 'rsa' | 'ec' | 'ed25519'
  /** Default 2048 for RSA, 256 for curves. */
  readonly keyBits?: number
  readonly commonName: string
  readonly dnsNames?: readonly string[]
  readonly ipAddresses?: readonly string[]
}

const curves: Record<number, string> = { 256: 'P-256', 384: 'P-384', 521: 'P-521' }

/**
 * Make a key on a host, where there is none, and a request for it: for `signCsr`. Only the request comes back.
 * Throws `RekeyError` for a name that can't stand in a request, and `HostFailedError` where openssl fails on the host.
 */
export async function requestFromHost({ $ }: { readonly $: Remote }, request: HostRequest): Promise<string> {
  const { keyPath, keyType, keyBits, commonName, dnsNames = [], ipAddresses = [] } = request
  const bad = [commonName, ...dnsNames, ...ipAddresses].find(name => !/^[\w.:@*-]+$/.test(name))
  if (bad !== undefined) {
    throw new RekeyError(`"${bad}" can't stand in a certificate request`, { code: 'pki.bad-name' })
  }
  const kind = {
    rsa: ['-algorithm', 'RSA', '-pkeyopt', `rsa_keygen_bits:${keyBits ?? 2048}`],
    ec: ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curves[keyBits ?? 256]}`],
    ed25519: ['-algorithm', 'ED25519'],
  }[keyType]
  const names = [...dnsNames.map(name => `DNS:${name}`), ...ipAddresses.map(address => `IP:${address}`)].join(',')
  const extension = names === '' ? [] : ['-addext', `subjectAltName=${names}`]
  const made = `${keyPath}.rekey-new`
  await $`sh -c ${'[ -s "$1" ] || { umask 077 && f=$1 && n=$2 && shift 2 && openssl genpkey "$@" -out "$n" && mv -f "$n" "$f"; }'} sh ${keyPath} ${made} ${kind}`
  const { stdout } = await $`openssl req -new -key ${keyPath} -subj ${`/CN=${commonName}`} ${extension}`
  return stdout
}
