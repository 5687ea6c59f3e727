// The sudo, su and doas of the system: a password goes to whom it is for, whatever a host, a login or a command prints.
import { existsSync } from 'node:fs'
import test from 'ava'
import { connect } from '../../lib/connection/connect.ts'
import { runScript } from '../../lib/connection/files.ts'
import { remoteShell } from '../../lib/connection/remote.ts'
import { becomeMethods } from '../../lib/connection/settings.ts'
import { rightPassword } from './_become-programs.ts'
import { otherUser, ownUsersMissing, startSshdWithUsers } from './_own-users.ts'
import { sshdMissing, type TestSshd } from './sshd.ts'

const missing = sshdMissing() ?? ownUsersMissing()
let sshd: TestSshd

if (missing) test.skip(`the system's own sudo, su and doas are not tested: ${missing}`, () => {})
test.before(async () => {
  if (missing) return
  const permits = ['sudoers', 'doas.conf', 'pam.d/su'] as const
  // What a login says before anything else, on both streams, ends with a colon, as many a greeting does.
  const login = 'ForceCommand printf "Password: "; printf "(%s) Password:" "$USER" >&2; eval "$SSH_ORIGINAL_COMMAND"'
  sshd = await startSshdWithUsers([login], permits)
})
test.after.always(() => sshd?.stop())

const kinds = ['ssh', 'openssh'] as const
/** Prints what looks like a question, on both streams and early, and then what comes in. */
const likeAQuestion = `printf 'user:'; printf '[sudo] password for me: ' >&2; id -un; cat`

for (const method of becomeMethods) {
  const absent = !existsSync(`/usr/bin/${method}`)
  const able = missing || absent ? test.skip : test.serial
  for (const user of ['root', otherUser] as const) {
    const asked = user === 'root' ? 'asks for the password' : 'asks for none'
    able(
      `${method} ${asked}: no command gets it, whatever it prints${absent ? ' (skipped: it is not installed)' : ''}`,
      async t => {
        for (const kind of kinds) {
          const become = { method, user, password: rightPassword }
          const settings = { ...sshd.settings, kind, privateKeyFile: undefined, password: rightPassword, become }
          const connection = await connect('h1', settings)
          const $ = remoteShell(connection)
          const commands = Array.from({ length: 4 }, async () => {
            const { stdout, stderr } = await $`sh -c ${likeAQuestion}`
            t.is(stdout, `user:${user}\n`)
            t.regex(stderr, /\[sudo\] password for me: $/)
          })
          await Promise.all(commands)
          const input = Buffer.from('one:\ntwo: ')
          const fed = await runScript(connection, likeAQuestion, { input })
          t.is(fed.stdout.toString(), `user:${user}\none:\ntwo: `)
          t.is((await runScript(connection, 'printenv; exit 9')).stdout.includes('horse'), false)
          connection.close()
        }
      },
    )
  }
}
