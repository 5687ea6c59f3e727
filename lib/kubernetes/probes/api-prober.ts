// A thread that asks API servers what their users ask: to read an object and to write one, many times a second, each time over
// a new connection. Nothing else that the run does delays it.
import { Agent, type RequestOptions, request } from 'node:https'
import { parentPort, workerData } from 'node:worker_threads'

/** One question to one address: when it was asked (milliseconds), and whether it was answered. */
export interface Question {
  readonly at: number
  readonly kind: 'read' | 'write'
  answered: boolean
  /** Why not, as shortly as it can be said: `ECONNREFUSED`, `503`. */
  reason?: string
}

/** A client certificate and its key, PEM. */
export interface ProbeIdentity {
  readonly certificate: string
  readonly key: string
}

/** What the thread is started with. */
export interface ProberOrders {
  /** `https://host:port` of each server to ask. */
  readonly addresses: readonly string[]
  /** The object that is read and written, and made where it is not there: a ConfigMap, whose data has an entry for each address. */
  readonly folder: string
  readonly name: string
  readonly identities: readonly ProbeIdentity[]
}

/** What it is told while it runs. */
export type ProberMessage = { readonly also: ProbeIdentity } | { readonly stop: true }

/** Milliseconds between two questions to one address; one in four is a write. */
const interval = 180
const writeEvery = 4
/** Milliseconds until a question counts as not answered. */
const patience = 1_000

interface Asker {
  readonly as: ProbeIdentity
  readonly agent: Agent
}

/** Asks one server, as whoever it took last; where that one is refused, as the others. */
class Server {
  readonly questions: Question[] = []
  readonly #options: RequestOptions
  readonly #orders: ProberOrders
  readonly #entry: string
  // A new connection each time, its TLS session resumed where the server still knows it: that spares both ends most of the work.
  readonly #identities: Asker[] = []
  #current = 0
  #asked = 0

  constructor(address: string, entry: number, orders: ProberOrders) {
    const { hostname, port } = new URL(address)
    this.#entry = `server-${entry}`
    this.#orders = orders
    // What is presented changes while this runs: only answers count.
    const trust = { rejectUnauthorized: false, servername: 'kubernetes' }
    this.#options = { hostname: hostname.replace(/^\[|\]$/g, ''), port: port || 443, ...trust }
  }

  also(as: ProbeIdentity): void {
    if (this.#identities.some(one => one.as.certificate === as.certificate)) return
    this.#identities.push({ as, agent: new Agent({ keepAlive: false, maxCachedSessions: 1 }) })
  }

  ask(): void {
    const kind = this.#asked++ % writeEvery === writeEvery - 1 ? 'write' : 'read'
    const question: Question = { at: performance.now(), kind, answered: false }
    this.questions.push(question)
    this.#send(question, this.#current, this.#identities.length)
  }

  #send(question: Question, identity: number, triesLeft: number, make = false): void {
    const { agent, as } = this.#identities[identity % this.#identities.length] as Asker
    const { method, path, type, body } = this.#demand(question.kind, make)
    const outgoing = request(
      {
        ...this.#options,
        ...{ agent, cert: as.certificate, key: as.key, timeout: patience, method, path },
        headers: body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) },
      },
      answer => {
        answer.resume()
        const status = answer.statusCode ?? 0
        if (status === 401 && triesLeft > 1) {
          this.#send(question, identity + 1, triesLeft - 1)
          return
        }
        if (status === 404 && question.kind === 'write' && !make) {
          this.#send(question, identity, triesLeft, true)
          return
        }
        // 404: it looked, and there is none. 409: somebody else has written at the same moment. Only etcd can know either.
        question.answered = (status >= 200 && status < 300) || status === 404 || status === 409
        if (question.answered) this.#current = identity
        else question.reason = String(status)
      },
    )
    // Whole, and not only its pieces: a server that sends a byte from time to time is of no use to anybody.
    const timer = setTimeout(() => outgoing.destroy(new Error('no answer within a second')), patience)
    outgoing.on('close', () => clearTimeout(timer))
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      if (!question.answered) question.reason = error.code ?? error.message
    })
    outgoing.end(body)
  }

  #demand(kind: Question['kind'], make: boolean): { method: string; path: string; type?: string; body?: string } {
    const { folder, name } = this.#orders
    const path = `${folder}/${name}`
    if (kind === 'read') return { method: 'GET', path }
    const data = { [this.#entry]: String(this.#asked) }
    if (!make) return { method: 'PATCH', path, type: 'application/merge-patch+json', body: JSON.stringify({ data }) }
    const metadata = { name, labels: { 'app.kubernetes.io/managed-by': 'rekey' } }
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data }
    return { method: 'POST', path: folder, type: 'application/json', body: JSON.stringify(object) }
  }
}

if (parentPort) {
  const port = parentPort
  const orders = workerData as ProberOrders
  const servers = new Map(orders.addresses.map((address, index) => [address, new Server(address, index, orders)]))
  const also = (identity: ProbeIdentity) => {
    for (const server of servers.values()) server.also(identity)
  }
  for (const identity of orders.identities) also(identity)
  let next = performance.now()
  const timer = setInterval(() => {
    // What a busy machine made late is caught up, but not more than a second of it.
    next = Math.max(next, performance.now() - 1_000)
    for (; next <= performance.now(); next += interval) {
      for (const server of servers.values()) server.ask()
    }
  }, interval / 3)
  port.on('message', (message: ProberMessage) => {
    if ('also' in message) {
      also(message.also)
      return
    }
    clearInterval(timer)
    // The last ones may still be under way: their answers are worth waiting for.
    setTimeout(() => {
      port.postMessage(new Map([...servers].map(([address, { questions }]) => [address, questions])))
      port.close()
    }, patience)
  })
}
