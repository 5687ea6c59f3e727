// What answers where a Vault should be and means no good: it never answers, never stops, hangs up, or says what a terminal obeys.
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { foreignWords } from '../../../lib/foreign-words.ts'
import { connectVault } from '../../../lib/pki/vault/vault.ts'
import { eventually } from '../../_eventually.ts'
import { processorTime } from '../../_processor-time.ts'

const token = 'the-token-of-this-test'

/** A server on loopback that does as told with whoever connects. Resolves with its port. */
async function serve(t: ExecutionContext, talk: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    talk(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as { port: number }).port
}

/** Writes the same again and again, as fast as it is taken. */
function pour(socket: Socket, text: string): void {
  const bytes = Buffer.from(text)
  const go = () => {
    while (!socket.destroyed && socket.write(bytes));
  }
  socket.on('drain', go)
  go()
}

const endless = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`

const kinds: Record<string, { talk(socket: Socket): void; told: RegExp }> = {
  'never answers': { talk: () => {}, told: /did not answer GET sys\/mounts within 0\.5 s$/ },
  'hangs up at once': { talk: socket => socket.destroy(), told: /is unreachable \(ECONNRESET\)/ },
  'hangs up once it was asked': {
    talk: socket => socket.on('data', () => socket.destroy()),
    told: /is unreachable \(ECONNRESET\)/,
  },
  'hangs up amid its headers': {
    talk: socket => socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-')),
    told: /is unreachable \(ECONNRESET\)/,
  },
  'hangs up amid its answer': {
    talk: socket => socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"data"')),
    told: /the answer to GET sys\/mounts was cut short$/,
  },
  'says its headers and nothing more': {
    talk: socket => socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n')),
    told: /did not answer GET sys\/mounts within 0\.5 s$/,
  },
  'never stops with its headers': {
    talk: socket => socket.on('data', () => pour(socket, `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(70_000)}`)),
    told: /is unreachable \(HPE_HEADER_OVERFLOW\)/,
  },
  'never stops saying that it will answer': {
    talk: socket => socket.on('data', () => pour(socket, 'HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n')),
    told: /did not answer GET sys\/mounts within 0\.5 s$/,
  },
  'never stops answering': {
    talk: socket => {
      socket.write(endless)
      pour(socket, chunk)
    },
    told: /the answer to GET sys\/mounts is longer than 16 MiB$/,
  },
  'answers what is no HTTP': {
    talk: socket => socket.on('data', () => pour(socket, '\x1b]0;PWNED\x07'.repeat(1000))),
    told: /is unreachable \(HPE_INVALID_CONSTANT\)/,
  },
  'says what a terminal obeys': {
    talk: socket =>
      socket.on('data', () => {
        const body = JSON.stringify({ errors: [`no\x1b]0;PWNED\x07\r\n\u202e${'z'.repeat(100_000)}`] })
        socket.end(`HTTP/1.1 400 no\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
      }),
    told: /^Vault refused GET sys\/mounts \(status 400\): no z{900,}…$/,
  },
  'redirects to what a terminal obeys': {
    talk: socket =>
      socket.on('data', () => socket.end('HTTP/1.1 307 x\r\nLocation: https://h\x1b[31m\r\nContent-Length: 0\r\n\r\n')),
    told: /HPE_INVALID_HEADER_TOKEN|redirects to (nowhere|[\x20-\x7e]+), and the token is not sent there$/,
  },
}

