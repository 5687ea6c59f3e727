// How to reach one host. Inventories produce these; connections consume them.
import type { ParsedKey } from 'ssh2'
import type { Secret } from './shell.ts'

/** Programs that run a command as another user. */
export const becomeMethods = ['sudo', 'su', 'doas'] as const

/** Becoming another user for every command. */
export interface BecomeSettings {
  readonly method: (typeof becomeMethods)[number]
  readonly user: string
  readonly password?: string
}

/** A key whose passphrase somebody typed. */
export interface UnlockedKey {
  readonly key: ParsedKey
  readonly passphrase: Secret
}

/** Everything a connection to one host needs to know. Paths are absolute. */
export interface ConnectionSettings {
  /** `ssh` speaks SSH itself; `openssh` drives the system's ssh; `local` runs on this machine. */
  readonly kind: 'ssh' | 'openssh' | 'local'
  /** Name or address to connect to (`ansible_host`, or the inventory name). */
  readonly address: string
  readonly port: number
  readonly user: string
  /** Private key file; without one, the agent and the default keys are tried. */
  readonly privateKeyFile?: string
  readonly password?: string
  /** Keys whose passphrase was asked for, by their file. */
  readonly unlockedKeys?: ReadonlyMap<string, UnlockedKey>
  /** known_hosts files in order; none means the user's and the system's. */
  readonly knownHostsFiles?: readonly string[]
  /** `yes` refuses unknown keys; `accept-new` records them and refuses changed ones. */
  readonly hostKeyChecking: 'yes' | 'accept-new'
  /** Hops as OpenSSH's ProxyJump writes them, first hop first. */
  readonly proxyJump?: readonly string[]
  readonly proxyCommand?: string
  /** What only the system's ssh follows. */
  readonly openssh?: OpensshSettings
  readonly become?: BecomeSettings
  /** Seconds until a connect attempt is given up. */
  readonly connectTimeout: number
  /** A host that leaves `count` questions in a row unanswered, one every `seconds`, is lost. */
  readonly keepalive?: { readonly seconds: number; readonly count: number }
}

/** What the system's ssh is told beside the rest. */
export interface OpensshSettings {
  /** The name to give to ssh: its configuration may know it, and call the machine otherwise. */
  readonly destination: string
  /** `Option=value`, as for `-o`, in order. */
  readonly options: readonly string[]
  /** Instead of `~/.ssh/config` and the system's. */
  readonly configurationFile?: string
}

/** What the command line says of all hosts; a variable of the inventory wins over it, as in Ansible. */
export interface ConnectionDefaults {
  /** Ansible's words for `ssh` among them. */
  readonly kind?: ConnectionSettings['kind'] | 'smart' | 'paramiko'
  readonly connectTimeout?: number
  readonly sshCommonArgs?: string
  readonly sshExtraArgs?: string
  readonly user?: string
  readonly privateKeyFile?: string
  readonly password?: string
  readonly become?: boolean
  readonly becomeUser?: string
  readonly becomeMethod?: BecomeSettings['method']
  readonly becomePassword?: string
  /** The options among these that nobody gave for this command: files of settings have them, or the run that is gone on with. */
  readonly settings?: ReadonlySet<string>
  /** Filled before anything connects. */
  readonly unlockedKeys: ReadonlyMap<string, UnlockedKey>
}
