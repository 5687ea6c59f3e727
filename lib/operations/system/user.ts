// `user`: accounts of a host, by its own useradd, usermod and userdel. A password's hash goes over stdin, never in a command line.
import { dirname } from 'node:path'
import { quote, raw, Secret, secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession, StepContext } from '../../playbook/model.ts'
import { notedList } from '../notes.ts'
import { operation } from '../operation.ts'
import {
  absolutePath,
  checkedOptions,
  type Kind,
  type Kinds,
  oneOf,
  truth,
  userName,
  wholeNumber,
  wrongOptions,
} from '../options.ts'
import { type Account, type Found, lookAt } from './accounts.ts'

/** A user, as it shall be. What is not said stays, or is what the host's useradd makes of it. */
export interface UserOptions {
  readonly name: string
  readonly state?: 'present' | 'absent'
  readonly uid?: number
  /** The primary group: its name or number. It must be there. */
  readonly group?: string | number
  /** The other groups, all of them; with `append`, at least these. They must be there. */
  readonly groups?: readonly string[]
  readonly append?: boolean
  /** The full name, or whatever else stands in that field. */
  readonly comment?: string
  readonly home?: string
  readonly shell?: string
  /** The hash of a password, as `mkpasswd` or `openssl passwd -6` print it; `*` for none. */
  readonly password?: string | Secret
  /** `on_create` leaves the password of a user that is there. */
  readonly updatePassword?: 'always' | 'on_create'
  /** Whether the password, whichever it is, lets nobody in. */
  readonly passwordLock?: boolean
  /** Whether the home is made where it is missing: it is where nothing is said. */
  readonly createHome?: boolean
  /** What is in the old home is moved to another `home`. */
  readonly moveHome?: boolean
  /** A new user is one of the system's: with a low number. */
  readonly system?: boolean
  /** With `absent`: home and mail go, too. They do not come back. */
  readonly remove?: boolean
  /** With `absent`: also where the user is logged in. */
  readonly force?: boolean
}

/** What a user was, for the way back. */
interface Kept {
  readonly name: string
  readonly before: Account | null
  /** Whether the home that it was to have was there. */
  readonly hadHome: boolean
  readonly moved: boolean
  /** Whether a home was to be made, and where, if that was said. */
  readonly makesHome: boolean
  readonly homeAt?: string
}

/** What is to be done about one user. */
interface Task {
  readonly options: UserOptions
  readonly found: Found
  readonly would: readonly string[]
  readonly script: readonly string[]
  /** `name:hash` for chpasswd, where there is one to be set. */
  readonly password?: string
}

/** Makes accounts be as they shall be. Registers nothing: what an account is, `getent` tells. */
export const user = operation<UserOptions, undefined>({
  name: 'user',
  check: given => checkTogether(checkedOptions<UserOptions>('user', given, kinds)),
  look: async (context, wanted) => {
    const found = await lookAt(context, wanted)
    const tasks = wanted.map((options, index) => taskFor(context, options, found[index]!))
    const due = tasks.filter(({ would }) => would.length > 0)
    return {
      would: due.flatMap(({ would }) => would),
      result: undefined,
      keep: () =>
        due.map(({ options, found: { account, hasHome } }): Kept => {
          const { name, moveHome: moved = false, createHome: makesHome = true, home } = options
          const homeAt = home === undefined ? {} : { homeAt: home }
          return { name, before: account ?? null, hadHome: hasHome, moved, makesHome, ...homeAt }
        }),
      apply: async () => {
        await perform(
          context,
          due.flatMap(({ script }) => script),
          due.flatMap(({ password }) => password ?? []),
        )
        return undefined
      },
    }
  },
  undo: async (session: HostSession & Partial<Pick<StepContext, 'log'>>, kept: readonly Kept[]) => {
    const now = await lookAt(
      session,
      kept.map(({ name }) => ({ name })),
    )
    const back = kept.map((one, index) => wayBack(one, now[index]!))
    const stays = await perform(
      session,
      back.flatMap(({ script }) => script),
      back.flatMap(({ password }) => password ?? []),
    )
    for (const line of stays.split('\n').filter(Boolean)) session.log?.(line)
    const gone = kept.filter(({ before, hadHome }, index) => before && !now[index]!.account && hadHome)
    const homes = await lookAt(
      session,
      gone.map(({ name }) => ({ name })),
    )
    const lost = gone.find((_, index) => !homes[index]!.hasHome)
    if (!lost) return
    throw new HostFailedError(
      `${session.host.name}: what was in ${lost.before!.home} was removed, and does not come back`,
      {
        code: 'user.home-gone',
        host: session.host.name,
        hint: `${lost.name} is there again, without a home: put it back from a backup.`,
      },
    )
  },
  kept: notedList<Kept>('accounts', isKept),
})

