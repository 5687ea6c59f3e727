// A server on loopback that answers some paths as a Vault would, always alike: for consul-template and for rekey. One path is answered as
// a Consul would, for the functions of consul-template that work on its pairs.
import { readFileSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'

const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url), 'utf8').trim()

const secrets: Record<string, Record<string, unknown>> = {
  'secret/app': {
    password: 's3cr3t',
    port: 8080,
    ratio: 1.5,
    on: true,
    nested: { a: ['x', 'y'], n: 1 },
    nothing: null,
    empty: '',
  },
  'secret/dashed': { 'a-key': 'value' },
  'secret/all/one': { v: '1' },
  'secret/all/two': { v: '2' },
  'kv/data/app': { data: { password: 'new' }, metadata: { version: 2, deletion_time: '' } },
  'kv/data/app?version=1': { data: { password: 'old' }, metadata: { version: 1, deletion_time: '' } },
  'pki_k8s/cert/ca': { certificate: fixture('ca.crt'), revocation_time: 0 },
}

const lists: Record<string, string[]> = {
  secret: ['dashed', 'app', 'all/'],
  'secret/all': ['two', 'one'],
  'kv/metadata': ['b', 'a'],
}

/** The pairs below `app`, as Consul answers `kv/app?recurse`. */
const pairs = Object.entries({ 'app/a/x': '1', 'app/a/y': 'two', 'app/b/deep/z': '3', 'app/c': '4' }).map(
  ([Key, value]) => ({
    ...{ Key, Value: Buffer.from(value).toString('base64'), Flags: 0, LockIndex: 0, CreateIndex: 1, ModifyIndex: 1 },
  }),
)

/** What an issue answers: always the same certificate, and what was asked for as `echo_…`. */
function issued(parameters: Record<string, unknown>) {
  const echo = Object.entries(parameters).map(([key, value]) => [`echo_${key}`, value])
  return {
    certificate: fixture('leaf.crt'),
    issuing_ca: fixture('ca.crt'),
    ca_chain: [fixture('ca.crt')],
    private_key: 'no key at all',
    private_key_type: 'ec',
    serial_number: '01:02:03',
    expiration: 4_102_444_800,
    ...Object.fromEntries(echo),
  }
}

function mountOf(path: string) {
  const [mount] = path.split('/')
  const options = mount === 'kv' ? { version: '2' } : mount === 'secret' ? { version: '1' } : null
  return { path: `${mount}/`, type: mount === 'pki_k8s' ? 'pki' : 'kv', options }
}

function answer(method: string, path: string, query: URLSearchParams, body: Record<string, unknown>) {
  if (query.has('recurse')) return path === 'kv/app' ? pairs : undefined
  const listing = method === 'LIST' || query.get('list') === 'true'
  if (path.startsWith('sys/internal/ui/mounts/')) return { data: mountOf(path.slice('sys/internal/ui/mounts/'.length)) }
  if (listing) return lists[path] && { data: { keys: lists[path] } }
  if (method === 'GET') {
    const version = query.get('version')
    const data = secrets[version ? `${path}?version=${version}` : path]
    return data && { request_id: 'a-request', lease_id: '', lease_duration: 2_764_800, renewable: false, data }
  }
  if (path === 'auth/token/create') {
    const auth = { client_token: 'a-new-token', accessor: 'x', policies: ['default', 'web'], metadata: { a: 'b' } }
    return { data: null, auth: { ...auth, lease_duration: 3600, renewable: true } }
  }
  // Version 2 of the key-value engine takes what is written in `data`, and nothing else.
  if (path === 'kv/data/app' && body['data']) return { data: { version: 3, echo: body['data'] } }
  return path === 'pki_k8s/issue/kubernetes' ? { lease_duration: 0, data: issued(body) } : undefined
}

/** A canned Vault at work. */
export interface CannedVault {
  readonly address: string
  /** Answers first, where it has something to say. */
  before?: (method: string, path: string, body: Record<string, unknown>) => Promise<unknown>
  /** Takes a request over whole, where it returns true: to answer with a status, or not at all. */
  takeOver?: (path: string, response: ServerResponse) => boolean
  stop(): void
}

/** Start it. Returns its address, and what ends it. */
export async function startCannedVault(): Promise<CannedVault> {
  const made: CannedVault & { address: string } = {
    address: '',
    stop: () => {
      server.closeAllConnections()
      server.close()
    },
  }
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', chunk => {
      text += chunk
    })
    request.on('end', async () => {
      const url = new URL(request.url!, 'http://127.0.0.1')
      const path = decodeURIComponent(url.pathname)
        .replace(/^\/v1\//, '')
        .replace(/\/$/, '')
      const body = text ? JSON.parse(text) : {}
      if (made.takeOver?.(path, response)) return
      const before = await made.before?.(request.method!, path, body).catch((error: Error) => error)
      if (before instanceof Error) {
        response.writeHead(400).end(JSON.stringify({ errors: [before.message] }))
        return
      }
      const found = before ?? answer(request.method!, path, url.searchParams, body)
      const ofConsul = { 'X-Consul-Index': '1', 'X-Consul-LastContact': '0' }
      response.writeHead(found ? 200 : 404, { 'Content-Type': 'application/json', ...ofConsul })
      response.end(JSON.stringify(found ?? { errors: [] }))
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  made.address = `http://127.0.0.1:${port}`
  return made
}
