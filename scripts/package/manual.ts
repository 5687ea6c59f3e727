// The manual page, made of what help says: each command with its options and examples; options that several share stand once.
import { type Command, Help, type Option } from 'commander'
import { commands, groupOf } from '../../lib/cli/commands.ts'
import { headings } from '../../lib/cli/options/help.ts'
import { type SettingName, settingKind, settings } from '../../lib/inventory/index.ts'

const help = new Help()
const shared: readonly string[] = Object.values(headings)

/** A text as roff has it: no sign of it is a request, and no dash a hyphen. */
const roff = (text: string): string =>
  text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/^([.'])/gm, '\\&$1')
    .replace(/[^\x00-\x7f]/g, sign => `\\[u${sign.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}]`)

const bold = (text: string): string => `\\fB${roff(text)}\\fR`

/** Lines as they stand. */
const verbatim = (text: string): string[] => ['.nf', ...text.split('\n').map(roff), '.fi']

/**
 * The page.
 * @param version of rekey
 * @param date of this version, as 2026-01-31
 */
export async function manualPage(version: string, date: string): Promise<string> {
  const whole = new Map<string, Command>()
  for (const [name, { load }] of Object.entries(commands)) whole.set(name, await load())
  const lines = [
    `.TH REKEY 1 "${date}" "rekey ${version}" "User Commands"`,
    '.ad l',
    '.nh',
    '.SH NAME',
    'rekey \\- rotates the trust of a live Kubernetes cluster; runs playbooks over SSH',
    '.SH SYNOPSIS',
    `${bold('rekey')} \\fIcommand\\fR [options] [arguments]`,
    '.SH DESCRIPTION',
    roff(
      'Runs playbooks written in TypeScript over the hosts of an Ansible inventory, among them those that rotate the CAs,',
    ),
    roff('certificates, service-account keys and tokens of a cluster.'),
    'A run is kept: it can be looked at, gone on with and undone.',
  ]
  for (const group of new Set([...whole.keys()].map(groupOf))) {
    lines.push(`.SH ${roff(group.replace(/:$/, '').toUpperCase())}`)
    for (const [name, command] of whole) if (groupOf(name) === group) lines.push(...section(command, `rekey ${name}`))
  }
  lines.push('.SH SHARED OPTIONS', 'Each command that lists them by their heading takes these.')
  for (const heading of shared) {
    const options = sharedUnder(heading, [...whole.values()])
    if (options.length > 0) lines.push(`.SS ${roff(heading.replace(/:$/, ''))}`, ...options.flatMap(item))
  }
  lines.push(...ending())
  return `${lines.join('\n')}\n`
}

/** A command, and those below it. */
function section(command: Command, name: string): string[] {
  const words = help.commandUsage(command).split(' ').slice(1).join(' ')
  const lines = [`.SS ${roff(name)}${words ? ` ${roff(words)}` : ''}`, roff(command.description())]
  for (const { name: argument, description } of command.registeredArguments.map(one => ({
    name: one.name(),
    description: help.argumentDescription(one),
  })))
    if (description) lines.push('.TP', `\\fI${roff(argument)}\\fR`, roff(description))
  const visible = help.visibleOptions(command).filter(({ long }) => long !== '--help')
  lines.push(...visible.filter(one => !isShared(one)).flatMap(item))
  const also = shared.filter(heading => visible.some(one => isShared(one) && one.helpGroupHeading === heading))
  if (also.length > 0)
    lines.push(
      '.PP',
      roff(`And the ${also.map(one => one.replace(/^O/, 'o').replace(/:$/, '')).join(', the ')}, below.`),
    )
  const more = textAfter(command)
  if (more) lines.push('.PP', ...verbatim(more))
  return [...lines, ...command.commands.flatMap(one => section(one, `${name} ${one.name()}`))]
}

/** One that a command has as all others have it. */
const isShared = (option: Option): boolean =>
  shared.includes(option.helpGroupHeading ?? '') &&
  !['-u, --remote-user <name>', '--connection <kind>'].includes(option.flags)

function sharedUnder(heading: string, all: readonly Command[]): Option[] {
  const found = new Map<string, Option>()
  for (const option of all.flatMap(one => help.visibleOptions(one)))
    if (option.helpGroupHeading === heading && isShared(option) && !found.has(option.flags))
      found.set(option.flags, option)
  return [...found.values()]
}

const item = (option: Option): string[] => ['.TP', bold(option.flags), roff(help.optionDescription(option))]

/** What stands behind the options in its help. */
function textAfter(command: Command): string {
  const said: string[] = []
  const emitter = command as Command & Pick<NodeJS.EventEmitter, 'emit'>
  emitter.emit('afterHelp', { error: false, command, write: (text: string) => said.push(text) })
  return said.join('').trim()
}

function ending(): string[] {
  const written = (Object.keys(settings) as SettingName[]).flatMap(name => {
    const { variable } = settingKind(name)
    return ['.TP', bold(name.replace('.', ': ')), variable ? roff(`else ${variable}`) : roff('stands in no variable')]
  })
  return [
    '.SH FILES',
    ...[
      '.TP',
      bold('rekey.yml'),
      roff('What holds in a repository where the command line says nothing; `rekey` in package.json says the same:'),
    ],
    '.RS',
    ...written,
    '.RE',
    ...['.TP', bold('ansible.cfg'), 'is read as Ansible reads it, for the settings that rekey has, too.'],
    ...['.TP', bold('~/.local/state/rekey/runs'), 'Runs, a folder each.'],
    '.SH ENVIRONMENT',
    ...['.TP', bold('REKEY_CONFIG'), roff('A file that is read in place of rekey.yml; /dev/null is none.')],
    ...['.TP', bold('REKEY_CA_PASSPHRASE'), roff('Opens the file of rekey ca.')],
    ...[
      '.TP',
      bold('XDG_STATE_HOME, XDG_CACHE_HOME'),
      roff('Where runs are kept, and what is built, in place of ~/.local/state and ~/.cache.'),
    ],
    ...['.TP', bold('VAULT_ADDR, VAULT_TOKEN'), 'The Vault that is asked, and the token to ask it with.'],
    '.SH EXIT STATUS',
    ...['.TP', bold('0'), 'Done.'],
    ...['.TP', bold('1'), 'What was asked for is wrong: nothing was begun.'],
    ...['.TP', bold('2'), 'A step failed on a host, or what was looked for was found.'],
    ...['.TP', bold('4'), 'A host was not reached, or nobody knows what became of a command.'],
    ...['.TP', bold('130'), 'Interrupted.'],
    '.SH SEE ALSO',
    `${bold('ssh')}(1), ${bold('ansible-playbook')}(1)`,
  ]
}
