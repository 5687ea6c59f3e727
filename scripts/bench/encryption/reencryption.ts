// The program that bench.ts measures: re-encrypts all Secrets through one API server, as rekey does it or as a bare loop of the same requests does, and
// tells how many, in how many seconds, with how much memory.
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { connect } from 'node:net'
import { reencrypt } from '../../../lib/encryption/rewrite/reencrypt.ts'
import { kubernetesApi, mostSockets } from '../../../lib/kubernetes/api/api.ts'

export interface ReencryptionJob {
  readonly way: 'rekey' | 'bare'
  readonly port: number
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

export interface ReencryptionResult {
  readonly objects: number
  readonly seconds: number
  /** The most that the process had, in bytes. */
  readonly memory: number
}

const job = JSON.parse(process.env['REKEY_BENCH_JOB'] ?? '') as ReencryptionJob
const [ca, certificate, key] = [job.ca, job.certificate, job.key].map(path => readFileSync(path, 'utf8')) as [
  string,
  string,
  string,
]
const resource = { name: 'secrets', list: '/api/v1/secrets', namespaced: true }

async function asRekeyDoes(): Promise<number> {
  const api = kubernetesApi(async () => connect(job.port, '127.0.0.1'), { ca, certificate, key })
  const { done } = await reencrypt(api, [resource], { progress: () => {} })
  api.close()
  return done
}

/** Nothing but the requests, as many at a time: pages of metadata, an empty patch for each object. */
async function bare(): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: mostSockets, ca, cert: certificate, key })
  const metadata = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1'
  const ask = (method: string, path: string, accept: string, body?: string) =>
    new Promise<string>((resolve, reject) => {
      const headers = { accept, ...(body && { 'content-type': 'application/merge-patch+json' }) }
      const options = { agent, host: '127.0.0.1', port: job.port, method, path, headers }
      const outgoing = request(options, answer => {
        let text = ''
        answer.on('data', chunk => {
          text += chunk
        })
        answer.on('end', () => (answer.statusCode === 200 ? resolve(text) : reject(new Error(text))))
      })
      outgoing.on('error', reject)
      outgoing.end(body)
    })
  let [done, next] = [0, '']
  do {
    const list = metadata.replace('Metadata;', 'MetadataList;')
    const page = JSON.parse(await ask('GET', `/api/v1/secrets?limit=500&continue=${encodeURIComponent(next)}`, list))
    next = page.metadata.continue ?? ''
    const names = page.items.map(
      ({ metadata }: { metadata: { namespace: string; name: string } }) =>
        `/api/v1/namespaces/${metadata.namespace}/secrets/${metadata.name}`,
    ) as string[]
    const work = async () => {
      for (let path = names.pop(); path; path = names.pop()) {
        await ask('PATCH', path, metadata, '{}')
        done++
      }
    }
    await Promise.all(Array.from({ length: mostSockets }, work))
  } while (next)
  agent.destroy()
  return done
}

const started = performance.now()
const objects = await (job.way === 'rekey' ? asRekeyDoes() : bare())
const result: ReencryptionResult = {
  objects,
  seconds: (performance.now() - started) / 1_000,
  memory: process.resourceUsage().maxRSS * 1024,
}
console.log(JSON.stringify(result))
