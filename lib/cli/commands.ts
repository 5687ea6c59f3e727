// The commands there are: each has a file of its own, loaded only when it is used. What help says of all stands here, too, since loading them
// takes ten times as long as saying it.
import { Command } from 'commander'

/** A command: as help lists it, what it does, and how it is loaded. */
interface Listed {
  readonly usage: string
  readonly summary: string
  load(): Promise<Command>
}

const listed = (usage: string, summary: string, load: Listed['load']): Listed => ({ usage, summary, load })

export const commands: Readonly<Record<string, Listed>> = {
  run: listed(
    '[options] <playbook>',
    'run a playbook: a name from playbooks/, or a path to any .ts playbook',
    async () => (await import('./run.ts')).runCommand(),
  ),
  runs: listed('[options]', 'list the runs, the newest last', async () => (await import('./runs.ts')).runsCommand()),
  show: listed('[options] <run>', 'tell how far a run came, step by step', async () =>
    (await import('./runs.ts')).showCommand(),
  ),
  resume: listed('[options] <run>', 'go on with a run that failed, was interrupted, or was killed', async () =>
    (await import('./resume.ts')).resumeCommand(),
  ),
  rollback: listed(
    '[options] <run>',
    'undo what a run did, also one that failed, was interrupted, or was killed',
    async () => (await import('./rollback.ts')).rollbackCommand(),
  ),
  init: listed(
    '<folder>',
    'make a repository for playbooks of your own: an inventory, a playbook with its test, a template',
    async () => (await import('./starting/init.ts')).initCommand(),
  ),
  playbooks: listed('', 'list the playbooks, yours and the shipped ones, their summaries and variables', async () =>
    (await import('./playbooks.ts')).playbooksCommand(),
  ),
  config: listed(
    '[options]',
    'show what holds where the command line says nothing, and where each of it comes from',
    async () => (await import('./starting/config.ts')).configCommand(),
  ),
  inventory: listed(
    '[options] [name]',
    'show the hosts, groups and variables of an inventory, and where they come from',
    async () => (await import('./inventory.ts')).inventoryCommand(),
  ),
  certs: listed(
    '[options] [pattern]',
    'every certificate and every copy of a CA, on the hosts and in the API; reads only',
    async () => (await import('./reading/certs.ts')).certsCommand(),
  ),
  keysets: listed(
    '[options] [pattern]',
    'the keys that a cluster signs with and trusts, their states, and who goes by them; reads only',
    async () => (await import('./reading/keysets.ts')).keysetsCommand(),
  ),
  kubeconfig: listed(
    '[options]',
    'a kubeconfig with the CAs that users are to trust now, and with credentials where they are asked for',
    async () => (await import('./users/kubeconfig.ts')).kubeconfigCommand(),
  ),
  ca: listed('', 'keep a CA in an encrypted file, for clusters without Vault', async () =>
    (await import('./ca.ts')).caCommand(),
  ),
  template: listed(
    '[options] [pattern]',
    "render consul-template's configuration on the hosts of a pattern, once",
    async () => (await import('./template.ts')).templateCommand(),
  ),
  completion: listed('<shell> [words...]', 'what bash, zsh or fish completes the words of rekey by', async () =>
    (await import('./starting/completion.ts')).completionCommand(commands),
  ),
  lab: listed('', 'a real cluster to rehearse on: machines, Kubernetes, Vault', async () =>
    (await import('./lab.ts')).labCommand(),
  ),
}

/** What only lists a command, where nothing is asked of it. */
export function unloaded(name: string): Command {
  const { usage, summary } = commands[name]!
  const command = new Command(name).description(summary)
  // Commander says so of each that has one.
  if (usage.startsWith('[options]')) command.option('--any')
  for (const [argument] of usage.matchAll(/<[\w.]+>|\[(?!options\])[\w.]+\]/g)) command.argument(argument)
  return command
}
