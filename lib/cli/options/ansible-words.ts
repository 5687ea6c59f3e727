// Words of ansible-playbook's command line that have another one here, and those that mean nothing here: each works, or says why it does not.
import { type Command, Option } from 'commander'
import { RekeyError } from '../../errors.ts'

/** Adds the further words of ansible-playbook to a command of that kind. They are not in its help: docs/from-ansible.md lists them. */
export function withAnsibleWords(command: Command): Command {
  return command
    .addOption(another(command, '--key-file <file>', 'privateKey'))
    .addOption(another(command, '--inventory-file <source>', 'inventory'))
    .addOption(another(command, '-J', 'askVaultPass'))
    .addOption(another(command, '--ask-vault-password', 'askVaultPass'))
    .addOption(another(command, '--vault-pass-file <file>', 'vaultPasswordFile'))
    .addOption(another(command, '--conn-pass-file <file>', 'connectionPasswordFile'))
    .addOption(another(command, '--become-pass-file <file>', 'becomePasswordFile'))
    .addOption(refused('-M, --module-path <path>', 'rekey has no modules: what they do, steps do'))
    .addOption(refused('--sftp-extra-args <args>', 'rekey starts no sftp: files go over the connection that is there'))
    .addOption(refused('--scp-extra-args <args>', 'rekey starts no scp: files go over the connection that is there'))
}

/** Another word for an option that a command has: the same in everything but the help. */
export function another(command: Command, flags: string, attribute: string): Option {
  const same = command.options.find(one => one.attributeName() === attribute)
  const option = new Option(flags).hideHelp()
  option.attributeName = () => attribute
  option.parseArg = same?.parseArg
  return option
}

function refused(flags: string, why: string): Option {
  const [word = ''] = /--[\w-]+/.exec(flags) ?? []
  return new Option(flags).hideHelp().argParser(() => {
    throw new RekeyError(`${word} is not for rekey`, { code: 'cli.ansible-option', hint: `${why}.` })
  })
}