for (const [what, { talk, told }] of Object.entries(kinds)) {
  test.serial(`a Vault that ${what} is one error, in bounded time and memory`, async t => {
    const port = await serve(t, talk)
    const address = `http://somebody:hidden-pa%73s@127.0.0.1:${port}`
    // Only where nothing else ends it is the time what ends it: 16 MiB take longer than that on a machine with other work.
    const timeout = told.source.includes('within 0') ? 500 : 15_000
    const vault = await connectVault({ address, token, retries: 1, backoff: [1], timeout })
    const before = process.memoryUsage().rss
    let most = before
    const watch = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss)
    }, 20)
    t.teardown(() => clearInterval(watch))
    const started = performance.now()
    const error = await t.throwsAsync<RekeyError>(vault.read('sys/mounts'), { message: told })
    clearInterval(watch)
    vault.close()
    t.true(performance.now() - started < 60_000)
    t.true(most - before < 150 * 1024 ** 2, `${(most - before) / 1024 ** 2} MiB`)
    const all = `${error?.message} ${error?.hint} ${error?.cause} ${vault.address}`
    t.notRegex(all, /hidden|somebody|pass|[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/)
  })
}

test.serial('a proxy that never leads on is given up, also by Ctrl-C, and its connection is closed', async t => {
  for (const way of ['time-out', 'Ctrl-C']) {
    const closed: Promise<unknown>[] = []
    const port = await serve(t, socket => void closed.push(once(socket.resume(), 'close')))
    const proxies = { HTTPS_PROXY: `http://somebody:hidden-pass@127.0.0.1:${port}` }
    const stop = new AbortController()
    const timeout = way === 'time-out' ? 300 : 60_000
    const vault = await connectVault({
      ...{ address: 'https://vault.invalid:8200', token, retries: 0, proxies, timeout },
      signal: stop.signal,
    })
    const asked = t.throwsAsync<Error>(vault.read('sys/mounts'), { message: /within 0\.3 s$|^interrupted$/ })
    await eventually(() => closed.length > 0, 'a connection to the proxy')
    if (way === 'Ctrl-C') stop.abort(new Error('interrupted'))
    const error = await asked
    t.notRegex(`${error?.message} ${error?.cause}`, /hidden|somebody/)
    await Promise.all(closed)
    t.is(closed.length, 1)
    vault.close()
  }
})

test('a password in the address of a Vault or of a proxy is never shown, also where it is no address', async t => {
  for (const bad of [
    'https://somebody:hidden/pass@vault:8200',
    'https://somebody:hidden#pass@vault:8200',
    'somebody:hidden@vault',
    'http://somebody:hidden@vault:8200',
    'ftp://somebody:hidden@vault:8200',
  ]) {
    const error = await t.throwsAsync<RekeyError>(connectVault({ address: bad, token }), { message: /vault/i }, bad)
    t.is(error?.code, 'vault.bad-address', bad)
    t.notRegex(`${error?.message} ${error?.hint} ${error?.cause}`, /hid|den|pass|somebody/, bad)
  }
  const odd = await connectVault({ address: 'https://somebody:hid@den pass@vault:8200/', token })
  t.is(odd.address, 'https://vault:8200')
  const proxies = { HTTPS_PROXY: 'http://somebody:hidden/pass@proxy:3128' }
  const error = await t.throwsAsync<RekeyError>(connectVault({ address: 'https://vault:8200', token, proxies }))
  t.is(error?.message, '"http://proxy:3128" is not the address of a proxy')
  t.notRegex(`${error?.hint} ${error?.cause}`, /hidden|somebody/)
})

test('the words of others are one line without what a terminal obeys, whatever is in them and however long they are', t => {
  t.is(foreignWords(' too bad \x1b]0;PWNED\x07\x1b[31m \r\n\tfor \u202eyou\u2069 \u0085. '), 'too bad for you .')
  t.is(foreignWords('日本語 ✔ é'), '日本語 ✔ é')
  t.is(foreignWords('x'.repeat(301)), `${'x'.repeat(299)}…`)
  t.is(foreignWords('x'.repeat(300)).length, 300)
  for (const piece of ['\x1b[', '\x1b]', ' ', '\x1b[1;', '\u202e', 'x']) {
    const text = piece.repeat(10_000_000)
    const taken = processorTime(() => t.true(foreignWords(text).length <= 300))
    t.true(taken < 2_000, `${taken} ms`)
  }
})
