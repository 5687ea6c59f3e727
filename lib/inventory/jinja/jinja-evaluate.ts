// Evaluates the expressions of templates as Ansible does: strict about what is undefined, and with Python's types.
import { didYouMean } from '../../suggestion.ts'
import { formatPercent } from '../python/python-format.ts'
import {
  asKey,
  isFloat,
  isNumber,
  iterate,
  PythonObject,
  pythonType,
  TemplateError,
  text,
  truthy,
} from '../python/python-values.ts'
import { Dict, float, isKey, isMapping } from '../values.ts'
import { filters } from './filters/index.ts'
import { isGroup } from './filters/lists.ts'
import type { CallArguments, CallContext } from './jinja-call.ts'
import {
  Attributed,
  Callable,
  type Frame,
  listOf,
  lookupName,
  Missing,
  missing,
  nothing,
  orMissing,
  setMember,
} from './jinja-frame.ts'
import { globals } from './jinja-globals.ts'
import { isTemplate } from './jinja-lexer.ts'
import { methodOf } from './jinja-methods.ts'
import { binary, compares, slice, unary } from './jinja-operators.ts'
import type { Arguments, Expression } from './jinja-syntax.ts'
import { tests } from './jinja-tests.ts'
import { isLookup, runLookup } from './lookups/index.ts'

/** A value that is needed now. Throws `UndefinedError` for something missing, `TemplateError` for what can't be. */
export function value(expression: Expression, frame: Frame): unknown {
  const result = evaluate(expression, frame)
  if (result instanceof Missing) throw result.error
  return result
}

/** The same, but for what a condition without an `else` leaves out: that is an empty text. */
function valueOrEmpty(expression: Expression, frame: Frame): unknown {
  const result = evaluate(expression, frame)
  if (result === nothing) return ''
  if (result instanceof Missing) throw result.error
  return result
}

/** Whether an expression holds. Throws as `value` does. */
export const holds = (expression: Expression, frame: Frame): boolean => truthy(valueOrEmpty(expression, frame))

/** `'%s-%s' % (1, 2)`. Lists of variables stand for one value where the format takes one, as only tuples stand for several in Python. */
function formatted(format: string, right: Expression, frame: Frame): string {
  const given = value(right, frame)
  const one = right.kind === 'list' ? !right.tuple : (format.replaceAll('%%', '').match(/%/g) ?? []).length === 1
  const written = formatPercent(format, Array.isArray(given) && !one ? given : [given])
  frame.run.limits.text(written.length)
  return written
}

/** What an expression comes to, which may be something missing. Throws `TemplateError`. */
export function evaluate(expression: Expression, frame: Frame): unknown {
  const { limits } = frame.run
  limits.step()
  switch (expression.kind) {
    case 'literal':
      return expression.value
    case 'float':
      return float(expression.value)
    case 'name':
      return named(expression.name, frame)
    case 'list':
      return listOf(expression.items.map(item => evaluate(item, frame)))
    case 'map': {
      const result = new Dict()
      for (const [key, item] of expression.entries) setMember(result, asKey(value(key, frame)), evaluate(item, frame))
      return result
    }
    case 'item': {
      const target = evaluate(expression.target, frame)
      return target instanceof Missing
        ? target
        : item(target, value(expression.key, frame), expression.attribute, frame)
    }
    case 'slice': {
      const target = evaluate(expression.target, frame)
      if (target instanceof Missing) return target
      limits.members((target as { length?: number }).length ?? 0)
      return slice(
        target,
        expression.bounds.map(bound => bound && value(bound, frame)),
      )
    }
    case 'call':
      return call(expression, frame)
    case 'filter':
      return applyFilter(expression.name, evaluate(expression.target, frame), expression.args, frame)
    case 'test':
      return test(expression, frame)
    case 'unary':
      if (expression.operator === 'not') return !holds(expression.operand, frame)
      return unary(expression.operator, value(expression.operand, frame))
    case 'binary': {
      const { operator, left, right } = expression
      if (operator === '~') return binary(operator, valueOrEmpty(left, frame), valueOrEmpty(right, frame), limits)
      const first = operator === 'or' || operator === 'and' ? valueOrEmpty(left, frame) : value(left, frame)
      if (operator === 'or') return truthy(first) ? first : evaluate(right, frame)
      if (operator === 'and') return truthy(first) ? evaluate(right, frame) : first
      if (operator === '%' && typeof first === 'string') return formatted(first, right, frame)
      return binary(operator, first, value(right, frame), limits)
    }
    case 'compare': {
      let left = value(expression.first, frame)
      for (const { operator, operand } of expression.rest) {
        const right = value(operand, frame)
        if (Array.isArray(right)) limits.step(right.length)
        if (!compares(operator, left, right)) return false
        left = right
      }
      return true
    }
    case 'condition':
      if (holds(expression.test, frame)) return evaluate(expression.value, frame)
      return expression.otherwise ? evaluate(expression.otherwise, frame) : nothing
  }
}

