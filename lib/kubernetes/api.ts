// The Kubernetes API through an SSH connection to a master: it works wherever the masters can be reached by SSH, and each API
// server can be asked by itself. JSON in, JSON out.
import type { Agent } from 'node:https'
import type { Duplex } from 'node:stream'
import { HostFailedError } from '../errors.ts'
import { https, tls } from '../network-modules.ts'
import type { ApiCredentials } from './kubeconfig.ts'

/** A Kubernetes object, as far as rekey looks into it. */
export interface KubernetesObject {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid?: string
    readonly generation?: number
    readonly resourceVersion?: string
    readonly labels?: Record<string, string>
    readonly annotations?: Record<string, string>
    readonly creationTimestamp?: string
    readonly deletionTimestamp?: string
    readonly ownerReferences?: readonly { readonly kind: string; readonly name: string }[]
  }
  // biome-ignore lint/suspicious/noExplicitAny: specs and statuses differ by kind; each reader checks what it reads
  readonly [member: string]: any
}

/** An answer that is not 2xx. */
export class ApiError extends HostFailedError {
  readonly status: number
  constructor(message: string, status: number) {
    super(message, { code: `api.${status}` })
    this.status = status
  }
}

/** Requests to one API server. Paths begin with `/`. All reject with `ApiError`, or `HostFailedError` where nobody answers. */
export interface KubernetesApi {
  get<T = KubernetesObject>(path: string): Promise<T>
  list(path: string): Promise<KubernetesObject[]>
  /** What is no JSON: metrics, logs. */
  getText(path: string): Promise<string>
  /** A strategic merge patch, unless another type is named. */
  patch(path: string, body: unknown, type?: 'strategic-merge' | 'merge' | 'json'): Promise<KubernetesObject>
  put(path: string, body: unknown): Promise<KubernetesObject>
  post(path: string, body: unknown): Promise<KubernetesObject>
  delete(path: string): Promise<unknown>
  /** GETs with another identity (a token, or none), and returns the status whatever it is. */
  statusOf(path: string, identity: { token?: string; certificate?: string; key?: string }): Promise<number>
  close(): void
}

/** Milliseconds that one request may take. */
const requestTimeout = 10_000

/**
 * An API client.
 * @param open a TCP stream to the API server
 * @param credentials whom to trust, and who we are
 * @param servername what its certificate must be for: every API server's has this name, whatever address it is reached at
 */
export function kubernetesApi(
  open: () => Promise<Duplex>,
  credentials: Omit<ApiCredentials, 'server'>,
  servername = 'kubernetes.default.svc',
): KubernetesApi {
  const agents: Agent[] = []
  const agentFor = (identity: { certificate?: string; key?: string }): Agent => {
    const agent = new (https().Agent)({ keepAlive: true, maxSockets: 4 })
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

  const send = (agent: Agent, method: string, path: string, headers: Record<string, string>, body?: string) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const outgoing = https().request(
        { agent, method, path, host: 'kubernetes.default.svc', headers, timeout: requestTimeout },
        response => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
          )
        },
      )
      outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${requestTimeout / 1_000} s`)))
      outgoing.on('error', reject)
      outgoing.end(body)
    }).catch((error: Error) => {
      throw new HostFailedError(`${method} ${path}: ${error.message}`, { code: 'api.no-answer', cause: error })
    })

  const ask = async (method: string, path: string, headers: Record<string, string>, body?: string): Promise<string> => {
    const answer = await send(own, method, path, headers, body)
    if (answer.status >= 200 && answer.status < 300) return answer.text
    throw new ApiError(`${method} ${path}: ${answer.status} ${messageOf(answer.text)}`, answer.status)
  }

  const call = async <T>(method: string, path: string, body?: unknown, type = 'application/json'): Promise<T> => {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const headers: Record<string, string> = { accept: 'application/json' }
    if (text !== undefined)
      Object.assign(headers, { 'content-type': type, 'content-length': String(Buffer.byteLength(text)) })
    return JSON.parse(await ask(method, path, headers, text)) as T
  }

  return {
    get: path => call('GET', path),
    getText: path => ask('GET', path, {}),
    list: async path => (await call<{ items: KubernetesObject[] }>('GET', path)).items,
    patch: (path, body, type = 'strategic-merge') => call('PATCH', path, body, `application/${type}-patch+json`),
    put: (path, body) => call('PUT', path, body),
    post: (path, body) => call('POST', path, body),
    delete: path => call('DELETE', path),
    statusOf: async (path, { token, certificate, key }) => {
      const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` }
      return (await send(agentFor({ certificate, key }), 'GET', path, headers)).status
    },
    close: () => {
      for (const agent of agents) agent.destroy()
    },
  }
}

function messageOf(text: string): string {
  try {
    return (JSON.parse(text) as { message?: string }).message ?? text.slice(0, 200)
  } catch {
    return text.slice(0, 200)
  }
}
