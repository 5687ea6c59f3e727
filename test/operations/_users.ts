// Accounts of the tests' own: a namespace of mounts whose /etc and /home are copies, in which the real useradd works. Root alone can make one.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A case: what there is, what is asked, and what ansible-core made of it (npm run test:update-ansible writes that). */
export interface UserCase {
  readonly about: string
  /** Commands before it. */
  readonly before: readonly string[]
  readonly options: Readonly<Record<string, unknown>> & { readonly name: string }
  readonly ansible?: UserAnswer
  /** Where rekey does something else, why, and what. */
  readonly rekey?: Partial<UserAnswer> & { readonly why: string }
}

export interface UserAnswer {
  readonly failed?: boolean
  readonly check: boolean
  readonly changed: boolean
  readonly again: boolean
  /** What `stateOf` prints. */
  readonly after: string
}

/** A command that prints an account: its line of passwd, its hash, its groups, and its home. */
export const stateOf = (name: string) =>
  `getent passwd ${name}; getent shadow ${name} | cut -d: -f2; id -Gn ${name} 2>/dev/null | tr ' ' '\\n' | sort | tr '\\n' ' '; for h in /home/${name} /home/new-${name}; do [ ! -d $h ] || stat -c '%n %a %u:%g' $h; [ ! -e $h/.profile ] || echo profile; [ ! -e $h/own ] || echo own; done`

/** The namespace. */
export interface Users {
  /** What comes before a command so that it runs there. */
  readonly enter: readonly string[]
  close(): void
}

export const canHaveUsers =
  process.getuid?.() === 0 && existsSync('/usr/sbin/useradd') && existsSync('/usr/bin/unshare')

/** A machine of the tests' own: further files in /etc, and a name and a network, by a script that makes them. */
export interface Own {
  readonly etc?: Readonly<Record<string, string>>
  readonly network?: string
}

/** Makes one: root, a few groups, and nobody else. */
export async function makeUsers({ etc: files = {}, network }: Own = {}): Promise<Users> {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-users-'))
  const etc = join(folder, 'etc')
  mkdirSync(join(folder, 'home'))
  mkdirSync(join(etc, 'skel'), { recursive: true })
  for (const name of [
    'login.defs',
    'pam.d',
    'security',
    'default',
    'ld.so.cache',
    'ld.so.conf',
    'ld.so.conf.d',
    'localtime',
    'ssl',
    'debian_version',
    'os-release',
    'passwd',
    'group',
  ])
    if (existsSync(join('/etc', name)))
      cpSync(join('/etc', name), join(etc, name), { recursive: true, verbatimSymlinks: true })
  writeFileSync(join(etc, 'skel', '.profile'), 'x\n')
  writeFileSync(
    join(etc, 'nsswitch.conf'),
    'passwd: files\ngroup: files\nshadow: files\ngshadow: files\nhosts: files dns\n',
  )
  writeFileSync(join(etc, 'passwd'), 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/bin/false\n')
  writeFileSync(
    join(etc, 'group'),
    'root:x:0:\nusers:x:100:\nnogroup:x:65534:\none:x:2001:\ntwo:x:2002:\nthree:x:2003:\n',
  )
  writeFileSync(join(etc, 'shadow'), 'root:*:19000:0:99999:7:::\n', { mode: 0o640 })
  writeFileSync(join(etc, 'gshadow'), '', { mode: 0o640 })
  if ('os-release' in files)
    for (const name of ['os-release', 'debian_version']) rmSync(join(etc, name), { force: true })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(etc, name), text)
  const mounts = `mount --make-rprivate / && mount --bind ${etc} /etc && mount --bind ${join(folder, 'home')} /home`
  const script = ['set -e', mounts, network ?? '', 'echo there; exec cat'].join('\n')
  const spaces = network === undefined ? ['-m'] : ['-m', '-u', '-n']
  const child: ChildProcess = spawn('unshare', [...spaces, 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  await Promise.race([
    once(child.stdout!, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error('no namespace'))),
  ])
  return {
    enter: ['nsenter', ...spaces, '-t', String(child.pid), '--'],
    close: () => {
      child.stdin!.end()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Runs a script there. */
export function runThere({ enter }: Users, script: string): string {
  return execFileSync(enter[0]!, [...enter.slice(1), 'sh', '-c', script], { encoding: 'utf8' })
}
