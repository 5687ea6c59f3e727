// Evaluates templates in variables as Ansible does: their statements, and what they come to as a whole.
import { equal, iterate, TemplateError, text } from '../python/python-values.ts'
import { Dict } from '../values.ts'

import { type CallArguments, Limits } from './jinja-call.ts'
import { applyFilter, callValue, evaluate, holds, settled, value } from './jinja-evaluate.ts'
import {
  Attributed,
  Callable,
  Frame,
  Missing,
  missing,
  Namespace,
  type Nested,
  nothing,
  readMembers,
  type Scope,
  snapshot,
} from './jinja-frame.ts'
import { checkOptions, defaultOptions, readHeader, type TemplateOptions } from './jinja-lexer.ts'
import { changingMethods } from './jinja-methods.ts'
import { parseTemplate } from './jinja-parser.ts'
import type { FilterCall, MacroSource, Statement, Target } from './jinja-syntax.ts'

export type { Scope } from './jinja-frame.ts'

interface Parsed {
  readonly statements: readonly Statement[]
  readonly options: TemplateOptions
  readonly own: boolean
}

const parsed = new Map<string, Parsed>()

function parse(source: string, given: TemplateOptions, decode: boolean): Parsed {
  const [body, options] = readHeader(source, given)
  // Jinja drops one line break at the end, Ansible puts it back behind a text.
  const whole = body.endsWith('\n') && !options.keep_trailing_newline ? body.slice(0, -1) : body
  return {
    statements: parseTemplate(whole.replace(/\r\n?/g, '\n'), options, decode),
    options,
    // YAML names what is there twice: to Ansible, that is what a template itself puts there twice.
    own: changingMethods.test(body) || /\bto_(nice_)?yaml\b/.test(body),
  }
}

/** The value of a template. Throws `TemplateError` for what can't be evaluated, `SyntaxError` for what can't be read. */
export function evaluateTemplate(source: string, scope: Scope, limits = new Limits()): unknown {
  let template = parsed.get(source)
  if (!template) {
    template = parse(source, defaultOptions, false)
    parsed.set(source, template)
  }
  return evaluateParsed(template, source, scope, limits)
}

/** A template in a file. */
export interface TemplateFile {
  readonly options: Readonly<Record<string, unknown>>
  /** Names of its own, above the variables. */
  readonly names: ReadonlyMap<string, unknown>
}

/** The text of a template in a file. Throws as `evaluateTemplate` does. */
export function renderTemplate(source: string, scope: Scope, { options, names }: TemplateFile, limits: Limits): string {
  const given = checkOptions({ ...defaultOptions, ...options })
  const result = evaluateParsed(parse(source, given, true), source, scope, limits, names, given.newline_sequence)
  return result === null ? '' : text(result)
}

function evaluateParsed(
  { statements, own, options }: Parsed,
  source: string,
  scope: Scope,
  limits: Limits,
  names?: ReadonlyMap<string, unknown>,
  // What a header says counts within, and not at the end.
  lastBreak = '\n',
): unknown {
  const render = (inner: string, nested: Nested = {}): unknown =>
    evaluateParsed(
      parse(inner, nested.options ?? defaultOptions, nested.decode ?? false),
      inner,
      scope,
      limits,
      nested.names,
    )
  const frame = new Frame({ scope, limits, own, copies: new Map(), render })
  for (const [name, one] of names ?? []) frame.set(name, one)
  const result = rendered(statements, frame)
  if (typeof result !== 'string') return settled(result)
  const { newline_sequence } = options
  const written = newline_sequence === '\n' ? result : result.replaceAll('\n', newline_sequence)
  return written + lastBreak.repeat(Math.max(0, lineBreaksAtEnd(source) - lineBreaksAtEnd(written)))
}

function lineBreaksAtEnd(written: string): number {
  let end = written.length
  while (written[end - 1] === '\n') end--
  return written.length - end
}

/** What statements come to: one thing as it is, several as a text, none for nothing at all. */
function rendered(statements: readonly Statement[], frame: Frame): unknown {
  const pieces: unknown[] = []
  run(statements, frame, pieces)
  const said = pieces.filter(piece => piece !== null)
  if (said.length <= 1) return said[0] ?? null
  return joined(said, frame)
}

function joined(pieces: readonly unknown[], { run: { limits } }: Frame): string {
  const written = pieces.map(piece => (piece instanceof Missing ? missingText(piece) : text(piece)))
  limits.text(written.reduce((sum, piece) => sum + piece.length, 0))
  return written.join('')
}

function missingText(piece: Missing): string {
  if (piece === nothing) return ''
  throw piece.error
}

function run(statements: readonly Statement[], frame: Frame, output: unknown[]): void {
  for (const statement of statements) {
    frame.run.limits.step()
    switch (statement.kind) {
      case 'text':
        output.push(statement.text)
        break
      case 'output':
        output.push(shown(evaluate(statement.expression, frame), frame))
        break
      case 'set':
        assign(statement.target, evaluate(statement.value, frame), frame)
        break
      case 'set-block': {
        const body = rendered(statement.body, new Frame(frame.run, frame))
        assign(statement.target, filtered(body, statement.filters, frame), frame)
        break
      }
      case 'filter-block':
        output.push(filtered(rendered(statement.body, new Frame(frame.run, frame)), statement.filters, frame))
        break
      case 'with': {
        const inner = new Frame(frame.run, frame)
        for (const [target, expression] of statement.values) assign(target, evaluate(expression, frame), inner)
        run(statement.body, inner, output)
        break
      }
      case 'if':
        run(statement.branches.find(branch => holds(branch.test, frame))?.body ?? statement.otherwise, frame, output)
        break
      case 'for':
        runLoop(statement, readMembers(iterate(value(statement.over, frame))), frame, output, 0)
        break
      case 'macro':
        frame.set(statement.macro.name, macroOf(statement.macro, frame))
        break
      case 'call-block': {
        const { call, caller } = statement
        if (call.kind !== 'call') break
        const own = new Map([['caller', macroOf(caller, frame)]])
        output.push(callValue(value(call.target, frame), call.args, frame, own))
      }
    }
  }
}

