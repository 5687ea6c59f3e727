// From `ansible_host`, `ansible_user`, `ansible_ssh_common_args` … to the settings of a connection.
import { homedir, userInfo } from 'node:os'
import { isAbsolute, join, resolve } from 'node:path'
import type { ConnectionSettings } from '../connection/settings.ts'
import { RekeyError } from '../errors.ts'
import { splitShell } from './shell-words.ts'

/** The variables of one host as this module reads them: undefined where nothing sets them. */
export type ReadVariable = (name: string) => unknown

/** Where relative paths and the defaults come from. */
export interface ConnectionContext {
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly notice: (line: string) => void
}

/** Connection variables that are read, for docs and for the list of those that aren't. */
export const usedConnectionVariables = new Set([
  'ansible_host',
  'ansible_ssh_host',
  'ansible_port',
  'ansible_ssh_port',
  'ansible_user',
  'ansible_ssh_user',
  'ansible_password',
  'ansible_ssh_pass',
  'ansible_ssh_password',
  'ansible_private_key_file',
  'ansible_ssh_private_key_file',
  'ansible_connection',
  'ansible_timeout',
  'ansible_ssh_timeout',
  'ansible_ssh_args',
  'ansible_ssh_common_args',
  'ansible_ssh_extra_args',
  'ansible_host_key_checking',
  'ansible_ssh_host_key_checking',
  'ansible_become',
  'ansible_become_method',
  'ansible_become_user',
  'ansible_become_pass',
  'ansible_become_password',
])

/** The settings for one host. Throws `RekeyError` naming the variable that can't be used. */
export function connectionSettings(name: string, read: ReadVariable, context: ConnectionContext): ConnectionSettings {
  const first = (...names: string[]): { name: string; value: unknown } | undefined => {
    for (const variable of names) {
      const value = read(variable)
      if (value !== undefined && value !== null && value !== '') return { name: variable, value }
    }
    return undefined
  }
  const text = (...names: string[]): string | undefined => {
    const found = first(...names)
    if (!found) return undefined
    if (['string', 'number', 'bigint'].includes(typeof found.value)) return String(found.value)
    throw badVariable(name, found.name, 'must be text')
  }
  const kind = connectionKind(name, text('ansible_connection'))
  const options = new SshOptions(name, context)
  for (const variable of ['ansible_ssh_args', 'ansible_ssh_common_args', 'ansible_ssh_extra_args']) {
    const args = text(variable)
    if (args !== undefined) options.add(args, variable)
  }
  const checking = first('ansible_ssh_host_key_checking', 'ansible_host_key_checking')
  if (checking && !isTrue(checking.value)) options.set('stricthostkeychecking', 'no')

  const port = first('ansible_port', 'ansible_ssh_port')
  const portNumber = port ? Number(port.value) : Number(options.get('port') ?? 22)
  if (!Number.isInteger(portNumber) || portNumber < 1 || portNumber > 65535) {
    throw badVariable(name, port?.name ?? 'Port', 'must be a port number')
  }
  const key = text('ansible_ssh_private_key_file', 'ansible_private_key_file') ?? options.get('identityfile')
  const timeout = Number(text('ansible_ssh_timeout', 'ansible_timeout') ?? options.get('connecttimeout') ?? 10)
  if (!(timeout > 0)) throw badVariable(name, 'ansible_timeout', 'must be a number of seconds')
  const knownHosts = options.get('userknownhostsfile')
  const jump = options.get('proxyjump')
  const command = options.get('proxycommand')
  return {
    kind,
    address: text('ansible_host', 'ansible_ssh_host') ?? options.get('hostname') ?? name,
    port: portNumber,
    user:
      text('ansible_user', 'ansible_ssh_user') ??
      options.get('user') ??
      context.environment['USER'] ??
      userInfo().username,
    ...(key !== undefined && { privateKeyFile: expandPath(key, context) }),
    ...optional('password', text('ansible_password', 'ansible_ssh_pass', 'ansible_ssh_password')),
    ...(knownHosts !== undefined && {
      knownHostsFiles: splitShell(knownHosts).map(file => expandPath(file, context)),
    }),
    hostKeyChecking: hostKeyChecking(name, options.get('stricthostkeychecking'), context),
    ...(jump !== undefined && jump !== 'none' && { proxyJump: jump.split(',').map(hop => hop.trim()) }),
    ...(command !== undefined && command !== 'none' && { proxyCommand: command }),
    ...becomeSettings(name, read, text),
    connectTimeout: timeout,
  }
}

