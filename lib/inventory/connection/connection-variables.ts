// From `ansible_host`, `ansible_user`, `ansible_ssh_common_args` … to the settings of a connection.
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import {
  type BecomeSettings,
  becomeMethods,
  type ConnectionDefaults,
  type ConnectionSettings,
} from '../../connection/settings.ts'
import { RekeyError } from '../../errors.ts'
import { expandHome, loginName, operatorName } from '../../operator.ts'
import { splitShell } from '../../shell-words.ts'
import { readSshConfig, type SshConfig, sshConfigMatters, sshDefaults } from './ssh-config.ts'

/** The variables of one host as this module reads them: undefined where nothing sets them. */
export type ReadVariable = (name: string) => unknown

/** Where relative paths and the defaults come from. */
export interface ConnectionContext {
  /** What the command line says of every host. */
  readonly defaults?: ConnectionDefaults
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly notice: (line: string) => void
}

const usedVariables = new Set([
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
const family =
  /^ansible_(ssh|sftp|scp|paramiko|become|sudo|su|doas|shell|python|pipelining|control_path|remote_tmp|winrm|psrp|executable|async|persistent|network|private_key|connection|host_key|module_compression|.*_interpreter$)/

/** True for a variable with which Ansible connects, and which rekey does not use. */
export function isUnusedConnectionVariable(name: string): boolean {
  return family.test(name) && !usedVariables.has(name)
}

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
  const { defaults = noDefaults } = context
  const kind = connectionKind(
    name,
    preferred('-c', text('ansible_connection'), defaults.kind, 'ansible_connection', context),
  )
  const address = text('ansible_host', 'ansible_ssh_host') ?? name
  const options = new SshOptions(name, kind, context)
  const sshArgs = [
    ['ansible_ssh_args', '', undefined],
    ['ansible_ssh_common_args', '--ssh-common-args', defaults.sshCommonArgs],
    ['ansible_ssh_extra_args', '--ssh-extra-args', defaults.sshExtraArgs],
  ] as const
  for (const [variable, option, given] of sshArgs) {
    const own = text(variable)
    const args = preferred(option, own, given, variable, context)
    if (args !== undefined) options.add(args, own === undefined ? option : variable)
  }
  const checking = first('ansible_ssh_host_key_checking', 'ansible_host_key_checking')
  if (checking && !isTrue(checking.value)) options.set('stricthostkeychecking', 'no')
  const port = first('ansible_port', 'ansible_ssh_port')
  if (port) options.set('port', String(portOf(name, port.value, port.name)))
  const user = preferred('-u', text('ansible_user', 'ansible_ssh_user'), defaults.user, 'ansible_user', context)
  if (user !== undefined) options.set('user', user)
  const ownKey = text('ansible_ssh_private_key_file', 'ansible_private_key_file')
  const key = preferred('--private-key', ownKey, defaults.privateKeyFile, 'ansible_ssh_private_key_file', context)
  if (key !== undefined) options.set('identityfile', key)
  const ownTimeout = text('ansible_ssh_timeout', 'ansible_timeout')
  const timeout = preferred('-T', ownTimeout, defaults.connectTimeout?.toString(), 'ansible_timeout', context)
  if (timeout !== undefined) options.set('connecttimeout', timeout)
  const given = options.given()
  if (kind !== 'local') options.addConfiguration(address)

  const portNumber = portOf(name, options.get('port') ?? '22', 'the port of ssh')
  const seconds = Number(options.get('connecttimeout') ?? 10)
  if (!(seconds > 0 && seconds < 1e6)) throw badVariable(name, 'ansible_timeout', 'must be a number of seconds')
  const keyFile = options.get('identityfile')
  const knownHosts = options.get('userknownhostsfile')
  const jump = options.get('proxyjump')
  const command = options.get('proxycommand')
  return {
    kind,
    address: options.get('hostname') ?? address,
    port: portNumber,
    user:
      options.get('user') ?? (kind === 'local' ? operatorName(context.environment) : loginName(context.environment)),
    ...(keyFile !== undefined && { privateKeyFile: expandPath(keyFile, context) }),
    ...optional('password', text('ansible_password', 'ansible_ssh_pass', 'ansible_ssh_password') ?? defaults.password),
    ...(context.defaults && { unlockedKeys: context.defaults.unlockedKeys }),
    ...(knownHosts !== undefined && { knownHostsFiles: knownHostsFiles(knownHosts, options, context) }),
    hostKeyChecking: hostKeyChecking(name, options.get('stricthostkeychecking'), context),
    ...(jump !== undefined && jump !== 'none' && { proxyJump: jump.split(',').map(hop => options.hop(hop.trim())) }),
    ...(command !== undefined && command !== 'none' && { proxyCommand: command }),
    ...becomeSettings(name, read, text, defaults),
    connectTimeout: seconds,
    ...keepalive(options),
    ...(kind === 'openssh' && {
      openssh: { destination: address, options: given, ...optional('configurationFile', options.file) },
    }),
  }
}

/** How often ssh would ask whether the host is still there; rekey asks anyway. */
function keepalive(options: SshOptions): Pick<ConnectionSettings, 'keepalive'> {
  const seconds = Number(options.get('serveraliveinterval') ?? 0)
  const count = Number(options.get('serveralivecountmax') ?? 3)
  return seconds > 0 && count > 0 ? { keepalive: { seconds, count } } : {}
}

function portOf(host: string, value: unknown, variable: string): number {
  const port = Number(value)
  if (Number.isInteger(port) && port >= 1 && port <= 65535) return port
  throw badVariable(host, variable, `must be a port number, not ${value}`)
}

function optional<Key extends string>(key: Key, value: string | undefined): { [key in Key]?: string } {
  return value === undefined ? {} : ({ [key]: value } as { [key in Key]: string })
}

/** The operator's files, and the system's behind them, as ssh reads both. */
function knownHostsFiles(given: string, options: SshOptions, context: ConnectionContext): string[] {
  const system = splitShell(options.get('globalknownhostsfile') ?? '/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2')
  return [...splitShell(given).map(file => expandPath(file, context)), ...system.filter(file => existsSync(file))]
}

function connectionKind(host: string, value: string | undefined): ConnectionSettings['kind'] {
  switch (value?.replace(/^ansible\.(builtin|legacy)\./, '')) {
    case undefined:
    case 'ssh':
    case 'smart':
    case 'paramiko':
    case 'paramiko_ssh':
      return 'ssh'
    case 'openssh':
      return 'openssh'
    case 'local':
      return 'local'
  }
  throw badVariable(host, 'ansible_connection', `is "${value}", and rekey connects by ssh, openssh or local only`)
}

function becomeSettings(
  host: string,
  read: ReadVariable,
  text: (...names: string[]) => string | undefined,
  defaults: ConnectionDefaults,
): Pick<ConnectionSettings, 'become'> {
  if (!isTrue(read('ansible_become') ?? defaults.become ?? false)) return {}
  const wanted =
    text('ansible_become_method')?.replace(/^ansible\.(builtin|legacy)\./, '') ?? defaults.becomeMethod ?? 'sudo'
  const method = becomeMethods.find(one => one === wanted)
  if (!method) throw badVariable(host, 'ansible_become_method', `is "${wanted}", and rekey knows sudo, su and doas`)
  const user = text('ansible_become_user') ?? defaults.becomeUser ?? 'root'
  const password = text('ansible_become_password', 'ansible_become_pass') ?? defaults.becomePassword
  const become: BecomeSettings = { method, user, ...optional('password', password) }
  return { become }
}

const noDefaults: ConnectionDefaults = { unlockedKeys: new Map() }

/** A variable of the inventory, or else the option; as in Ansible the variable wins, which is said where the option was given for this command. */
function preferred(
  option: string,
  own: string | undefined,
  given: string | undefined,
  variable: string,
  { notice, defaults }: ConnectionContext,
): string | undefined {
  if (own !== undefined && given !== undefined && own !== given && !defaults?.settings?.has(option)) {
    notice(`${option} is not used where the inventory sets ${variable}; -e ${variable}=${given} wins over both`)
  }
  return own ?? given
}

/** What Ansible takes for true: `yes`, `on`, `1`, `true` and `True`. */
function isTrue(value: unknown): boolean {
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
    hint: variable.startsWith('ansible_')
      ? `rekey inventory --explain ${host} ${variable} shows where it is set.`
      : undefined,
    host,
  })
}