/** A value as it is where it is printed, also when a method changes it behind that. */
const shown = (value: unknown, { run }: Frame): unknown => (run.own ? snapshot(value) : value)

const filtered = (body: unknown, filters: readonly FilterCall[], frame: Frame): unknown =>
  filters.reduce((subject, { name, args }) => applyFilter(name, subject, args, frame), body)

function assign(target: Target, given: unknown, frame: Frame): void {
  if (target.kind === 'name') frame.set(target.name, given)
  else if (target.kind === 'attribute') {
    const namespace = frame.get(target.name)
    if (!(namespace instanceof Namespace)) throw new TemplateError(`"${target.name}" is no namespace()`)
    namespace.names.set(target.attribute, given)
  } else {
    if (given instanceof Missing) throw given.error
    const parts = iterate(given)
    if (parts.length !== target.targets.length)
      throw new TemplateError(`expected ${target.targets.length} values, not ${parts.length}`)
    for (const [index, one] of target.targets.entries()) assign(one, parts[index], frame)
  }
}

type Loop = Extract<Statement, { kind: 'for' }>

/** What a pass through a loop counts as: it makes names of its own, and `loop`. */
const stepsOfPass = 4
/** What calling a macro counts as. */
const stepsOfCall = 16

function runLoop(loop: Loop, over: readonly unknown[], frame: Frame, output: unknown[], depth: number): void {
  const { run: state } = frame
  state.limits.step(over.length)
  const enter = (member: unknown): Frame => {
    state.limits.step(stepsOfPass)
    const inner = new Frame(state, frame)
    assign(loop.target, member, inner)
    return inner
  }
  const members = loop.where ? over.filter(member => holds(loop.where!, enter(member))) : over
  let before: readonly unknown[] | undefined
  const changed = new Callable(({ positional }) => {
    const same = before !== undefined && sameValues(before, positional)
    before = positional
    return !same
  })
  const again = loop.recursive
    ? ({ positional }: CallArguments) =>
        state.limits.within('loops', () => {
          const pieces: unknown[] = []
          runLoop(loop, readMembers(iterate(positional[0])), new Frame(state, frame), pieces, depth + 1)
          return joined(
            pieces.filter(piece => piece !== null),
            frame,
          )
        })
    : undefined
  for (const [index, member] of members.entries()) {
    const inner = enter(member)
    inner.set('loop', new Attributed('LoopContext', name => loopAttribute(name, index, members, depth, changed), again))
    run(loop.body, inner, output)
  }
  if (members.length === 0) run(loop.otherwise, frame, output)
}

/** What `loop.index` and its kin are in a pass through a loop. */
function loopAttribute(
  name: string,
  index: number,
  members: readonly unknown[],
  depth: number,
  changed: Callable,
): unknown {
  const { length } = members
  switch (name) {
    case 'index':
      return index + 1
    case 'index0':
      return index
    case 'revindex':
      return length - index
    case 'revindex0':
      return length - index - 1
    case 'first':
      return index === 0
    case 'last':
      return index === length - 1
    case 'length':
      return length
    case 'depth':
      return depth + 1
    case 'depth0':
      return depth
    case 'previtem':
      return index === 0 ? missing('there is no previous item') : members[index - 1]
    case 'nextitem':
      return index === length - 1 ? missing('there is no next item') : members[index + 1]
    case 'changed':
      return changed
    case 'cycle':
      return new Callable(({ positional }) => {
        if (positional.length === 0) throw new TemplateError('loop.cycle() takes one value at least')
        return positional[index % positional.length]
      })
  }
  return undefined
}

const sameValues = (one: readonly unknown[], other: readonly unknown[]): boolean => equal([...one], [...other])

/** A macro, which sees the names where it stands. */
function macroOf({ name, parameters, body }: MacroSource, frame: Frame): Callable {
  return new Callable(({ positional, named }) => {
    frame.run.limits.step(stepsOfCall)
    const inner = new Frame(frame.run, frame)
    const left = new Map(named)
    for (const [index, parameter] of parameters.entries()) {
      const otherwise = parameter.otherwise
      const given = index < positional.length ? positional[index] : left.get(parameter.name)
      left.delete(parameter.name)
      if (given !== undefined) inner.set(parameter.name, given)
      else if (otherwise) inner.set(parameter.name, evaluate(otherwise, inner))
      else inner.set(parameter.name, missing(`the parameter "${parameter.name}" of ${name}() is not given`))
    }
    if (left.has('caller')) inner.set('caller', left.get('caller'))
    left.delete('caller')
    inner.set('varargs', positional.slice(parameters.length))
    inner.set('kwargs', Dict.of(left))
    return frame.run.limits.within('macros', () => rendered(body, inner))
  }, 'missing')
}
