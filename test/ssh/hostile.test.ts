// A server that never answers, never stops, hangs up or lies: one error without what a terminal obeys, soon, and nothing is left of it.
import test, { type ExecutionContext } from 'ava'
import { exitOf } from '../../lib/connection/commands/terminal.ts'
import { connect } from '../../lib/connection/connect.ts'
import { runScript } from '../../lib/connection/files.ts'
import { remoteShell } from '../../lib/connection/remote.ts'
import { type RekeyError, UnknownOutcomeError } from '../../lib/errors.ts'
import { type Behaviour, escapes, type HostileServer, hostileServer, pour, rawServer } from './_hostile-server.ts'

const kinds = ['ssh', 'openssh'] as const
const open = ({ settings }: HostileServer, kind: (typeof kinds)[number] = 'ssh') =>
  connect('evil', { ...settings, kind, connectTimeout: 60 })
const MiB = 1024 ** 2

/** A failure that comes soon, of something that was begun. */
async function soon(t: ExecutionContext, work: Promise<unknown>, message: RegExp, seconds = 30): Promise<RekeyError> {
  const started = performance.now()
  const error = await t.throwsAsync<RekeyError>(work, { message })
  t.true(performance.now() - started < seconds * 1_000, `${performance.now() - started} ms`)
  t.notRegex(`${error?.message}${error?.hint}`, /[\x00-\x1f\x7f-\x9f\u202e]/)
  t.true(error!.message.length < 600)
  return error!
}

/** How much more memory was taken meanwhile, in MiB. */
async function memoryOf(work: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage().rss
  let most = before
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss)
  }, 20)
  await work()
  clearInterval(watch)
  return (most - before) / MiB
}

const disconnect = (text: string) => {
  const words = Buffer.from(text)
  const payload = Buffer.concat([Buffer.from([1, 0, 0, 0, 2, 0, 0, 0, words.length]), words, Buffer.alloc(4)])
  const padding = 16 - ((payload.length + 5) % 8)
  const head = Buffer.alloc(5)
  head.writeUInt32BE(payload.length + padding + 1)
  head[4] = padding
  return Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), head, payload, Buffer.alloc(padding)])
}

const raw: Record<string, Parameters<typeof rawServer>[1]> = {
  'says nothing': () => {},
  'hangs up at once': socket => socket.end(),
  'never ends its first line': socket => pour(socket, 'x'.repeat(65_536)),
  'never ends its greeting': socket => pour(socket, `${'y'.repeat(80)}\r\n`.repeat(800)),
  'has escapes in its version': socket => socket.end(`SSH-2.0-${escapes}x\r\n`),
  'speaks HTTP': socket => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'),
  'says one letter after the other': socket => {
    const timer = setInterval(() => (socket.destroyed ? clearInterval(timer) : socket.write('a')), 100)
  },
  'announces a packet of 2 GiB and goes on sending': socket => {
    socket.write('SSH-2.0-x\r\n')
    socket.write(Buffer.from([0x7f, 0xff, 0xff, 0xff, 4, 20]))
    pour(socket, '\0'.repeat(65_536))
  },
  'says good-bye in escapes before any key is exchanged': socket => socket.write(disconnect(`too bad ${escapes}`)),
  'says good-bye and goes on sending': socket => {
    socket.write(disconnect('too bad'))
    pour(socket, '\0'.repeat(65_536))
  },
}

for (const kind of kinds) {
  for (const [what, talk] of Object.entries(raw)) {
    test.serial(`${kind}: a server that ${what}`, async t => {
      const server = await rawServer(t, talk)
      const taken = await memoryOf(() => soon(t, connect('evil', { ...server.settings, kind }), /^evil /))
      t.true(taken < 150, `${taken} MiB`)
      await server.deserted()
    })
  }
}

