// Turns of the event loop that many hosts share: none is held up for long, nothing is lost, and nobody overtakes himself.
import { PassThrough } from 'node:stream'
import test from 'ava'
import type { Client } from 'ssh2'
import { takeTurns, turnWithTime } from '../../lib/connection/turns.ts'

/** Milliseconds that each job takes, and how many of them fit into a turn's 10, with the one that ends it. */
const job = 5
const mostInTurn = 4

function work(milliseconds: number): void {
  const until = performance.now() + milliseconds
  while (performance.now() < until);
}

/** Counts what is done in each turn of the event loop, until `over`. */
function watchTurns() {
  let [inTurn, most, over] = [0, 0, false]
  const next = () => {
    most = Math.max(most, inTurn)
    inTurn = 0
    if (!over) setImmediate(next)
  }
  setImmediate(next)
  return {
    count: () => {
      inTurn++
    },
    most: () => {
      over = true
      return most
    },
  }
}

test.serial(
  'what many want to do at once is done in turns of the event loop, in the order in which they asked',
  async t => {
    const turns = watchTurns()
    const done: number[] = []
    const all = Array.from({ length: 60 }, (_, index) => index)
    await Promise.all(
      all.map(async index => {
        await Promise.resolve()
        const turn = turnWithTime()
        if (turn) await turn
        work(job)
        turns.count()
        done.push(index)
      }),
    )
    t.deepEqual(done, all)
    t.true(turns.most() <= mostInTurn)
  },
)

test.serial(
  'what many hosts say at once is read in turns; of each host all of it, in its order, and then its end',
  async t => {
    const turns = watchTurns()
    const texts = await Promise.all(
      Array.from({ length: 20 }, async (_, host) => {
        const socket = new PassThrough()
        takeTurns({ _sock: socket } as unknown as Client)
        let text = ''
        socket.on('data', (chunk: Buffer) => {
          work(job)
          turns.count()
          text += chunk
        })
        for (const word of ['a', 'b', 'c']) socket.write(`${host}${word} `)
        socket.end()
        await new Promise(resolve => socket.on('end', resolve))
        return text
      }),
    )
    t.deepEqual(
      texts,
      texts.map((_, host) => `${host}a ${host}b ${host}c `),
    )
    t.true(turns.most() <= mostInTurn)
  },
)