/** A field of /etc/passwd. */
const field: Kind = {
  words: 'a text of one line without a colon',
  fits: value => typeof value === 'string' && !/[:\n\0]/.test(value),
}

const kinds: Kinds<UserOptions> = {
  name: {
    words: 'the name of one user',
    fits: value => typeof value === 'string' && /^[\w.][\w.@+-]*\$?$/.test(value) && !/^\d+$/.test(value),
    required: true,
  },
  state: oneOf('present', 'absent'),
  uid: wholeNumber,
  group: userName,
  groups: {
    words: 'a list of groups',
    fits: value => Array.isArray(value) && value.every(one => userName.fits(one) && !String(one).includes(',')),
  },
  append: truth,
  comment: field,
  home: { ...absolutePath, fits: value => absolutePath.fits(value) && field.fits(value) },
  shell: field,
  password: {
    words: 'the hash of a password, as `openssl passwd -6` prints it, or *',
    fits: value => isHash(value instanceof Secret ? value.reveal() : value),
    secret: true,
  },
  updatePassword: oneOf('always', 'on_create'),
  passwordLock: truth,
  createHome: truth,
  moveHome: truth,
  system: truth,
  remove: truth,
  force: truth,
}

function isKept(one: Partial<Record<keyof Kept, unknown>> | null): boolean {
  if (typeof one !== 'object' || one === null) return false
  const { name, before, hadHome, moved, makesHome, homeAt } = one
  return (
    kinds.name.fits(name) &&
    [hadHome, moved, makesHome].every(truth.fits) &&
    (homeAt === undefined || kinds.home.fits(homeAt)) &&
    (before === null || isAccount(before as Partial<Record<keyof Account, unknown>> | undefined))
  )
}

function isAccount(one: Partial<Record<keyof Account, unknown>> | undefined): boolean {
  if (typeof one !== 'object' || one === null) return false
  return (
    [one.uid, one.gid].every(wholeNumber.fits) &&
    [one.comment, one.home, one.shell, one.password].every(field.fits) &&
    // Those of a directory service may have blanks.
    Array.isArray(one.groups) &&
    one.groups.every(group => field.fits(group) && !group.includes(',')) &&
    typeof one.shadow === 'string' &&
    // Its dates are numbers.
    /^$|^[^:\s]+:[^:\s]*(:-?\d*){0,7}$/.test(one.shadow)
  )
}

function isHash(value: unknown): boolean {
  return typeof value === 'string' && (/^!?\$[\w./$,=+-]+$/.test(value) || /^(!|\*|!\*|)$/.test(value))
}

function checkTogether(options: UserOptions): UserOptions {
  const { state, remove, force, append, groups } = options
  if (state !== 'absent' && (remove || force)) {
    throw wrongOptions(`user(): ${remove ? 'remove' : 'force'} goes with state absent only`)
  }
  if (append && groups === undefined) throw wrongOptions('user(): append needs groups')
  return options
}

function taskFor({ host }: HostSession, options: UserOptions, found: Found): Task {
  const { name, state = 'present', group, groups = [] } = options
  const { account } = found
  if (state === 'absent') {
    if (!account) return { options, found, would: [], script: [] }
    const flags = `${options.force ? ' -f' : ''}${options.remove ? ' -r' : ''}`
    const would = `remove the user ${name}${options.remove ? `, and ${account.home}` : ''}`
    return { options, found, would: [would], script: [`userdel${flags} -- ${quote(name)}`] }
  }
  const missing = [group, ...groups].find(one => one !== undefined && !found.groups.has(String(one)))
  if (missing !== undefined) {
    throw new HostFailedError(`${host.name} has no group ${missing}, which ${name} shall be in`, {
      code: 'user.group',
      host: host.name,
      hint: 'Make it first: $`groupadd …`.',
    })
  }
  return account ? changed(options, found, account) : added(options, found)
}

const revealed = (password: string | Secret) => (password instanceof Secret ? password.reveal() : password)
const locked = (hash: string) => `!${hash.replace(/^!+/, '')}`

