// What every kind of connection to a host must do, held against a real sshd: by ssh2, and by the system's ssh.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from '../../lib/connection/connect.ts'
import { remoteFiles, runScript } from '../../lib/connection/files.ts'
import { remoteShell } from '../../lib/connection/remote.ts'
import { raw, secret } from '../../lib/connection/shell.ts'
import { CancelledError, HostFailedError, UnknownOutcomeError, UnreachableError } from '../../lib/errors.ts'
import { eventually } from '../_eventually.ts'
import { forEachKind } from './_each-kind.ts'
import { freePort } from './sshd.ts'

const each = forEachKind('connections are', ['MaxSessions 3'])

each('a command gets its words as they are, whatever is in them', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const $ = remoteShell(connection)
  const words = ["it's", '$HOME', 'a b', '`id`', '*', 'tab\there', 'new\nline', '\\', '"', '']
  const { stdout } = await $`for w in ${words}; do printf '<%s>' "$w"; done`
  t.is(stdout, words.map(word => `<${word}>`).join(''))
  t.is((await $`echo ${raw('$((1 + 1))')}`).stdout, '2\n')
  connection.close()
})

each('pipes, input, lines and nothrow work as in zx', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const $ = remoteShell(connection)
  t.is((await $`printf 'b\na\n'`.pipe($`sort`)).stdout, 'a\nb\n')
  // A template is a command for the same host, in its shell, quoted for that.
  const piped = await $`echo out; echo err >&2`.pipe.stderr`cat; printf %s ${"it's"}; printenv SSH_CONNECTION | wc -l`
  t.is(piped.stdout, "err\nit's1\n")
  t.is((await $({ input: secret('hush') })`cat`).stdout, 'hush')
  t.deepEqual(await $`printf 'x\ny\n'`.lines(), ['x', 'y'])
  t.is((await $({ nothrow: true })`exit 7`).exitCode, 7)
  t.is((await $({ cwd: '/' })`pwd`).stdout, '/\n')
  const failed = await t.throwsAsync(async () => $`echo told; exit 3`)
  t.is((failed as unknown as { exitCode: number }).exitCode, 3)
  connection.close()
})

each('a command without input does not wait for any', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  t.is((await remoteShell(connection)`cat`).stdout, '')
  connection.close()
})

each('a secret in a command line is refused before anything is sent', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const error = t.throws(() => remoteShell(connection)`echo ${secret('hush hush')}`)
  t.regex(String(error), /can’t be part of a command line/)
  t.notRegex(String(error), /hush/)
  connection.close()
})

each('a directory that is not there keeps the command from running', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const { exitCode, stdout } = await remoteShell(connection)({ cwd: '/not/there', nothrow: true })`echo ran`
  t.not(exitCode, 0)
  t.is(stdout, '')
  connection.close()
})

each('UTF-8 that is split between chunks arrives whole', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const { stdout } = await remoteShell(connection)`printf '\\303'; sleep 0.2; printf '\\251'`
  t.is(stdout, 'é')
  connection.close()
})

each('a time-out ends the process on the host', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const $ = remoteShell(connection)
  const file = join(t.context.sshd.folder, 'pid-of-sleep')
  rmSync(file, { force: true })
  await t.throwsAsync(async () => $({ timeout: 3_000 })`echo $$ >${file}; exec sleep 60`, {
    message: /did not finish within 3 s/,
  })
  const pid = readFileSync(file, 'utf8').trim()
  await eventually(() => !isRunning(pid))
  t.false(isRunning(pid))
  connection.close()
})

each('a connection that is cut in mid-command is neither success nor failure', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const file = join(t.context.sshd.folder, `begun-${t.context.sshd.settings.kind}`)
  const cut = t.throwsAsync(runScript(connection, `echo begun >${file}; sleep 30`), {
    instanceOf: UnknownOutcomeError,
    message: /nobody knows whether it finished/,
  })
  await eventually(() => existsSync(file))
  t.context.sshd.cut()
  await cut
  t.truthy(connection.lost)
})

each('files arrive whole, with their mode, and replace what was there in one go', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const files = remoteFiles(connection)
  const path = join(t.context.sshd.folder, "a file's name")
  writeFileSync(path, 'old')
  const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 256))
  await files.write(path, content, { mode: 0o640 })
  t.true((await files.read(path)).equals(content))
  t.is((await runScript(connection, `stat -c %a "${path}"`)).stdout.toString().trim(), '640')
  await files.write(path, secret('s3cret'))
  t.is((await runScript(connection, `stat -c %a "${path}"`)).stdout.toString().trim(), '600')
  t.is(await files.readText(path), 's3cret')
  t.is(
    (await runScript(connection, `ls -A "${t.context.sshd.folder}" | grep -c '^.rekey' || true`)).stdout
      .toString()
      .trim(),
    '0',
  )
  connection.close()
})

