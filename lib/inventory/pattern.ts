// Host patterns, for `hosts`, `--limit` and `rekey inventory`: `masters:&rack1:!m3`, `node*`, `~n[12]$`, `masters[0]`.
import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { RekeyError } from '../errors.ts'
import { didYouMean } from '../suggestion.ts'
import { parseAddress } from './addresses.ts'
import { type HostEntry, hostsOf, type InventoryData } from './groups.ts'
import { type PythonRegex, pythonRegex } from './python/python-regex.ts'

/**
 * Splits a pattern into its parts: at commas, or at colons where these are no port, range or IPv6 address.
 */
export function splitPattern(pattern: string): string[] {
  let parts: readonly string[]
  if (pattern.includes(',')) parts = pattern.split(',')
  else if (parseAddress(pattern)) parts = [pattern]
  else {
    // A bracket that nothing closes separates; taken away first, or each would be looked for to the end.
    const closed = pattern.lastIndexOf(']') + 1
    const text = pattern.slice(0, closed) + pattern.slice(closed).replaceAll('[', ' ')
    parts = text.match(/(?:[^\s:[\]]|\[[^\]]*\])+/g) ?? []
  }
  return parts.map(part => part.trim()).filter(part => part !== '')
}

/** The parts of a `--limit`, `@file` replaced by the lines of that file. Throws `RekeyError` when it can't be read. */
export function splitLimit(limit: string, cwd: string): string[] {
  return splitPattern(limit).flatMap(part =>
    part.startsWith('@') ? readLimitFile(resolve(cwd, part.slice(1))) : [part],
  )
}

function readLimitFile(file: string): string[] {
  try {
    if (statSync(file).isDirectory()) throw new Error('it is a folder')
    return readFileSync(file, 'utf8')
      .split('\n')
      .map(line => line.trim())
      .filter(line => line !== '')
  } catch (error) {
    throw new RekeyError(`the limit file ${file} can't be read: ${(error as Error).message}`, {
      code: 'inventory.limit-file',
      hint: 'Give a file with one host or pattern a line: --limit @FILE.',
      cause: error,
    })
  }
}

/** What the parts of a pattern matched: the hosts, and the parts that match nothing in this inventory. */
export interface Matches {
  readonly hosts: HostEntry[]
  readonly unmatched: string[]
}

/** What a name stands for where no host has it, before the groups are looked at. */
export type Role = (name: string) => readonly HostEntry[] | undefined

/** Applies parts in Ansible's order, whatever the order written: the unions, then `&`, then `!`. */
export function matchPattern(
  data: InventoryData,
  parts: readonly string[],
  localhost: (name: string) => HostEntry | undefined,
  role: Role = () => undefined,
): Matches {
  const unions = parts.filter(part => !/^[!&]/.test(part))
  const unmatched: string[] = []
  const match = (part: string): HostEntry[] => {
    const found = matchPart(data, part, localhost, role)
    if (!found) unmatched.push(part)
    return found ?? []
  }
  let hosts = new Set<HostEntry>()
  for (const part of unions.length > 0 ? unions : ['all']) for (const host of match(part)) hosts.add(host)
  for (const part of parts) {
    if (!part.startsWith('&')) continue
    const wanted = new Set(match(part.slice(1)))
    hosts = new Set([...hosts].filter(host => wanted.has(host)))
  }
  for (const part of parts) if (part.startsWith('!')) for (const host of match(part.slice(1))) hosts.delete(host)
  return { hosts: [...hosts], unmatched }
}