const locked: Record<string, Behaviour & { message: RegExp }> = {
  'never says whether it lets us in': { authenticate: () => {}, message: /no answer within 2 s$/ },
  'takes methods whose names are escapes': {
    authenticate: context => context.reject([`publickey${escapes}` as 'publickey', 'password']),
    message: /did not let us in as me@127\.0\.0\.1:\d+ with .*\(it takes: publickey.?, passwo/,
  },
  'always wants more, and is never content': {
    authenticate: context => context.reject(['publickey', 'password', 'keyboard-interactive'], true),
    message: /did not let us in/,
  },
  'asks hundreds of questions': {
    authenticate: context =>
      context.method === 'keyboard-interactive'
        ? context.prompt(
            Array.from({ length: 500 }, (_, index) => ({ prompt: `q${index}${escapes}: `, echo: true })),
            () => context.reject(),
          )
        : context.reject(['keyboard-interactive']),
    message: /did not let us in .*it asked "q0.?:", which nobody could answer/,
  },
  'asks without an end': {
    authenticate: context => {
      if (context.method !== 'keyboard-interactive') return context.reject(['keyboard-interactive'])
      const again = () => context.prompt([{ prompt: 'more: ', echo: false }], again)
      again()
    },
    message: /no answer within 2 s$/,
  },
}

for (const [what, { message, ...behaviour }] of Object.entries(locked)) {
  test.serial(`a server that ${what}`, async t => {
    const server = await hostileServer(t, behaviour)
    // Only where it is to run out: a machine that is busy is slow.
    const connectTimeout = message.source.includes('no answer') ? 2 : 60
    const settings = { ...server.settings, password: 'something', connectTimeout }
    const taken = await memoryOf(() => soon(t, connect('evil', settings), message))
    t.true(taken < 100, `${taken} MiB`)
    await server.deserted()
  })
}

for (const kind of kinds) {
  test.serial(`${kind}: a server that never begins a command: Ctrl-C and a time-out end the wait`, async t => {
    const server = await hostileServer(t, { exec: () => {} })
    const connection = await open(server, kind)
    const stop = new AbortController()
    setTimeout(() => stop.abort(new Error('Ctrl-C')), 100)
    const output = remoteShell(connection)({ timeout: 200, nothrow: true })`true`
    await Promise.all([
      soon(t, runScript(connection, 'true', { signal: stop.signal }), /^evil: the command was ended$/),
      soon(t, runScript(connection, 'true', { timeout: 200 }), /^evil: the command did not finish within 0\.2 s/),
    ])
    t.regex(String((await output).cause), /the command did not finish within 0\.2 s/)
    connection.close()
    await server.deserted()
  })

  test.serial(`${kind}: a server that never stops printing: what is read is bounded`, async t => {
    const server = await hostileServer(t, { exec: accept => pour(accept(), 'z'.repeat(32_768)) })
    const connection = await open(server, kind)
    const taken = await memoryOf(() => soon(t, runScript(connection, 'true'), /^evil printed more than/))
    t.true(taken < 250, `${taken} MiB`)
    connection.close()
    await server.deserted()
  })
}

test.serial(
  'a server that hangs up when it has begun a command: whatever is begun next fails at once, too',
  async t => {
    const server = await hostileServer(t, {
      exec: accept => (accept() as unknown as { _client: { end(): void } })._client.end(),
    })
    for (const command of ['true', 'sleep 1 & wait']) {
      const connection = await open(server)
      await soon(t, runScript(connection, command), /^the connection to evil was lost while a command/)
      await soon(t, runScript(connection, 'true'), /^the connection to evil was lost while a command/)
      connection.close()
    }
    await server.deserted()
  },
)

test.serial('a server that sends more than it may before anything is read', async t => {
  const server = await hostileServer(t, {
    exec: accept => {
      const channel = accept()
      const { _client: client, outgoing } = channel as unknown as {
        _client: { _protocol: { channelData(id: number, bytes: Buffer): void }; _sock: { destroyed: boolean } }
        outgoing: { id: number }
      }
      const bytes = Buffer.alloc(32_768, 'z')
      const go = () => {
        for (let count = 0; count < 100 && !client._sock.destroyed; count++)
          client._protocol.channelData(outgoing.id, bytes)
        if (!client._sock.destroyed) setImmediate(go)
      }
      go()
    },
  })
  const connection = await open(server)
  const taken = await memoryOf(async () => {
    const remote = connection.spawn('cat', { asLogin: true })
    remote.stdout.pause()
    setTimeout(() => remote.stdout.resume(), 2_000)
    const error = await new Promise<Error>(resolve => remote.once('error', resolve))
    t.true(error instanceof UnknownOutcomeError)
    t.regex(error.message, /the host sent more than it was allowed to/)
  })
  t.true(taken < 150, `${taken} MiB`)
  await server.deserted()
})

test.serial('a server that lets go of nothing is hung up on', async t => {
  // It takes the command, and answers neither to its end nor to good-bye.
  const server = await hostileServer(t, {
    exec: accept => {
      const channel = accept()
      channel.close = () => {}
      channel.end = () => channel
    },
  })
  const connection = await open(server)
  await soon(t, runScript(connection, 'cat; sleep 1 & wait', { timeout: 100 }), /did not finish within 0\.1 s/, 40)
  t.regex(String(connection.lost?.message), /it does not let go/)
  await server.deserted()
})

/** Plays the long-lived shell, and says the end of each command as told. */
const shell =
  (status: string): Behaviour['exec'] =>
  accept => {
    const channel = accept()
    channel.on('data', (chunk: Buffer) => {
      const [, session, id = session] =
        /_rekey_end ([0-9a-f-]{36}) \$\$|\{ _rekey ([0-9a-f-]{36}) /.exec(`${chunk}`) ?? []
      if (!id) return
      channel.stderr.write(`rekey-ends-${id}\n`)
      channel.write(`rekey-ends-${id} ${session ? '4242' : status}\n`)
    })
  }

test.serial('a status that is none is no success', async t => {
  for (const status of ['', 'abc', '1e1', '0x0', '-1', '9'.repeat(1_000_000)]) {
    const server = await hostileServer(t, { exec: shell(status) })
    const connection = await open(server)
    await soon(t, runScript(connection, 'true'), /the channel closed without an exit status/)
    connection.close()
  }
  const told = await open(await hostileServer(t, { exec: shell('7') }))
  t.is((await runScript(told, 'true')).code, 7)
  told.close()
})

test("a signal's name is one, or none", t => {
  t.deepEqual(exitOf(null, 'SIGKILL'), { code: null, killedBy: 'SIGKILL' })
  t.deepEqual(exitOf(null, `SIGKILL${escapes}`), { code: null, killedBy: 'a signal without a name' })
  t.deepEqual(exitOf(3, undefined), { code: 3, killedBy: null })
})
