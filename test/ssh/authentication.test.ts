// Proving to a host who we are: keys, agent, passwords, certificates. On a real sshd that knows users of its own.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { connect } from '../../lib/connection/connect.ts'
import { runScript } from '../../lib/connection/files.ts'
import { lockedKeyFiles, unlockKey } from '../../lib/connection/login/private-keys.ts'
import type { ConnectionSettings } from '../../lib/connection/settings.ts'
import { HostFailedError, type RekeyError, UnreachableError } from '../../lib/errors.ts'
import { rightPassword } from './_become-programs.ts'
import { ownUser, ownUsersMissing, startSshdWithUsers } from './_own-users.ts'
import { sshdMissing, startSshd, type TestSshd } from './sshd.ts'

const missing = sshdMissing()
const real = missing ? test.skip : test.serial
const alone = missing ?? ownUsersMissing()
const withUsers = alone ? test.skip : test.serial
const kinds = ['ssh', 'openssh'] as const
let sshd: TestSshd
let folder: string
let agent: { socket: string; process: ChildProcess }

if (alone) test.skip(`logging in is not tested in full: ${alone}`, () => {})

test.before(async () => {
  if (missing) return
  folder = mkdtempSync(join(tmpdir(), 'rekey-login-'))
  sshd = alone ? await startSshd() : await startSshdWithUsers(['KbdInteractiveAuthentication no'])
  const socket = join(folder, 'agent')
  const started = spawn('ssh-agent', ['-D', '-a', socket], { stdio: ['ignore', 'pipe', 'ignore'] })
  await once(started.stdout, 'data')
  agent = { socket, process: started }
})
test.beforeEach(() => {
  delete process.env['SSH_AUTH_SOCK']
})
test.after.always(async () => {
  await sshd?.stop()
  agent?.process.kill()
  if (folder) rmSync(folder, { recursive: true, force: true })
})

const whoAmI = async (settings: ConnectionSettings): Promise<string> => {
  const connection = await connect('h1', settings)
  const { stdout } = await runScript(connection, 'id -un; printenv SSH_AUTH_SOCK || echo no agent')
  connection.close()
  return stdout.toString()
}
const withoutKey = ({ settings }: TestSshd): ConnectionSettings => ({ ...settings, privateKeyFile: undefined })
const refused = (t: ExecutionContext, connecting: Promise<unknown>, message: RegExp) =>
  t.throwsAsync<RekeyError>(connecting, { instanceOf: UnreachableError, message })

/** A copy of the user's key that needs a passphrase. */
function lockedKey(): string {
  const file = join(folder, 'locked')
  copyFileSync(join(sshd.folder, 'user'), file)
  execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', rightPassword, '-f', file])
  return file
}

for (const kind of kinds) {
  withUsers(`${kind}: a password lets us in, and a wrong one is tried once`, async t => {
    const settings = { ...withoutKey(sshd), kind }
    t.is(await whoAmI({ ...settings, password: rightPassword }), `${ownUser}\nno agent\n`)
    const error = await refused(
      t,
      connect('h1', { ...settings, password: 'wrong pony' }),
      /h1 did not let us in as rekey-operator@127\.0\.0\.1:\d+ with .* \(it takes: publickey, password\)/,
    )
    t.notRegex(error?.message ?? '', /pony/)
  })

  real(`${kind}: an encrypted key is used once it was unlocked, or by the agent, which is not forwarded`, async t => {
    const file = lockedKey()
    const settings = { ...sshd.settings, kind, privateKeyFile: file }
    t.deepEqual(await lockedKeyFiles(settings), [file])
    await refused(
      t,
      connect('h1', settings),
      kind === 'ssh' ? /locked is encrypted/ : /asked "Enter passphrase for key/,
    )
    t.is(await unlockKey(file, 'wrong pony'), undefined)
    const key = await unlockKey(file, rightPassword)
    t.regex(await whoAmI({ ...settings, unlockedKeys: new Map([[file, key!]]) }), /\nno agent\n/)
    execFileSync('ssh-add', ['-q', join(sshd.folder, 'user')], {
      env: { ...process.env, SSH_AUTH_SOCK: agent.socket },
      stdio: 'ignore',
    })
    process.env['SSH_AUTH_SOCK'] = agent.socket
    t.deepEqual(await lockedKeyFiles(settings), [])
    t.regex(await whoAmI(settings), /\nno agent\n/)
    t.regex(await whoAmI({ ...settings, privateKeyFile: undefined }), /\nno agent\n/)
    execFileSync('ssh-add', ['-q', '-D'], { env: { ...process.env, SSH_AUTH_SOCK: agent.socket }, stdio: 'ignore' })
    await refused(
      t,
      connect('h1', { ...settings, privateKeyFile: undefined, address: 'localhost', knownHostsFiles: [localhost()] }),
      /did not let us in/,
    )
  })

  for (const [offer, what] of [
    [['KexAlgorithms diffie-hellman-group14-sha1'], 'key exchange (algorithm|method)'],
    [['Ciphers aes128-cbc,3des-cbc'], '(client->server|C->S) cipher|cipher'],
    [['Ciphers aes128-ctr', 'MACs hmac-sha1'], '(client->server|C->S) MAC|MAC'],
    [['HostKeyAlgorithms ssh-rsa'], 'host key (algorithm|format|type)'],
  ] as const) {
    real(`${kind}: a host that offers nothing modern is said to be too old: ${offer.join(', ')}`, async t => {
      const old = await startSshd(offer)
      try {
        if (offer[0].includes('ssh-rsa')) await withRsaKey(old)
        const error = await refused(
          t,
          connect('h1', { ...old.settings, kind }),
          new RegExp(`^h1 is too old to be trusted: it offers no (${what}) that rekey accepts$`),
        )
        t.is(error?.hint, 'Update its SSH server; nothing with SHA-1 or CBC is accepted.')
      } finally {
        await old.stop()
      }
    })
  }
}