function added(options: UserOptions, found: Found): Task {
  const { name, uid, group, groups = [], comment, home, shell, password, passwordLock, createHome = true } = options
  const flags = [
    ...(uid === undefined ? [] : ['-u', `${uid}`]),
    ...(group === undefined ? (found.hasOwnGroup ? ['-N'] : []) : ['-g', `${group}`]),
    ...(groups.length === 0 ? [] : ['-G', groups.join(',')]),
    ...(comment === undefined ? [] : ['-c', comment]),
    ...(home === undefined ? [] : ['-d', home]),
    ...(shell === undefined ? [] : ['-s', shell]),
    createHome ? '-m' : '-M',
    ...(options.system ? ['-r'] : []),
  ]
  const parents = home !== undefined && createHome ? [`mkdir -p -- ${quote(dirname(home))}`] : []
  const hash = password === undefined ? undefined : revealed(password)
  return {
    options,
    found,
    would: [`add the user ${name}`],
    script: [...parents, `useradd ${flags.map(quote).join(' ')} -- ${quote(name)}`],
    ...(hash === undefined ? {} : { password: `${name}:${passwordLock ? locked(hash) : hash}` }),
  }
}

function changed(options: UserOptions, found: Found, account: Account): Task {
  const { name, uid, group, groups, append, comment, home, shell, password, passwordLock, createHome = true } = options
  const would: string[] = []
  const flags: string[] = []
  const set = (what: string, ...more: string[]) => {
    would.push(`${what} of ${name}`)
    flags.push(...more)
  }
  if (uid !== undefined && uid !== account.uid) set(`change the number ${account.uid} to ${uid}`, '-u', `${uid}`)
  const gid = group === undefined ? undefined : found.groups.get(String(group))!.gid
  if (gid !== undefined && gid !== account.gid) set(`change the group to ${group}`, '-g', `${gid}`)
  if (groups !== undefined) {
    const names = groups.map(one => found.groups.get(one)!.name)
    const more = names.filter(one => !account.groups.includes(one))
    const less = append ? [] : account.groups.filter(one => !names.includes(one))
    const what = [
      more.length > 0 && `add the groups ${more.join(', ')}`,
      less.length > 0 && `take the groups ${less.join(', ')} away`,
    ]
    if (more.length + less.length > 0)
      set(what.filter(Boolean).join(' and '), ...(append ? ['-a'] : []), '-G', names.join(','))
  }
  if (comment !== undefined && comment !== account.comment) set('change the comment', '-c', comment)
  if (home !== undefined && home !== account.home) {
    set(`${options.moveHome ? 'move' : 'change'} the home to ${home}`, '-d', home, ...(options.moveHome ? ['-m'] : []))
  }
  if (shell !== undefined && shell !== account.shell) set(`change the shell to ${shell}`, '-s', shell)
  const hash = password === undefined || options.updatePassword === 'on_create' ? undefined : revealed(password)
  const isOther = hash !== undefined && hash.replace(/^!+/, '') !== account.password.replace(/^!+/, '')
  if (isOther) would.push(`change the password of ${name}`)
  else if (passwordLock === true && !account.password.startsWith('!')) set('lock the password', '-L')
  else if (passwordLock === false && account.password.startsWith('!')) set('unlock the password', '-U')
  const script = flags.length === 0 ? [] : [`usermod ${flags.map(quote).join(' ')} -- ${quote(name)}`]
  const isMoved = options.moveHome && home !== undefined && home !== account.home
  if (createHome && !found.hasHome && !isMoved) {
    would.push(`make the home of ${name}`)
    script.push(makeHome(name))
  }
  return {
    options,
    found,
    would,
    script,
    ...(isOther ? { password: `${name}:${passwordLock ? locked(hash) : hash}` } : {}),
  }
}

/** As useradd would make it. */
const makeHome = (name: string) => `h=$(getent passwd ${quote(name)} | cut -d: -f6); [ -e "$h" ] || {
  mkdir -p -- "\${h%/*}/"; if [ -d /etc/skel ]; then cp -a /etc/skel "$h"; else mkdir -- "$h"; fi
  m=$(sed -n 's/^HOME_MODE[[:space:]]*//p' /etc/login.defs 2>/dev/null | sed -n 1p)
  u=$(sed -n 's/^UMASK[[:space:]]*//p' /etc/login.defs 2>/dev/null | sed -n 1p)
  [ -n "$m" ] || m=$(printf %o $((0777 & ~0\${u:-22})))
  chmod "$m" "$h"; chown -R "$(id -u ${quote(name)}):$(id -g ${quote(name)})" "$h"; }`

