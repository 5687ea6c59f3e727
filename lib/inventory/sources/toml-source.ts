// Inventories written in TOML: a table a group, with `hosts`, `vars` and `children`.
import { parse, TomlDate, TomlError, type TomlTable, type TomlValue } from 'smol-toml'
import { at, RekeyError } from '../../errors.ts'
import { addChild, addHost, assignToGroup, assignToHost, type Collector, ensureGroup, type Origin } from '../groups.ts'
import { Dict, float, integer, isMapping, keyText, type Mapping, Timestamp, typeName, type Value } from '../values.ts'
import { expandAt } from './yaml-source.ts'

/** Adds what a TOML inventory says. Throws `RekeyError` with the line of what is wrong, as far as it is known. */
export function addTomlInventory(
  collector: Collector,
  file: string,
  content: string,
  notice: (line: string) => void,
): void {
  const groups = read(file, content)
  if (groups.size === 0) throw bad({ file }, 'the file is empty', 'Write a table for each group: [GROUP.hosts].')
  if (groups.get('plugin'))
    throw bad({ file }, 'it configures an inventory plugin', 'Ansible reads such files in YAML only.')
  for (const [name, group] of groups.entries()) addGroup(collector, { file }, keyText(name), group, notice)
}

function read(file: string, content: string): Mapping {
  // The library keeps milliseconds, Python microseconds.
  const fine = /:\d\d\.\d{3}0*[1-9]/.exec(content)
  if (fine) {
    const line = content.slice(0, fine.index).split('\n').length
    throw new RekeyError(`${at(file, line)}: a time with parts of milliseconds can't be read`, {
      code: 'inventory.toml',
      hint: 'Write it as text, in quotes.',
    })
  }
  try {
    return toMapping(parse(content, { integersAsBigInt: true }))
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const why = error.message.split('\n')[0]!.replace(/^Invalid TOML document: /, '')
    throw new RekeyError(`${at(file, error.line, error.column)}: not valid TOML: ${why}`, {
      code: 'inventory.toml',
      hint: 'Correct that line.',
      cause: error,
    })
  }
}

function toMapping(table: TomlTable): Mapping {
  return Dict.of(Object.entries(table).map(([key, value]) => [key, toValue(value)]))
}

function toValue(value: TomlValue): Value {
  if (typeof value === 'bigint') return integer(value)
  if (typeof value === 'number') return float(value)
  if (Array.isArray(value)) return value.map(toValue)
  if (value instanceof TomlDate) return new Timestamp(isoFormat(value.toISOString()))
  return typeof value === 'object' ? toMapping(value) : value
}

/** As Python's isoformat() has it: no milliseconds or six digits of them, UTC as an offset. */
function isoFormat(written: string): string {
  return written
    .replace(/Z$/, '+00:00')
    .replace(/\.(\d{3})/, (_, digits: string) => (digits === '000' ? '' : `.${digits}000`))
}

function addGroup(
  collector: Collector,
  origin: Origin,
  name: string,
  content: Value,
  notice: (line: string) => void,
): void {
  if (!isMapping(content)) {
    notice(`${origin.file}: "${name}" is ignored: a group is a table, not ${typeName(content)}`)
    return
  }
  const group = ensureGroup(collector.data, name, origin)
  for (const [key, value] of content.entries()) {
    const section = keyText(key)
    if (section === 'children') {
      if (!Array.isArray(value)) throw badSection(origin, name, section, 'a list of groups', value)
      for (const child of value) {
        if (typeof child !== 'string' || child === '') throw badSection(origin, name, section, 'a list of names', value)
        addChild(group, ensureGroup(collector.data, child, origin), origin)
      }
    } else if (section !== 'vars' && section !== 'hosts') {
      notice(`${origin.file}: "${section}" in the group "${name}" is ignored: only vars, children and hosts are read`)
    } else if (!isMapping(value)) throw badSection(origin, name, section, 'a table', value)
    else if (section === 'vars') {
      for (const [variable, one] of value.entries()) assignToGroup(group, keyText(variable), one, origin)
    } else
      for (const [pattern, variables] of value.entries()) addHosts(collector, origin, name, keyText(pattern), variables)
  }
}

function addHosts(collector: Collector, origin: Origin, group: string, pattern: string, variables: Value): void {
  const { hosts, port } = expandAt(pattern, origin)
  if (!isMapping(variables)) throw badSection(origin, group, `hosts.${pattern}`, 'a table', variables)
  for (const name of hosts) {
    const host = addHost(collector, name, collector.data.groups.get(group)!, port, origin)
    for (const [variable, value] of variables.entries())
      assignToHost(collector.data, host, keyText(variable), value, origin)
  }
}

function badSection(origin: Origin, group: string, section: string, wanted: string, value: Value): RekeyError {
  return bad(
    origin,
    `"${section}" of the group "${group}" must be ${wanted}, not ${typeName(value)}`,
    'Write [GROUP.hosts] with HOST = { … }, [GROUP.vars] with NAME = VALUE, and children = ["GROUP"].',
  )
}

function bad({ file }: Origin, what: string, hint: string): RekeyError {
  return new RekeyError(`${file}: ${what}`, { code: 'inventory.toml', hint })
}
