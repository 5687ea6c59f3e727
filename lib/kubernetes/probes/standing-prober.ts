// Questions over connections that stand, as most clients ask: HTTP/1.1 kept alive, HTTP/2 with many questions on one connection, and a watch.
// What such clients do by themselves is done here, and counted apart: who asked over a connection that its server closed at that moment asks
// again over a new one; who is told to come later (429, or `Retry-After`) comes later; a watch that ends is taken up where it ended.
import { type ClientHttp2Session, connect } from 'node:http2'
import { Agent, request } from 'node:https'
import type { Socket } from 'node:net'

/** A client certificate and its key, PEM. */
export interface ProbeIdentity {
  readonly certificate: string
  readonly key: string
}

/** One question to one address. */
export interface Asked {
  /** When, in milliseconds. */
  at: number
  answered: boolean
  /** Milliseconds until it was. */
  took?: number
  /** Why not, as shortly as it can be said: `ECONNREFUSED`, `503`. */
  reason?: string
  /** It was under way when this machine was too busy to hear of an answer. */
  unheard?: boolean
}

/** One question over a connection that stands. A watch is one question each time that it is taken up. */
export interface StandingQuestion extends Asked {
  readonly kind: StandingKind
  /** Asked again over a new connection: the one before was closed as it was asked. */
  again?: boolean
  /** Told to come later, and not counted as failed. */
  later?: boolean
}

/** How the reason of a question begins that was given up. */
export const noAnswer = 'no answer within'

const standingKinds = ['kept', 'http2', 'watch'] as const
export type StandingKind = (typeof standingKinds)[number]

/** What one server is asked. */
export interface StandingOrders {
  /** An object. */
  readonly path: string
  /** A list whose changes are watched, with a `?` in it. */
  readonly watched: string
  /** Milliseconds until a question counts as not answered. */
  readonly patience: number
}

interface Answer {
  readonly status: number
  readonly later: boolean
  /** Who asked. */
  readonly as: ProbeIdentity | undefined
}

/** Why a question got no answer, and whether its connection was closed before one began. */
class Unanswered extends Error {
  readonly closed: boolean
  /** The question was never sent: its connection was left before it stood. */
  readonly unsent: boolean
  constructor(reason: string, closed: boolean, unsent = false) {
    super(reason)
    this.closed = closed
    this.unsent = unsent
  }
}

/** How often a question is asked that was never sent. */
const mostUnsent = 5

/** Nobody is known by the certificate that was shown. */
class Refused extends Error {
  readonly as: ProbeIdentity | undefined
  constructor(as: ProbeIdentity | undefined) {
    super('401')
    this.as = as
  }
}

/** Asks one server over connections that stand. */
export class StandingServer {
  readonly questions: StandingQuestion[] = []
  readonly #address: string
  readonly #orders: StandingOrders
  #identities: ProbeIdentity[] = []
  #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  readonly #used = new WeakSet<Socket>()
  #session: ClientHttp2Session | undefined
  readonly #askers = new WeakMap<ClientHttp2Session, ProbeIdentity>()
  #stopped = false
  #keptUnderWay = false

  constructor(address: string, orders: StandingOrders) {
    this.#address = address
    this.#orders = orders
  }