/** Names without their collection: `ansible.builtin.default` is `default`. */
const plainName = (name: string): string => name.replace(/^ansible\.(builtin|legacy)\./, '')

function named(name: string, frame: Frame): unknown {
  const own = frame.get(name)
  if (own !== undefined) return own
  const global = Object.hasOwn(globals, name) ? globals[name] : undefined
  if (!global) return isLookup(name) ? lookupFunction(name, frame) : lookupName(name, frame)
  const found = orMissing(() => frame.run.scope.lookup(name))
  return found ?? global(frame.run.limits)
}

function lookupFunction(name: string, frame: Frame): unknown {
  const found = orMissing(() => frame.run.scope.lookup(name))
  return found ?? new Callable(args => runLookup(name, args, contextOf(frame), frame), 'templates')
}

/** An element or attribute of a value. */
function item(target: unknown, key: unknown, attribute: boolean, frame?: Frame): unknown {
  if (target instanceof Attributed) {
    const found = typeof key === 'string' ? target.get(key) : undefined
    if (found !== undefined) return found
  } else if (attribute && typeof key === 'string') {
    const method = methodOf(target, key)
    if (method) return new Callable(args => method(target, args, frame!.run.limits))
  }
  const found = orMissing(() => element(target, key))
  if (found !== undefined) return found
  const name = typeof key === 'string' ? `"${key}"` : text(key)
  return missing(`a ${pythonType(target)} has no ${attribute ? 'attribute' : 'element'} ${name}`)
}

function element(target: unknown, key: unknown): unknown {
  if (Array.isArray(target) && isGroup(target) && (key === 'grouper' || key === 'list'))
    return target[key === 'grouper' ? 0 : 1]
  if (isMapping(target)) return isKey(key) ? target.get(key) : undefined
  if ((Array.isArray(target) || typeof target === 'string') && isNumber(key) && !isFloat(key)) {
    if (Array.isArray(target)) return target.at(Number(key))
    return /[\ud800-\udbff]/.test(target) ? [...target].at(Number(key)) : target.at(Number(key))
  }
  return undefined
}

/** Arguments, or the first of them that is missing. */
function evaluateArguments(
  args: Arguments,
  frame: Frame,
  takes: Callable['takes'] = 'values',
): CallArguments | Missing {
  const named = new Map<string, unknown>()
  const positional = args.positional.map(argument => {
    const { render } = frame.run
    const within = takes === 'templates' && argument.kind === 'literal' ? argument.value : undefined
    if (typeof within === 'string' && isTemplate(within)) return orMissing(() => render(within))
    return evaluate(argument, frame)
  })
  if (args.rest) positional.push(...iterate(value(args.rest, frame)))
  for (const [name, expression] of args.named) named.set(name, evaluate(expression, frame))
  if (args.restNamed) {
    const rest = value(args.restNamed, frame)
    if (!isMapping(rest)) throw new TemplateError(`a ${pythonType(rest)} can't stand behind **`)
    for (const [name, one] of rest.entries()) named.set(text(name), one)
  }
  if (takes !== 'values') return { positional, named }
  const first = [...positional, ...named.values()].find(one => one instanceof Missing)
  return first instanceof Missing ? first : { positional, named }
}

function call({ target, args }: Extract<Expression, { kind: 'call' }>, frame: Frame): unknown {
  const callee = evaluate(target, frame)
  if (callee instanceof Missing) return callee
  return callValue(callee, args, frame)
}

/** Calls a function, a macro, a method. */
export function callValue(callee: unknown, args: Arguments, frame: Frame, own?: ReadonlyMap<string, unknown>): unknown {
  const callable = callee instanceof Callable || callee instanceof Attributed ? callee : undefined
  if (!callable?.call) throw new TemplateError(`a ${pythonType(callee)} is no function that can be called`)
  const given = evaluateArguments(args, frame, callable instanceof Callable ? callable.takes : 'values')
  if (given instanceof Missing) return given
  const act = callable.call
  return orMissing(() => act({ positional: given.positional, named: new Map([...given.named, ...(own ?? [])]) }))
}

/** What a filter makes of a value. Most hand on what is missing, theirs or among their arguments. */
export function applyFilter(name: string, subject: unknown, args: Arguments, frame: Frame): unknown {
  const own = missingFilters[plainName(name)]
  if (own && Object.hasOwn(missingFilters, plainName(name))) return own(subject, args, frame)
  if (subject instanceof Missing) return subject
  const given = evaluateArguments(args, frame)
  return given instanceof Missing ? given : orMissing(() => contextOf(frame).filter(name, subject, given))
}