/** Gives an sshd another host key, of RSA, and has it known. */
async function withRsaKey({ folder, port, restart }: TestSshd): Promise<void> {
  for (const name of ['host', 'host.pub']) rmSync(join(folder, name))
  execFileSync('ssh-keygen', ['-q', '-t', 'rsa', '-b', '2048', '-N', '', '-f', join(folder, 'host')])
  writeFileSync(join(folder, 'known_hosts'), `[127.0.0.1]:${port} ${readFileSync(join(folder, 'host.pub'), 'utf8')}`)
  await restart()
}

/** The host's key, known as that of localhost. */
function localhost(): string {
  const file = join(folder, 'localhost')
  writeFileSync(file, `[localhost]:${sshd.port} ${readFileSync(join(sshd.folder, 'host.pub'), 'utf8')}`)
  return file
}

withUsers('questions of PAM are answered with the password; a key and a password may both be wanted', async t => {
  const asking = await startSshdWithUsers(['KbdInteractiveAuthentication yes', 'PasswordAuthentication no'])
  const both = await startSshdWithUsers(['AuthenticationMethods publickey,password'])
  try {
    for (const kind of kinds) {
      t.regex(await whoAmI({ ...withoutKey(asking), kind, password: rightPassword }), /^rekey-operator\n/)
      await refused(t, connect('h1', { ...withoutKey(asking), kind, password: 'wrong pony' }), /did not let us in/)
      t.regex(await whoAmI({ ...both.settings, kind, password: rightPassword }), /^rekey-operator\n/)
      await refused(t, connect('h1', { ...both.settings, kind }), /did not let us in .*password/)
    }
  } finally {
    await asking.stop()
    await both.stop()
  }
})

real('openssh shows a certificate that lies beside the key; ssh says that it can not', async t => {
  for (const name of ['authority', 'certified']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)])
  }
  const signing = ['-q', '-s', join(folder, 'authority'), '-I', 'test', '-n', userInfo().username]
  execFileSync('ssh-keygen', [...signing, join(folder, 'certified.pub')])
  const trusting = await startSshd([
    `TrustedUserCAKeys ${join(folder, 'authority.pub')}`,
    `AuthorizedPrincipalsFile none`,
  ])
  try {
    const settings = { ...trusting.settings, privateKeyFile: join(folder, 'certified') }
    t.regex(await whoAmI({ ...settings, kind: 'openssh' }), /no agent/)
    const error = await refused(t, connect('h1', settings), /did not let us in/)
    t.regex(error?.hint ?? '', /Certificates .* need ansible_connection=openssh/)
  } finally {
    await trusting.stop()
  }
})

for (const [method, file] of [
  ['sudo', 'sudoers'],
  ['doas', 'doas.conf'],
] as const) {
  const absent = !existsSync(`/usr/bin/${method}`)
  const able = absent ? test.skip : withUsers
  able(
    `the real ${method} becomes root with the password, and refuses a wrong one at once${absent ? ' (skipped: it is not installed)' : ''}`,
    async t => {
      const own = await startSshdWithUsers([], [file])
      try {
        const login = { ...withoutKey(own), password: rightPassword }
        const become = { method, user: 'root' } as const
        const input = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 256))
        for (const kind of kinds) {
          const connection = await connect('h1', { ...login, kind, become: { ...become, password: rightPassword } })
          const ended = await runScript(connection, 'id -u >&2; cat; exit 7', { input })
          t.true(ended.stdout.equals(input))
          t.is(ended.stderr, '0\n')
          t.is(ended.code, 7)
          connection.close()
          const other = await connect('h1', { ...login, kind, become: { ...become, password: 'wrong pony' } })
          const started = performance.now()
          const error = await t.throwsAsync<RekeyError>(runScript(other, 'id -u', { input }), {
            instanceOf: HostFailedError,
            message: new RegExp(`^h1: ${method} did not accept the password to become root`),
          })
          t.is(error?.code, 'become.password')
          t.notRegex(error?.message ?? '', /pony/)
          // PAM waits two seconds or so before it says no; it is asked once.
          t.true(performance.now() - started < 15_000)
          other.close()
          const without = await connect('h1', { ...login, kind, become })
          await t.throwsAsync(runScript(without, 'id -u'), {
            message: `h1: ${method} asks for a password to become root`,
          })
          without.close()
        }
      } finally {
        await own.stop()
      }
    },
  )
}

withUsers('the real su becomes root with the password, and refuses a wrong one at once', async t => {
  const become = { method: 'su', user: 'root', password: rightPassword } as const
  const login = { ...withoutKey(sshd), password: rightPassword }
  const connection = await connect('h1', { ...login, become })
  const input = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
  const ended = await runScript(connection, 'id -u >&2; cat; exit 7', { input })
  t.true(ended.stdout.equals(input))
  t.is(ended.stderr, '0\n')
  t.is(ended.code, 7)
  connection.close()
  const other = await connect('h1', { ...login, become: { ...become, password: 'wrong pony' } })
  await t.throwsAsync(runScript(other, 'id -u', { input }), {
    instanceOf: HostFailedError,
    message: /^h1: su did not accept the password to become root: su: Authentication failure$/,
  })
  other.close()
})
