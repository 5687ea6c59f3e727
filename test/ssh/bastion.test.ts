// Hosts behind a bastion that takes one login at a time, and no session.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { connect } from '../../lib/connection/connect.ts'
import type { Connection } from '../../lib/connection/connection.ts'
import { runScript } from '../../lib/connection/files.ts'
import type { ConnectionSettings } from '../../lib/connection/settings.ts'
import { UnreachableError } from '../../lib/errors.ts'
import { eventually } from '../_eventually.ts'
import { freePort, sshdMissing, startSshd, type TestSshd } from './sshd.ts'

const missing = sshdMissing()
const real = missing ? test.skip : test.serial
const kinds = ['ssh', 'openssh'] as const
let bastion: TestSshd
let host: TestSshd

if (missing) test.skip(`bastions are not tested: ${missing}`, () => {})

test.before(async () => {
  if (missing) return
  bastion = await startSshd(['MaxStartups 1', 'MaxSessions 0', `PermitOpen 127.0.0.1:*`])
  // One key opens both, and one file knows both.
  host = await startSshd(['MaxStartups 12', `AuthorizedKeysFile ${join(bastion.folder, 'authorized_keys')}`])
  const known = [bastion, host].map(({ folder }) => readFileSync(join(folder, 'known_hosts'), 'utf8'))
  writeFileSync(join(bastion.folder, 'both'), known.join(''))
})
test.after.always(async () => {
  await bastion?.stop()
  await host?.stop()
})

const behind = (kind: ConnectionSettings['kind']): ConnectionSettings => ({
  ...{ ...bastion.settings, kind, port: host.port, knownHostsFiles: [join(bastion.folder, 'both')] },
  proxyJump: [`${bastion.settings.user}@127.0.0.1:${bastion.port}`],
})
const logins = () => bastion.said().match(/Accepted publickey/g)?.length ?? 0

for (const kind of kinds) {
  real(`${kind}: many hosts behind a bastion share one login to it, and take turns`, async t => {
    const before = logins()
    const names = Array.from({ length: 20 }, (_, index) => `h${index}`)
    const connections: Connection[] = await Promise.all(names.map(name => connect(name, behind(kind))))
    for (const connection of connections) t.is((await runScript(connection, 'echo here')).stdout.toString(), 'here\n')
    t.is(logins() - before, 1)
    t.is(bastion.open(), 1)
    // So many at a time that the host had to drop none.
    t.notRegex(host.said(), /MaxStartups throttling|drop connection/)
    for (const connection of connections.slice(1)) connection.close()
    t.is((await runScript(connections[0]!, 'echo still')).stdout.toString(), 'still\n')
    connections[0]!.close()
    await eventually(() => bastion.open() === 0)
    t.is(bastion.open(), 0)
  })

  real(`${kind}: a bastion of which nobody answers is said to be the one`, async t => {
    const hop = `127.0.0.1:${await freePort()}`
    await t.throwsAsync(connect('h1', { ...behind(kind), proxyJump: [hop] }), {
      instanceOf: UnreachableError,
      message: /^h1 can't be reached: the bastion 127\.0\.0\.1:\d+ can't be reached at .*: connection refused$/,
    })
    await t.throwsAsync(connect('h1', { ...behind(kind), port: await freePort() }), {
      instanceOf: UnreachableError,
      message: /^h1 can't be reached at /,
    })
  })

  real(`${kind}: an sshd that drops what is too much at once is tried again`, async t => {
    const busy = await startSshd(['MaxStartups 1'])
    try {
      const settings = { ...busy.settings, kind, connectTimeout: 30 }
      const connections = await Promise.all(['h1', 'h2', 'h3', 'h4'].map(name => connect(name, settings)))
      t.is(connections.length, 4)
      for (const connection of connections) connection.close()
    } finally {
      await busy.stop()
    }
  })
}

real('hops are gone through in their order, each known by its own key', async t => {
  const second = await startSshd([`AuthorizedKeysFile ${join(bastion.folder, 'authorized_keys')}`])
  try {
    const known = join(bastion.folder, 'three')
    const all = [bastion, host, second].map(({ folder }) => readFileSync(join(folder, 'known_hosts'), 'utf8'))
    writeFileSync(known, all.join(''))
    for (const kind of kinds) {
      const before = logins()
      const settings = behind(kind)
      const hops = [...settings.proxyJump!, `${settings.user}@127.0.0.1:${second.port}`]
      const connection = await connect('h1', { ...settings, knownHostsFiles: [known], proxyJump: hops })
      t.is((await runScript(connection, 'echo far')).stdout.toString(), 'far\n')
      t.is(second.open(), 1)
      t.is(logins() - before, 1)
      connection.close()
      await eventually(() => second.open() === 0)
      await t.throwsAsync(connect('h1', { ...settings, proxyJump: hops }), {
        message: /host key of the bastion .* is not known/,
      })
    }
  } finally {
    await second.stop()
  }
})