  also(as: ProbeIdentity): void {
    if (this.#identities.some(one => one.certificate === as.certificate)) return
    this.#identities.push(as)
  }

  /** Asks once each way; a watch is begun with the first. */
  ask(): void {
    if (this.questions.length === 0) this.#watch()
    // One connection carries one question of HTTP/1.1 at a time: more of them would wait for the first.
    if (!this.#keptUnderWay) {
      this.#keptUnderWay = true
      this.#question('kept', path => this.#kept(path)).finally(() => {
        this.#keptUnderWay = false
      })
    }
    this.#question('http2', path => this.#http2(path))
  }

  stop(): void {
    this.#stopped = true
    this.#agent.destroy()
    this.#session?.destroy()
  }

  /** Whom to ask as: the one that was not refused last. */
  get #as(): ProbeIdentity | undefined {
    return this.#identities[0]
  }

  #question(kind: StandingKind, ask: (path: string) => Promise<Answer>): Promise<void> {
    const question: StandingQuestion = { at: performance.now(), kind, answered: false }
    this.questions.push(question)
    return this.#answer(question, ask, this.#identities.length).catch((error: Error) => {
      question.reason = error.message
    })
  }

  async #answer(question: StandingQuestion, ask: (path: string) => Promise<Answer>, triesLeft: number): Promise<void> {
    const { status, later, as } = await this.#asked(question, ask)
    if (status === 401 && triesLeft > 1) {
      this.#refused(as)
      return this.#answer(question, ask, triesLeft - 1)
    }
    if (later) question.later = true
    question.answered = later || (status >= 200 && status < 300) || status === 404
    if (question.answered) question.took = performance.now() - question.at
    else question.reason = String(status)
  }

  /** Asks, and once more where the connection was closed before an answer began. */
  async #asked(question: StandingQuestion, ask: (path: string) => Promise<Answer>): Promise<Answer> {
    for (let unsent = 0; ; ) {
      try {
        return await ask(this.#orders.path)
      } catch (error) {
        if (!(error instanceof Unanswered) || !error.closed) throw error
        if (error.unsent && ++unsent < mostUnsent) continue
        if (question.again) throw error
        question.again = true
      }
    }
  }

  /** Has the next one ask, where that has not come about already: several questions of one asker may be refused at once. */
  #refused(as: ProbeIdentity | undefined): void {
    const [first, ...others] = this.#identities
    if (!first || first !== as) return
    this.#identities = [...others, first]
    // Nothing is taken from who asks: what is under way ends.
    this.#renewAgent()
    this.#session?.close()
    this.#session = undefined
  }

  #renewAgent(): void {
    this.#agent = new Agent({ keepAlive: true, maxSockets: 1 })
  }

  #kept(path: string): Promise<Answer> {
    const { patience } = this.#orders
    return new Promise((resolve, reject) => {
      const { hostname, port } = new URL(this.#address)
      const [agent, as] = [this.#agent, this.#as]
      const outgoing = request(
        {
          ...{ hostname: hostname.replace(/^\[|\]$/g, ''), port: port || 443, path, agent },
          ...{ ...presenting(as), rejectUnauthorized: false, servername: 'kubernetes' },
        },
        answer => {
          const { socket } = answer
          answer.resume()
          answer.on('end', () => {
            this.#used.add(socket)
            resolve({
              status: answer.statusCode ?? 0,
              later: isLater(answer.statusCode, answer.headers['retry-after']),
              as,
            })
          })
          answer.on('error', error => reject(new Unanswered(reasonOf(error), false)))
        },
      )
      const timer = setTimeout(() => {
        outgoing.destroy(new Error(`${noAnswer} ${patience / 1_000} s`))
        // Nothing of a connection that doesn't answer is left to the next question.
        if (this.#agent === agent) this.#renewAgent()
      }, patience)
      outgoing.on('close', () => clearTimeout(timer))
      outgoing.on('error', (error: NodeJS.ErrnoException) =>
        reject(new Unanswered(reasonOf(error), this.#wasUsed(outgoing.socket) && closings.has(error.code ?? ''))),
      )
      outgoing.end()
    })
  }

  /** Whether it has answered before: the agent says so of none that it hands on to a question that waits. */
  #wasUsed(socket: Socket | null): boolean {
    return socket !== null && this.#used.has(socket)
  }

  #http2(path: string): Promise<Answer> {
    const { patience } = this.#orders
    return new Promise((resolve, reject) => {
      const session = this.#connected()
      const stream = session.request({ ':path': path })
      let status = 0
      let later = false
      const timer = setTimeout(() => {
        reject(new Unanswered(`${noAnswer} ${patience / 1_000} s`, false))
        stream.close()
      }, patience)
      stream.on('response', headers => {
        status = Number(headers[':status'])
        later = isLater(status, headers['retry-after'])
      })
      stream.on('error', (error: NodeJS.ErrnoException) =>
        reject(
          new Unanswered(
            reasonOf(error),
            status === 0 && error.code !== 'ECONNREFUSED',
            error.code === 'ERR_HTTP2_GOAWAY_SESSION',
          ),
        ),
      )
      stream.on('close', () => {
        clearTimeout(timer)
        if (status > 0 && stream.rstCode === 0) resolve({ status, later, as: this.#askers.get(session) })
        else reject(new Unanswered(`stream closed (${stream.rstCode})`, status === 0))
      })
      stream.resume()
      stream.end()
    })
  }

  /** The connection of HTTP/2, or a new one where its server has said that it goes, or it is gone. */
  #connected(): ClientHttp2Session {
    const known = this.#session
    if (known && !known.closed && !known.destroyed) return known
    const as = this.#as
    const session = connect(this.#address, { ...presenting(as), rejectUnauthorized: false, servername: 'kubernetes' })
    if (as) this.#askers.set(session, as)
    const leave = () => {
      if (this.#session === session) this.#session = undefined
    }
    // Each of its questions hears of it, too.
    session.on('error', leave)
    session.on('goaway', leave)
    session.on('close', leave)
    // It does not keep the thread alive.
    session.unref()
    this.#session = session
    return session
  }

  /** Watches as long as it is asked, each time from where the last one ended. Who is refused has the next one watch. */
  async #watch(): Promise<void> {
    let [from, refused] = ['', 0]
    while (!this.#stopped) {
      const question: StandingQuestion = { at: performance.now(), kind: 'watch', answered: false }
      this.questions.push(question)
      try {
        from = await this.#watchOnce(from, question)
        refused = 0
      } catch (error) {
        if (this.#stopped) return
        if (error instanceof Refused && ++refused < this.#identities.length) {
          this.questions.splice(this.questions.indexOf(question), 1)
          this.#refused(error.as)
          continue
        }
        refused = 0
        if (!question.answered) question.reason = (error as Error).message
        from = ''
        await new Promise(resolve => setTimeout(resolve, 500))
      }
    }
  }

  /** One watch until it ends; returns the version of what it saw last. Rejects where it did not begin, or an event tells of an error. */
  #watchOnce(from: string, question: StandingQuestion): Promise<string> {
    return new Promise((resolve, reject) => {
      const since = from === '' ? '' : `&resourceVersion=${from}`
      const session = this.#connected()
      const stream = session.request({
        ':path': `${this.#orders.watched}&watch=1&allowWatchBookmarks=true${since}`,
      })
      let [status, rest, seen] = [0, '', from]
      stream.setEncoding('utf8')
      stream.on('response', headers => {
        status = Number(headers[':status'])
        question.answered = status === 200
        if (status !== 200) question.reason = String(status)
      })
      stream.on('data', (text: string) => {
        const lines = (rest + text).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) {
          seen = /"resourceVersion":"(\d+)"/.exec(line)?.[1] ?? seen
          if (!line.startsWith('{"type":"ERROR"')) continue
          Object.assign(question, { at: performance.now(), answered: false, reason: 'the watch told of an error' })
        }
      })
      stream.on('error', () => {})
      stream.on('close', () => {
        if (question.answered) resolve(seen)
        else if (status === 401) reject(new Refused(this.#askers.get(session)))
        else reject(new Error(question.reason ?? (status > 0 ? String(status) : `stream closed (${stream.rstCode})`)))
      })
    })
  }
}

/** What is seen of a connection that its server has closed. */
const closings: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE'])

const presenting = (as: ProbeIdentity | undefined) => ({ cert: as?.certificate, key: as?.key })

const isLater = (status: number | undefined, retryAfter: string | undefined) =>
  status === 429 || (retryAfter !== undefined && (status ?? 0) >= 500)

const reasonOf = (error: NodeJS.ErrnoException) => error.code ?? error.message
