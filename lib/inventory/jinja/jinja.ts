// Evaluates templates in variables as Ansible does: strict about what is undefined, and with Python's types.
import { didYouMean } from '../../suggestion.ts'
import { formatPercent } from '../python/python-format.ts'
import {
  AbsentError,
  asKey,
  compare,
  contains,
  equal,
  isFloat,
  isNumber,
  iterate,
  pythonType,
  TemplateError,
  text,
  toNumber,
  truthy,
  UndefinedError,
} from '../python/python-values.ts'
import { Dict, float, integer, isKey, isMapping } from '../values.ts'
import type { CallArguments, CallContext } from './jinja-call.ts'
import { filters } from './jinja-filters.ts'
import { callMethod } from './jinja-methods.ts'
import { type Arguments, type Expression, parseTemplate, type Statement } from './jinja-parser.ts'
import { tests } from './jinja-tests.ts'

/** Where names in a template come from. */
export interface Scope {
  /** The value of a name; `undefined` when nothing has it. May throw `UndefinedError` from a template within. */
  lookup(name: string): unknown
  /** Why a name that is not there isn't, if more can be said than that. */
  explain?(name: string): string | undefined
}

/** Something that is not there. It becomes an error when it is used for anything but `default` and `defined`. */
class Missing {
  readonly error: UndefinedError
  constructor(error: UndefinedError) {
    this.error = error
  }
}

const parsed = new Map<string, readonly Statement[]>()

/** The value of a template. Throws `TemplateError` for what can't be evaluated, `SyntaxError` for what can't be read. */
export function evaluateTemplate(source: string, scope: Scope): unknown {
  // Jinja drops one line break at the end, Ansible puts it back behind a text.
  const body = source.endsWith('\n') ? source.slice(0, -1) : source
  let statements = parsed.get(body)
  if (!statements) {
    statements = parseTemplate(body)
    parsed.set(body, statements)
  }
  const pieces: unknown[] = []
  run(statements, new Frame(scope), pieces)
  const said = pieces.filter(piece => piece !== null)
  if (said.length === 0) return null
  if (said.length === 1 && typeof said[0] !== 'string') return settled(said[0])
  const result = said.map(piece => (piece instanceof Missing ? missingText(piece) : text(piece))).join('')
  const [wanted, have] = [lineBreaksAtEnd(source), lineBreaksAtEnd(result)]
  return wanted > have ? result + '\n'.repeat(wanted - have) : result
}

const lineBreaksAtEnd = (value: string): number => /\n*$/.exec(value)![0].length

function missingText(missing: Missing): string {
  if (missing === nothing) return ''
  throw missing.error
}

/** What `x if false` without an `else` gives: empty within a text, an error on its own. */
const nothing = new Missing(new UndefinedError('the condition is false and there is no "else"'))

function settled(value: unknown): unknown {
  if (value instanceof Missing) throw value.error
  if (typeof value === 'function') throw new TemplateError('a function is no value')
  return value
}

/** Names that a template set itself, over those of its scope. */
class Frame {
  readonly scope: Scope
  readonly #outer?: Frame
  readonly #names = new Map<string, unknown>()

  constructor(scope: Scope, outer?: Frame) {
    this.scope = scope
    this.#outer = outer
  }

  set(name: string, value: unknown): void {
    this.#names.set(name, value)
  }

  has(name: string): boolean {
    return this.#names.has(name) || (this.#outer?.has(name) ?? false)
  }

  get(name: string): unknown {
    return this.#names.has(name) ? this.#names.get(name) : this.#outer?.get(name)
  }
}

function run(statements: readonly Statement[], frame: Frame, output: unknown[]): void {
  for (const statement of statements) {
    switch (statement.kind) {
      case 'text':
        output.push(statement.text)
        break
      case 'output':
        output.push(evaluate(statement.expression, frame))
        break
      case 'set':
        frame.set(statement.name, evaluate(statement.value, frame))
        break
      case 'if':
        run(
          statement.branches.find(branch => truthy(value(branch.test, frame)))?.body ?? statement.otherwise,
          frame,
          output,
        )
        break
      case 'for':
        runLoop(statement, frame, output)
    }
  }
}

