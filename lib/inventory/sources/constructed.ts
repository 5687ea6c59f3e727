// `plugin: constructed`: groups and variables made of what the sources before it say, by expressions of Jinja.
import { at, RekeyError } from '../../errors.ts'
import { didYouMean } from '../../suggestion.ts'
import {
  addChild,
  addHost,
  assignToHost,
  type Collector,
  compareGroups,
  ensureGroup,
  groupsOf,
  type HostEntry,
  type Origin,
  setDepths,
} from '../groups.ts'
import { isTemplate } from '../jinja/jinja-lexer.ts'
import { text, truthy } from '../python/python-values.ts'
import { Dict, isMapping, keyText, type Mapping, typeName, UnsafeText, type Value } from '../values.ts'
import { type Layer, laid } from '../variables/layers.ts'
import { createResolver, type VariableResolver } from '../variables/resolve.ts'
import { openVariableFolder } from '../variables/variable-files.ts'
import { keyOf, type MappingNode, toValue } from '../yaml/node.ts'
import type { SourceContext } from './source-context.ts'

/** True for the names by which Ansible knows this plugin. */
export const isConstructed = (plugin: string): boolean => /^(ansible\.(builtin|legacy)\.)?constructed$/.test(plugin)

/** What there is of Ansible's own variables while an inventory is made. */
const ownVariables = [
  'inventory_hostname',
  'inventory_hostname_short',
  'group_names',
  'inventory_file',
  'inventory_dir',
]
const knownOptions = [
  ...[
    'plugin',
    'strict',
    'compose',
    'groups',
    'keyed_groups',
    'use_extra_vars',
    'use_vars_plugins',
    'leading_separator',
  ],
  ...['cache', 'cache_plugin', 'cache_timeout', 'cache_connection', 'cache_prefix'],
]

/** Adds what a constructed inventory makes of hosts. Throws `RekeyError` with file, line and host for what can't be evaluated. */
export function addConstructedInventory(
  collector: Collector,
  file: string,
  root: MappingNode,
  context: SourceContext,
): void {
  new Construction(collector, file, root, context).run()
}

/** One constructed inventory; a class because every rule needs its options and places. */
class Construction {
  readonly #collector: Collector
  readonly #file: string
  readonly #root: MappingNode
  readonly #context: SourceContext
  readonly #strict: boolean

  constructor(collector: Collector, file: string, root: MappingNode, context: SourceContext) {
    this.#collector = collector
    this.#file = file
    this.#root = root
    this.#context = context
    this.#strict = this.#switch('strict', false)
  }

