// The operator's ssh-agent. It signs for us; it is never forwarded to a host.
import ssh2, { type ParsedKey } from 'ssh2'

/** Keys that ssh2 can offer: it has no way to present a certificate, or a key on a security token. */
const offered = /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521))$/

/** Some of the keys of an agent; signing is the agent's. */
export class ChosenKeys extends ssh2.BaseAgent<ParsedKey> {
  readonly #keys: readonly ParsedKey[]

  constructor(keys: readonly ParsedKey[]) {
    super()
    this.#keys = keys
  }

  override getIdentities(callback: (error: Error | undefined, keys?: ParsedKey[]) => void): void {
    callback(undefined, [...this.#keys])
  }

  override sign(...args: unknown[]): void {
    const agent = ssh2.createAgent(process.env['SSH_AUTH_SOCK'] ?? '')
    agent.sign(...(args as Parameters<typeof agent.sign>))
  }
}

/** Milliseconds for an agent to say what it holds. */
const patience = 10_000

/** The keys that the agent holds; none where there is no agent, or it does not answer. */
export function agentKeys(): Promise<ParsedKey[]> {
  const socket = process.env['SSH_AUTH_SOCK']
  if (!socket) return Promise.resolve([])
  return new Promise(resolve => {
    const late = setTimeout(resolve, patience, [])
    ssh2.createAgent(socket).getIdentities((error, keys) => {
      clearTimeout(late)
      if (error || !keys) return resolve([])
      const parsed = keys.map(key => ssh2.utils.parseKey(key as unknown as Buffer))
      resolve(parsed.filter((key): key is ParsedKey => !(key instanceof Error) && offered.test(key.type)))
    })
  })
}
