// Run by tests as a process of its own, with little memory: reads what an API server keeps, and says how much it took.
// Its argument is JSON: where the API server is, and which of the jobs below is to be done.
import { connect } from 'node:net'
import { type KubernetesApi, kubernetesApi } from '../../../lib/kubernetes/api/api.ts'

/** What is done, by name; each gives something small to look at. */
const jobs: Record<string, (api: KubernetesApi) => Promise<unknown>> = {
  'read all': async api => {
    let count = 0
    for await (const { data } of api.each('/api/v1/secrets')) if (data) count++
    return count
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
