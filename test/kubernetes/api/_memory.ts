// Run by tests as a process of its own, with little memory: reads what an API server keeps, and says how much it took.
// Its argument is JSON: where the API server is, and which of the jobs below is to be done.
import { connect } from 'node:net'
import { type KubernetesApi, kubernetesApi } from '../../../lib/kubernetes/api/api.ts'
import { compareSecrets, secretsBefore } from '../../../lib/kubernetes/before/secrets.ts'
import { leftInApi } from '../../../lib/kubernetes/trust/left-behind.ts'
import { namespacesWithOtherCa, tokenSecretsByNamespace } from '../../../lib/kubernetes/trust/tokens.ts'

/** What is done, by name; each gives something small to look at. */
const jobs: Record<string, (api: KubernetesApi) => Promise<unknown>> = {
  // What a rotation does with them, before and after.
  'prove all': async api => {
    const { unchanged } = await compareSecrets(api, await secretsBefore(api))
    const { objects } = await leftInApi(api, ca)
    let namespaces = 0
    for await (const { secrets } of tokenSecretsByNamespace(api)) namespaces += secrets.length > 0 ? 1 : 0
    return [unchanged, objects.length, namespaces, (await namespacesWithOtherCa(api, ca)).length]
  },
  'hold all': async api => (await api.list('/api/v1/secrets')).length,
}

export interface MemoryJob {
  readonly port: number
  readonly ca: string
  readonly job: string
}

const { port, ca, job } = JSON.parse(process.argv[2] ?? '') as MemoryJob
const api = kubernetesApi(async () => connect(port, '127.0.0.1'), { ca })
await api.get('/version').catch(() => undefined)
const before = process.resourceUsage().maxRSS
const result = await jobs[job]!(api)
api.close()
console.log(JSON.stringify({ result, grownBy: (process.resourceUsage().maxRSS - before) / 1024 }))
