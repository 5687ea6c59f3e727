// What the TLS endpoints of a cluster present: read from a handshake, on the host itself.

import type { Duplex } from 'node:stream'
import { connect } from 'node:tls'
import { HostFailedError } from '../errors.ts'

/** One TLS port of a component. */
export interface TlsEndpoint {
  /** Where it listens, as its host sees it. */
  readonly address: string
  readonly port: number
  readonly component: string
  /** Which CA signs what it presents. */
  readonly authority: 'kubernetes' | 'etcd'
}

/** The endpoints of a kubeadm master. etcd's peers are served on the node's address only. */
export function masterEndpoints(nodeAddress: string): TlsEndpoint[] {
  const local = '127.0.0.1'
  return [
    { component: 'kube-apiserver', authority: 'kubernetes', address: local, port: 6443 },
    { component: 'etcd (clients)', authority: 'etcd', address: local, port: 2379 },
    { component: 'etcd (peers)', authority: 'etcd', address: nodeAddress, port: 2380 },
    { component: 'kube-controller-manager', authority: 'kubernetes', address: local, port: 10257 },
    { component: 'kube-scheduler', authority: 'kubernetes', address: local, port: 10259 },
  ]
}

/** The port of every kubelet. */
export const kubeletEndpoint: TlsEndpoint = {
  component: 'kubelet',
  authority: 'kubernetes',
  address: '127.0.0.1',
  port: 10250,
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
      tls.destroy()
      socket.destroy()
      reject(new HostFailedError(`${where} presents no certificate: ${reason}`, { code: 'endpoint.no-certificate' }))
    }
    const timer = setTimeout(() => fail(`no handshake within ${handshakeTimeout / 1_000} s`), handshakeTimeout)
    const tls = connect({ socket, rejectUnauthorized: false, servername: 'localhost' }, () => {
      clearTimeout(timer)
      const chain: string[] = []
      const seen = new Set<string>()
      for (
        let one = tls.getPeerCertificate(true);
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
      tls.destroy()
      socket.destroy()
      resolve(chain.join(''))
    })
    // A server that wants a client certificate hangs up after its own was seen.
    tls.on('error', error => {
      clearTimeout(timer)
      fail(error.message)
    })
  })
}
