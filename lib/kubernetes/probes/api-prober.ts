// A thread that asks API servers whether they answer, many times a second, so that nothing else the run does delays it.
import { Agent, request } from 'node:https'
import { parentPort, workerData } from 'node:worker_threads'

/** One question to one address: when it was asked (milliseconds), and whether it was answered. */
export interface Question {
  readonly at: number
  answered: boolean
}

/** Milliseconds between two questions to one address. */
const interval = 90
/** Milliseconds until a question counts as not answered. */
const patience = 1_000

function ask(address: string, agent: Agent): Question {
  const { hostname, port } = new URL(address)
  const question: Question = { at: performance.now(), answered: false }
  const outgoing = request(
    {
      ...{ agent, hostname, port, path: '/version', timeout: patience, servername: 'kubernetes' },
      // What is presented changes while this runs: only answers count.
      rejectUnauthorized: false,
    },
    answer => {
      answer.resume()
      // 401 and 403 are answers: who may ask what is not the question here.
      question.answered = (answer.statusCode ?? 500) < 500
    },
  )
  outgoing.on('timeout', () => outgoing.destroy(new Error('no answer')))
  outgoing.on('error', () => {})
  outgoing.end()
  return question
}

if (parentPort) {
  const port = parentPort
  const addresses = workerData as readonly string[]
  const asked = new Map<string, Question[]>(addresses.map(address => [address, []]))
  // A new connection each time, its TLS session resumed where the server still knows it: that spares both ends most of the work.
  const agents = new Map(addresses.map(address => [address, new Agent({ keepAlive: false, maxCachedSessions: 1 })]))
  let next = performance.now()
  const timer = setInterval(() => {
    // What a busy machine made late is caught up, but not more than a second of it.
    next = Math.max(next, performance.now() - 1_000)
    for (; next <= performance.now(); next += interval) {
      for (const address of addresses) asked.get(address)?.push(ask(address, agents.get(address) as Agent))
    }
  }, interval / 3)
  port.once('message', () => {
    clearInterval(timer)
    // The last ones may still be under way: their answers are worth waiting for.
    setTimeout(() => {
      port.postMessage(asked)
      port.close()
    }, patience)
  })
}
