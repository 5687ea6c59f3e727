// The cluster's API, by a kubeconfig that kops exported: at every address that its name has.
import { lookup } from 'node:dns/promises'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { type KubernetesApi, kubernetesApi } from '../../kubernetes/api/api.ts'
import type { ApiCredentials } from '../../kubernetes/api/kubeconfig.ts'
import type { Kubeconfig } from './kubeconfigs.ts'

/** Asks something at each address of the API, as whom a kubeconfig is of. Throws what the first of them does that fails. */
export async function atEachAddress(
  kubeconfig: Kubeconfig,
  ask: (api: KubernetesApi, address: string) => Promise<void>,
): Promise<true> {
  for (const address of await addressesOf(kubeconfig)) {
    const api = apiAt(kubeconfig, address)
    try {
      await ask(api, address)
    } finally {
      api.close()
    }
  }
  return true
}

/** The API at the first address that answers. Throws what the last of them does where none answers. */
export async function withApi<T>(kubeconfig: Kubeconfig, work: (api: KubernetesApi) => Promise<T>): Promise<T> {
  const failures: unknown[] = []
  for (const address of await addressesOf(kubeconfig)) {
    const api = apiAt(kubeconfig, address)
    try {
      const answers = await api.get('/version').then(Boolean, error => void failures.push(error))
      if (answers) return await work(api)
    } finally {
      api.close()
    }
  }
  throw failures.at(-1)
}

const hostOf = ({ server }: Kubeconfig) => new URL(server).hostname.replace(/^\[|\]$/g, '')

async function addressesOf(kubeconfig: Kubeconfig): Promise<string[]> {
  return (await lookup(hostOf(kubeconfig), { all: true })).map(({ address }) => address)
}

/** As whom a kubeconfig has one ask, and whom it has one trust (PEM): no CA where the API has a load balancer with a certificate of its own. */
export function whoOf({ authorities, certificate, key }: Kubeconfig): Partial<Omit<ApiCredentials, 'server'>> {
  const ca = authorities.map(String).join('')
  return {
    ...(ca !== '' && { ca }),
    ...(certificate !== undefined && { certificate }),
    ...(key !== undefined && { key }),
  }
}

function apiAt(kubeconfig: Kubeconfig, address: string): KubernetesApi {
  const who = whoOf(kubeconfig)
  // A load balancer with a certificate of its own has its own name, and is trusted as any machine is.
  const name = who.ca === undefined ? hostOf(kubeconfig) : undefined
  const open = () => opened(address, Number(new URL(kubeconfig.server).port || 443))
  return kubernetesApi(open, who as Omit<ApiCredentials, 'server'>, name)
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
