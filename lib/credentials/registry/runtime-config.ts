// Credentials in containerd's own files: headers of a mirror in `hosts.toml`, which is read at each pull, and `auth` of a registry in `config.toml`, which
// is read when containerd starts. Edited line by line, so that whatever else stands there stays; what can't be edited so is found before the first change.
import { RekeyError } from '../../errors.ts'
import { basicOf, type Credential, fromBasic, hostOf } from './docker-config.ts'

/** What of a file is the registry's. */
export interface RuntimeFile {
  readonly path: string
  readonly text: string
}

interface Line {
  readonly text: string
  /** Whether its table is the registry's. */
  readonly isOwn: boolean
}

const setting = /\b(username|password|auth|authorization)(["']?\s*=\s*(?:\[\s*)?)("(?:[^"\\]|\\.)*"|'[^']*')/gi

/**
 * The credentials that a file has for a registry, whatever the user.
 * @param registry host, with its port where it has one
 */
export function credentialsIn(file: RuntimeFile, registry: string): Credential[] {
  return credentialsOf(linesOf(file, registry))
}

function credentialsOf(lines: readonly Line[]): Credential[] {
  const found: Credential[] = []
  let user: string | undefined
  let password: string | undefined
  const end = () => {
    if (user !== undefined && password !== undefined) found.push({ user, password })
    user = password = undefined
  }
  for (const { text, isOwn } of lines) {
    if (isTable(text)) end()
    if (!isOwn) continue
    for (const [, name = '', , quoted = ''] of withoutComment(text).matchAll(setting)) {
      const value = unquoted(quoted)
      if (name.toLowerCase() === 'username') user = value
      else if (name.toLowerCase() === 'password') password = value
      else found.push(...basic(value))
    }
  }
  end()
  return found
}

/** What a `Basic …` header, or the same without that word, stands for. */
function basic(value: string): Credential[] {
  const found = fromBasic(value.replace(/^Basic\s+/i, ''))
  return found ? [found] : []
}

/**
 * Puts another credential in the place of those that a file has of a user for a registry.
 * @throws RekeyError where it stands there in a way that can't be edited line by line
 */
export function withRuntimeCredential(file: RuntimeFile, registry: string, user: string, next: Credential): string {
  const old = credentialsIn(file, registry).filter(one => one.user === user)
  if (old.length === 0) return file.text
  const basics = new Set(old.map(basicOf))
  const passwords = new Set(old.map(({ password }) => password))
  const edited = linesOf(file, registry).map(({ text, isOwn }) =>
    isOwn && withoutComment(text).trim() !== ''
      ? text.replaceAll(setting, (whole, name: string, between: string, quoted: string) => {
          const value = unquoted(quoted)
          const put = (other: string) => `${name}${between}${JSON.stringify(other)}`
          if (name.toLowerCase() === 'username') return value === user ? put(next.user) : whole
          if (name.toLowerCase() === 'password') return passwords.has(value) ? put(next.password) : whole
          const bare = value.replace(/^Basic\s+/i, '')
          const isOld = basic(value).some(one => basics.has(basicOf(one)))
          return isOld ? put(value.slice(0, value.length - bare.length) + basicOf(next)) : whole
        })
      : text,
  )
  const text = edited.join('\n')
  const left = credentialsIn({ ...file, text }, registry).filter(
    one => one.user === user && one.password !== next.password,
  )
  if (left.length === 0) return text
  throw new RekeyError(`${file.path} has the credential in a way that can not be edited line by line`, {
    code: 'registry.runtime-config',
    hint: 'Write it as containerd’s pages do (a table for the registry, a line for each setting), or change it by hand.',
  })
}

/** Lines, each with whether its table names the registry; in `hosts.toml` a folder's name is that of a registry, and each table that of a server. */
function linesOf({ path, text }: RuntimeFile, registry: string): Line[] {
  const own = hostOf(registry)
  const inFolder = path.endsWith('/hosts.toml') && folderHost(path) === own
  let isOwn = inFolder
  return text.split('\n').map(line => {
    if (isTable(line)) {
      const quoted = [...line.matchAll(/"([^"]*)"|'([^']*)'/g)].map(([, one, other]) => one ?? other ?? '')
      // A table without a name of a server is one of the file itself.
      isOwn = quoted.length === 0 ? inFolder : quoted.some(name => hostOf(name) === own)
    }
    return { text: line, isOwn }
  })
}

/** The registry that a folder of `certs.d` is for: `host_5000_` is another way to write `host:5000`. */
function folderHost(path: string): string {
  const folder = path.split('/').at(-2) ?? ''
  return hostOf(folder.replace(/_(\d+)_$/, ':$1'))
}

const isTable = (line: string) => /^\s*\[\[?\s*[A-Za-z_]/.test(line)

/** What stands before a comment, which does not begin inside of quotes. */
function withoutComment(line: string): string {
  return /^(?:[^#"']|"(?:[^"\\]|\\.)*"|'[^']*')*/.exec(line)?.[0] ?? ''
}

/** The text of a string of TOML: its escapes are those of JSON, as far as anybody uses them here. */
function unquoted(quoted: string): string {
  if (quoted.startsWith("'")) return quoted.slice(1, -1)
  try {
    return JSON.parse(quoted) as string
  } catch {
    return quoted.slice(1, -1)
  }
}
