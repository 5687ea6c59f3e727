// What a command costs on the wire: a server of our own notes what it is asked for, and when.
import { spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import ssh2 from 'ssh2'
import { connect } from '../../lib/connection/connect.ts'
import { runScript } from '../../lib/connection/files.ts'
import { eventually } from '../_eventually.ts'
import { meeting } from './_faults.ts'

/** A server that runs what it is asked to; after `most` channels it refuses to open another while one is open. */
async function startServer(most = 100) {
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
  })
  const counts = { channels: 0, commands: 0, open: 0, data: 0 }
  const server = new ssh2.Server({ hostKeys: [privateKey] }, client => {
    client.on('error', () => {})
    client.on('authentication', attempt => attempt.accept())
    client.on('session', (accept, reject) => {
      if (counts.open >= most) return reject()
      counts.channels++
      counts.open++
      const session = accept()
      session.on('close', () => counts.open--)
      session.on('exec', (acceptCommand, _reject, { command }) => {
        counts.commands++
        const channel = acceptCommand()
        const child = spawn('/bin/sh', ['-c', command])
        channel.on('data', () => counts.data++)
        channel.pipe(child.stdin)
        child.stdin.on('error', () => {})
        child.stdout.pipe(channel, { end: false })
        child.stderr.pipe(channel.stderr, { end: false })
        child.on('close', code => {
          channel.exit(code ?? 1)
          channel.end()
        })
      })
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const folder = mkdtempSync(join(tmpdir(), 'rekey-round-trips-'))
  writeFileSync(join(folder, 'key'), privateKey, { mode: 0o600 })
  const connection = await connect('h1', {
    kind: 'ssh',
    address: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    user: 'anybody',
    privateKeyFile: join(folder, 'key'),
    knownHostsFiles: [join(folder, 'known_hosts')],
    hostKeyChecking: 'accept-new',
    connectTimeout: 60,
  })
  const stop = () => {
    connection.close()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  }
  return { connection, counts, folder, stop }
}

test.serial('commands one after the other go to one shell: a message each, and no channel', async t => {
  const { connection, counts, stop } = await startServer()
  await runScript(connection, 'echo first')
  const before = { ...counts }
  for (let command = 1; command <= 3; command++) {
    const { stdout, stderr, code } = await runScript(connection, `echo ${command}; echo beside >&2; exit ${command}`)
    t.deepEqual([stdout.toString(), stderr, code], [`${command}\n`, 'beside\n', command])
    t.is(counts.data, before.data + command)
  }
  t.is(counts.commands, 1)
  t.is(counts.commands, before.commands)
  stop()
})

test.serial('the channel of the next command is open before there is a command: it costs one round trip', async t => {
  const { connection, counts, stop } = await startServer()
  await eventually(() => counts.channels === 1)
  for (let command = 1; command <= 3; command++) {
    const { stdout } = await runScript(connection, `echo ${command} in the shell $$`)
    t.regex(stdout.toString(), new RegExp(`^${command} in`))
    t.is(counts.commands, command)
    await eventually(() => counts.channels === command + 1)
  }
  stop()
})

test.serial('commands that run side by side get a channel each', async t => {
  const { connection, counts, folder, stop } = await startServer()
  const file = join(folder, 'begun')
  const said = await Promise.all(
    ['a', 'b', 'c', 'd'].map((word, index) => runScript(connection, `${meeting(file, index, 4)}; echo ${word}`)),
  )
  t.deepEqual(
    said.map(({ stdout }) => stdout.toString()),
    ['a\n', 'b\n', 'c\n', 'd\n'],
  )
  // The first one waits for the shell.
  t.is(counts.commands, 4)
  stop()
})

test.serial('a server that allows one channel gets its commands one after the other all the same', async t => {
  const { connection, counts, stop } = await startServer(1)
  for (let command = 1; command <= 3; command++) {
    const { code } = await runScript(connection, 'cat >/dev/null', { input: Buffer.from('x') })
    t.is(code, 0)
    t.is((await runScript(connection, `echo ${command}`)).code, 0)
    await eventually(() => counts.open <= 1)
  }
  stop()
})
