// The commands there are: each has a file of its own, loaded only when it is used. What help says of all stands here, too, since loading them
// takes ten times as long as saying it.
import { Command } from 'commander'
import { example } from './options/help.ts'

/** A command: as help lists it, what it does, and how it is loaded. */
interface Listed {
  readonly usage: string
  readonly summary: string
  load(): Promise<Command>
}

/** @param more an example, as `example` writes it: each command has one */
const listed = (usage: string, summary: string, load: Listed['load'], more: string): Listed => ({
  usage,
  summary,
  load: async () => (await load()).addHelpText('after', more),
})

/** The heading of commands that are in none of the groups. */
export const otherCommands = 'More:'

/** The headings under which help lists the commands; others follow them. */
const groups: Readonly<Record<string, readonly string[]>> = {
  'Playbooks and their runs:': ['run', 'resume', 'rollback', 'runs', 'show', 'report', 'playbooks', 'init'],
  'What there is, changing nothing:': ['inventory', 'config', 'validate', 'certs', 'keysets', 'encryption', 'backups'],
  'Credentials and templates:': ['kubeconfig', 'ca', 'template'],
}

/** The heading of a command. */
export const groupOf = (name: string): string =>
  Object.keys(groups).find(group => groups[group]!.includes(name)) ?? otherCommands

export const commands: Readonly<Record<string, Listed>> = {
  run: listed(
    '[options] <playbook>',
    'run a playbook: a name from playbooks/, or a path to any .ts playbook',
    async () => (await import('./run.ts')).runCommand(),
    example(
      'what it would do on each host of staging, changing nothing',
      'rekey run rotate-ca -i inventory/staging --check',
    ),
  ),
  runs: listed(
    '[options]',
    'list the runs, the newest last',
    async () => (await import('./runs.ts')).runsCommand(),
    example('the run that goes on now, as its own terminal shows it', 'rekey runs --watch'),
  ),
  show: listed(
    '[options] <run>',
    'tell how far a run came, step by step',
    async () => (await import('./runs.ts')).showCommand(),
    example('how far the last run came', 'rekey show last'),
  ),
  report: listed(
    '[options] <run>',
    'a run as one HTML file for operators and auditors, also beside another run',
    async () => (await import('./reading/report.ts')).reportCommand(),
    example(
      'the last run, beside its rehearsal on staging',
      'rekey report last --against 20260102-030405-rotate-ca-1a2b -o rotation.html',
    ),
  ),
  resume: listed(
    '[options] <run>',
    'go on with a run that failed, was interrupted, or was killed',
    async () => (await import('./resume.ts')).resumeCommand(),
    example('the last run, where it stopped', 'rekey resume last'),
  ),
  rollback: listed(
    '[options] <run>',
    'undo what a run did, also one that failed, was interrupted, or was killed',
    async () => (await import('./rollback.ts')).rollbackCommand(),
    example('what would be undone of the last run, and what would stay', 'rekey rollback last --list-steps'),
  ),
  init: listed(
    '<folder>',
    'make a repository for playbooks of your own: an inventory, a playbook with its test, a template',
    async () => (await import('./starting/init.ts')).initCommand(),
    example('a repository in a folder of its own, which then says what comes next', 'rekey init operations'),
  ),
  playbooks: listed(
    '',
    'list the playbooks, yours and the shipped ones, their summaries and variables',
    async () => (await import('./playbooks.ts')).playbooksCommand(),
    example('all of them', 'rekey playbooks'),
  ),
  config: listed(
    '[options]',
    'show what holds where the command line says nothing, and where each of it comes from',
    async () => (await import('./starting/config.ts')).configCommand(),
    example('what holds in this folder', 'rekey config'),
  ),
  inventory: listed(
    '[options] [name]',
    'show the hosts, groups and variables of an inventory, and where they come from',
    async () => (await import('./inventory.ts')).inventoryCommand(),
    example(
      'who sets a variable of a host, and which of them wins',
      'rekey inventory -i inventory/staging --explain m1 ansible_user',
    ),
  ),
  validate: listed(
    '[options] [pattern]',
    'is the cluster well? API servers, etcd, nodes, DNS, certificates, tokens and more; exits with 2 where it is not, and changes nothing',
    async () => (await import('./reading/validate.ts')).validateCommand(),
    example('wait until all is well, after work on it', 'rekey validate -i inventory/staging --wait 10m'),
  ),
  certs: listed(
    '[options] [pattern]',
    'every certificate and every copy of a CA, on the hosts and in the API; reads only',
    async () => (await import('./reading/certs.ts')).certsCommand(),
    example('what ends within the next three months', 'rekey certs -i inventory/staging --within 90d'),
  ),
  keysets: listed(
    '[options] [pattern]',
    'the keys that a cluster signs with and trusts, their states, and who goes by them; reads only',
    async () => (await import('./reading/keysets.ts')).keysetsCommand(),
    example("which keys the API servers' hosts sign with and trust", 'rekey keysets masters -i inventory/staging'),
  ),
  encryption: listed(
    '[options] [pattern]',
    'how a cluster encrypts in etcd: what each API server goes by, and how many values lie under which key; reads only',
    async () => (await import('./reading/encryption.ts')).encryptionCommand(),
    example('which key each Secret lies under, as a table', 'rekey encryption -i inventory/staging'),
  ),
  backups: listed(
    '[options] [run]',
    "what the backups of a cluster's runs hold, whether they are good, and which of them to remove",
    async () => (await import('./reading/backups.ts')).backupsCommand(),
    example('whether each backup of staging is good', 'rekey backups -i inventory/staging --verify'),
  ),
  kubeconfig: listed(
    '[options]',
    'a kubeconfig with the CAs that users are to trust now, and with credentials where they are asked for',
    async () => (await import('./users/kubeconfig.ts')).kubeconfigCommand(),
    example(
      'credentials for a working day',
      'rekey kubeconfig -i inventory/staging --user ada --group viewers --ttl 8h -o ada.conf',
    ),
  ),
  ca: listed(
    '',
    'keep a CA in an encrypted file, for clusters without Vault',
    async () => (await import('./ca.ts')).caCommand(),
    example(
      'a CA for the templates of a cluster, which holds ten years',
      "rekey ca create ca.json pki_k8s --common-name 'Kubernetes CA' --ttl 3650d",
    ),
  ),
  template: listed(
    '[options] [pattern]',
    "render consul-template's configuration on the hosts of a pattern, once",
    async () => (await import('./template.ts')).templateCommand(),
    example(
      'what would be rendered on the web servers, as diffs',
      'rekey template web -i inventory/staging -c templates.hcl --check --diff',
    ),
  ),
  fleet: listed(
    '',
    'one playbook over many clusters, in waves, with a halt that nobody has to call for',
    async () => (await import('./fleet/fleet.ts')).fleetCommand(),
    example('who would go when, and why', 'rekey fleet plan -F fleet.yml'),
  ),
  completion: listed(
    '<shell> [words...]',
    'what bash, zsh or fish completes the words of rekey by',
    async () => (await import('./starting/completion.ts')).completionCommand(commands),
    example('words completed in this shell from now on', 'eval "$(rekey completion bash)"'),
  ),
  lab: listed(
    '',
    'a real cluster to rehearse on: machines, Kubernetes, Vault',
    async () => (await import('./lab.ts')).labCommand(),
    example('a cluster of three masters and two nodes', 'rekey lab up --masters 3 --nodes 2'),
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
