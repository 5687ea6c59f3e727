// What the TLS endpoints of a cluster present: read from a handshake, on the host itself.

import type { Duplex } from 'node:stream'
import { HostFailedError } from '../../errors.ts'
import { tls } from '../../network-modules.ts'
import type { AuthorityName } from '../../pki/specs.ts'

/** One TLS port of a component. */
export interface TlsEndpoint {
  /** Where it listens, as its host sees it. */
  readonly address: string
  readonly port: number
  readonly component: string
  /** Which CA signs what it presents. */
  readonly authority: AuthorityName
  /** Where what it presents is kept: the first of these that is there. */
  readonly files: readonly string[]
}

const handshakeTimeout = 5_000

/**
 * The certificates that a port presents, leaf first, as one PEM text. Nothing is verified here.
 * @param open a TCP stream to the port
 * @param where for messages, e.g. `m1:6443`
 */
export async function presentedCertificates(open: () => Promise<Duplex>, where: string): Promise<string> {
  const socket = await open()
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => {
      secured.destroy()
      socket.destroy()
      reject(new HostFailedError(`${where} presents no certificate: ${reason}`, { code: 'endpoint.no-certificate' }))
    }
    const timer = setTimeout(() => fail(`no handshake within ${handshakeTimeout / 1_000} s`), handshakeTimeout)
    const secured = tls().connect({ socket, rejectUnauthorized: false, servername: 'localhost' }, () => {
      clearTimeout(timer)
      const chain: string[] = []
      const seen = new Set<string>()
      for (
        let one = secured.getPeerCertificate(true);
        one?.raw && !seen.has(one.fingerprint256);
        one = one.issuerCertificate
      ) {
        seen.add(one.fingerprint256)
        chain.push(
          `-----BEGIN CERTIFICATE-----\n${one.raw
            .toString('base64')
            .replace(/(.{64})/g, '$1\n')
            .trimEnd()}\n-----END CERTIFICATE-----\n`,
        )
      }
      secured.destroy()
      socket.destroy()
      resolve(chain.join(''))
    })
    // A server that wants a client certificate hangs up after its own was seen.
    secured.on('error', error => {
      clearTimeout(timer)
      fail(error.message)
    })
  })
}
