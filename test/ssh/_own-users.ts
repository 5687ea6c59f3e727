// An sshd that has users of its own, with passwords: in a mount namespace, /etc/passwd and /etc/shadow are others. Nothing of it
// is left when it ends. Only root may do that.
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startSshd, type TestSshd } from './sshd.ts'

/** Someone with the password `rightPassword`, and no other right. Root has it, too. */
export const ownUser = 'rekey-operator'
/** Someone whom the first one may become without a password. */
export const otherUser = 'rekey-other'
/** `correct horse battery`, as crypt(3) hashes it with SHA-512. */
const hashed = '$6$rekeytest$MjBEtAVb0yu8qjovpg8geSugACCE4AzXCtfosJUOYKM3RKmqSwfzQiSoaVgFgg5Vz6gbiv3HMwkm5C5ioeL.41'

/** Why there can be no such sshd here, or `undefined` where there can. */
export function ownUsersMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can give sshd users of its own'
  try {
    execFileSync('unshare', ['--mount', 'true'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'this machine has no mount namespaces'
  }
}

/** Who may become whom there, as sudo, doas and su read it: the one with the password may become root, and the other without it. */
const permissions = {
  sudoers: `Defaults use_pty\nroot ALL=(ALL) ALL\n${ownUser} ALL=(root) ALL\n${ownUser} ALL=(${otherUser}) NOPASSWD: ALL\n`,
  'doas.conf': `permit ${ownUser} as root\npermit nopass ${ownUser} as ${otherUser}\n`,
  'pam.d/su': `auth sufficient pam_succeed_if.so user = ${otherUser}\nauth required pam_unix.so\naccount required pam_unix.so\n`,
} as const

/**
 * Starts it.
 * @param configuration lines that win over the usual ones
 * @param permits files of `/etc` that it has beside its users
 */
export function startSshdWithUsers(
  configuration: readonly string[] = [],
  permits: readonly (keyof typeof permissions)[] = [],
): Promise<TestSshd> {
  return startSshd([...configuration, 'PasswordAuthentication yes', 'PermitRootLogin yes', 'UsePAM yes'], {
    user: ownUser,
    wrap: (command, folder) => {
      const passwd = readFileSync('/etc/passwd', 'utf8')
      const users = [ownUser, otherUser].map((name, index) => `${name}:x:${64123 + index}:64123::/tmp:/bin/sh\n`)
      writeFileSync(join(folder, 'passwd'), `${passwd}${users.join('')}`)
      const shadow = readFileSync('/etc/shadow', 'utf8').replace(/^root:[^:]*:[^:]*/m, `root:${hashed}:19000`)
      writeFileSync(
        join(folder, 'shadow'),
        `${shadow}${ownUser}:${hashed}:19000:0:99999:7:::\n${otherUser}:*:19000:0:99999:7:::\n`,
        { mode: 0o640 },
      )
      // Its keys are looked at as the user.
      chmodSync(folder, 0o755)
      chmodSync(join(folder, 'authorized_keys'), 0o644)
      const mounts = ['passwd', 'shadow'].map(name => `mount --bind ${join(folder, name)} /etc/${name}`)
      if (permits.length > 0) {
        // Not each of these files is there to be covered.
        const [upper, work] = ['etc', 'etc-work'].map(name => join(folder, name)) as [string, string]
        for (const path of [upper, work]) mkdirSync(path, { mode: 0o755 })
        mkdirSync(join(upper, 'pam.d'), { mode: 0o755 })
        for (const name of permits) writeFileSync(join(upper, name), permissions[name], { mode: 0o440 })
        mounts.unshift(`mount -t overlay overlay -o lowerdir=/etc,upperdir=${upper},workdir=${work} /etc`)
      }
      return [
        'unshare',
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-ec',
        [...mounts, 'exec "$@"'].join('\n'),
        'sh',
        ...command,
      ]
    },
  })
}
