// What a command costs on the wire: a server of our own notes what it is asked for, and when.
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import ssh2 from 'ssh2'
import { connect } from '../../lib/connection/connect.ts'
import { runScript } from '../../lib/connection/files.ts'

/** A server that answers every command with its own text; after `most` channels it refuses to open another while one is open. */
async function startServer(most = 100) {
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
  })
  const counts = { channels: 0, commands: 0, open: 0 }
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
        channel.write(command)
        channel.exit(0)
        channel.end()
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
  return { connection, counts, stop }
}

/** Polls until a condition holds. */
async function until(condition: () => boolean): Promise<boolean> {
  for (let attempt = 0; attempt < 1_000 && !condition(); attempt++) await delay(20)
  return condition()
}

test.serial('the channel of the next command is open before there is a command: it costs one round trip', async t => {
  const { connection, counts, stop } = await startServer()
  t.true(await until(() => counts.channels === 1))
  for (let command = 1; command <= 3; command++) {
    const { stdout } = await runScript(connection, `echo ${command}`)
    t.regex(stdout.toString(), new RegExp(`echo ${command}`))
    t.is(counts.commands, command)
    t.true(await until(() => counts.channels === command + 1))
  }
  stop()
})

test.serial('commands that run side by side get a channel each', async t => {
  const { connection, counts, stop } = await startServer()
  const said = await Promise.all(['a', 'b', 'c', 'd'].map(word => runScript(connection, `echo ${word}`)))
  t.deepEqual(
    said.map(({ stdout }) => /echo (\w)/.exec(stdout.toString())?.[1]),
    ['a', 'b', 'c', 'd'],
  )
  t.is(counts.commands, 4)
  stop()
})

test.serial('a server that allows one channel gets its commands one after the other all the same', async t => {
  const { connection, counts, stop } = await startServer(1)
  for (let command = 1; command <= 3; command++) {
    const { code } = await runScript(connection, `echo ${command}`)
    t.is(code, 0)
    t.true(await until(() => counts.open <= 1))
  }
  t.is(counts.commands, 3)
  stop()
})
