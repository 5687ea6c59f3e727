// Accounts of a host as they are, all that are asked for at once: its databases of users, groups and passwords, and the homes.
import { raw } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { tellSecret } from '../../secrets/index.ts'

/** Who is asked for, and what else is of interest then. */
export interface Sought {
  readonly name: string
  /** Where its home shall be, if not where it is. */
  readonly home?: string
  readonly group?: string | number
  readonly groups?: readonly string[]
  readonly password?: unknown
  readonly passwordLock?: boolean
}

export interface Account {
  readonly uid: number
  readonly gid: number
  readonly comment: string
  readonly home: string
  readonly shell: string
  /** The groups that name it, not the primary one. */
  readonly groups: readonly string[]
  /** The hash; empty where there is none, or it can't be read. */
  readonly password: string
  /** The line of /etc/shadow; empty where there is none, or it can't be read. */
  readonly shadow: string
}

/** What there is of one of them. */
export interface Found {
  readonly account?: Account
  /** Whether the home that it shall have is there. */
  readonly hasHome: boolean
  /** Whether there is a group of its name. */
  readonly hasOwnGroup: boolean
  /** The groups that were asked for and are there, by what they were asked for by. */
  readonly groups: ReadonlyMap<string, { readonly name: string; readonly gid: number }>
}

/** Looks for accounts, in one round trip. Their hashes are secrets from then on. */
export async function lookAt({ $, host }: HostSession, sought: readonly Sought[]): Promise<Found[]> {
  if (sought.length === 0) return []
  const script = `while read -r u n; do
  p=$(getent passwd "$u") && printf 'P%s\\n' "$p" && printf 'S%s\\n' "$(getent shadow "$u" 2>/dev/null)"
  getent group | while IFS=: read -r g _ _ m; do case ",$m," in *",$u,"*) printf 'G%s\\n' "$g" ;; esac; done
  getent group "$u" >/dev/null && echo O
  while [ "$n" -gt 0 ]; do n=$((n - 1)); IFS= read -r g; printf 'I%s %s\\n' "$g" "$(getent group "$g" | cut -d: -f1,3)"; done
  IFS= read -r h; [ -n "$h" ] || h=$(printf '%s' "$p" | cut -d: -f6)
  [ -n "$h" ] && [ -e "$h" ] && echo H
  echo ==
done; id -u`
  const groupsOf = ({ group, groups = [] }: Sought) => [...(group === undefined ? [] : [`${group}`]), ...groups]
  const input = sought
    .map(one =>
      [`${one.name} ${groupsOf(one).length}`, ...groupsOf(one), one.home ?? ''].map(line => `${line}\n`).join(''),
    )
    .join('')
  const { exitCode, stdout, stderr } = await $({ input, quiet: true, nothrow: true })`${raw(script)}`
  const parts = stdout.split(/^==\n/m)
  if (exitCode !== 0 || parts.length <= sought.length) {
    throw new HostFailedError(`${host.name}: its users can't be read: ${stderr.trim() || 'it says nothing'}`, {
      code: 'user.unreadable',
      host: host.name,
    })
  }
  const isRoot = parts.at(-1)?.trim() === '0'
  return sought.map(({ name, password, passwordLock }, index) => {
    const lines = parts[index]!.split('\n')
    const of = (mark: string) => lines.filter(line => line.startsWith(mark)).map(line => line.slice(1))
    const [, , uid, gid, comment = '', home = '', shell = ''] = of('P')[0]?.split(':') ?? []
    const [shadow = ''] = of('S')
    if (uid !== undefined && !isRoot && (password !== undefined || passwordLock !== undefined)) {
      throw new HostFailedError(`${host.name}: the password of ${name} is known to root alone`, {
        code: 'user.not-root',
        host: host.name,
        hint: 'Become root: ansible_become, or -b.',
      })
    }
    const hash = shadow.split(':')[1] ?? ''
    tellSecret(hash.replace(/^!/, ''))
    const account = {
      uid: Number(uid),
      gid: Number(gid),
      comment,
      home,
      shell,
      groups: of('G'),
      password: hash,
      shadow,
    }
    const asked = of('I').map(
      line => [line.slice(0, line.lastIndexOf(' ')), line.slice(line.lastIndexOf(' ') + 1)] as const,
    )
    return {
      ...(uid === undefined ? {} : { account }),
      hasHome: of('H').length > 0,
      hasOwnGroup: of('O').length > 0,
      groups: new Map(
        asked
          .filter(([, found]) => found !== '')
          .map(([by, found]) => [by, { name: found.split(':')[0]!, gid: Number(found.split(':')[1]) }]),
      ),
    }
  })
}
