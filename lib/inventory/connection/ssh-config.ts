// `~/.ssh/config` and the system's, as ssh itself understands them: Host, Match and Include are left to `ssh -G`.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { passwdHome } from '../../operator.ts'

/** Options of ssh for one destination, by their names in lower case; of `identityfile` there may be several. */
export type SshConfig = ReadonlyMap<string, readonly string[]>

const systemFile = '/etc/ssh/ssh_config'
const systemFolder = '/etc/ssh/ssh_config.d'
// What Debian, Fedora and others ship: nothing of it says where a host is or who may log in.
const harmless = /^(#|Include\s|Host\s+\*$|SendEnv\s|HashKnownHosts\s|GSSAPIAuthentication\s|$)/i

/** True when a configuration of ssh may say something about hosts; without one, no program needs to be run. */
export function sshConfigMatters(): boolean {
  // ssh looks into the home folder of the passwd file, and refuses to run for a user without an entry there.
  const home = passwdHome() ?? process.env['HOME']
  if (home && existsSync(join(home, '.ssh', 'config'))) return true
  if (!existsSync(systemFile)) return false
  if (
    !readFileSync(systemFile, 'utf8')
      .split('\n')
      .every(line => harmless.test(line.trim()))
  )
    return true
  return existsSync(systemFolder) && readdirSync(systemFolder).some(name => name.endsWith('.conf'))
}

/**
 * What ssh would use for a destination with these arguments. Throws `RekeyError` with ssh's own words when it refuses
 * them, e.g. for a mistake in the configuration.
 */
export function readSshConfig(destination: string, args: readonly string[]): SshConfig {
  let printed: string
  try {
    printed = execFileSync('ssh', ['-G', ...args, '--', destination], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 10_000,
    })
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: string }
    const why =
      code === 'ENOENT'
        ? 'there is no ssh on this machine to read it'
        : (stderr?.trim().split('\n')[0] ?? String(error))
    throw new RekeyError(`${destination}: the configuration of ssh can't be read: ${why}`, {
      code: 'inventory.ssh-config',
      hint: why.startsWith('No user exists')
        ? 'Give this user id an entry in the passwd file, or leave no configuration of ssh for it to be asked about.'
        : 'Try the same by hand: ssh -G HOST.',
      cause: error,
    })
  }
  const config = new Map<string, string[]>()
  for (const line of printed.split('\n')) {
    const cut = line.indexOf(' ')
    if (cut === -1) continue
    const name = line.slice(0, cut).toLowerCase()
    config.set(name, [...(config.get(name) ?? []), line.slice(cut + 1)])
  }
  return config
}

let defaults: SshConfig | undefined

/** What ssh would use if nobody had configured anything: to tell a choice from a default. */
export function sshDefaults(): SshConfig {
  defaults ??= readSshConfig('localhost', ['-F', '/dev/null'])
  return defaults
}
