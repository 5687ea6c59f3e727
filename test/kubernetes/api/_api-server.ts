// A stand-in for an API server: HTTPS on loopback, objects that are kept, versions that count up, lists in pages. As far as rekey asks.
import 'reflect-metadata'
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import { type KubernetesApi, type KubernetesObject, kubernetesApi } from '../../../lib/kubernetes/api/api.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

/** An object as a test gives it; the server adds what is missing. */
export type Given = Omit<KubernetesObject, 'metadata'> & {
  readonly metadata: Partial<KubernetesObject['metadata']> & { readonly name: string }
}

export interface StandIn {
  readonly api: KubernetesApi
  /** Where it listens on loopback, and whom to trust there. */
  readonly port: number
  readonly ca: string
  /** The requests that came, `GET /api/v1/secrets?limit=250`. */
  readonly asked: string[]
  /** Puts an object there, by the path of its list (`/api/v1/namespaces/a/secrets`), as somebody else would. */
  put(list: string, object: Given): KubernetesObject
  remove(path: string): void
  get(path: string): KubernetesObject | undefined
  /** Answers this instead, where it is something; `continue` may be awaited. */
  instead?: (request: string, response: ServerResponse) => boolean | Promise<boolean>
  /** Forgets where its lists were. */
  forget(): void
  close(): void
}

/** Whose lists are told by which path, whatever namespace the objects are in: `/api/v1/namespaces/a/secrets` is in `/api/v1/secrets`. */
const withoutNamespace = (path: string) => path.replace(/\/namespaces\/[^/]+(?=\/.)/, '')

