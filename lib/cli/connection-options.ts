// The options that say how to reach hosts and as whom: the same for every command that connects.
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { lockedKeyFiles, unlockKey } from '../connection/private-keys.ts'
import type { UnlockedKey } from '../connection/settings.ts'
import { becomeMethods, type ConnectionDefaults } from '../connection/settings.ts'
import { RekeyError } from '../errors.ts'
import { tell } from '../output/print.ts'
import type { Host } from '../playbook/host.ts'
import { tellSecret } from '../secrets/index.ts'
import { askHidden } from './ask.ts'

export interface ConnectionOptions {
  user?: string
  privateKey?: string
  askPass?: boolean
  become?: boolean
  becomeUser?: string
  becomeMethod?: ConnectionDefaults['becomeMethod']
  askBecomePass?: boolean
}

/** How the hosts of a command are reached. */
export interface Connecting {
  readonly defaults: ConnectionDefaults
  /** Asks for the passphrases of the keys that these hosts need, each once. What they log in with is told as secret. */
  unlock(hosts: readonly Host[]): Promise<void>
}

const passphraseTries = 3

/** Adds Ansible's options for connecting, by its letters. */
export function withConnectionOptions(command: Command): Command {
  return command
    .option('-u, --user <name>', 'log in as this user where the inventory names none')
    .option('--private-key <file>', 'log in with this key where the inventory names none')
    .option('-k, --ask-pass', 'ask for the password to log in with')
    .option('-b, --become', 'run everything as another user')
    .option('--become-user <name>', 'the other user (default: root)')
    .addOption(new Option('--become-method <method>', 'how to become it (default: sudo)').choices([...becomeMethods]))
    .option('-K, --ask-become-pass', 'ask for the password to become the other user')
}

/**
 * Asks for the passwords that the options want asked for.
 * @throws RekeyError where there is no terminal to ask on
 */
export async function openConnecting(options: ConnectionOptions): Promise<Connecting> {
  const password = options.askPass ? await askHidden('SSH password: ') : undefined
  const prompt = password === undefined ? 'BECOME password: ' : 'BECOME password [defaults to SSH password]: '
  const becomePassword = options.askBecomePass ? (await askHidden(prompt)) || password : undefined
  const unlockedKeys = new Map<string, UnlockedKey>()
  return {
    defaults: {
      user: options.user,
      privateKeyFile: options.privateKey === undefined ? undefined : resolve(options.privateKey),
      password,
      become: options.become,
      becomeUser: options.becomeUser,
      becomeMethod: options.becomeMethod,
      becomePassword,
      unlockedKeys,
    },
    unlock: async hosts => {
      for (const { name, connection } of hosts) {
        const { password, become } = connection
        if (password !== undefined) tellSecret(password, `the password of ${name}`)
        if (become?.password !== undefined) tellSecret(become.password, `the become password of ${name}`)
        for (const file of await lockedKeyFiles(connection)) {
          const key = await askForPassphrase(file)
          if (key) unlockedKeys.set(file, key)
        }
      }
    },
  }
}

/** The options as a run's folder keeps them. That passwords are to be asked for is kept, they are not. */
export function connectionCommand(options: ConnectionOptions): ConnectionOptions {
  const { user, privateKey, askPass, become, becomeUser, becomeMethod, askBecomePass } = options
  const key = privateKey === undefined ? undefined : resolve(privateKey)
  return { user, privateKey: key, askPass, become, becomeUser, becomeMethod, askBecomePass }
}

async function askForPassphrase(file: string): Promise<UnlockedKey | undefined> {
  for (let left = passphraseTries; left > 0; left--) {
    const passphrase = await askHidden(`Passphrase for ${file}: `)
    const key = await unlockKey(file, passphrase)
    if (key) return key
    if (left > 1) tell('That is not its passphrase.')
  }
  throw new RekeyError(`the passphrase of ${file} is wrong`, {
    code: 'connection.passphrase',
    hint: 'Load the key into an agent with ssh-add, or name another one with --private-key.',
  })
}
