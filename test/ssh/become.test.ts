// Becoming another user, by sudo, su and doas, on a real sshd.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { connect } from '../../lib/connection/connect.ts'
import type { Connection } from '../../lib/connection/connection.ts'
import { runScript } from '../../lib/connection/files.ts'
import { remoteShell } from '../../lib/connection/remote.ts'
import { type BecomeSettings, becomeMethods } from '../../lib/connection/settings.ts'
import { HostFailedError, type RekeyError } from '../../lib/errors.ts'
import { eventually } from '../_eventually.ts'
import { type BecomePrograms, becomePrograms, rightPassword } from './_become-programs.ts'
import { sshdMissing, startSshd, type TestSshd, terminalMissing } from './sshd.ts'

const missing = sshdMissing()
const real = missing ? test.skip : test.serial
let sshd: TestSshd
let programs: BecomePrograms
let folder: string

if (missing) test.skip(`becoming another user is not tested: ${missing}`, () => {})

test.before(async () => {
  if (missing) return
  folder = mkdtempSync(join(tmpdir(), 'rekey-become-'))
  programs = becomePrograms(folder)
  sshd = await startSshd(programs.configuration)
})
test.beforeEach(() => programs?.reset())
test.after.always(async () => {
  await sshd?.stop()
  if (folder) rmSync(folder, { recursive: true, force: true })
})

const kinds = ['ssh', 'openssh'] as const
const open = (kind: (typeof kinds)[number], become: BecomeSettings): Promise<Connection> =>
  connect('h1', { ...sshd.settings, kind, become })

const everyByte = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 256))

for (const [kind, method] of kinds.flatMap(kind => becomeMethods.map(method => [kind, method] as const))) {
  // doas asks on a terminal, and nowhere else.
  const terminal = method === 'doas' ? terminalMissing() : undefined
  const asks = terminal ? test.skip : real
  if (terminal) test.skip(`doas with a password is not tested: ${terminal}`, () => {})
  asks(
    `${kind}, ${method}: a command runs as the other user, its input and output untouched by the question`,
    async t => {
      const connection = await open(kind, { method, user: 'deploy', password: rightPassword })
      const { code, stdout, stderr } = await runScript(connection, 'echo "$BECAME" >&2; cat; exit 7', {
        input: everyByte,
      })
      t.is(code, 7)
      t.true(stdout.equals(everyByte))
      t.is(stderr, 'deploy\n')
      t.notRegex(programs.calls().join(), /horse/)
      connection.close()
    },
  )

  asks(`${kind}, ${method}: what kills a command is told`, async t => {
    const connection = await open(kind, { method, user: 'deploy', password: rightPassword })
    const { code, signal } = await runScript(connection, 'kill -TERM $$')
    // The real su tells it as a shell does.
    t.deepEqual([code, signal], method === 'su' ? [143, null] : [null, 'SIGTERM'])
    connection.close()
  })

  asks(`${kind}, ${method}: a wrong password is one clear error, and is not tried again`, async t => {
    const connection = await open(kind, { method, user: 'deploy', password: 'wrong pony' })
    const error = await t.throwsAsync<RekeyError>(
      runScript(connection, 'echo ran', { input: Buffer.from('input\n') }),
      {
        instanceOf: HostFailedError,
        message: new RegExp(`^h1: ${method} did not accept the password to become deploy`),
      },
    )
    t.is(error.code, 'become.password')
    t.notRegex(error.message, /pony/)
    t.is(programs.calls().length, 1)
    await t.throwsAsync(runScript(connection, 'echo ran'), { message: error.message })
    t.is(programs.calls().length, 1)
    connection.close()
  })

  asks(`${kind}, ${method}: where nobody is asked, the password is not taken for input`, async t => {
    programs.allowEverybody()
    const connection = await open(kind, { method, user: 'deploy', password: rightPassword })
    t.is((await runScript(connection, 'cat', { input: Buffer.from('mine') })).stdout.toString(), 'mine')
    connection.close()
  })

  real(
    `${kind}, ${method}: without a password, commands run where none is needed, and say so where one is`,
    async t => {
      const connection = await open(kind, { method, user: 'deploy' })
      const error = await t.throwsAsync<RekeyError>(runScript(connection, 'cat', { input: Buffer.from('input\n') }), {
        message: `h1: ${method} asks for a password to become deploy`,
      })
      t.regex(error.hint ?? '', /-K/)
      programs.allowEverybody()
      t.is((await remoteShell(connection)`echo $BECAME`).stdout, 'deploy\n')
      connection.close()
    },
  )

  asks(`${kind}, ${method}: who may not become the other user is told what was said`, async t => {
    const connection = await open(kind, { method, user: 'forbidden', password: rightPassword })
    await t.throwsAsync(runScript(connection, 'true'), {
      message: /^h1: (sudo|su|doas) did not accept the password to become forbidden/,
    })
    connection.close()
  })

  asks(`${kind}, ${method}: a time-out ends what the other user runs`, async t => {
    const connection = await open(kind, { method, user: 'deploy', password: rightPassword })
    const file = join(folder, 'pid')
    rmSync(file, { force: true })
    await t.throwsAsync(async () => remoteShell(connection)({ timeout: 3_000 })`echo $$ >${file}; exec sleep 60`, {
      message: /did not finish within 3 s/,
    })
    const pid = Number(readFileSync(file, 'utf8'))
    const runs = () => {
      try {
        process.kill(pid, 0)
        return true
      } catch {
        return false
      }
    }
    await eventually(() => !runs())
    t.false(runs())
    connection.close()
  })
}

real('who is the other user already becomes nobody', async t => {
  const { user } = sshd.settings
  const connection = await open('ssh', { method: 'sudo', user, password: rightPassword })
  t.is((await remoteShell(connection)`echo "<$BECAME>"`).stdout, '<>\n')
  t.deepEqual(programs.calls(), [])
  connection.close()
})
