// The variables of a host as playbooks read them: templates resolved when a variable is read, and only then.
import { at, RekeyError } from '../../errors.ts'
import type { HostTemplate } from '../../playbook/host.ts'
import { didYouMean } from '../../suggestion.ts'
import { type Assignment, folderOf, type HostEntry, hostsOf, type InventoryData, type Origin } from '../groups.ts'
import { groupNames, shortName } from '../host-facts.ts'
import { evaluateTemplate, renderTemplate, type Scope } from '../jinja/jinja.ts'
import { Limits, type Machine } from '../jinja/jinja-call.ts'
import { isTemplate } from '../jinja/jinja-lexer.ts'
import { PythonObject, TemplateError, UndefinedError } from '../python/python-values.ts'
import {
  Dict,
  EncryptedText,
  isMapping,
  keyText,
  setProperty,
  Timestamp,
  UnsafeText,
  type Value,
  WholeFloat,
} from '../values.ts'
import { isEncrypted } from '../vault/vault.ts'
import { tellValue } from '../vault/vaulted.ts'
import type { Layers } from './layers.ts'

/** Reads variables of hosts. */
export interface VariableResolver {
  /** One variable; undefined when nothing sets it. Throws `RekeyError` when it can't be resolved. */
  read(host: HostEntry, name: string): unknown
  /** All of them as an object that resolves a variable when it is read. */
  vars(host: HostEntry): Readonly<Record<string, unknown>>
  /**
   * What a template comes to for a host, with Python's types. `what` is it, for the error: a `RekeyError` with the code
   * `inventory.undefined` where something in it is not there.
   */
  evaluate(host: HostEntry, template: string, what: string, origin: Origin): unknown
  /** The text of a template in a file, with the host's variables. Throws `RekeyError` that names the file. */
  render(host: HostEntry, source: string, template: HostTemplate): string
}

export interface ResolverSources {
  readonly data: InventoryData
  readonly layers: Pick<Layers, 'merged'>
  readonly playbookDirectory?: string
  /** Which of Ansible's own variables there are; without it, all. */
  readonly own?: readonly string[]
  /** What of this machine templates may see. */
  readonly machine: Machine
}

/** What stands behind a template error: the innermost variable whose template failed. */
interface Site {
  readonly host: string
  /** What it is, where it is no variable. */
  readonly what?: string
  readonly variable: string
  readonly assignment: Assignment
}

/** How variables are seen. */
interface View {
  readonly lookup: (host: HostEntry, name: string) => unknown
  readonly scopeOf: (host: HostEntry) => Scope
}

/** A template that needs its own value. */
class LoopError extends TemplateError {}