/** Sets $k where a home holds just what it was made of, whoever made it: what anybody has put there since, or where it is now, is theirs. */
const findHome = ({ hadHome, moved, makesHome, homeAt }: Kept, { uid, home }: Account) =>
  hadHome || moved || !makesHome || (homeAt !== undefined && homeAt !== home)
    ? 'k='
    : `h=${quote(home)}; k=; s=/etc/skel; if [ -d "$h" ] && [ ! -L "$h" ] && [ ! "$h" -ef "$s" ] && [ "$(stat -c %u -- "$h")" = ${uid} ]; then
  if [ -d "$s" ]; then diff -rq "$s" "$h" >/dev/null 2>&1 && k=yes; else [ -n "$(ls -A -- "$h")" ] || k=yes; fi; fi`
const removeHome = ({ home }: Account) =>
  `if [ "$k" ]; then rm -rf -- ${quote(home)}; elif [ -e ${quote(home)} ]; then printf '%s\n' ${quote(`${home} stays: it is not what was made, or something is in it`)}; fi`

/** What makes a user as it was. */
function wayBack(kept: Kept, { account, hasHome }: Found): { script: string[]; password?: string } {
  const { name, before, hadHome, moved } = kept
  if (!before) {
    if (!account) return { script: [] }
    const mail = `for m in ${quote(`/var/mail/${name}`)}; do [ ! -f "$m" ] || [ -L "$m" ] || [ -s "$m" ] || [ "$(stat -c %u -- "$m")" != ${account.uid} ] || rm -f -- "$m"; done`
    return {
      script: [findHome(kept, account), mail, `userdel -- ${quote(name)}`, ...(hadHome ? [] : [removeHome(account)])],
    }
  }
  const own = [before.comment, before.home, before.shell]
  const fields = ['-c', '-d', '-s'].flatMap((flag, index) => [flag, own[index]!])
  const password = before.shadow === '' ? {} : { password: `${name}:${before.password}` }
  if (!account) {
    const group = `getent group ${before.gid} >/dev/null || groupadd -g ${before.gid} -- ${quote(name)}`
    const all = ['-o', '-u', `${before.uid}`, '-g', `${before.gid}`, '-G', before.groups.join(','), ...fields, '-M']
    const [, , last, ...ages] = before.shadow.split(':')
    const dates = ['-d', '-m', '-M', '-W', '-I', '-E'].map((flag, index) => `${flag} ${[last, ...ages][index] || -1}`)
    const add = `useradd ${all.map(quote).join(' ')} -- ${quote(name)}`
    const aging = before.shadow === '' ? [] : [`chage ${dates.join(' ')} -- ${quote(name)}`]
    return { script: [group, add, ...aging], ...password }
  }
  const script: string[] = []
  if (!hadHome && hasHome && !moved) script.push(findHome(kept, account), removeHome(account))
  const flags = [
    ...(account.uid === before.uid ? [] : ['-o', '-u', `${before.uid}`]),
    ...(account.gid === before.gid ? [] : ['-g', `${before.gid}`]),
    ...(`${account.groups}` === `${before.groups}` ? [] : ['-G', before.groups.join(',')]),
    ...fields,
    ...(moved && account.home !== before.home ? ['-m'] : []),
  ]
  script.push(`usermod ${flags.map(quote).join(' ')} -- ${quote(name)}`)
  return { script, ...(account.password === before.password ? {} : password) }
}

async function perform(
  { $, host }: HostSession,
  script: readonly string[],
  passwords: readonly string[],
): Promise<string> {
  if (script.length + passwords.length === 0) return ''
  const lines = ['set -e; PATH=$PATH:/usr/sbin:/sbin', ...script, ...(passwords.length === 0 ? [] : ['chpasswd -e'])]
  const text = passwords.map(line => `${line}\n`).join('')
  const hashes = passwords.map(line => line.slice(line.indexOf(':') + 1)).filter(hash => hash.length > 3)
  const input = hashes.length === 0 ? text : secret(text, { parts: hashes })
  const { exitCode, stdout, stderr } = await $({ input, nothrow: true })`${raw(lines.join('\n'))}`
  if (exitCode === 0) return stdout
  throw new HostFailedError(`${host.name}: users could not be changed: ${stderr.trim() || 'it says nothing'}`, {
    code: 'user.failed',
    host: host.name,
  })
}
