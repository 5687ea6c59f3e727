// A DNS server asked over TCP: one that answers, one that fails, one that says something else, one that hangs up.

import type { AddressInfo } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { askDns, reverseName } from '../../../lib/kubernetes/probes/dns.ts'

/** Long enough for a busy machine. */
const patience = 120_000

/** A server that does something with each question; gives what a client connects with. */
async function server(t: ExecutionContext, answer: (question: Buffer, socket: Socket) => void) {
  const listening = createServer(socket => {
    // Whoever has its answer may be gone before the rest is written.
    socket.on('error', () => {})
    socket.once('data', question => answer(question, socket))
  })
  await new Promise<void>(resolve => listening.listen(0, '127.0.0.1', resolve))
  t.teardown(() => listening.close())
  const { port } = listening.address() as AddressInfo
  return async () => connect(port, '127.0.0.1')
}

/** The answer to a question with this code, in two pieces. */
const withCode = (code: number) => (question: Buffer, socket: Socket) => {
  const answer = Buffer.from(question)
  answer[4] = 0x81
  answer[5] = 0x80 | code
  socket.write(answer.subarray(0, 5))
  setImmediate(() => socket.write(answer.subarray(5)))
}

test('an answer is one, also where the name is not there', async t => {
  for (const code of [0, 3]) t.is(await askDns(await server(t, withCode(code)), '10.96.0.1', patience), 'answers')
})

test('what is asked is whose the address is, by names that need no domain', async t => {
  let asked: Buffer | undefined
  const answer = withCode(0)
  const heard = await server(t, (question, socket) => {
    asked = question
    answer(question, socket)
  })
  await askDns(heard, '10.96.0.1', patience)
  t.is(asked?.subarray(14).toString('latin1'), '\x011\x010\x0296\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01')
  t.is(reverseName('fd00:10:96::a'), `a.${'0.'.repeat(19)}6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa`)
})

test('a failure, another protocol, and a server that hangs up are told', async t => {
  const ask = async (answer: Parameters<typeof server>[1]) => askDns(await server(t, answer), '10.96.0.1', patience)
  await t.throwsAsync(ask(withCode(2)), { message: /SERVFAIL/ })
  await t.throwsAsync(
    ask((_, socket) => socket.write('\0\x0cHTTP/1.1 400')),
    { message: /no answer/ },
  )
  await t.throwsAsync(
    ask((_, socket) => socket.end()),
    { message: /hung up/ },
  )
})
