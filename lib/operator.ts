// Who runs rekey, and where this user's files are. In containers a user id may have no entry in the passwd file.
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { RekeyError } from './errors.ts'

/** The name of the user; the number where there is no name. */
export function operatorName(environment: NodeJS.ProcessEnv = process.env): string {
  return passwdEntry()?.username ?? environment['USER'] ?? environment['LOGNAME'] ?? `uid ${process.getuid?.()}`
}

/** The name to log in with where nobody says one, as ssh would. Throws `RekeyError` where the user has none. */
export function loginName(environment: NodeJS.ProcessEnv = process.env): string {
  const name = environment['USER'] ?? passwdEntry()?.username ?? environment['LOGNAME']
  if (name) return name
  throw new RekeyError(
    `the user id ${process.getuid?.()} has no name on this machine, so there is none to log in with`,
    {
      code: 'operator.no-name',
      hint: 'Set ansible_user, give -u NAME, or set USER.',
    },
  )
}

/** The folder of the user's files. Throws `RekeyError` where there is none. */
export function homeFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const home = environment['HOME'] || passwdHome()
  if (home) return home
  throw new RekeyError(
    `there is no home folder: HOME is not set, and the user id ${process.getuid?.()} has no passwd entry`,
    {
      code: 'operator.no-home',
      hint: 'Set HOME to a folder that this user may write to; XDG_STATE_HOME alone says where rekey keeps its runs.',
    },
  )
}

/** The home folder by the passwd file, which is the one that ssh takes whatever HOME is; undefined without an entry. */
export function passwdHome(): string | undefined {
  return passwdEntry()?.homedir
}

/** A path that may start with `~/`, made one of the user's files. Throws `RekeyError` like `homeFolder`. */
export function expandHome(path: string, environment: NodeJS.ProcessEnv = process.env): string {
  if (path === '~') return homeFolder(environment)
  return path.startsWith('~/') ? join(homeFolder(environment), path.slice(2)) : path
}

function passwdEntry(): { username: string; homedir: string } | undefined {
  try {
    return userInfo()
  } catch {
    return undefined
  }
}