function optional<Key extends string>(key: Key, value: string | undefined): { [key in Key]?: string } {
  return value === undefined ? {} : ({ [key]: value } as { [key in Key]: string })
}

function connectionKind(host: string, value: string | undefined): ConnectionSettings['kind'] {
  switch (value?.replace(/^ansible\.builtin\./, '')) {
    case undefined:
    case 'ssh':
    case 'smart':
    case 'paramiko':
    case 'paramiko_ssh':
      return 'ssh'
    case 'local':
      return 'local'
  }
  throw badVariable(host, 'ansible_connection', `is "${value}", and rekey connects by ssh or local only`)
}

function becomeSettings(
  host: string,
  read: ReadVariable,
  text: (...names: string[]) => string | undefined,
): Pick<ConnectionSettings, 'become'> {
  if (!isTrue(read('ansible_become') ?? false)) return {}
  const method = text('ansible_become_method')?.replace(/^ansible\.builtin\./, '') ?? 'sudo'
  if (method !== 'sudo' && method !== 'su' && method !== 'doas') {
    throw badVariable(host, 'ansible_become_method', `is "${method}", and rekey knows sudo, su and doas`)
  }
  const password = text('ansible_become_password', 'ansible_become_pass')
  return { become: { method, user: text('ansible_become_user') ?? 'root', ...optional('password', password) } }
}

/** What Ansible takes for true: `yes`, `on`, `1`, `true` and `True`. */
export function isTrue(value: unknown): boolean {
  if (typeof value === 'string') return ['y', 'yes', 'on', '1', 'true', 't', '1.0'].includes(value.trim().toLowerCase())
  return Boolean(value)
}

function hostKeyChecking(host: string, value: string | undefined, { notice }: ConnectionContext): 'yes' | 'accept-new' {
  switch (value?.toLowerCase()) {
    case 'accept-new':
      return 'accept-new'
    case 'no':
    case 'off':
    case 'false':
      notice(
        `${host}: host key checking is off in the inventory; rekey still records new keys and refuses changed ones`,
      )
      return 'accept-new'
  }
  return 'yes'
}

function badVariable(host: string, variable: string, what: string): RekeyError {
  return new RekeyError(`${host}: ${variable} ${what}`, {
    code: 'inventory.connection-variable',
    hint: `rekey inventory --explain ${host} ${variable} shows where it is set.`,
    host,
  })
}

/** A path of the inventory, absolute: `~` is the user's home. */
function expandPath(path: string, { cwd, environment }: ConnectionContext): string {
  const home = environment['HOME'] ?? homedir()
  if (path === '~') return home
  if (path.startsWith('~/')) return join(home, path.slice(2))
  return isAbsolute(path) ? path : resolve(cwd, path)
}

/** Options of ssh's command line; of one given twice the first counts, as for ssh. */
class SshOptions {
  readonly #host: string
  readonly #context: ConnectionContext
  readonly #values = new Map<string, string>()

  constructor(host: string, context: ConnectionContext) {
    this.#host = host
    this.#context = context
  }

  get(option: string): string | undefined {
    return this.#values.get(option)
  }

  set(option: string, value: string): void {
    if (!this.#values.has(option)) this.#values.set(option, value)
  }

  add(args: string, variable: string): void {
    const words = splitShell(args)
    const letters: Record<string, string> = { J: 'proxyjump', i: 'identityfile', l: 'user', p: 'port' }
    for (let index = 0; index < words.length; index++) {
      const match = /^-([a-zA-Z0-9])(.*)$/s.exec(words[index]!)
      if (!match) throw badVariable(this.#host, variable, `has "${words[index]}", which is no option of ssh`)
      const [, letter = '', attached = ''] = match
      const option = letters[letter]
      if (letter === 'o' || option) {
        const value = attached || words[++index]
        if (value === undefined) throw badVariable(this.#host, variable, `ends with -${letter} and no value`)
        if (option) this.set(option, value)
        else this.#addOption(value, variable)
      } else {
        this.#context.notice(`${this.#host}: -${letter} in ${variable} is not used`)
        if ('bcDeEFIkLmOQRSwW'.includes(letter) && attached === '') index++
      }
    }
  }

  #addOption(assignment: string, variable: string): void {
    const match = /^\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)$/s.exec(assignment)
    if (!match) throw badVariable(this.#host, variable, `has "-o ${assignment}", which is no Option=value`)
    this.set(match[1]!.toLowerCase(), match[2]!.trim())
  }
}