/** Starts one. Its objects may be given by generators: then they are made anew for each page, and are not kept. */
export async function startApiServer(
  generated: Readonly<Record<string, { readonly count: number; make(index: number): Given }>> = {},
  bounds = { request: 30_000, page: 30_000, bytes: 32 * 1024 * 1024 },
): Promise<StandIn> {
  const ca = await issue({ name: 'CN=stand-in', ca: true })
  const name = new SubjectAlternativeNameExtension([{ type: 'dns', value: 'kubernetes.default.svc' }])
  const { pem, keyPem } = await issue({ name: 'CN=apiserver', issuer: ca, extensions: [name] })
  const objects = new Map<string, KubernetesObject>()
  let version = 1
  let era = 0

  const put = (list: string, { metadata, ...rest }: Given): KubernetesObject => {
    const [, namespace] = /\/namespaces\/([^/]+)\/./.exec(list) ?? []
    const path = `${list}/${metadata.name}`
    const uid = objects.get(path)?.metadata.uid ?? randomUUID()
    const kept = { ...rest, metadata: { uid, namespace, ...metadata, resourceVersion: String(++version) } }
    objects.set(path, kept)
    return kept
  }

  const page = (path: string, query: URLSearchParams): object => {
    const from = query.get('continue') ? JSON.parse(query.get('continue')!) : { era, index: 0 }
    if (from.era !== era) return failure(410, 'The provided continue parameter is too old', 'Expired')
    const limit = Number(query.get('limit') ?? 1e9)
    const source = generated[path]
    const all = source ? undefined : selected([...objects], path, query.get('fieldSelector'))
    const count = source?.count ?? all!.length
    const items: unknown[] = []
    for (let index = from.index; index < Math.min(count, from.index + limit); index++)
      items.push(source ? { ...source.make(index), metadata: madeUp(source.make(index)) } : all![index])
    const next = from.index + items.length
    const metadata = next < count ? { continue: JSON.stringify({ era, index: next }) } : {}
    return { kind: 'List', metadata, items: items.length > 0 ? items : null }
  }

  const answer = (method: string, url: string, body: string, type = ''): object => {
    const { pathname, searchParams } = new URL(url, 'https://x')
    const found = objects.get(pathname)
    if (method === 'GET') return found ?? (isList(pathname) ? page(pathname, searchParams) : failure(404, 'not found'))
    if (method === 'DELETE') {
      const { uid } = (body === '' ? {} : (JSON.parse(body).preconditions ?? {})) as { uid?: string }
      if (found && uid !== undefined && found.metadata.uid !== uid) return failure(409, 'another uid', 'Conflict')
      return objects.delete(pathname) ? {} : failure(404, 'not found')
    }
    // What is tried is answered as what is done, and not kept.
    const keep: typeof put =
      searchParams.get('dryRun') === 'All' ? (_, { metadata, ...rest }) => ({ ...rest, metadata }) as never : put
    if (method === 'POST' && isList(pathname)) {
      const { metadata, ...rest } = JSON.parse(body)
      return keep(pathname, { ...rest, metadata: { name: `${metadata.generateName}x`, ...metadata } })
    }
    if (!found) return failure(404, 'not found')
    const sent = JSON.parse(body)
    const list = pathname.slice(0, pathname.lastIndexOf('/'))
    if (method === 'PUT' || !type.includes('json-patch')) {
      const expected = sent.metadata?.resourceVersion
      if (expected !== undefined && expected !== found.metadata.resourceVersion)
        return failure(409, 'the object has been modified', 'Conflict')
      return keep(list, method === 'PUT' ? sent : merged(found, sent))
    }
    const next = structuredClone(found)
    for (const { op, path, value } of sent) {
      const steps = path
        .slice(1)
        .split('/')
        .map((one: string) => one.replaceAll('~1', '/').replaceAll('~0', '~'))
      const last = steps.pop()
      const parent = steps.reduce((at: Record<string, unknown>, step: string) => at?.[step] as never, next as never)
      if (parent === undefined || !(last in parent)) return failure(422, `no ${path}`, 'Invalid')
      if (op === 'test' && JSON.stringify(parent[last]) !== JSON.stringify(value))
        return failure(422, `test ${path}`, 'Invalid')
      if (op === 'replace') parent[last] = value
    }
    return keep(list, next)
  }

  const server = createServer({ cert: pem, key: keyPem }, async (request: IncomingMessage, response) => {
    const { method = '', url = '' } = request
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    standIn.asked.push(`${method} ${url}`)
    if (await standIn.instead?.(`${method} ${url}`, response)) return
    const result = answer(method, url, Buffer.concat(chunks).toString('utf8'), request.headers['content-type'])
    response.writeHead('code' in result ? (result.code as number) : 200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(result))
  })
  // On a busy machine the next question of a test may come when Node has just hung up, after the five seconds that it waits.
  server.keepAliveTimeout = 0
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo

  const standIn: StandIn = {
    api: kubernetesApi(async () => connect(port, '127.0.0.1'), { ca: ca.pem }, undefined, { bounds }),
    ...{ port, ca: ca.pem, asked: [] },
    put,
    remove: path => void objects.delete(path),
    get: path => objects.get(path),
    forget: () => void era++,
    close: () => {
      standIn.api.close()
      server.close()
      server.closeAllConnections()
    },
  }
  return standIn
}

/** Waits, for an answer that comes late. */
export const later = (milliseconds: number) => delay(milliseconds)

const failure = (code: number, message: string, reason?: string) => ({ kind: 'Status', code, message, reason })

const isList = (path: string) => /\/[a-z]+s$/.test(path)

const madeUp = ({ metadata }: Given) => ({
  uid: `uid-${metadata.namespace}-${metadata.name}`,
  resourceVersion: '7',
  ...metadata,
})

function selected(all: [string, KubernetesObject][], list: string, selector: string | null): KubernetesObject[] {
  const within = (path: string) => {
    const own = path.slice(0, path.lastIndexOf('/'))
    return own === list || withoutNamespace(own) === list
  }
  const found = all.filter(([path]) => within(path)).sort(([a], [b]) => (a < b ? -1 : 1))
  return found.map(([, one]) => one).filter(one => (selector ?? '').split(',').every(term => fits(one, term)))
}

function fits(object: KubernetesObject, term: string): boolean {
  const [, field = '', operator, value] = /^([^!=]+)(!?=)(.*)$/.exec(term) ?? []
  if (!field) return true
  const has = field.split('.').reduce((at: Record<string, unknown>, step) => at?.[step] as never, object as never)
  return (String(has ?? '') === value) === (operator === '=')
}

function merged(into: unknown, patch: unknown): never {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch as never
  const result: Record<string, unknown> = { ...(into as object) }
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key]
    else result[key] = merged(result[key], value)
  }
  return result as never
}
