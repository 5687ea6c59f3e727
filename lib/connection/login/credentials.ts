// How to prove to a host who we are: in which order what is tried, and each thing once. A host that is asked again and again
// locks people out.
import { readFileSync } from 'node:fs'
import ssh2, {
  type AnyAuthMethod,
  type AuthenticationType,
  type AuthHandlerMiddleware,
  type KeyboardInteractiveCallback,
  type ParsedKey,
  type Prompt,
} from 'ssh2'
import { UnreachableError } from '../../errors.ts'
import type { ConnectionSettings } from '../settings.ts'
import { agentKeys, ChosenKeys } from './agent.ts'
import { defaultKeyFiles, isLocked, publicHalf, readable } from './private-keys.ts'

/** What ssh2 asks for the next thing to try, and what was tried. */
export interface Credentials {
  readonly authHandler: AuthHandlerMiddleware
  /** In words, for a message. */
  tried(): string
  /** What the host would take, as it says itself. */
  accepted(): readonly string[]
  /** Questions of the host that nobody could answer. */
  unanswered(): readonly string[]
}

interface Attempt {
  /** Its name in the protocol. */
  readonly method: string
  readonly words: string
  readonly use: AnyAuthMethod
}

/**
 * A named key comes first (by the agent, where the agent holds it), then the password; without either, the agent's keys and
 * then the default ones. A host may want several, one after the other.
 * @throws UnreachableError when a named key can't be used
 */
export async function credentials(name: string, settings: ConnectionSettings): Promise<Credentials> {
  const { user: username, password, privateKeyFile } = settings
  const attempts: Attempt[] = []
  const unanswered: string[] = []
  if (privateKeyFile !== undefined) attempts.push(await named(name, settings, privateKeyFile))
  if (password !== undefined) {
    attempts.push(
      { method: 'password', words: 'the password', use: { type: 'password', username, password } },
      {
        method: 'keyboard-interactive',
        words: 'the password',
        use: { type: 'keyboard-interactive', username, prompt: answering(password, unanswered) },
      },
    )
  }
  if (privateKeyFile === undefined) {
    const held = await agentKeys()
    if (held.length > 0) attempts.push(byAgent(username, held, 'the keys of the agent'))
    for (const file of defaultKeyFiles()) {
      const key = usable(settings, file)
      const known = key && held.some(one => one.getPublicSSH().equals(key.getPublicSSH()))
      if (key && !known) attempts.push(publicKey(username, key, `the key ${file}`))
    }
  }
  const left = [...attempts]
  const tried = new Set<string>()
  let accepted: readonly string[] = []
  // A refusal says what the host would take. Where a key is named, that is what is asked for first, which spares a round trip.
  let askedForNothing = false
  const askForNothing = (): AnyAuthMethod => {
    askedForNothing = true
    return { type: 'none', username }
  }
  return {
    authHandler: (methods: AuthenticationType[] | null, _partial, next) => {
      if (methods === null && privateKeyFile === undefined) return next(askForNothing())
      accepted = methods ?? []
      const index = left.findIndex(({ method }) => methods === null || (methods as readonly string[]).includes(method))
      const [attempt] = index === -1 ? [] : left.splice(index, 1)
      if (!attempt) return next(askedForNothing ? (false as never) : askForNothing())
      tried.add(attempt.words)
      next(attempt.use)
    },
    tried: () => [...tried].join(' and '),
    accepted: () => accepted,
    unanswered: () => unanswered,
  }
}

async function named(name: string, settings: ConnectionSettings, file: string): Promise<Attempt> {
  const { user } = settings
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new UnreachableError(`the private key for ${name} can't be read: ${(error as Error).message}`, {
      code: 'connection.private-key',
      host: name,
      hint: 'Set ansible_ssh_private_key_file to a key that you may read.',
      cause: error,
    })
  }
  const words = `the key ${file}`
  const unlocked = settings.unlockedKeys?.get(file)?.key
  if (unlocked) return publicKey(user, unlocked, words)
  if (isLocked(text)) {
    const half = publicHalf(text)
    const held = (await agentKeys()).filter(key => half?.equals(key.getPublicSSH()))
    if (held.length > 0) return byAgent(user, held, words)
    throw new UnreachableError(`the private key ${file} is encrypted, and its passphrase was not given`, {
      code: 'connection.key-encrypted',
      host: name,
      hint: 'Load it into an agent with ssh-add, or run this on a terminal, where it is asked for.',
    })
  }
  const key = parsed(file, text)
  if (!(key instanceof Error)) return publicKey(user, key, words)
  throw new UnreachableError(`the private key ${file} can't be used: ${key.message}`, {
    code: 'connection.private-key',
    host: name,
    hint: 'Keys on security tokens need ansible_connection=openssh.',
    cause: key,
  })
}

function usable(settings: ConnectionSettings, file: string): ParsedKey | undefined {
  const unlocked = settings.unlockedKeys?.get(file)?.key
  if (unlocked) return unlocked
  const text = readable(file)
  if (text === undefined || isLocked(text)) return undefined
  const key = parsed(file, text)
  return key instanceof Error ? undefined : key
}

const keys = new Map<string, { readonly text: string; readonly key: ParsedKey | Error }>()

/** The key in a file: hundreds of hosts take the same one. */
function parsed(file: string, text: string): ParsedKey | Error {
  const before = keys.get(file)
  if (before?.text === text) return before.key
  const key = ssh2.utils.parseKey(text)
  keys.set(file, { text, key })
  return key
}

function publicKey(username: string, key: ParsedKey, words: string): Attempt {
  return { method: 'publickey', words, use: { type: 'publickey', username, key } }
}

function byAgent(username: string, keys: readonly ParsedKey[], words: string): Attempt {
  return { method: 'publickey', words, use: { type: 'agent', username, agent: new ChosenKeys(keys) } }
}

/** Answers the one question that a password is the answer to: one that must not be shown while it is typed. */
function answering(password: string, unanswered: string[]) {
  let given = false
  return (
    _name: string,
    _instructions: string,
    _language: string,
    prompts: Prompt[],
    finish: KeyboardInteractiveCallback,
  ): void => {
    const [only] = prompts
    const known = prompts.length === 1 && only && !only.echo && !given
    given ||= Boolean(known)
    // One is told; a host may ask for ever.
    if (!known && unanswered.length === 0) unanswered.push(...prompts.slice(0, 1).map(({ prompt }) => prompt.trim()))
    finish(prompts.map(() => (known ? password : '')))
  }
}
