// How to reach one host. Inventories produce these; connections consume them.

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
  /** known_hosts files in order; none means the user's and the system's. */
  readonly knownHostsFiles?: readonly string[]
  /** `yes` refuses unknown keys; `accept-new` records them and refuses changed ones. */
  readonly hostKeyChecking: 'yes' | 'accept-new'
  /** Hops as OpenSSH's ProxyJump writes them, first hop first. */
  readonly proxyJump?: readonly string[]
  readonly proxyCommand?: string
  /** Become another user for every command. */
  readonly become?: { readonly method: 'sudo' | 'su' | 'doas'; readonly user: string; readonly password?: string }
  /** Seconds until a connect attempt is given up. */
  readonly connectTimeout: number
}
