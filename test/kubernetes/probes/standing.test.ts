// Probes over connections that stand, against a server that does with them what API servers do when they end.
import { createSecureServer, type Http2Session, type ServerHttp2Stream } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import { probeApis } from '../../../lib/kubernetes/probes/probes.ts'
import { StandingServer } from '../../../lib/kubernetes/probes/standing-prober.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

/** Somebody who asks a server over connections that stand. Both end with the test, and with them the sockets that are there by then. */
async function askerOf(t: ExecutionContext, server: Server, sockets: ReadonlySet<Socket>, patience = 30_000) {
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const asking = new StandingServer(`https://127.0.0.1:${port}`, { path: '/', watched: '/?', patience })
  t.teardown(() => {
    asking.stop()
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return asking
}

test('a connection that ends costs no call: it is asked again, told apart, and a watch is taken up where it ended', async t => {
  const ca = await issue({ name: 'CN=ca', ca: true })
  const [serving, client] = await Promise.all(
    ['kubernetes', 'us'].map(name => issue({ name: `CN=${name}`, issuer: ca })),
  )
  const state = { later: false, broken: false, closes: false }
  const seen = { kept: 0, http2: 0, watches: [] as string[] }
  const sessions = new Set<Http2Session>()
  const sockets = new Set<Socket>()
  const used = new Set<Socket>()
  const watching = new Set<ServerHttp2Stream>()
  const server = createSecureServer({ cert: serving?.pem, key: serving?.keyPem, allowHTTP1: true }, (asked, answer) => {
    if (asked.url?.includes('watch=1')) {
      seen.watches.push(/resourceVersion=(\d+)/.exec(asked.url)?.[1] ?? '')
      answer.writeHead(200)
      answer.write('{"type":"MODIFIED","object":{"metadata":{"resourceVersion":"17"}}}\n')
      watching.add(answer.stream)
      return
    }
    if (asked.headers.connection === 'close') {
      answer.end()
      return
    }
    seen[asked.httpVersionMajor === 2 ? 'http2' : 'kept']++
    // Closed as it asked, over a connection that was of use before: what it sent is never answered.
    const known = used.has(asked.socket)
    if (asked.httpVersionMajor === 1) used.add(asked.socket)
    if (state.closes && known) {
      state.closes = false
      asked.socket.destroy()
      return
    }
    answer.writeHead(state.broken ? 500 : state.later ? 429 : 200)
    answer.end()
  })
  server.on('session', session => sessions.add(session))
  server.on('secureConnection', socket => sockets.add(socket))
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const identity = { certificate: client?.pem ?? '', key: client?.keyPem ?? '' }
  const probes = probeApis([address], [identity], { standing: true })
  const until = async (what: () => boolean) => {
    for (let n = 0; !what() && n < 600; n++) await delay(20)
    t.true(what(), String(what))
  }
  const more = (count: number) => {
    const [kept, http2] = [seen.kept + count, seen.http2 + count]
    return until(() => seen.kept >= kept && seen.http2 >= http2)
  }
  await more(3)
  state.closes = true
  await until(() => !state.closes)
  await more(2)
  const watched = seen.watches.length
  // As an API server ends: it says that it goes, then its watches are cut off.
  for (const session of sessions) session.goaway(0)
  for (const stream of watching) stream.close()
  await until(() => seen.watches.length > watched)
  await more(3)
  state.later = true
  await more(2)
  Object.assign(state, { later: false, broken: true })
  await more(2)
  state.broken = false
  await more(2)
  const { kept, http2, watch } = (await probes.stop()).servers.get(address)?.standing ?? {}
  t.true((kept?.again ?? 0) >= 1, 'a connection closed as it was asked')
  for (const one of [kept, http2]) {
    t.true((one?.later ?? 0) >= 1, 'told to come later')
    t.true((one?.failures ?? 0) >= 1, 'a 500 is a failure')
    t.deepEqual(
      one?.reasons.map(([reason]) => reason),
      ['500'],
      'and nothing else is',
    )
  }
  t.is(watch?.failures, 0)
  t.true((watch?.again ?? 0) >= 1)
  t.is(seen.watches.at(-1), '17')
})

test('a connection that hangs keeps none of the later questions from being answered', async t => {
  const serving = await issue({ name: 'CN=kubernetes', issuer: await issue({ name: 'CN=ca', ca: true }) })
  const state = { hangs: true }
  const sockets = new Set<Socket>()
  const well = createHttpsServer({ cert: serving.pem, key: serving.keyPem }, (_, answer) => answer.end())
  const server = createServer(socket => {
    sockets.add(socket)
    if (!state.hangs) well.emit('connection', socket)
  })
  const asking = await askerOf(t, server, sockets, 500)
  asking.also({ certificate: serving.pem, key: serving.keyPem })
  const kept = () => asking.questions.filter(({ kind }) => kind === 'kept')
  for (let n = 0; n < 10; n++) {
    asking.ask()
    await delay(60)
  }
  for (let n = 0; kept().some(({ reason }) => reason === undefined) && n < 300; n++) await delay(20)
  state.hangs = false
  for (let n = 0; !kept().at(-1)?.answered && n < 100; n++) {
    asking.ask()
    await delay(50)
  }
  t.true(kept().at(-1)?.answered)
})

test('who is refused from one moment to the next is followed by the next one in each way at once, and no call has failed', async t => {
  const old = await issue({ name: 'CN=old', ca: true })
  const next = await issue({ name: 'CN=new', ca: true })
  const serving = await issue({ name: 'CN=kubernetes', issuer: next })
  const [before, now] = [await issue({ name: 'CN=us', issuer: old }), await issue({ name: 'CN=us', issuer: next })]
  const state = { refused: '' }
  const watching = new Map<ServerHttp2Stream, string>()
  const answered = { old: 0, new: 0, watches: 0 }
  const server = createSecureServer(
    { cert: serving.pem, key: serving.keyPem, allowHTTP1: true, requestCert: true, rejectUnauthorized: false },
    (asked, answer) => {
      const socket = asked.httpVersionMajor === 2 ? asked.stream.session?.socket : asked.socket
      const by =
        (socket as unknown as TLSSocket | undefined)?.getPeerX509Certificate()?.issuer === 'CN=old' ? 'old' : 'new'
      if (by === state.refused) {
        answer.writeHead(401)
        answer.end()
        return
      }
      answer.writeHead(200)
      if (!asked.url?.includes('watch=1')) {
        answered[by]++
        answer.end()
        return
      }
      answered.watches++
      watching.set(answer.stream, by)
      answer.write('{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}\n')
    },
  )
  const sockets = new Set<Socket>()
  server.on('secureConnection', socket => sockets.add(socket))
  const asking = await askerOf(t, server, sockets)
  asking.also({ certificate: before.pem, key: before.keyPem })
  asking.also({ certificate: now.pem, key: now.keyPem })
  const until = async (what: () => boolean) => {
    for (let n = 0; !what() && n < 600; n++) {
      // Several are under way at once.
      asking.ask()
      asking.ask()
      await delay(20)
    }
    t.true(what(), String(what))
  }
  await until(() => answered.old > 20 && answered.watches === 1)
  state.refused = 'old'
  for (const stream of watching.keys()) stream.close()
  await until(() => answered.new > 20 && answered.watches === 2)
  // On the way back it is the other one again.
  state.refused = 'new'
  const [known, watches] = [answered.old, answered.watches]
  for (const stream of watching.keys()) stream.close()
  await until(() => answered.old > known + 20 && answered.watches > watches)
  for (let n = 0; asking.questions.some(({ answered: is, reason }) => !is && reason === undefined) && n < 300; n++)
    await delay(20)
  t.deepEqual(
    asking.questions.filter(({ reason }) => reason !== undefined),
    [],
  )
})

test('a question whose connection is left before it stands was never sent: it is asked over the next one, and is not told apart', async t => {
  const ca = await issue({ name: 'CN=ca', ca: true })
  const serving = await issue({ name: 'CN=kubernetes', issuer: ca })
  const [before, now] = [await issue({ name: 'CN=before', issuer: ca }), await issue({ name: 'CN=now', issuer: ca })]
  const server = createSecureServer(
    { cert: serving.pem, key: serving.keyPem, allowHTTP1: true, requestCert: true, rejectUnauthorized: false },
    (asked, answer) => {
      const socket = asked.httpVersionMajor === 2 ? asked.stream.session?.socket : asked.socket
      const by = (socket as unknown as TLSSocket | undefined)?.getPeerX509Certificate()?.subject
      answer.writeHead(by === 'CN=before' ? 401 : 200)
      answer.end()
    },
  )
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  t.teardown(() => server.close())
  // The first connection is that of HTTP/2. It stands once whoever asks over another one was refused.
  let count = 0
  const sockets = new Set<Socket>()
  const way = createServer(async near => {
    sockets.add(near)
    near.pause()
    if (count++ === 0) await delay(1_000)
    const far = connect((server.address() as AddressInfo).port, '127.0.0.1')
    sockets.add(far)
    for (const one of [near, far]) one.on('error', () => {})
    near.pipe(far).pipe(near)
  })
  const asking = await askerOf(t, way, sockets)
  asking.also({ certificate: before.pem, key: before.keyPem })
  asking.also({ certificate: now.pem, key: now.keyPem })
  asking.ask()
  const http2 = asking.questions.find(({ kind }) => kind === 'http2')
  for (let n = 0; !http2?.answered && n < 300; n++) await delay(20)
  t.true(count > 2, 'its first connection was left')
  t.like(http2, { answered: true, again: undefined, reason: undefined })
})
