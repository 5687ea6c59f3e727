// The Kubernetes API through an SSH connection to a master: it works wherever the masters can be reached by SSH, and each API
// server can be asked by itself. JSON in, JSON out.
import type { Agent } from 'node:https'
import type { Duplex } from 'node:stream'
import { HostFailedError } from '../../errors.ts'
import { https, tls } from '../../network-modules.ts'
import { AnswerTooLongError, ApiError } from './api-errors.ts'
import type { ApiCredentials } from './kubeconfig.ts'
import type { KubernetesObject } from './object.ts'
import { eachOfPages, type Page, type PageRequest } from './pages.ts'

export { ApiError } from './api-errors.ts'
export type { KubernetesObject } from './object.ts'

/** Requests to one API server. Paths begin with `/`. All reject with `ApiError`, or `HostFailedError` where nobody answers. */
export interface KubernetesApi {
  get<T = KubernetesObject>(path: string): Promise<T>
  /** All objects of a list, read page by page and handed on one by one: never more than a page of them is in memory. */
  each(path: string, options?: ListOptions): AsyncGenerator<KubernetesObject>
  /** All objects of a list that is short, at once. */
  list(path: string, options?: { signal?: AbortSignal }): Promise<KubernetesObject[]>
  /** What is no JSON: metrics, logs. */
  getText(path: string): Promise<string>
  /** A strategic merge patch, unless another type is named. */
  patch(path: string, body: unknown, type?: 'strategic-merge' | 'merge' | 'json'): Promise<KubernetesObject>
  /**
   * An empty patch, answered with no more than the object's metadata: has an object written anew that its server would write in another way than it
   * is stored, and leaves any other one alone.
   */
  touch(path: string): Promise<KubernetesObject>
  put(path: string, body: unknown): Promise<KubernetesObject>
  /** What is no JSON, either way: a flag of the server's own. */
  putText(path: string, text: string): Promise<string>
  post(path: string, body: unknown): Promise<KubernetesObject>
  /** @param uid of whom: 409 where somebody else has the name by now */
  delete(path: string, uid?: string): Promise<unknown>
  /** GETs with another identity (a token, or none), and returns the status whatever it is. */
  statusOf(path: string, identity: { token?: string; certificate?: string; key?: string }): Promise<number>
  close(): void
}

export interface ListOptions {
  readonly signal?: AbortSignal
  /** No more than the metadata of each object: Secrets stay where they are. */
  readonly metadata?: boolean
}

/**
 * What one request, and one page of a list, may take in milliseconds, and the longest answer that is read. An API server gives up itself
 * after a minute. What is longer is no object (etcd takes none over 1.5 MB), but a page of big ones may be.
 */
const usualBounds = { request: 10_000, page: 70_000, bytes: 32 * 1024 * 1024 }

/** How many requests of one identity are under way at a time; sockets are opened as they are needed. */
export const mostSockets = 8

/** One request, and what is asked of its answer. */
interface Question {
  readonly method: string
  readonly path: string
  readonly headers: Record<string, string>
  readonly body?: string
  /** What is waited for, in messages; method and path where nothing is said. */
  readonly what?: string
  readonly within: number
  /** The most bytes that are read. */
  readonly most: number
  readonly signal?: AbortSignal
}

/** A question as most ask it: with the usual bounds. */
type Ask = Omit<Question, 'within' | 'most'> & Partial<Question>

interface Answer {
  readonly status: number
  readonly text: string
  readonly retryAfter?: string
}

/** What is at a path, or undefined where there is nothing. Throws `ApiError`, `HostFailedError` for whatever else comes. */
export async function foundAt(api: Pick<KubernetesApi, 'get'>, path: string): Promise<KubernetesObject | undefined> {
  try {
    return await api.get(path)
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined
    throw error
  }
}

/**
 * An API client.
 * @param open a TCP stream to the API server
 * @param credentials whom to trust, and who we are
 * @param servername what its certificate must be for: every API server's has this name, whatever address it is reached at
 * @param signal ends all requests when it is aborted
 * @param bounds what an answer may take
 */