/** Resolves variables of the hosts of an inventory; each is resolved once. */
export function createResolver({ data, layers, playbookDirectory, own, machine }: ResolverSources): VariableResolver {
  const merged = memo((host: HostEntry) => layers.merged(host))
  const sites = new WeakMap<TemplateError, Site>()
  const running: (Site & { readonly key: string })[] = []
  let limits = new Limits()

  const evaluate = (template: string, site: Site, scope: Scope): unknown => {
    const key = `${scope.has('hostvars')}\n${site.host}\n${template}`
    const from = running.findIndex(one => one.key === key)
    if (from !== -1) {
      const way = [...running.slice(from), site].map(one => one.variable)
      const chain = way.length === 2 && way[0] === way[1] ? '' : ` (${way.join(' → ')})`
      throw new LoopError(`it refers to itself${chain}`)
    }
    // What one value takes, with all that it needs, has its limits.
    if (running.length === 0) limits = new Limits()
    running.push({ ...site, key })
    try {
      const result = limits.within('variables', () => evaluateTemplate(template, scope, limits))
      if (site.assignment.vaulted) tellValue(result, site.variable)
      return result
    } catch (error) {
      const told = templateError(error)
      if (told && !sites.has(told)) sites.set(told, site)
      throw told ?? error
    } finally {
      running.pop()
    }
  }

  const groups = lazily(() =>
    Dict.of([...data.groups].map(([name, group]) => [name, hostsOf(group).map(host => host.name)])),
  )
  const hostvars = lazily(() => {
    const all = new Dict()
    for (const host of data.hosts.values()) all.setLazy(host.name, () => variablesOf(host))
    return all
  })
  const everyMagic: Record<string, (host: HostEntry) => unknown> = {
    inventory_hostname: host => host.name,
    inventory_hostname_short: host => shortName(host.name),
    group_names: groupNames,
    groups,
    hostvars,
    inventory_file: host => host.source ?? null,
    inventory_dir: host => (host.source === undefined || host.source.includes(',') ? null : folderOf(host.source)),
    playbook_dir: () => playbookDirectory,
  }
  const magic = own ? Object.fromEntries(own.map(name => [name, everyMagic[name]!])) : everyMagic
  const isMagic = (name: string): boolean => Object.hasOwn(magic, name)

  /** Variables of hosts, everything in them still lazy. What is read by way of `hostvars` has no `hostvars` itself, as in Ansible. */
  const createView = (withHostvars: boolean): View => {
    const isThere = (name: string): boolean => isMagic(name) && (withHostvars || name !== 'hostvars')
    const resolved = memo((host: HostEntry) =>
      memo((name: string): unknown => {
        const assignment = merged(host).get(name)
        if (!assignment) return undefined
        const site: Site = { host: host.name, variable: name, assignment }
        return lazy(assignment.value, template => evaluate(template, site, scopeOf(host)))
      }),
    )
    const lookup = (host: HostEntry, name: string): unknown =>
      isThere(name) ? magic[name]!(host) : resolved(host)(name)
    const scopeOf = memo(
      (host: HostEntry): Scope => ({
        machine,
        has: name => isThere(name) || merged(host).has(name),
        lookup: name => lookup(host, name),
        explain(name) {
          if (name === 'hostvars' && isMagic(name)) return 'it is not there in what is read by way of hostvars'
          if (name.startsWith('ansible_')) return 'it is not set in the inventory, and no facts are gathered'
          const guess = didYouMean(name, [...merged(host).keys(), ...Object.keys(magic)])
          return guess && `did you mean "${guess}"?`
        },
      }),
    )
    return { lookup, scopeOf }
  }
  const { lookup, scopeOf } = createView(true)
  const inner = createView(false)
  const variablesOf = (host: HostEntry): Dict => {
    const all = new Dict()
    for (const name of [...merged(host).keys(), ...Object.keys(magic)])
      if (name !== 'hostvars') all.setLazy(name, () => inner.lookup(host, name))
    return all
  }

  const explained = (thrown: unknown, host: HostEntry, name: string): unknown => {
    const error = templateError(thrown)
    if (!error) return thrown
    const site = sites.get(error)
    const variable = site?.variable ?? name
    const { file, line } = (site?.assignment ?? merged(host).get(name))?.origin ?? { file: 'inventory' }
    const needed =
      variable === name && (site?.host ?? host.name) === host.name ? '' : ` (needed by "${name}" of ${host.name})`
    const [code, hint] =
      error instanceof UndefinedError
        ? ['inventory.undefined', 'Set it for this host, or give it a default: {{ name | default(…) }}.']
        : error instanceof LoopError
          ? ['inventory.variable-loop', 'Give one of them a value of its own.']
          : ['inventory.template', 'docs/from-ansible.md lists what templates may use.']
    return new RekeyError(
      `${at(file, line)}: ${site?.what ?? `the variable "${variable}"`} of ${site?.host ?? host.name}: ${error.message}${needed}`,
      {
        code: code!,
        hint,
        host: host.name,
        cause: error,
      },
    )
  }
  const resolver: VariableResolver = {
    read(host, name) {
      try {
        return plain(lookup(host, name), { left: mostValues })
      } catch (error) {
        throw explained(error, host, name)
      }
    },
    evaluate(host, template, what, origin) {
      try {
        const site = { host: host.name, what, variable: what, assignment: { value: template, origin } }
        const result = evaluate(template, site, scopeOf(host))
        // What is not there within a list or map is an error here, too.
        plain(result, { left: mostValues })
        return result
      } catch (error) {
        throw explained(error, host, what)
      }
    },
    render(host, source, { name, vars = {}, options = {} }) {
      const origin = { file: name }
      const site = { host: host.name, what: 'the template', variable: name, assignment: { value: '', origin } }
      try {
        const names = new Map(Object.entries(vars).map(([key, value]) => [key, ofPlain(value)]))
        const text = isEncrypted(source) ? machine.decrypt(source, name) : source
        limits = new Limits()
        return renderTemplate(text, scopeOf(host), { options, names }, limits)
      } catch (error) {
        const told = templateError(error)
        if (told && !sites.has(told)) sites.set(told, site)
        throw explained(told ?? error, host, name)
      }
    },
    vars(host) {
      const object: Record<string, unknown> = {}
      const define = (name: string, enumerable: boolean): void => {
        Object.defineProperty(object, name, { enumerable, configurable: true, get: () => resolver.read(host, name) })
      }
      for (const name of merged(host).keys()) define(name, true)
      // Ansible's own are there to be read, but not among the variables that are set.
      for (const name of Object.keys(magic)) define(name, false)
      return object
    },
  }
  return resolver
}