/** A path of the inventory, absolute: `~` is the user's home. */
function expandPath(path: string, { cwd, environment }: ConnectionContext): string {
  return resolve(cwd, expandHome(path, environment))
}

// What of ssh's configuration connections of rekey can follow.
const followed = [
  'hostname',
  'port',
  'user',
  'identityfile',
  'userknownhostsfile',
  'globalknownhostsfile',
  'stricthostkeychecking',
  'proxyjump',
  'proxycommand',
  'connecttimeout',
  'serveraliveinterval',
  'serveralivecountmax',
]
/** Options of configuration files that change where a connection goes or whom it trusts; only `openssh` follows them. */
const notFollowed = ['hostkeyalias', 'certificatefile', 'pkcs11provider', 'revokedhostkeys', 'identityagent']
/** Options without a meaning here: rekey keeps one connection a host anyway, and never asks. */
const needless =
  /^(control(master|path|persist)|compression|tcpkeepalive|loglevel|batchmode|identitiesonly|hashknownhosts|updatehostkeys|checkhostip|addressfamily|forwardagent|forwardx11|sendenv|requesttty)$/

/** Options of ssh for one host; of one given twice the first counts, as for ssh. */
class SshOptions {
  readonly #host: string
  readonly #kind: ConnectionSettings['kind']
  readonly #context: ConnectionContext
  readonly #values = new Map<string, string>()
  /** Names of what has no effect, said once for all hosts. */
  #file: string | undefined

  constructor(host: string, kind: ConnectionSettings['kind'], context: ConnectionContext) {
    this.#host = host
    this.#kind = kind
    this.#context = context
  }

