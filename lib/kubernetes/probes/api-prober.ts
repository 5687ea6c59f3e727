// A thread that asks API servers what their users ask: to read an object and to write one, many times a second, each time over
// a new connection. Nothing else that the run does delays it.
import { Agent, type RequestOptions, request } from 'node:https'
import { parentPort, workerData } from 'node:worker_threads'
import { type Asked, noAnswer, type ProbeIdentity, type StandingQuestion, StandingServer } from './standing-prober.ts'

export type { Asked, ProbeIdentity } from './standing-prober.ts'

/** One question to one address over a new connection. */
export interface Question extends Asked {
  readonly kind: 'read' | 'write'
}

/** What the thread is started with. */
export interface ProberOrders {
  /** `https://host:port` of each server to ask. */
  readonly addresses: readonly string[]
  /** The object that is read and written, and made where it is not there: a ConfigMap, whose data has an entry for each address. */
  readonly folder: string
  readonly name: string
  readonly identities: readonly ProbeIdentity[]
  /** Whether it is asked over connections that stand, too. */
  readonly standing: boolean
  /** Milliseconds until a question counts as not answered. */
  readonly patience: number
}

/** What it tells at its end, by address. */
export interface ProberAnswer {
  /** The moment from which all others are counted, in milliseconds since 1970. */
  readonly origin: number
  readonly asked: ReadonlyMap<string, readonly Question[]>
  readonly standing: ReadonlyMap<string, readonly StandingQuestion[]>
}

/** What it is told while it runs. */
export type ProberMessage = { readonly also: ProbeIdentity } | { readonly stop: true }

/** Milliseconds between two questions to one address; one in four is a write. */
const interval = 180
const writeEvery = 4
/** Where connections that stand are asked over, too, only one in so many is over a new one: it costs both ends the most. */
const newEvery = 3
/** Milliseconds that this thread may be late: who is later can't say of what it asked meanwhile whether it was answered in time. */
const lateness = 1_000
/** Milliseconds for which what a busy machine made late is caught up. */
const caughtUp = 1_000

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
        ...{ agent, cert: as.certificate, key: as.key, timeout: this.#orders.patience, method, path },
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
        if (question.answered) {
          this.#current = identity
          question.took = performance.now() - question.at
        } else question.reason = String(status)
      },
    )
    // Whole, and not only its pieces: a server that sends a byte from time to time is of no use to anybody.
    const { patience } = this.#orders
    const timer = setTimeout(() => outgoing.destroy(new Error(`${noAnswer} ${patience / 1_000} s`)), patience)
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
  const { folder, name, patience, standing: stands } = orders
  const watched = `${folder}?fieldSelector=metadata.name%3D${name}`
  const standing = new Map(
    (stands ? orders.addresses : []).map(one => [
      one,
      new StandingServer(one, { path: `${folder}/${name}`, watched, patience }),
    ]),
  )
  const also = (identity: ProbeIdentity) => {
    for (const server of [...servers.values(), ...standing.values()]) server.also(identity)
  }
  for (const identity of orders.identities) also(identity)
  let [next, rounds, last] = [performance.now(), 0, performance.now()]
  const all = () => [...servers.values(), ...standing.values()].flatMap(({ questions }): Asked[] => questions)
  const timer = setInterval(() => {
    const now = performance.now()
    if (now - last > lateness) for (const one of all()) one.unheard ||= wasUnderWay(one, last - patience)
    last = now
    // What a busy machine made late is caught up, but not more than a second of it.
    for (next = Math.max(next, now - caughtUp); next <= now; next += interval, rounds++) {
      if (!stands || rounds % newEvery === 0) for (const server of servers.values()) server.ask()
      for (const server of standing.values()) server.ask()
    }
  }, interval / 3)
  port.on('message', (message: ProberMessage) => {
    if ('also' in message) {
      also(message.also)
      return
    }
    clearInterval(timer)
    const questionsOf = <T>(all: ReadonlyMap<string, { readonly questions: readonly T[] }>) =>
      new Map([...all].map(([address, { questions }]) => [address, questions]))
    const asked = questionsOf(servers)
    const stood = questionsOf(standing)
    // The last ones may still be under way: their answers are worth waiting for.
    const latest = performance.now() + patience
    const wait = setInterval(() => {
      const open = [...asked.values(), ...stood.values()].flat().some(isOpen)
      if (open && performance.now() < latest) return
      clearInterval(wait)
      const answer: ProberAnswer = { origin: Date.now() - performance.now(), asked, standing: stood }
      port.postMessage(answer)
      for (const server of standing.values()) server.stop()
      port.close()
    }, 50)
  })
}

const isOpen = ({ answered, reason }: Asked) => !answered && reason === undefined

/** Whether a question of the time since then was given up, or not answered yet. */
const wasUnderWay = (one: Asked, since: number) =>
  one.at > since && (isOpen(one) || (!one.answered && one.reason?.startsWith(noAnswer) === true))