  run(): void {
    for (const { key } of this.#root.entries.values()) {
      const name = keyText(keyOf(key))
      if (knownOptions.includes(name)) continue
      const guess = didYouMean(name, knownOptions)
      this.#context.notice(
        `${at(this.#file, key.line)}: "${name}" is no option of constructed${guess ? `; did you mean "${guess}"?` : ''}`,
      )
    }
    const { data } = this.#collector
    for (const host of [...data.hosts.values()]) {
      this.#compose(host)
      this.#group(host)
    }
  }

  #origin(option: string): Origin {
    return { file: this.#file, line: this.#root.entries.get(option)?.key.line }
  }

  #error(option: string, what: string, hint = 'See the documentation of Ansible’s constructed inventory.'): RekeyError {
    const { file, line } = this.#origin(option)
    return new RekeyError(`${at(file, line)}: ${what}`, { code: 'inventory.constructed', hint })
  }

  #option(option: string): Value | undefined {
    const node = this.#root.entries.get(option)?.value
    return node && toValue(node)
  }

  #switch(option: string, otherwise: boolean): boolean {
    const value = this.#option(option)
    if (value === undefined) return otherwise
    if (typeof value === 'boolean') return value
    if (typeof value === 'string' && /^(yes|on|true|no|off|false)$/i.test(value)) return /^(yes|on|true)$/i.test(value)
    throw this.#error(option, `"${option}" must be yes or no`)
  }

  #mapping(option: string): Mapping {
    const value = this.#option(option) ?? new Dict<Value>()
    if (isMapping(value)) return value
    throw this.#error(option, `"${option}" must be a map, not ${typeName(value)}`)
  }

  /** What expressions see of a host: its groups and variables as the sources before this one have them. */
  #resolver(host: HostEntry, useExtraVars: boolean): VariableResolver {
    const { data } = this.#collector
    const { settings, extraVars, processed, vault, notice, machine } = this.#context
    setDepths(data)
    const groups = [...groupsOf(host)].sort(compareGroups)
    const folders = this.#switch('use_vars_plugins', false)
      ? processed.map(folder => openVariableFolder(folder, vault, notice))
      : []
    const files = (kind: 'group' | 'host', name: string): Layer[] =>
      folders.flatMap(folder => {
        const read = folder[kind](name)
        return read ? [{ title: name, read }] : []
      })
    const variables = laid(
      new Map(),
      [
        ...groups.map(group => ({ title: group.name, read: () => group.vars })),
        ...groups.flatMap(group => files('group', group.name)),
        { title: host.name, read: () => host.vars },
        ...files('host', host.name),
        ...(useExtraVars ? [{ title: '-e', read: () => extraVars }] : []),
      ],
      settings.mergeMaps,
    )
    return createResolver({ data, layers: { merged: () => variables }, own: ownVariables, machine })
  }

  /** What an expression comes to; undefined where something in it is not there, which only `strict` minds. */
  #evaluate(
    resolver: VariableResolver,
    host: HostEntry,
    option: string,
    what: string,
    expression: Value,
  ): Value | undefined {
    if (typeof expression !== 'string')
      throw this.#error(option, `${what} must be an expression, not ${typeName(expression)}`)
    const whole = expression.trim()
    const template = whole.startsWith('{{') && whole.endsWith('}}') ? whole : `{{ ${whole} }}`
    try {
      return settled(resolver.evaluate(host, template, what, this.#origin(option)))
    } catch (error) {
      if (!this.#strict && error instanceof RekeyError && error.code === 'inventory.undefined') return undefined
      throw error
    }
  }

  #compose(host: HostEntry): void {
    const variables = this.#mapping('compose')
    if (variables.size === 0) return
    const resolver = this.#resolver(host, this.#useExtraVars)
    for (const [key, expression] of variables.entries()) {
      const name = keyText(key)
      const value = this.#evaluate(resolver, host, 'compose', `compose "${name}"`, expression)
      if (value !== undefined) assignToHost(this.#collector.data, host, name, value, this.#origin('compose'))
    }
  }

  get #useExtraVars(): boolean {
    return this.#switch('use_extra_vars', this.#context.settings.useExtraVars)
  }

  #group(host: HostEntry): void {
    // Conditions of groups do not see the variables of -e, keys do.
    const plain = this.#resolver(host, false)
    const { data } = this.#collector
    for (const [key, condition] of this.#mapping('groups').entries()) {
      const name = keyText(key)
      const holds =
        typeof condition === 'boolean'
          ? condition
          : this.#evaluate(plain, host, 'groups', `the group "${name}"`, condition)
      if (holds === true) this.#addTo(name, host, 'groups')
      else if (holds !== undefined && holds !== false && this.#strict)
        throw this.#error('groups', `the condition of the group "${name}" gives ${typeName(holds)} for ${host.name}`)
    }
    const keyed = this.#option('keyed_groups') ?? []
    if (!Array.isArray(keyed)) throw this.#error('keyed_groups', '"keyed_groups" must be a list')
    const resolver = this.#useExtraVars ? this.#resolver(host, true) : plain
    for (const entry of keyed) {
      if (!isMapping(entry)) throw this.#error('keyed_groups', 'an entry of "keyed_groups" must be a map')
      this.#keyed(host, entry, resolver)
    }
    setDepths(data)
  }

  #addTo(name: string, host: HostEntry, option: string): void {
    const { data } = this.#collector
    const origin = this.#origin(option)
    const group = ensureGroup(data, groupName(name), origin)
    const namesake = data.groups.get(host.name)
    // Of a host and a group of one name, Ansible takes the group.
    if (namesake) addChild(group, namesake, origin)
    else addHost(this.#collector, host.name, group, undefined, origin)
  }

  #keyed(host: HostEntry, entry: Mapping, resolver: VariableResolver): void {
    const option = 'keyed_groups'
    const [fallback, trailing] = [entry.get('default_value') ?? undefined, entry.get('trailing_separator') ?? undefined]
    if (fallback !== undefined && trailing !== undefined)
      throw this.#error(option, '"default_value" and "trailing_separator" exclude each other')
    const key = this.#evaluate(resolver, host, option, 'the key of "keyed_groups"', entry.get('key') ?? null)
    if (key === undefined) return
    const isEmpty = (value: Value): boolean => value === null || value === ''
    if (!truthy(key) && !(isEmpty(key) && fallback !== undefined)) {
      const nothing = (Array.isArray(key) && key.length === 0) || (isMapping(key) && key.size === 0)
      if (this.#strict && !nothing)
        throw this.#error(option, `the key "${text(entry.get('key'))}" is empty for ${host.name}`)
      return
    }
    const prefix = text(entry.get('prefix') ?? '')
    let separator = text(entry.get('separator') ?? '_')
    let names: Value[]
    if (isEmpty(key)) names = [fallback!]
    else if (typeof key === 'string' || key instanceof UnsafeText) names = [key]
    else if (Array.isArray(key)) names = key.map(name => (isEmpty(name) && fallback !== undefined ? fallback : name))
    else if (isMapping(key)) {
      names = key.entries().map(([name, value]) => {
        if (!isEmpty(value)) return `${keyText(name)}${separator}${written(value)}`
        if (fallback !== undefined) return `${keyText(name)}${separator}${written(fallback)}`
        return trailing === false ? keyText(name) : `${keyText(name)}${separator}${written(value)}`
      })
    } else
      throw this.#error(
        option,
        `the key "${text(entry.get('key'))}" gives ${typeName(key)} for ${host.name}, not text, a list or a map`,
      )
    if (prefix === '' && !this.#switch('leading_separator', true)) separator = ''
    const parent = this.#parent(host, entry, resolver)
    for (const name of names) {
      const whole = `${prefix}${separator}${written(name)}`
      if (whole === '') throw this.#error(option, `the name of a group is empty for ${host.name}`)
      const origin = this.#origin(option)
      const group = ensureGroup(this.#collector.data, groupName(whole), origin)
      addHost(this.#collector, host.name, group, undefined, origin)
      if (parent !== '') addChild(ensureGroup(this.#collector.data, groupName(parent), origin), group, origin)
    }
  }

  #parent(host: HostEntry, entry: Mapping, resolver: VariableResolver): string {
    const given = entry.get('parent_group') ?? null
    if (given === null) return ''
    const name = written(given)
    if (!isTemplate(name)) return name
    return written(settled(resolver.evaluate(host, name, 'the parent group', this.#origin('keyed_groups'))))
  }
}

/** A name as Ansible's constructed inventories make it safe. */
const groupName = (name: string): string => name.replace(/^\p{Nd}|[^\p{L}\p{N}_]/gu, '_')
const written = (value: Value): string => (value instanceof UnsafeText ? value.text : text(value))

/** What a template gave as a value for good: texts in it are no templates any more. */
function settled(value: unknown): Value {
  if (typeof value === 'string') return isTemplate(value) ? new UnsafeText(value) : value
  if (Array.isArray(value)) return value.map(settled)
  if (isMapping(value)) return Dict.of(value.entries().map(([key, one]) => [key, settled(one)]))
  return value as Value
}