each('a file that cannot be written says why, and leaves the old one', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  await t.throwsAsync(remoteFiles(connection).write('/not/there/file', 'x'), {
    instanceOf: HostFailedError,
    message: /h1: could not write \/not\/there\/file/,
  })
  connection.close()
})

each('an unknown host key is refused, with its fingerprint and the command that accepts it', async t => {
  const { settings, folder } = t.context.sshd
  const empty = join(folder, 'empty')
  writeFileSync(empty, '')
  const error = await t.throwsAsync(connect('h1', { ...settings, knownHostsFiles: [empty] }), {
    instanceOf: UnreachableError,
  })
  t.regex(error.message, /the host key of h1 is not known: ssh-ed25519 SHA256:/)
  t.regex(error.hint ?? '', /ssh-keyscan -p \d+ 127.0.0.1 >> /)
  t.is(readFileSync(empty, 'utf8'), '')
})

each('a changed host key is refused, naming the line that has the other one', async t => {
  const { settings, folder, port } = t.context.sshd
  const other = join(folder, 'other')
  writeFileSync(other, `# a comment\n[127.0.0.1]:${port} ${readFileSync(join(folder, 'user.pub'), 'utf8')}`)
  await t.throwsAsync(connect('h1', { ...settings, knownHostsFiles: [other] }), {
    instanceOf: UnreachableError,
    message: new RegExp(`the host key of h1 is not the one at ${other}:2`),
  })
})

each('accept-new records an unknown key, and refuses a changed one', async t => {
  const { settings, folder } = t.context.sshd
  const fresh = join(folder, `fresh-${settings.kind}`)
  const first = await connect('h1', { ...settings, knownHostsFiles: [fresh], hostKeyChecking: 'accept-new' })
  first.close()
  const second = await connect('h1', { ...settings, knownHostsFiles: [fresh] })
  second.close()
  t.pass()
})

each(
  'a known_hosts file without a last newline, a folder, or one that can’t be written: right, or one error that names it',
  async t => {
    const { settings, folder, port } = t.context.sshd
    const cut = join(folder, `cut-${settings.kind}`)
    const [, ...key] = readFileSync(join(folder, 'known_hosts'), 'utf8').trim().split(' ')
    writeFileSync(cut, `other.example.org ${key.join(' ')}`)
    const first = await connect('h1', { ...settings, knownHostsFiles: [cut], hostKeyChecking: 'accept-new' })
    first.close()
    const lines = readFileSync(cut, 'utf8').split('\n')
    t.is(lines[0], `other.example.org ${key.join(' ')}`)
    t.regex(lines[1] ?? '', new RegExp(`^(\\[127\\.0\\.0\\.1\\]:${port}|\\|1\\|\\S+) ssh-`))
    const again = await connect('h1', { ...settings, knownHostsFiles: [cut] })
    again.close()

    const refuses = (file: string, message: string) =>
      t.throwsAsync(connect('h1', { ...settings, knownHostsFiles: [file], hostKeyChecking: 'accept-new' }), {
        code: 'connection.known-hosts',
        message: new RegExp(`^the known_hosts file ${file} ${message}`),
      })
    await refuses(folder, 'is a folder, and no file$')
    await refuses('/dev/zero', 'is no file$')
    await refuses('/proc/rekey-known-hosts', "can't be written, to accept the key of ")
    const none = await connect('h1', { ...settings, knownHostsFiles: ['/dev/null'], hostKeyChecking: 'accept-new' })
    none.close()
  },
)

each('a ProxyCommand is the way to a host that nothing else leads to', async t => {
  const { settings, port, folder } = t.context.sshd
  const relay = join(folder, 'relay.mjs')
  writeFileSync(
    relay,
    "import { connect } from 'node:net'\nconst s = connect(Number(process.argv[3]), '127.0.0.1')\nprocess.stdin.pipe(s).pipe(process.stdout)\n",
  )
  const known = join(folder, 'hidden')
  writeFileSync(known, `[hidden]:${port} ${readFileSync(join(folder, 'host.pub'), 'utf8')}`)
  const hidden = {
    ...{ ...settings, address: 'hidden', knownHostsFiles: [known] },
    proxyCommand: `${process.execPath} ${relay} %h %p`,
  }
  const connection = await connect('h1', hidden)
  t.is((await remoteShell(connection)`echo through`).stdout, 'through\n')
  connection.close()
})

each('a key that the host does not know is said to be refused, once', async t => {
  const { settings, folder } = t.context.sshd
  await t.throwsAsync(connect('h1', { ...settings, privateKeyFile: join(folder, 'host') }), {
    instanceOf: UnreachableError,
    message: /did not let us in/,
  })
})

