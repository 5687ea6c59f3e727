// The flags in the texts of a systemd unit: read and changed in the command that it starts, or in a file of its environment. Texts only.
import { HostFailedError } from '../../errors.ts'

/** What a unit is started by. */
export interface UnitTexts {
  /** Its file and its drop-ins, one after the other, as `systemctl cat` prints them. */
  readonly definition: string
  /** The files that its environment comes from, by their paths. */
  readonly environment: ReadonlyMap<string, string>
}

/** A flag with what it is to be; none where `values` is empty. */
export interface FlagChange {
  readonly name: string
  readonly values: readonly string[]
}

/**
 * What the files of a unit hold with flags changed. A flag is changed where it is set already: in a file of the environment, or in the
 * command; what is new goes to the command, or to etcd's environment where that is how it is told. A command is never changed where it
 * stands: a drop-in has all of it.
 * @param where for messages, e.g. `m1:kube-apiserver.service`
 * @returns the texts that change: of files of the environment by their paths, and of the drop-in
 * @throws HostFailedError where the flag can't be changed
 */
export function editUnit(
  texts: UnitTexts,
  where: string,
  changes: readonly FlagChange[],
): { readonly environment: ReadonlyMap<string, string>; readonly dropIn?: string } {
  const command = commandOf(texts.definition, where)
  let words = command
  const environment = new Map(texts.environment)
  for (const change of changes) {
    const variable = `ETCD_${change.name.toUpperCase().replaceAll('-', '_')}`
    if (new RegExp(`^\\s*Environment=.*\\b${variable}=`, 'm').test(texts.definition)) {
      throw new HostFailedError(`${where} sets ${variable} by Environment=, which is not changed by rekey`, {
        code: 'unit.environment',
        hint: 'Move it to the file of an EnvironmentFile=.',
      })
    }
    const isEtcd = nameOf(words[0] ?? '') === 'etcd'
    const byVariables = [...environment].find(([, text]) => /^[ \t]*ETCD_[A-Z_]+=/m.test(text))
    const inWords = words.some(word => isFlag(word, change.name))
    if (isEtcd && byVariables && !inWords) {
      environment.set(byVariables[0], withVariable(byVariables[1], variable, change.values, where))
      continue
    }
    const inFile = [...environment].find(([, text]) => flagPattern(change.name).test(text))
    if (inFile) environment.set(inFile[0], withFlagIn(inFile[1], change))
    words = inFile && !inWords ? words : withFlag(words, change)
  }
  const changed = new Map([...environment].filter(([path, text]) => texts.environment.get(path) !== text))
  if (words.length === command.length && words.every((word, index) => word === command[index]))
    return { environment: changed }
  return { environment: changed, dropIn: `${mark}[Service]\nExecStart=\nExecStart=${words.join(' \\\n  ')}\n` }
}

const mark = '# Written by rekey: the command of the unit, with flags changed.\n'

/** The command that a unit starts, as the words of its text. */
export function commandOf(definition: string, where: string): string[] {
  let commands: string[] = []
  let section = ''
  for (const line of logicalLines(definition)) {
    if (line.startsWith('[')) section = line.trim()
    const value = section === '[Service]' ? /^ExecStart\s*=\s*(.*)$/.exec(line)?.[1] : undefined
    if (value === '') commands = []
    else if (value !== undefined) commands.push(value)
  }
  const [only, ...others] = commands
  if (only === undefined || others.length > 0) {
    throw new HostFailedError(`${where} has ${commands.length} commands (ExecStart=), and not one`, {
      code: 'unit.command',
    })
  }
  return only.match(/(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/g) ?? []
}

/** Lines with those that a backslash continues joined; comments left out, in between too, as systemd does. */
function logicalLines(text: string): string[] {
  const lines: string[] = []
  let open = false
  for (const line of text.split('\n')) {
    if (/^\s*[#;]/.test(line)) continue
    const more = /\\\s*$/.test(line)
    const part = more ? line.replace(/\\\s*$/, ' ') : line
    if (open) lines[lines.length - 1] += part
    else lines.push(part.trimStart())
    open = more
  }
  return lines.map(line => line.trimEnd())
}

const unquoted = (word: string) => word.replace(/["']/g, '')
const nameOf = (program: string) => unquoted(program).split('/').at(-1)
const isFlag = (word: string, name: string) => new RegExp(`^--?${name}(=|$)`).test(unquoted(word))
/** Whether it is the value of the flag before it, which has none of its own. None of the components takes other words. */
const isValue = (word: string | undefined) => word !== undefined && !/^[-$]/.test(unquoted(word))

/** Words of a command with a flag set where it stood, or at the end. */
function withFlag(words: readonly string[], { name, values }: FlagChange): string[] {
  const next = values.map(value => systemdWord(`--${name}=${value}`))
  const rest: string[] = []
  let at = -1
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!
    if (!isFlag(word, name)) {
      rest.push(word)
      continue
    }
    if (at === -1) at = rest.length
    if (!word.includes('=') && isValue(words[index + 1])) index++
  }
  return rest.toSpliced(at === -1 ? rest.length : at, 0, ...next)
}

/** A word as systemd reads it back: its specifiers and variables doubled, in quotes where it must be. */
function systemdWord(word: string): string {
  const escaped = word.replace(/[%$]/g, '$&$&').replace(/[\\"]/g, '\\$&')
  return /[\s"';\\]/.test(word) ? `"${escaped}"` : escaped
}

/** A flag inside of a variable that holds several, such as KUBELET_ARGS. */
const flagPattern = (name: string) =>
  new RegExp(`(?<![\\w-])--${name}(?:=[^\\s"'\\\\]*|\\s+[^-\\s"'\\\\][^\\s"'\\\\]*)?(?![\\w-])`)

function withFlagIn(text: string, { name, values }: FlagChange): string {
  const next = values.map(value => `--${name}=${value}`).join(' ')
  let first = true
  return text.replace(new RegExp(flagPattern(name).source, 'g'), () => {
    const put = first ? next : ''
    first = false
    return put
  })
}

function withVariable(text: string, variable: string, values: readonly string[], where: string): string {
  const line = new RegExp(`^[ \\t]*${variable}=.*(\\n|$)`, 'm')
  if (values.length === 0) return text.replace(line, '')
  const value = values.join(',')
  if (/["'\s\\$]/.test(value))
    throw new HostFailedError(`${where}: ${variable} can't hold ${value}`, { code: 'unit.environment' })
  if (line.test(text)) return text.replace(line, `${variable}=${value}$1`)
  return `${text === '' || text.endsWith('\n') ? text : `${text}\n`}${variable}=${value}\n`
}
