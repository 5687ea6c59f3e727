// The words that may stand at the end of a command line.
import type { Command, Option } from 'commander'
import { stepsOf } from '../../playbook/steps.ts'
import { type InventoryOptions, openInventory } from '../options/inventory.ts'
import { playbookFolders } from '../options/settings.ts'

/** A command line as far as it was written. */
interface Line {
  readonly command: Command
  /** The values of options by their attributes. */
  readonly options: ReadonlyMap<string, readonly string[]>
  readonly positional: readonly string[]
  /** The option whose value comes next. */
  readonly awaiting: Option | undefined
}

/** Commands by their names, and how each is loaded. */
export type Commands = Readonly<Record<string, { load(): Promise<Command> }>>

/** What may stand in a place. */
type Source = (line: Line) => Promise<readonly string[]>

const ofOptions: Readonly<Record<string, Source>> = {
  limit: hostsAndGroups,
  tags,
  skipTags: tags,
  startAtStep: async line => (await playbookOf(line)).plays.flatMap(play => stepsOf(play)).map(({ id }) => id),
  to: stepsOfRun,
  against: async () => ['last', ...(await runNames())],
}

const ofArguments: Readonly<Record<string, Source>> = {
  playbook: playbookNames,
  run: async () => ['last', ...(await runNames())],
  pattern: hostsAndGroups,
  name: hostsAndGroups,
}

/** Options of which several values may stand in one word. */
const lists = ['limit', 'tags', 'skipTags']

/**
 * What may stand in place of the last word. None where names of files may, or where what would tell can't be read: a shell is to complete, not to
 * complain.
 * @param words those after `rekey`, the last of them to be completed
 * @param commands those of rekey
 */
export async function completions(words: readonly string[], commands: Commands): Promise<readonly string[]> {
  const current = words.at(-1) ?? ''
  try {
    if (words.length <= 1) return beginningWith(current, Object.keys(commands))
    const name = words[0]!
    if (!Object.hasOwn(commands, name)) return []
    return await within(read(await commands[name]!.load(), words.slice(1, -1)), current)
  } catch {
    return []
  }
}

/** Reads the words of a command, its own name left out. */
function read(whole: Command, words: readonly string[]): Line {
  const options = new Map<string, string[]>()
  const positional: string[] = []
  let [command, awaiting]: [Command, Option | undefined] = [whole, undefined]
  const keep = (option: Option, value: string) =>
    options.set(option.attributeName(), [...(options.get(option.attributeName()) ?? []), value])
  for (const word of words) {
    const [flag = '', ...value] = word.split('=')
    const option = command.options.find(one => one.long === flag || one.short === flag)
    const below = positional.length === 0 ? command.commands.find(one => one.name() === word) : undefined
    if (awaiting) {
      keep(awaiting, word)
      awaiting = undefined
    } else if (option) {
      if (value.length > 0) keep(option, value.join('='))
      else if (option.required) awaiting = option
    } else if (below) command = below
    else if (!word.startsWith('-')) positional.push(word)
  }
  return { command, options, positional, awaiting }
}

async function within(line: Line, current: string): Promise<readonly string[]> {
  const { command, awaiting, positional } = line
  if (awaiting) return await valuesOf(awaiting, line, current)
  if (current.startsWith('-')) {
    const shown = command.options.filter(({ hidden }) => !hidden)
    return beginningWith(current, [...shown.map(({ long, short }) => long ?? short ?? ''), '--help'])
  }
  const argument = command.registeredArguments[positional.length]
  const named = positional.length === 0 ? command.commands.map(one => one.name()) : []
  const known = argument?.argChoices ?? (await ofArguments[argument?.name() ?? '']?.(line)) ?? []
  return beginningWith(current, [...named, ...known])
}

async function valuesOf(option: Option, line: Line, current: string): Promise<readonly string[]> {
  const attribute = option.attributeName()
  const known = option.argChoices ?? (await ofOptions[attribute]?.(line)) ?? []
  if (!lists.includes(attribute)) return beginningWith(current, known)
  const before = current.slice(0, current.lastIndexOf(',') + 1)
  return beginningWith(current.slice(before.length), known).map(word => `${before}${word}`)
}

/** Words with blanks or signs of the shell in them would have to be quoted, and are left out. */
const beginningWith = (start: string, words: readonly string[]) =>
  [...new Set(words)].filter(word => word.startsWith(start) && /^[\p{L}\p{N}_.:@,/-]+$/u.test(word))

async function hostsAndGroups({ options }: Line): Promise<readonly string[]> {
  const given: InventoryOptions = {
    inventory: [...(options.get('inventory') ?? [])],
    vaultId: options.get('vaultId')?.filter(id => !id.endsWith('prompt')),
    vaultPasswordFile: options.get('vaultPasswordFile')?.slice(),
  }
  const { hosts, groups } = await openInventory(given)
  return [...groups.keys(), ...hosts.map(({ name }) => name)]
}

async function playbookOf({ positional }: Line) {
  const { loadPlaybook } = await import('../../playbook/load.ts')
  return (await loadPlaybook(positional[0] ?? '', playbookFolders())).playbook
}

async function playbookNames(): Promise<readonly string[]> {
  const { listedPlaybooks, shippedPlaybooks } = await import('../../playbook/load.ts')
  return [...listedPlaybooks(playbookFolders()).map(({ name }) => name), ...shippedPlaybooks()]
}

async function tags(line: Line): Promise<readonly string[]> {
  const { tagsIn } = await import('../../run/select.ts')
  return (await playbookOf(line)).plays.flatMap(play => tagsIn(play)).sort()
}

async function runNames(): Promise<readonly string[]> {
  const [{ basename }, { runsDirectory }, { runFolders }] = await Promise.all([
    import('node:path'),
    import('../../run/folder/folder.ts'),
    import('../../run/journal/history.ts'),
  ])
  return runFolders(runsDirectory())
    .map(folder => basename(folder))
    .reverse()
}

async function stepsOfRun({ positional }: Line): Promise<readonly string[]> {
  const [{ runsDirectory }, { findRun, readHistory }] = await Promise.all([
    import('../../run/folder/folder.ts'),
    import('../../run/journal/history.ts'),
  ])
  const { first } = readHistory(findRun(positional[0] ?? '', runsDirectory()))
  return first.plays.flatMap(({ steps }) => steps.map(({ id }) => id))
}
