// The options that say how to reach hosts and as whom: the same for every command that connects.
import { resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { lockedKeyFiles, unlockKey } from '../../connection/login/private-keys.ts'
import type { UnlockedKey } from '../../connection/settings.ts'
import { becomeMethods, type ConnectionDefaults } from '../../connection/settings.ts'
import { RekeyError } from '../../errors.ts'
import { readPasswordFile } from '../../inventory/vault/password-file.ts'
import { tell } from '../../output/print.ts'
import { parseDuration } from '../../playbook/duration.ts'
import type { Host } from '../../playbook/host.ts'
import type { ConnectionCommand } from '../../run/folder/command-file.ts'
import { tellSecret } from '../../secrets/index.ts'
import { askHidden } from '../running/ask.ts'
import { headings, under } from './help.ts'
import { oneOf } from './one-of.ts'
import { settable } from './settable.ts'

export interface ConnectionOptions {
  connection?: ConnectionDefaults['kind']
  timeout?: number
  sshCommonArgs?: string
  sshExtraArgs?: string
  user?: string
  privateKey?: string
  askPass?: boolean
  connectionPasswordFile?: string
  become?: boolean
  becomeUser?: string
  becomeMethod?: ConnectionDefaults['becomeMethod']
  askBecomePass?: boolean
  becomePasswordFile?: string
  /** Which of these come from files of settings, or from the run that is gone on with. */
  configured?: readonly string[]
}

/** Options by which the inventory's variables are told to win, where they were given for this command. */
const told: Readonly<Record<string, string>> = {
  connection: '-c',
  timeout: '-T',
  sshCommonArgs: '--ssh-common-args',
  sshExtraArgs: '--ssh-extra-args',
  user: '-u',
  privateKey: '--private-key',
}

/** How the hosts of a command are reached. */
export interface Connecting {
  readonly defaults: ConnectionDefaults
  /** Asks for the passphrases of the keys that these hosts need, each once. What they log in with is told as secret. */
  unlock(hosts: readonly Host[]): Promise<void>
}

const passphraseTries = 3

/**
 * Adds Ansible's options for connecting, by its letters.
 * @param kind, user the flags for these, where the command has another use for the usual ones
 */
export function withConnectionOptions(
  command: Command,
  { kind = '-c, --connection <kind>', user = '-u, --user <name>' }: { kind?: string; user?: string } = {},
): Command {
  const whole = under(headings.connection, command, one =>
    one
      .addOption(oneOf(kind, 'how to reach hosts of which the inventory does not say it (default: ssh)', kinds))
      .option('-T, --timeout <duration>', 'until a connection is given up, where the inventory does not say', seconds)
      .option('--ssh-common-args <args>', "ssh's options, where the inventory gives none: -o ProxyJump=… and the like")
      .option('--ssh-extra-args <args>', 'more of them')
      .option(user, 'log in as this user where the inventory names none')
      .option('--private-key <file>', 'log in with this key where the inventory names none')
      .option('-k, --ask-pass', 'ask for the password to log in with')
      .addOption(
        new Option('--connection-password-file <file>', 'file or script with that password').conflicts('askPass'),
      )
      .option('-b, --become', 'run everything as another user')
      .option('--become-user <name>', 'the other user (default: root)')
      .addOption(oneOf('--become-method <method>', 'how to become it (default: sudo)', becomeMethods))
      .option('-K, --ask-become-pass', 'ask for the password to become the other user')
      .addOption(
        new Option('--become-password-file <file>', 'file or script with that password').conflicts('askBecomePass'),
      ),
  )
  return settable(whole, {
    connection: 'connection.kind',
    timeout: 'connection.timeout',
    sshCommonArgs: 'connection.ssh_common_args',
    sshExtraArgs: 'connection.ssh_extra_args',
    user: 'connection.user',
    remoteUser: 'connection.user',
    privateKey: 'connection.private_key',
    askPass: 'connection.ask_pass',
    connectionPasswordFile: 'connection.password_file',
    become: 'connection.become',
    becomeUser: 'connection.become_user',
    becomeMethod: 'connection.become_method',
    askBecomePass: 'connection.ask_become_pass',
    becomePasswordFile: 'connection.become_password_file',
  })
}

const kinds: readonly NonNullable<ConnectionDefaults['kind']>[] = ['ssh', 'openssh', 'local', 'smart', 'paramiko']

function seconds(value: string): number {
  const number = (parseDuration(value) ?? 0) / 1_000
  if (!(number > 0 && number < 1e6)) throw new InvalidArgumentError('It must be a duration such as 10s or 1m.')
  return number
}

/**
 * Asks for the passwords that the options want asked for.
 * @throws RekeyError where there is no terminal to ask on
 */
export async function openConnecting(options: ConnectionOptions): Promise<Connecting> {
  const fromFile = (file: string | undefined, what: string) =>
    file === undefined ? undefined : readPasswordFile(file, { what, code: 'connection.password-file' })
  const password =
    (await fromFile(options.connectionPasswordFile, 'SSH password')) ??
    (options.askPass ? await askHidden('SSH password: ') : undefined)
  const prompt = password === undefined ? 'BECOME password: ' : 'BECOME password [defaults to SSH password]: '
  const becomePassword =
    (await fromFile(options.becomePasswordFile, 'BECOME password')) ??
    (options.askBecomePass ? (await askHidden(prompt)) || password : undefined)
  const unlockedKeys = new Map<string, UnlockedKey>()
  return {
    defaults: {
      kind: options.connection,
      connectTimeout: options.timeout,
      sshCommonArgs: options.sshCommonArgs,
      sshExtraArgs: options.sshExtraArgs,
      user: options.user,
      privateKeyFile: options.privateKey === undefined ? undefined : resolve(options.privateKey),
      password,
      become: options.become,
      becomeUser: options.becomeUser,
      becomeMethod: options.becomeMethod,
      becomePassword,
      settings: new Set(options.configured?.map(name => told[name] ?? name)),
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

/**
 * The options as a run's folder keeps them. That passwords are to be asked for is kept; neither they are, nor the programs that know
 * them: what a folder says is not run.
 */
export function connectionCommand(options: ConnectionOptions): ConnectionCommand {
  const { privateKey, connectionPasswordFile, becomePasswordFile, ...kept } = options
  return {
    ...{ connection: kept.connection, timeout: kept.timeout },
    ...{ sshCommonArgs: kept.sshCommonArgs, sshExtraArgs: kept.sshExtraArgs, user: kept.user },
    privateKey: privateKey === undefined ? undefined : resolve(privateKey),
    askPass: connectionPasswordFile === undefined ? kept.askPass : true,
    ...{ become: kept.become, becomeUser: kept.becomeUser },
    // One of Ansible's that rekey has not was of no host.
    becomeMethod: becomeMethods.find(one => one === kept.becomeMethod),
    askBecomePass: becomePasswordFile === undefined ? kept.askBecomePass : true,
  }
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