  get(option: string): string | undefined {
    return this.#values.get(option)
  }

  /** What the inventory gave, as `Option=value`. */
  given(): string[] {
    return [...this.#values].map(([option, value]) => `${option}=${value}`)
  }

  /** The configuration file that the inventory names. */
  get file(): string | undefined {
    return this.#file === undefined ? undefined : expandPath(this.#file, this.#context)
  }

  set(option: string, value: string): void {
    if (!this.#values.has(option)) this.#values.set(option, value)
  }

  /** Reads arguments of ssh's command line. */
  add(args: string, variable: string): void {
    let words: string[]
    try {
      words = splitShell(args)
    } catch {
      throw badVariable(this.#host, variable, 'has a quote that is not closed')
    }
    const letters: Record<string, string> = { J: 'proxyjump', i: 'identityfile', l: 'user', p: 'port' }
    for (let index = 0; index < words.length; index++) {
      const match = /^-([a-zA-Z0-9])(.*)$/s.exec(words[index]!)
      if (!match) throw badVariable(this.#host, variable, `has "${words[index]}", which is no option of ssh`)
      const [, letter = '', attached = ''] = match
      const option = letters[letter]
      if (letter === 'o' || letter === 'F' || option) {
        const value = attached || words[++index]
        if (value === undefined) throw badVariable(this.#host, variable, `ends with -${letter} and no value`)
        if (option) this.set(option, value)
        else if (letter === 'F') this.#file ??= value
        else this.#addOption(value, variable)
      } else {
        this.#context.notice(`-${letter} in ${variable} is not used`)
        if ('bcDeEILmOQRSwWB'.includes(letter) && attached === '') index++
      }
    }
  }

  #addOption(assignment: string, variable: string): void {
    const match = /^\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)$/s.exec(assignment)
    if (!match) throw badVariable(this.#host, variable, `has "-o ${assignment}", which is no Option=value`)
    const [, option = '', value = ''] = match
    this.set(option.toLowerCase(), unquoted(value.trim()))
    const name = option.toLowerCase()
    if (this.#kind === 'openssh' || followed.includes(name) || needless.test(name)) return
    this.#context.notice(`${option} in ${variable} is not used: it needs ansible_connection=openssh`)
  }

  /** A hop with what the files of ssh say of it: it may be a name that only they know. */
  hop(given: string): string {
    const match = /^(?:([^@]+)@)?([^:@]+)(?::(\d+))?$/.exec(given)
    const files = this.#files()
    if (!match || !files) return given
    const [, user, name = '', port] = match
    const config = readSshConfig(name, [...files, ...(user ? ['-l', user] : [])])
    const chosen = (option: string): string | undefined => changed(config, option)[0]
    const [as, at, on] = [user ?? chosen('user'), chosen('hostname') ?? name, port ?? chosen('port')]
    return `${as === undefined ? '' : `${as}@`}${at.includes(':') ? `[${at}]` : at}${on === undefined ? '' : `:${on}`}`
  }

  /** The files of ssh as its arguments; undefined where none has a say. */
  #files(): string[] | undefined {
    if (this.file !== undefined) return ['-F', this.file]
    return sshConfigMatters() ? [] : undefined
  }

  /** Lays what the files of ssh say below what the inventory says. */
  addConfiguration(address: string): void {
    const args = this.#files()
    if (!args) return
    // Match blocks may look at these, and at nothing else that the inventory says.
    if (this.#values.has('user')) args.push('-l', this.#values.get('user')!)
    if (this.#values.has('port')) args.push('-p', this.#values.get('port')!)
    const config = readSshConfig(address, args)
    const chosen = (option: string): readonly string[] => changed(config, option)
    for (const option of followed) {
      const [value, ...more] = chosen(option)
      // A jump on the command line makes ssh ignore a proxy command of its files, and the other way round.
      if (option.startsWith('proxy') && (this.#values.has('proxyjump') || this.#values.has('proxycommand'))) continue
      if (value === undefined || (value === 'none' && option === 'connecttimeout')) continue
      if (more.length > 0 && !this.#values.has(option) && this.#kind === 'ssh')
        this.#context.notice(`${this.#host}: of several keys in the configuration of ssh, ${value} is used`)
      this.set(option, value)
    }
    if (this.#kind === 'openssh') return
    for (const option of notFollowed) {
      if (chosen(option).length > 0)
        this.#context.notice(
          `${this.#host}: ${option} in the configuration of ssh is not used: it needs ansible_connection=openssh`,
        )
    }
  }
}

/** The values of an option where they are not ssh's defaults. */
function changed(config: SshConfig, option: string): readonly string[] {
  const values = config.get(option) ?? []
  const standard = sshDefaults().get(option) ?? []
  // The name that was asked for is no choice of its own.
  if (option === 'hostname') return values
  return values.length === standard.length && values.every((value, index) => value === standard[index]) ? [] : values
}

function unquoted(value: string): string {
  return /^".*"$/s.test(value) ? value.slice(1, -1) : value
}