function runLoop(loop: Extract<Statement, { kind: 'for' }>, frame: Frame, output: unknown[]): void {
  const members = iterate(value(loop.over, frame))
    .map(member => {
      const inner = new Frame(frame.scope, frame)
      if (loop.names.length === 1) inner.set(loop.names[0]!, member)
      else {
        const parts = iterate(member)
        if (parts.length !== loop.names.length)
          throw new TemplateError(`expected ${loop.names.length} values, not ${parts.length}`)
        for (const [index, name] of loop.names.entries()) inner.set(name, parts[index])
      }
      return inner
    })
    .filter(inner => !loop.where || truthy(value(loop.where, inner)))
  for (const [index, inner] of members.entries()) {
    inner.set(
      'loop',
      Dict.of(
        Object.entries({
          index: index + 1,
          index0: index,
          revindex: members.length - index,
          revindex0: members.length - index - 1,
          first: index === 0,
          last: index === members.length - 1,
          length: members.length,
        }),
      ),
    )
    run(loop.body, inner, output)
  }
  if (members.length === 0) run(loop.otherwise, frame, output)
}

/** A value that is needed now: something missing is an error. */
function value(expression: Expression, frame: Frame): unknown {
  const result = evaluate(expression, frame)
  if (result instanceof Missing) throw result.error
  return result
}

function evaluate(expression: Expression, frame: Frame): unknown {
  switch (expression.kind) {
    case 'literal':
      return expression.value
    case 'float':
      return float(expression.value)
    case 'name':
      return lookup(expression.name, frame)
    case 'list':
      return expression.items.map(item => value(item, frame))
    case 'map':
      return Dict.of(expression.entries.map(([key, item]) => [asKey(value(key, frame)), value(item, frame)]))
    case 'item': {
      const target = evaluate(expression.target, frame)
      return target instanceof Missing ? target : item(target, value(expression.key, frame), expression.attribute)
    }
    case 'slice':
      return slice(
        value(expression.target, frame),
        expression.bounds.map(bound => bound && value(bound, frame)),
      )
    case 'call':
      return call(expression.target, evaluateArguments(expression.args, frame), frame)
    case 'filter':
      return filterExpression(expression, frame)
    case 'test': {
      const { name, target, args } = expression
      if (isOneOf(name, ['defined', 'undefined'])) {
        return evaluate(target, frame) instanceof Missing === (plainName(name) === 'undefined')
      }
      return context.test(name, value(target, frame), evaluateArguments(args, frame))
    }
    case 'unary':
      return unary(expression.operator, value(expression.operand, frame))
    case 'binary': {
      const { operator, left, right } = expression
      const first = value(left, frame)
      if (operator === 'or') return truthy(first) ? first : value(right, frame)
      if (operator === 'and') return truthy(first) ? value(right, frame) : first
      return binary(operator, first, value(right, frame))
    }
    case 'compare': {
      let left = value(expression.first, frame)
      for (const { operator, operand } of expression.rest) {
        const right = value(operand, frame)
        if (!compares(operator, left, right)) return false
        left = right
      }
      return true
    }
    case 'condition':
      if (truthy(value(expression.test, frame))) return evaluate(expression.value, frame)
      return expression.otherwise ? evaluate(expression.otherwise, frame) : nothing
  }
}

/** Names without their collection: `ansible.builtin.default` is `default`. */
const plainName = (name: string): string => name.replace(/^ansible\.(builtin|legacy)\./, '')
const isOneOf = (name: string, names: readonly string[]): boolean => names.includes(plainName(name))

const refusedNames: Record<string, string> = {
  lookup: 'lookups run in Ansible only',
  query: 'lookups run in Ansible only',
  q: 'lookups run in Ansible only',
  omit: 'there are no module arguments to omit here',
  now: 'a time of day would differ from run to run',
  vars: 'name the variable itself',
  ansible_facts: 'no facts are gathered',
}

function lookup(name: string, frame: Frame): unknown {
  if (frame.has(name)) return frame.get(name)
  let found: unknown
  try {
    found = frame.scope.lookup(name)
  } catch (error) {
    if (error instanceof UndefinedError) return new Missing(error)
    throw error
  }
  if (found !== undefined) return found
  const refused = refusedNames[name]
  if (refused !== undefined) throw new TemplateError(`"${name}" can't be used: ${refused}`)
  const more = frame.scope.explain?.(name)
  return new Missing(new UndefinedError(`"${name}" is undefined${more ? `: ${more}` : ''}`))
}