each('a port that nobody listens on is a host that cannot be reached', async t => {
  const port = await freePort()
  await t.throwsAsync(
    connect('h1', {
      kind: t.context.sshd.settings.kind,
      address: '127.0.0.1',
      port,
      user: 'nobody',
      hostKeyChecking: 'yes',
      connectTimeout: 5,
    }),
    {
      instanceOf: UnreachableError,
      message: /h1 can't be reached at nobody@127.0.0.1:\d+: connection refused/,
    },
  )
})

each('how a command ended is told: its status, or the signal', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  for (const [script, code, signal] of [
    ['exit 255', 255, null],
    ['/not/there', 127, null],
    ['/etc', 126, null],
    ['kill -KILL $$', null, 'SIGKILL'],
  ] as const) {
    const ended = await runScript(connection, script)
    t.is(ended.code, code, script)
    t.is(ended.signal, signal, script)
  }
  connection.close()
})

each('megabytes go both ways at once, byte by byte, and stderr beside them', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const input = randomBytes(6 * 1024 * 1024)
  const { stdout, stderr } = await runScript(connection, 'tee /dev/stderr', { input })
  t.true(stdout.equals(input))
  t.is(stderr.length, input.toString('utf8').length)
  connection.close()
})

each('what nobody reads is not sent', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const file = join(t.context.sshd.folder, `sent-${t.context.sshd.settings.kind}`)
  const remote = connection.spawn(
    `i=0; while [ $i -lt 64 ]; do head -c 262144 /dev/zero; i=$((i+1)); echo $i >${file}; done`,
  )
  remote.stdin.end()
  const sent = () => (existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0)
  // Until it stands still: what is on the way has been filled.
  for (let last = -1; sent() === 0 || sent() !== last; await delay(700)) last = sent()
  t.true(sent() < 60, `${sent()}`)
  let bytes = 0
  remote.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length
  })
  remote.stderr.resume()
  await once(remote, 'close')
  t.is(bytes, 64 * 262_144)
  connection.close()
})

each('a command that is cancelled is ended on the host with all that it started', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const file = join(t.context.sshd.folder, 'pids')
  const controller = new AbortController()
  const running = runScript(connection, `sleep 61 & echo $$ $! >${file}; wait`, { signal: controller.signal })
  await eventually(() => existsSync(file) && readFileSync(file, 'utf8').endsWith('\n'))
  controller.abort()
  await t.throwsAsync(running, { instanceOf: CancelledError })
  const pids = readFileSync(file, 'utf8').trim().split(' ')
  await eventually(() => !pids.some(isRunning))
  t.deepEqual(pids.filter(isRunning), [])
  rmSync(file)
  connection.close()
})

each('more commands at once than sshd has sessions wait for their turn', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const $ = remoteShell(connection)
  const numbers = Array.from({ length: 24 }, (_, index) => index)
  const said = await Promise.all(numbers.map(async number => (await $`echo ${number}; sleep 0.05`).stdout))
  t.deepEqual(
    said,
    numbers.map(number => `${number}\n`),
  )
  connection.close()
})

each('forward() is a stream to what the host can reach, and says why it is none', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const server = createServer(socket => socket.on('data', chunk => socket.end(`<${chunk}>`)))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stream = await connection.forward('127.0.0.1', (server.address() as AddressInfo).port)
  stream.write('hello')
  const chunks: Buffer[] = await stream.toArray()
  t.is(Buffer.concat(chunks).toString(), '<hello>')
  server.close()
  await t.throwsAsync(connection.forward('127.0.0.1', await freePort()), {
    instanceOf: HostFailedError,
    message: /^h1 could not open a connection to 127.0.0.1:\d+: /,
  })
  connection.close()
})

each('a host that answers nothing any more is lost, and what ran there is unknown', async t => {
  const { sshd } = t.context
  const connection = await connect('h1', { ...sshd.settings, keepalive: { seconds: 2, count: 2 } })
  const file = join(sshd.folder, `answers-${sshd.settings.kind}`)
  const running = runScript(connection, `echo begun >${file}; sleep 30`)
  await eventually(() => existsSync(file))
  sshd.freeze()
  try {
    await t.throwsAsync(running, { instanceOf: UnknownOutcomeError, message: /nobody knows whether it finished/ })
    t.truthy(connection.lost)
  } finally {
    sshd.cut()
  }
})

each('an attempt to connect can be given up', async t => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const controller = new AbortController()
  const connecting = connect('h1', { ...t.context.sshd.settings, port }, controller.signal)
  setTimeout(() => controller.abort(), 200)
  await t.throwsAsync(connecting, { instanceOf: CancelledError })
  await t.throwsAsync(connect('h1', { ...t.context.sshd.settings, port, connectTimeout: 0.5 }), {
    instanceOf: UnreachableError,
    message: /no answer within 0.5 s/,
  })
  silent.close()
})

function isRunning(pid: string): boolean {
  try {
    process.kill(Number(pid), 0)
    return true
  } catch {
    return false
  }
}
