// The cluster's API, by a kubeconfig that kops exported: at every address that its name has.
import { lookup } from 'node:dns/promises'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { kubernetesApi } from '../../kubernetes/api/api.ts'
import type { ApiCredentials } from '../../kubernetes/api/kubeconfig.ts'
import type { Kubeconfig } from './kubeconfigs.ts'

/** Asks something at each address of the API, as whom a kubeconfig is of. Throws what the first of them does that fails. */
export async function atEachAddress(
  { server, authorities, certificate, key }: Kubeconfig,
  ask: (api: ReturnType<typeof kubernetesApi>, address: string) => Promise<void>,
): Promise<true> {
  const { hostname, port } = new URL(server)
  const host = hostname.replace(/^\[|\]$/g, '')
  for (const { address } of await lookup(host, { all: true })) {
    const ca = authorities.map(String).join('')
    // A load balancer with a certificate of its own has its own name, and is trusted as any machine is.
    const name = ca === '' ? host : undefined
    const who = { ...(ca === '' ? {} : { ca }), certificate, key } as Omit<ApiCredentials, 'server'>
    const api = kubernetesApi(() => opened(address, Number(port || 443)), who, name)
    try {
      await ask(api, address)
    } finally {
      api.close()
    }
  }
  return true
}

function opened(host: string, port: number): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: 10_000 })
    socket.once('connect', () => {
      socket.setTimeout(0)
      resolve(socket)
    })
    socket.once('timeout', () => socket.destroy(new Error(`no answer from ${host}:${port} within 10 s`)))
    socket.once('error', reject)
  })
}