/** The hosts of one part without its `&` or `!`; undefined when it names nothing at all. */
function matchPart(
  data: InventoryData,
  part: string,
  localhost: (name: string) => HostEntry | undefined,
  role: Role,
): HostEntry[] | undefined {
  const exact = data.hosts.get(part)
  if (exact) return [exact]
  const subscript = part.startsWith('~') ? null : /^(.+)\[(?:(-?[0-9]+)|([0-9]+)[:-]([0-9]*))\]$/.exec(part)
  const expression = subscript?.[1] ?? part
  const inRole = role(expression)
  if (inRole) return subscript ? pick(part, [...inRole], subscript) : [...inRole]
  const matches = matcher(expression)
  const hosts = new Set<HostEntry>()
  let named = expression === 'all'
  for (const group of data.groups.values()) {
    if (!matches(group.name)) continue
    named = true
    for (const host of hostsOf(group)) hosts.add(host)
  }
  if (!named || /^~|[.?*[]/.test(expression)) {
    for (const host of data.hosts.values()) {
      if (!matches(host.name)) continue
      named = true
      hosts.add(host)
    }
  }
  if (!named) {
    const implicit = localhost(expression)
    return implicit ? [implicit] : undefined
  }
  return subscript ? pick(part, [...hosts], subscript) : [...hosts]
}

function pick(part: string, hosts: HostEntry[], [, , index, start, end]: RegExpExecArray): HostEntry[] {
  if (hosts.length === 0) return hosts
  if (index !== undefined) {
    const host = hosts.at(Number(index))
    if (host) return [host]
    throw new RekeyError(`no host at "${part}": the part before the bracket has ${hosts.length}`, {
      code: 'inventory.pattern-subscript',
      hint: `Count from 0 to ${hosts.length - 1}, or backwards from -1.`,
    })
  }
  // The end counts too; 0 as an end, Ansible takes for no end given and picks the first.
  if (end === '0') return hosts.slice(Number(start), Number(start) + 1)
  return hosts.slice(Number(start), end ? Number(end) + 1 : undefined)
}

function matcher(expression: string): (name: string) => boolean {
  if (expression.startsWith('~')) {
    const pattern = startRegex(expression.slice(1))
    return name => {
      try {
        return pattern.match(name)
      } catch (error) {
        throw badPattern(expression, error)
      }
    }
  }
  if (!/[*?[]/.test(expression)) return name => name === expression
  return globMatcher(expression)
}

/**
 * A shell wildcard as fnmatch reads it. Between stars stand pieces of a length of their own: each is looked for once, from where the one
 * before it ended, so that no pattern takes long.
 */
function globMatcher(glob: string): (name: string) => boolean {
  const pieces = globPieces(glob)
  const regex = (source: string, flags: string): RegExp => {
    try {
      return new RegExp(source, flags)
    } catch (error) {
      throw badPattern(glob, error)
    }
  }
  if (pieces.length === 1) {
    const whole = regex(`^(?:${pieces[0]!.source})$`, 's')
    return name => whole.test(name)
  }
  const first = regex(`^(?:${pieces[0]!.source})`, 's')
  const last = pieces.at(-1)!
  const end = regex(`(?:${last.source})$`, 'sy')
  const between = pieces.slice(1, -1).map(({ source }) => regex(source, 'sg'))
  return name => {
    let from = first.exec(name)?.[0].length
    for (const piece of between) {
      if (from === undefined) return false
      piece.lastIndex = from
      from = piece.test(name) ? piece.lastIndex : undefined
    }
    if (from === undefined || name.length - last.length < from) return false
    end.lastIndex = name.length - last.length
    return end.test(name)
  }
}

/** What stands between the stars of a wildcard, as regular expressions for so many characters. */
function globPieces(glob: string): { source: string; length: number }[] {
  const pieces = [{ source: '', length: 0 }]
  const add = (source: string): void => {
    const piece = pieces.at(-1)!
    piece.source += source
    piece.length++
  }
  for (let index = 0; index < glob.length; index++) {
    const character = glob[index]!
    if (character === '*') pieces.push({ source: '', length: 0 })
    else if (character === '?') add('.')
    else if (character === '[') {
      // A bracket right after the opening one (or its !) is a member, not the end.
      const end = glob.indexOf(']', index + (glob[index + 1] === '!' ? 3 : 2))
      if (end === -1) add('\\[')
      else {
        const members = glob.slice(index + 1, end).replace(/[\\[\]&|~]/g, '\\$&')
        add(members.startsWith('!') ? `[^${members.slice(1)}]` : `[${members.replace(/^\^/, '\\^')}]`)
        index = end
      }
    } else add(character.replace(/[\\^$.|+(){}\]/]/g, '\\$&'))
  }
  return pieces
}

/** Whether a regular expression of Python's is found anywhere in a name. Throws `RekeyError` with where it stands, also when it is asked. */
export function searchRegex(source: string, where: string): (name: string) => boolean {
  const reading = <Result>(act: () => Result): Result => {
    try {
      return act()
    } catch (error) {
      throw new RekeyError(`${where}: "${source}" can't be read: ${(error as Error).message}`, {
        code: 'inventory.pattern',
        hint: 'Correct the regular expression.',
        cause: error,
      })
    }
  }
  const regex = reading(() => pythonRegex(source))
  return name => reading(() => regex.search(name) !== undefined)
}

/** A regular expression of Python's, matched from the start of a name. */
function startRegex(source: string): PythonRegex {
  try {
    return pythonRegex(source)
  } catch (error) {
    throw badPattern(`~${source}`, error)
  }
}

function badPattern(pattern: string, cause: unknown): RekeyError {
  return new RekeyError(`the host pattern "${pattern}" can't be read: ${(cause as Error).message}`, {
    code: 'inventory.pattern',
    hint: 'Wildcards are * ? [abc]; a regular expression starts with ~.',
    cause,
  })
}

/** The error for a `--limit` part that names nothing, with the nearest name that exists. */
export function unmatchedError(data: InventoryData, part: string, where: string): RekeyError {
  const name = part.replace(/^[!&]/, '')
  const guess = didYouMean(name, [...data.groups.keys(), ...data.hosts.keys()])
  return new RekeyError(`${where}: "${name}" matches no host and no group of the inventory`, {
    code: 'inventory.limit-unmatched',
    hint: guess ? `Did you mean "${guess}"?` : 'rekey inventory --graph shows what there is.',
  })
}