/** An element or attribute of a value. Methods are only looked up to be called. */
function item(target: unknown, key: unknown, attribute: boolean): unknown {
  try {
    const found = element(target, key)
    if (found !== undefined) return found
  } catch (error) {
    if (error instanceof UndefinedError) return new Missing(error)
    throw error
  }
  const name = typeof key === 'string' ? `"${key}"` : text(key)
  return new Missing(
    new UndefinedError(`a ${pythonType(target)} has no ${attribute ? 'attribute' : 'element'} ${name}`),
  )
}

function element(target: unknown, key: unknown): unknown {
  if (isMapping(target)) return isKey(key) ? target.get(key) : undefined
  if ((Array.isArray(target) || typeof target === 'string') && isNumber(key) && !isFloat(key)) {
    return typeof target === 'string' ? [...target].at(Number(key)) : target.at(Number(key))
  }
  return undefined
}

function slice(target: unknown, [start, end, step]: readonly unknown[]): unknown {
  if (!Array.isArray(target) && typeof target !== 'string')
    throw new TemplateError(`a ${pythonType(target)} can't be cut`)
  const members = iterate(target)
  const by = step === undefined || step === null ? 1 : toNumber(step)
  if (!by || !Number.isInteger(by)) throw new TemplateError('the step of a slice must be a whole number other than 0')
  const bound = (given: unknown, otherwise: number): number => {
    const index = toNumber(given)
    if (given === undefined || given === null) return otherwise
    if (index === undefined || !Number.isInteger(index))
      throw new TemplateError('the bounds of a slice must be whole numbers')
    const from = index < 0 ? index + members.length : index
    return Math.min(Math.max(from, by > 0 ? 0 : -1), by > 0 ? members.length : members.length - 1)
  }
  const taken: unknown[] = []
  const last = bound(end, by > 0 ? members.length : -1)
  for (let index = bound(start, by > 0 ? 0 : members.length - 1); by > 0 ? index < last : index > last; index += by)
    taken.push(members[index])
  return typeof target === 'string' ? taken.join('') : taken
}

function evaluateArguments(args: Arguments, frame: Frame): CallArguments {
  const named = new Map<string, unknown>()
  for (const [name, expression] of args.named) named.set(name, value(expression, frame))
  return { positional: args.positional.map(argument => value(argument, frame)), named }
}

function call(target: Expression, args: CallArguments, frame: Frame): unknown {
  if (target.kind === 'item' && target.key.kind === 'literal' && typeof target.key.value === 'string') {
    return callMethod(value(target.target, frame), target.key.value, args)
  }
  if (target.kind === 'name') {
    if (target.name === 'range') return range(args)
    if (target.name === 'dict' && args.positional.length === 0) return Dict.of(args.named)
    const found = lookup(target.name, frame)
    if (found instanceof Missing) throw new TemplateError(`the function "${target.name}" is not known`)
  }
  throw new TemplateError('this is no function that can be called')
}

function range({ positional, named }: CallArguments): number[] {
  const [first = 0, second, step = 1] = positional.map(toNumber)
  const [from, to] = positional.length === 1 ? [0, first] : [first, second]
  if (named.size > 0 || to === undefined || !step || ![from, to, step].every(Number.isInteger))
    throw new TemplateError('range() takes whole numbers')
  const length = Math.max(0, Math.ceil((to - from) / step))
  if (length > 1_000_000) throw new TemplateError('range() of more than a million')
  return Array.from({ length }, (_, index) => from + index * step)
}

function filterExpression({ name, target, args }: Extract<Expression, { kind: 'filter' }>, frame: Frame): unknown {
  if (isOneOf(name, ['default', 'd'])) {
    const subject = evaluate(target, frame)
    const also = args.positional[1] ?? args.named.get('boolean')
    if (!(subject instanceof Missing) && !(also && truthy(value(also, frame)) && !truthy(subject))) return subject
    const otherwise = args.positional[0] ?? args.named.get('default_value')
    return otherwise ? evaluate(otherwise, frame) : ''
  }
  if (isOneOf(name, ['mandatory'])) {
    const subject = evaluate(target, frame)
    const said = args.positional[0] ?? args.named.get('msg')
    if (subject instanceof Missing && said) throw new TemplateError(text(value(said, frame)))
    if (subject instanceof Missing) throw subject.error
    return subject
  }
  const [subject, given] = [value(target, frame), evaluateArguments(args, frame)]
  try {
    return context.filter(name, subject, given)
  } catch (error) {
    if (error instanceof AbsentError) return new Missing(error)
    throw error
  }
}