export function kubernetesApi(
  open: () => Promise<Duplex>,
  credentials: Omit<ApiCredentials, 'server'>,
  servername = 'kubernetes.default.svc',
  { signal, bounds = usualBounds }: { signal?: AbortSignal; bounds?: typeof usualBounds } = {},
): KubernetesApi {
  const agents: Agent[] = []
  const agentFor = (identity: { certificate?: string; key?: string }): Agent => {
    const agent = new (https().Agent)({ keepAlive: true, maxSockets: mostSockets })
    agent.createConnection = ((_: unknown, done: (error: Error | null, stream?: Duplex) => void) => {
      open().then(
        socket =>
          done(
            null,
            tls().connect({
              socket,
              ca: credentials.ca,
              cert: identity.certificate,
              key: identity.key,
              servername,
            }),
          ),
        error => done(error),
      )
      return undefined
    }) as unknown as Agent['createConnection']
    agents.push(agent)
    return agent
  }
  const own = agentFor(credentials)
  const usual = { signal, within: bounds.request, most: bounds.bytes }

  const ask = async (question: Ask): Promise<string> => {
    const { method, path, what = `${method} ${path}` } = question
    const { status, text, retryAfter } = await send(own, { ...usual, ...question })
    if (status >= 200 && status < 300) return text
    const after = retryAfter === undefined || Number.isNaN(+retryAfter) ? undefined : +retryAfter * 1_000
    throw new ApiError(`${what}: ${status} ${messageOf(text)}`, status, after)
  }

  const call = async <T>(
    method: string,
    path: string,
    body?: unknown,
    type = 'application/json',
    accept: Record<string, string> = json,
  ): Promise<T> => {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const headers: Record<string, string> = { ...accept }
    if (text !== undefined)
      Object.assign(headers, { 'content-type': type, 'content-length': String(Buffer.byteLength(text)) })
    return parsed(await ask({ method, path, headers, body: text }), `${method} ${path}`)
  }

  const each = (path: string, options: ListOptions = {}) => {
    const ending = options.signal ?? signal
    const askPage = async ({ limit, continue: after, what }: PageRequest) => {
      const query = `limit=${limit}${after ? `&continue=${encodeURIComponent(after)}` : ''}`
      const whole = `${path}${path.includes('?') ? '&' : '?'}${query}`
      const headers = options.metadata ? metadataOf('PartialObjectMetadataList') : json
      const page = { method: 'GET', path: whole, headers, what, within: bounds.page, signal: ending }
      return parsed<Page>(await ask(page), what)
    }
    return eachOfPages(decodeURIComponent(path), askPage, ending)
  }

  return {
    get: path => call('GET', path),
    getText: path => ask({ method: 'GET', path, headers: {} }),
    each,
    list: async (path, options) => {
      const all: KubernetesObject[] = []
      for await (const one of each(path, options)) all.push(one)
      return all
    },
    patch: (path, body, type = 'strategic-merge') => call('PATCH', path, body, `application/${type}-patch+json`),
    touch: path => call('PATCH', path, {}, 'application/merge-patch+json', metadataOf('PartialObjectMetadata')),
    put: (path, body) => call('PUT', path, body),
    putText: (path, text) => {
      const headers = { 'content-type': 'text/plain', 'content-length': String(Buffer.byteLength(text)) }
      return ask({ method: 'PUT', path, headers, body: text })
    },
    post: (path, body) => call('POST', path, body),
    delete: (path, uid) =>
      call(
        'DELETE',
        path,
        uid === undefined ? undefined : { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid } },
      ),
    statusOf: async (path, { token, certificate, key }) => {
      const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` }
      return (await send(agentFor({ certificate, key }), { ...usual, method: 'GET', path, headers })).status
    },
    close: () => {
      for (const agent of agents) agent.destroy()
    },
  }
}

const json = { accept: 'application/json' }
const metadataOf = (kind: string) => ({ accept: `application/json;as=${kind};g=meta.k8s.io;v=v1` })

/** Sends one request; rejects with `HostFailedError` where no whole answer comes in time, with the signal's reason where it is aborted. */
function send(agent: Agent, { method, path, headers, body, ...question }: Question): Promise<Answer> {
  const { what = `${method} ${path}`, within, most, signal } = question
  signal?.throwIfAborted()
  return new Promise<Answer>((resolve, reject) => {
    const outgoing = https().request({ agent, method, path, host: 'kubernetes.default.svc', headers }, response => {
      const chunks: Buffer[] = []
      let length = 0
      response.on('data', (chunk: Buffer) => {
        length += chunk.length
        if (length > most) return end(new AnswerTooLongError(what, most))
        chunks.push(chunk)
      })
      response.on('error', error => end(noAnswer(`${what}: ${error.message}`, error)))
      response.on('end', () => {
        const retryAfter = response.headers['retry-after']
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8'), retryAfter })
      })
    })
    const end = (error: Error) => {
      reject(error)
      outgoing.destroy()
    }
    const timer = setTimeout(() => end(noAnswer(`waited ${within / 1_000} s for ${what}`)), within)
    const abort = () => end(signal?.reason)
    signal?.addEventListener('abort', abort, { once: true })
    outgoing.on('error', error => end(noAnswer(`${what}: ${error.message}`, error)))
    outgoing.on('close', () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    })
    outgoing.end(body)
  })
}

const noAnswer = (message: string, cause?: Error) => new HostFailedError(message, { code: 'api.no-answer', cause })

function parsed<T>(text: string, what: string): T {
  try {
    return JSON.parse(text) as T
  } catch (cause) {
    throw new HostFailedError(`${what}: the answer is not JSON`, { code: 'api.not-json', cause })
  }
}

function messageOf(text: string): string {
  try {
    return (JSON.parse(text) as { message?: string }).message ?? text.slice(0, 200)
  } catch {
    return text.slice(0, 200)
  }
}