/** The filters that take what is missing. */
const missingFilters: Readonly<Record<string, (subject: unknown, args: Arguments, frame: Frame) => unknown>> = {
  default: otherwise,
  d: otherwise,
  mandatory(subject, args, frame) {
    if (!(subject instanceof Missing)) return subject
    const said = args.positional[0] ?? args.named.get('msg')
    const message = said && value(said, frame)
    throw new TemplateError(message === undefined || message === null ? subject.error.message : text(message))
  },
  ternary(subject, args, frame) {
    if (subject instanceof Missing) return subject
    const [yes, no, none] = ['true_val', 'false_val', 'none_val'].map((name, index) => {
      const given = args.positional[index] ?? args.named.get(name)
      return given && evaluate(given, frame)
    })
    if (yes === undefined || no === undefined)
      throw new TemplateError('"ternary" takes a value for true and one for false')
    if (subject === null && none !== undefined && none !== null) return none
    return truthy(subject) ? yes : no
  },
  type_debug: subject => (subject instanceof Missing ? 'UndefinedMarker' : pythonType(subject)),
}

function otherwise(subject: unknown, args: Arguments, frame: Frame): unknown {
  if (subject === nothing) throw nothing.error
  const also = args.positional[1] ?? args.named.get('boolean')
  if (!(subject instanceof Missing) && !(also && truthy(value(also, frame)) && !truthy(subject))) return subject
  const instead = args.positional[0] ?? args.named.get('default_value')
  return instead ? evaluate(instead, frame) : ''
}

function test({ name, target, args }: Extract<Expression, { kind: 'test' }>, frame: Frame): unknown {
  const subject = evaluate(target, frame)
  const plain = plainName(name)
  if (plain === 'defined' || plain === 'undefined') return subject instanceof Missing === (plain === 'undefined')
  if (subject instanceof Missing) return subject
  const given = evaluateArguments(args, frame)
  return given instanceof Missing ? given : orMissing(() => contextOf(frame).test(name, subject, given))
}

const contexts = new WeakMap<Frame['run'], CallContext>()

/** What filters and tests of an evaluation may call back. */
export function contextOf(frame: Frame): CallContext {
  const { run } = frame
  let context = contexts.get(run)
  if (!context) {
    context = createContext(frame)
    contexts.set(run, context)
  }
  return context
}

function createContext(frame: Frame): CallContext {
  const { limits, scope } = frame.run
  const context: CallContext = {
    limits,
    machine: scope.machine,
    filter(name, subject, args) {
      const plain = plainName(name)
      const filter = filters[plain]
      if (subject instanceof Missing || (filter === undefined && Object.hasOwn(missingFilters, plain)))
        return through(name, subject, args)
      if (!filter || !Object.hasOwn(filters, plain)) throw unknown('filter', name, [...Object.keys(filters), 'default'])
      limits.step(sizeOf(subject))
      return filter(subject, args, context)
    },
    test(name, subject, args) {
      const plain = plainName(name)
      if (plain === 'defined' || plain === 'undefined') return subject instanceof Missing === (plain === 'undefined')
      if (subject instanceof Missing) throw subject.error
      const test = tests[plain]
      if (!test || !Object.hasOwn(tests, plain)) throw unknown('test', name, Object.keys(tests))
      limits.step(sizeOf(subject))
      return test(subject, args, context)
    },
    has: (kind, name) =>
      kind === 'test'
        ? Object.hasOwn(tests, plainName(name)) || /^(un)?defined$/.test(plainName(name))
        : Object.hasOwn(filters, plainName(name)) || Object.hasOwn(missingFilters, plainName(name)),
    item(target, key) {
      const found = item(target, key, false, frame)
      return found instanceof Missing ? undefined : found
    },
  }
  /** A filter that is called by another one: `map('default', 1)`. */
  const through = (name: string, subject: unknown, { positional, named }: CallArguments): unknown => {
    const literal = (one: unknown): Expression => ({ kind: 'literal', value: one as null })
    return applyFilter(
      name,
      subject,
      {
        positional: positional.map(literal),
        named: new Map([...named].map(([key, one]) => [key, literal(one)])),
      },
      frame,
    )
  }
  return context
}

/** What it takes to go through a value once. */
function sizeOf(subject: unknown): number {
  if (typeof subject === 'string') return subject.length >> 4
  return Array.isArray(subject) ? subject.length : isMapping(subject) ? subject.size : 0
}

const netaddr = /^(ansible\.utils\.)?(ip|cidr|hwaddr|macaddr|nthhost|network|next_nth|previous_nth|reduce_on)/

function unknown(kind: 'filter' | 'test', name: string, known: readonly string[]): TemplateError {
  if (netaddr.test(name))
    return new TemplateError(`the ${kind} "${name}" needs Python's netaddr and runs in Ansible only`)
  const guess = didYouMean(name, known)
  return new TemplateError(
    `the ${kind} "${name}" is not one that rekey has${guess ? `; did you mean "${guess}"?` : ''}`,
  )
}

/** A whole value that comes out of a template. Throws `TemplateError` for what is no data. */
export function settled(result: unknown): unknown {
  if (result instanceof Missing) throw result.error
  if (result instanceof PythonObject) throw new TemplateError(`a ${result.type} is no value`)
  return result
}