const context: CallContext = {
  filter(name, subject, args) {
    const filter = filters[plainName(name)]
    if (filter && Object.hasOwn(filters, plainName(name))) return filter(subject, args, context)
    throw unknown('filter', name, Object.keys(filters))
  },
  test(name, subject, args) {
    const test = tests[plainName(name)]
    if (test && Object.hasOwn(tests, plainName(name))) return test(subject, args, context)
    throw unknown('test', name, Object.keys(tests))
  },
  item(target, key) {
    const found = item(target, key, true)
    return found instanceof Missing ? undefined : found
  },
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

function unary(operator: 'not' | '-' | '+', operand: unknown): unknown {
  if (operator === 'not') return !truthy(operand)
  const number = toNumber(operand)
  if (number === undefined) throw new TemplateError(`"${operator}" takes a number, not a ${pythonType(operand)}`)
  if (typeof operand === 'bigint') return integer(operator === '-' ? -operand : operand)
  const result = operator === '-' ? -number : number
  return isFloat(operand) ? float(result) : result + 0
}

function compares(operator: string, left: unknown, right: unknown): boolean {
  switch (operator) {
    case '==':
      return equal(left, right)
    case '!=':
      return !equal(left, right)
    case 'in':
      return contains(right, left)
    case 'not in':
      return !contains(right, left)
    case '<':
      return compare(left, right, operator) < 0
    case '<=':
      return compare(left, right, operator) <= 0
    case '>':
      return compare(left, right, operator) > 0
    default:
      return compare(left, right, operator) >= 0
  }
}

function binary(operator: string, left: unknown, right: unknown): unknown {
  if (operator === '~') return text(left) + text(right)
  if (operator === '+') {
    if (typeof left === 'string' && typeof right === 'string') return left + right
    if (Array.isArray(left) && Array.isArray(right)) return [...left, ...right]
  }
  if (operator === '*') {
    const [many, times] = isNumber(left) || typeof left === 'boolean' ? [right, left] : [left, right]
    const count = isFloat(times) ? undefined : toNumber(times)
    if (count !== undefined && (typeof many === 'string' || Array.isArray(many))) {
      if (count * many.length > 10_000_000) throw new TemplateError('"*" makes more than 10 million members')
      const copies = Array.from({ length: Math.max(0, count) })
      return typeof many === 'string' ? many.repeat(Math.max(0, count)) : copies.flatMap(() => many)
    }
  }
  if (operator === '%' && typeof left === 'string') return formatPercent(left, Array.isArray(right) ? right : [right])
  const [first, second] = [toNumber(left), toNumber(right)]
  if (first === undefined || second === undefined) {
    throw new TemplateError(`"${operator}" is not possible between ${pythonType(left)} and ${pythonType(right)}`)
  }
  return isFloat(left) || isFloat(right) || operator === '/'
    ? floats(operator, first, second)
    : integers(operator, left, right)
}

function floats(operator: string, left: number, right: number): unknown {
  if (right === 0 && ['/', '//', '%'].includes(operator)) throw new TemplateError('division by zero')
  switch (operator) {
    case '+':
      return float(left + right)
    case '-':
      return float(left - right)
    case '*':
      return float(left * right)
    case '/':
      return float(left / right)
    case '//':
      return float(Math.floor(left / right))
    case '%':
      return float(left - right * Math.floor(left / right))
    default:
      return float(left ** right)
  }
}

function integers(operator: string, one: unknown, other: unknown): unknown {
  const [left, right] = [BigInt(one as bigint), BigInt(other as bigint)]
  if (right === 0n && ['//', '%'].includes(operator)) throw new TemplateError('division by zero')
  switch (operator) {
    case '+':
      return integer(left + right)
    case '-':
      return integer(left - right)
    case '*':
      return integer(left * right)
    case '//':
      return integer(floorDivide(left, right))
    case '%':
      return integer(left - right * floorDivide(left, right))
    default:
      if (right < 0n) return float(Number(left) ** Number(right))
      if (right > 10_000n) throw new TemplateError('the exponent is too large')
      return integer(left ** right)
  }
}

function floorDivide(left: bigint, right: bigint): bigint {
  const quotient = left / right
  return left % right !== 0n && left < 0n !== right < 0n ? quotient - 1n : quotient
}