/** An error of a template; undefined for one that has nothing to do with it. */
function templateError(error: unknown): TemplateError | undefined {
  if (error instanceof TemplateError) return error
  if (error instanceof SyntaxError) return new TemplateError(`its template can't be read: ${error.message}`)
  // Whatever goes deeper than JavaScript does, or makes more than it holds.
  return error instanceof RangeError
    ? new TemplateError(`it goes too deep, or makes too much: ${error.message}`)
    : undefined
}

function memo<Key, Result>(compute: (key: Key) => Result): (key: Key) => Result {
  const known = new Map<Key, Result>()
  return key => {
    let found = known.get(key)
    if (found === undefined) {
      found = compute(key)
      known.set(key, found)
    }
    return found
  }
}

function lazily<Result>(compute: () => Result): () => Result {
  let result: Result | undefined
  return () => {
    result ??= compute()
    return result
  }
}

/** A member of a list that is computed when it is first read. */
function defineLazy(target: unknown[], key: number, compute: () => unknown): void {
  Object.defineProperty(target, key, {
    enumerable: true,
    configurable: true,
    get() {
      const value = compute()
      Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
      return value
    },
  })
}

/** A value in which templates and encrypted strings are resolved when they are reached. */
function lazy(raw: Value, evaluate: (template: string) => unknown): unknown {
  if (typeof raw === 'string') return isTemplate(raw) ? evaluate(raw) : raw
  if (raw instanceof UnsafeText) return raw.text
  // What ansible-vault encrypted is text, whatever braces a password has.
  if (raw instanceof EncryptedText) return raw.decrypt()
  if (isSettled(raw)) return raw
  if (Array.isArray(raw)) {
    const list: unknown[] = []
    for (const [index, item] of raw.entries()) defineLazy(list, index, () => lazy(item, evaluate))
    return list
  }
  if (!isMapping(raw)) return raw
  const mapping = new Dict()
  for (const [key, item] of raw.entries()) mapping.setLazy(key, () => lazy(item, evaluate))
  return mapping
}

const settledContainers = new WeakMap<object, boolean>()

/** True when nothing in a value is left to be resolved. */
function isSettled(value: Value): boolean {
  if (typeof value === 'string') return !isTemplate(value)
  if (value instanceof UnsafeText || value instanceof EncryptedText) return false
  if (!Array.isArray(value) && !isMapping(value)) return true
  let settled = settledContainers.get(value)
  if (settled === undefined) {
    settled = (Array.isArray(value) ? value : value.values()).every(isSettled)
    settledContainers.set(value, settled)
  }
  return settled
}

/** The most values that one variable is: lists may stand in themselves many times over. */
const mostValues = 1_000_000

/** What JavaScript has as a value of templates: maps are maps to them, whatever they are called. */
function ofPlain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ofPlain)
  if (value instanceof Map) return Dict.of([...value].map(([key, one]) => [key, ofPlain(one)]))
  if (value instanceof Date) return value.toISOString()
  if (typeof value !== 'object' || value === null) return value ?? null
  if (Object.getPrototypeOf(value) !== Object.prototype && Object.getPrototypeOf(value) !== null) return String(value)
  return Dict.of(Object.entries(value).map(([key, one]) => [key, ofPlain(one)]))
}

/** A value as JavaScript has it, everything in it resolved. */
function plain(value: unknown, room: { left: number }): unknown {
  if (--room.left < 0) throw new TemplateError('it is more than a million values')
  if (value instanceof WholeFloat) return value.value
  if (value instanceof Timestamp) return value.iso
  if (value instanceof PythonObject) throw new TemplateError(`a ${value.type} is no value`)
  if (Array.isArray(value)) return Array.from(value, item => plain(item, room))
  if (!isMapping(value)) return value
  const object: { [key: string]: unknown } = {}
  const names = value.keys().map(keyText)
  for (const [key, item] of value.entries()) setProperty(object, keyText(key), plain(item, room))
  return names.some(name => /^(0|[1-9]\d*)$/.test(name)) ? inOrder(object, [...new Set(names)]) : object
}

/** An object whose keys keep their order: JavaScript itself puts those that look like whole numbers first. */
function inOrder<T extends object>(object: T, names: readonly string[]): T {
  const same = Object.keys(object).every((name, index) => name === names[index])
  if (same) return object
  const known = new Set<string | symbol>(names)
  return new Proxy(object, {
    ownKeys: target => [
      ...names.filter(name => Object.hasOwn(target, name)),
      ...Reflect.ownKeys(target).filter(name => !known.has(name)),
    ],
  })
}
