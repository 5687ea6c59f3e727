// Go's text/template: parsed by the library, executed here. The library's own evaluator works on JavaScript's values
// (one kind of number, UTF-16 strings, `$x = …` that declares anew in a block), which would show in certificates.
// Over 500 lines: one evaluator, whose rules call each other as actions stand within actions.
import { createEngine, type Delims, TemplateError } from '@promptctl/go-template-js'
import { at, RekeyError } from '../errors.ts'
import { builtins, sprint } from './builtins.ts'
import {
  Channel,
  type GoFunction,
  type GoValue,
  isList,
  isMap,
  isNil,
  isTrue,
  isUndefined,
  JsonNumber,
  kindOf,
  Missing,
  Struct,
  sortedKeys,
  toBytes,
  toText,
} from './values.ts'

export type TemplateDelimiters = Delims

interface Position {
  readonly line: number
  readonly column: number
  readonly offset: number
}

interface NodeBase {
  readonly pos: Position
}

type Node =
  | ({ type: 'Text'; text: string } & NodeBase)
  | ({ type: 'Comment' | 'Break' | 'Continue' } & NodeBase)
  | ({ type: 'Action'; pipe: Pipe } & NodeBase)
  | ListNode
  | ({ type: 'If' | 'With' } & Branch)
  | RangeNode
  | ({ type: 'Template' | 'Block'; name: string; pipe?: Pipe } & NodeBase)
  | Operand

type Branch = { pipe: Pipe; list: ListNode; elseList?: ListNode } & NodeBase
type RangeNode = { type: 'Range' } & Branch
type ListNode = { type: 'List'; nodes: Node[] } & NodeBase
type Pipe = { type: 'Pipe'; decls: { idents: string[] }[]; isAssign: boolean; cmds: Command[] } & NodeBase
type Command = { type: 'Command'; args: Operand[] } & NodeBase
type Operand =
  | Pipe
  | ({ type: 'Dot' | 'Nil' } & NodeBase)
  | ({ type: 'Bool'; value: boolean } & NodeBase)
  | ({ type: 'String'; raw: string } & NodeBase)
  | ({ type: 'Number'; text: string; intValue?: bigint; floatValue?: number } & NodeBase)
  | ({ type: 'Identifier'; ident: string } & NodeBase)
  | ({ type: 'Field' | 'Variable'; idents: string[] } & NodeBase)
  | ({ type: 'Chain'; node: Operand; fields: string[] } & NodeBase)

/** What the library's parser hands to its evaluator, and here to ours. */
interface Parsed {
  readonly root: ListNode
  readonly ownDefines: ReadonlyMap<string, { readonly list: ListNode }>
}

/** What is executed. */
interface Tree extends Parsed {
  /** The offsets of branches that are `else with` and were parsed as `else if`. */
  readonly elseWith: ReadonlySet<number>
}

/** A template that was parsed; executing it again costs no parsing. */
export interface ParsedTemplate {
  /** Returns Go's bytes. Throws `RekeyError` with `name:line:column` for whatever goes wrong. */
  execute(dot: GoValue, functions: ReadonlyMap<string, GoFunction>): string
}

export interface ParseOptions {
  /** Stands for the template in errors: its file. */
  readonly name: string
  /** The names of the functions that it may call: one that it calls beyond them is an error, wherever it stands. */
  readonly functions: ReadonlySet<string>
  readonly delimiters?: TemplateDelimiters
  /** A missing key is an error where it is read, not only where it is printed (`error_on_missing_key`). */
  readonly strictKeys?: boolean
}

/** Parse a template. Throws `RekeyError` with `name:line:column` where it can't be parsed. */
export function parseTemplate(source: string, options: ParseOptions): ParsedTemplate {
  const { name, delimiters, strictKeys = false } = options
  return located(name, () => {
    const engine = createEngine<string>({ fromString: text => text, delims: delimiters && bytesOf(delimiters) })
    const parsed = treeOf(engine, toBytes(source), delimiters ? bytesOf(delimiters) : { left: '{{', right: '}}' })
    checkNames(parsed, options.functions)
    return {
      execute: (dot, functions) =>
        located(name, () => {
          const output: string[] = []
          execute(parsed.root, dot, { parsed, functions, strictKeys, output, depth: 0, spent: { rounds: 0, bytes: 0 } })
          return output.join('')
        }),
    }
  })
}

const simpleEscapes: Record<string, string> = {
  ...{ a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' },
}

/** A literal's text in Go's bytes: `\u00e9` is two of them, `\xe9` is one. The parser has checked its form. */
function unquote(raw: string): string {
  const inner = raw.slice(1, -1)
  if (raw.startsWith('`')) return inner.replaceAll('\r', '')
  return inner.replaceAll(
    /\\(?:x(..)|u(.{4})|U(.{8})|([0-7]{3})|(.))/gs,
    (_, hex, short, long, octal, other: string) => {
      if (hex) return String.fromCharCode(Number.parseInt(hex, 16))
      if (octal) return String.fromCharCode(Number.parseInt(octal, 8) & 0xff)
      if (short ?? long) return toBytes(String.fromCodePoint(Number.parseInt(short ?? long, 16)))
      return simpleEscapes[other] ?? other
    },
  )
}

const bytesOf = ({ left, right }: TemplateDelimiters) => ({ left: toBytes(left), right: toBytes(right) })

/**
 * The library does not know `else with`, which Go has since 1.23. Where it can't parse a template, that is parsed as `else if`, in as
 * many characters, so that every position stays what it is.
 */
function treeOf(engine: object, source: string, { left }: TemplateDelimiters): Tree {
  try {
    return { ...parsedBy(engine, source), elseWith: new Set() }
  } catch (error) {
    const elseWith = new Set<number>()
    const begin = left.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&')
    const rewritten = source.replace(
      new RegExp(`(${begin}(?:-\\s)?\\s*else\\s+)with(?=[\\s($.])`, 'g'),
      (_, before: string, offset: number) => {
        elseWith.add(offset)
        return `${before}if  `
      },
    )
    if (elseWith.size === 0) throw error
    return { ...parsedBy(engine, rewritten), elseWith }
  }
}

/** The tree that the library parsed. It keeps the tree to itself: what it would evaluate is taken from its hand. */
function parsedBy(engine: object, source: string): Parsed {
  let tree: Parsed | undefined
  const hands = engine as { evalParsed(parsed: Parsed): string[]; parse(text: string): { evaluate(scope: null): void } }
  hands.evalParsed = parsed => {
    tree = parsed
    return []
  }
  hands.parse(source).evaluate(null)
  if (!tree) throw new Error('the template library no longer evaluates by evalParsed')
  return tree
}

/** Everything that one execution shares. */
interface Execution {
  readonly parsed: Tree
  readonly functions: ReadonlyMap<string, GoFunction>
  readonly strictKeys: boolean
  readonly output: string[]
  readonly depth: number
  /** What it took so far, over all that it calls. */
  readonly spent: { rounds: number; bytes: number }
}

/** Variables by name, innermost block first. */
interface Scope {
  readonly parent?: Scope
  readonly variables: Map<string, GoValue>
}

const breakSignal = Symbol('break')
const continueSignal = Symbol('continue')
const deepest = 500
/** Rounds of loops, and calls of templates by templates, of one rendering; bytes of what it writes. What goes beyond has no end. */
const mostRounds = 1_000_000
const mostBytes = 16 * 1024 ** 2

function write(text: string, position: Position, { output, spent }: Execution): void {
  spent.bytes += text.length
  if (spent.bytes > mostBytes) throw new Failure(`writes more than ${mostBytes / 1024 ** 2} MiB`, position)
  output.push(text)
}

function goRound(position: Position, { spent }: Execution): void {
  if (++spent.rounds > mostRounds) throw new Failure(`goes on after ${mostRounds} rounds`, position)
}

function execute(list: ListNode, dot: GoValue, run: Execution): void {
  walkList(list, dot, { variables: new Map([['$', dot]]) }, run)
}

function walkList(list: ListNode, dot: GoValue, scope: Scope, run: Execution): void {
  for (const node of list.nodes) walk(node, dot, scope, run)
}

function walk(node: Node, dot: GoValue, scope: Scope, run: Execution): void {
  switch (node.type) {
    case 'Text':
      write(node.text, node.pos, run)
      return
    case 'Action': {
      const value = evaluatePipe(node.pipe, dot, scope, run)
      if (node.pipe.decls.length === 0) write(printed(value, node.pipe.pos), node.pipe.pos, run)
      return
    }
    case 'If':
    case 'With': {
      const inner = within(scope)
      const value = evaluatePipe(node.pipe, dot, inner, run)
      const isWith = node.type === 'With' || run.parsed.elseWith.has(node.pos.offset)
      if (isTrue(value)) walkList(node.list, isWith ? value : dot, inner, run)
      else if (node.elseList) walkList(node.elseList, dot, inner, run)
      return
    }
    case 'Range':
      walkRange(node, dot, within(scope), run)
      return
    case 'Template':
    case 'Block': {
      const argument = node.pipe ? evaluatePipe(node.pipe, dot, scope, run) : null
      invoke(node.name, argument, node.pos, run)
      return
    }
    case 'Break':
      throw breakSignal
    case 'Continue':
      throw continueSignal
    case 'List':
      walkList(node, dot, scope, run)
  }
}

function invoke(name: string, argument: GoValue, position: Position, run: Execution): void {
  const defined = run.parsed.ownDefines.get(name)
  if (!defined) throw new Failure(`template "${toText(name)}" is not defined`, position)
  if (run.depth >= deepest) {
    throw new Failure(`template "${toText(name)}" invokes itself without end (${deepest} deep)`, position)
  }
  goRound(position, run)
  execute(defined.list, argument, { ...run, depth: run.depth + 1 })
}

function walkRange(node: RangeNode, dot: GoValue, scope: Scope, run: Execution): void {
  const { decls, isAssign } = node.pipe
  const value = evaluatePipe({ ...node.pipe, decls: [], isAssign: false }, dot, scope, run)
  let entered = false
  try {
    for (const [key, element] of entriesOf(value, decls.length, node.pos)) {
      entered = true
      goRound(node.pos, run)
      const inner = within(scope)
      const names = decls.map(decl => decl.idents[0]!)
      const values = names.length === 2 ? [key, element] : [element]
      for (const [index, variable] of names.entries()) {
        if (isAssign) assign(variable, values[index]!, inner, node.pos)
        else inner.variables.set(variable, values[index]!)
      }
      try {
        walkList(node.list, element, inner, run)
      } catch (signal) {
        if (signal !== continueSignal) throw signal
      }
    }
  } catch (signal) {
    if (signal === breakSignal) return
    throw signal
  }
  if (!entered && node.elseList) walkList(node.elseList, dot, scope, run)
}

function* entriesOf(value: GoValue, variables: number, position: Position): Generator<[GoValue, GoValue]> {
  if (isNil(value)) return
  if (isList(value)) {
    for (const [index, element] of value.entries()) yield [BigInt(index), element]
  } else if (isMap(value)) {
    for (const key of sortedKeys(value)) yield [key, value.get(key)!]
  } else if (value instanceof Channel) {
    for (let index = 0n; value.from + index < value.to; index++) yield [index, value.from + index]
  } else if (typeof value === 'bigint' && variables < 2) {
    for (let index = 0n; index < value; index++) yield [null, index]
  } else {
    throw new Failure(`range can't go over ${kindOf(value)}`, position)
  }
}

function evaluatePipe(pipe: Pipe, dot: GoValue, scope: Scope, run: Execution): GoValue {
  let value: GoValue | undefined
  for (const command of pipe.cmds) value = evaluateCommand(command, dot, scope, run, value)
  for (const { idents } of pipe.decls) {
    if (pipe.isAssign) assign(idents[0]!, value!, scope, pipe.pos)
    else scope.variables.set(idents[0]!, value!)
  }
  return value!
}

function evaluateCommand(
  { args, pos }: Command,
  dot: GoValue,
  scope: Scope,
  run: Execution,
  piped: GoValue | undefined,
): GoValue {
  const [head, ...rest] = joined(args)
  const operands = () => {
    const values = rest.map(node => evaluateOperand(node, dot, scope, run))
    return piped === undefined ? values : [...values, piped]
  }
  if (head!.type === 'Identifier') {
    if (head!.ident === 'and' || head!.ident === 'or') {
      return shortCircuit(head!.ident, rest, piped, pos, node => evaluateOperand(node, dot, scope, run))
    }
    return call(head!.ident, operands, pos, run)
  }
  if (rest.length === 0 && piped === undefined) return evaluateOperand(head!, dot, scope, run)
  // The last name of a chain may be a method, which takes the arguments: `scratch.Set "a" 1`.
  const chain = chainOf(head!, dot, scope, run)
  const receiver = chain && fieldsOf(chain.receiver, chain.names.slice(0, -1), head!.pos, run)
  const method = receiver instanceof Struct ? receiver.methods.get(chain!.names.at(-1)!) : undefined
  if (!method) throw new Failure("arguments are given to what isn't a function", pos)
  return guarded(chain!.names.at(-1)!, () => method(...operands()), pos)
}

/** `scratch.Set` comes from the parser in two parts, like `scratch .Set`: joined again where no space is between. */
function joined(args: readonly Operand[]): Operand[] {
  const found: Operand[] = []
  for (const node of args) {
    const before = found.at(-1)
    if (node.type === 'Field' && before?.type === 'Identifier') {
      if (node.pos.offset === before.pos.offset + before.ident.length) {
        found[found.length - 1] = { type: 'Chain', node: before, fields: node.idents, pos: before.pos }
        continue
      }
    }
    found.push(node)
  }
  return found
}

/** A field chain taken apart into what it starts from and its names; undefined for other operands. */
function chainOf(node: Operand, dot: GoValue, scope: Scope, run: Execution) {
  if (node.type === 'Field') return { receiver: dot, names: node.idents }
  if (node.type === 'Chain') return { receiver: evaluateOperand(node.node, dot, scope, run), names: node.fields }
  if (node.type === 'Variable' && node.idents.length > 1) {
    return { receiver: variable(node.idents[0]!, scope, node.pos), names: node.idents.slice(1) }
  }
}

function shortCircuit(
  name: 'and' | 'or',
  nodes: readonly Operand[],
  piped: GoValue | undefined,
  position: Position,
  evaluate: (node: Operand) => GoValue,
): GoValue {
  let value: GoValue | undefined
  for (const node of nodes) {
    value = evaluate(node)
    if (isTrue(value) === (name === 'or')) return value
  }
  if (piped !== undefined) return piped
  if (value === undefined) throw new Failure(`${name} needs an argument`, position)
  return value
}

function evaluateOperand(node: Operand, dot: GoValue, scope: Scope, run: Execution): GoValue {
  switch (node.type) {
    case 'Dot':
      return dot
    case 'Nil':
      return null
    case 'Bool':
      return node.value
    case 'String':
      return unquote(node.raw)
    case 'Number':
      if (node.text.startsWith("'")) return BigInt(toText(unquote(node.text)).codePointAt(0)!)
      if (node.intValue === undefined && node.floatValue === undefined) {
        throw new Failure('complex numbers are not supported', node.pos)
      }
      return node.intValue ?? node.floatValue!
    case 'Identifier':
      return call(node.ident, () => [], node.pos, run)
    case 'Field':
      return fieldsOf(dot, node.idents, node.pos, run)
    case 'Variable':
      return fieldsOf(variable(node.idents[0]!, scope, node.pos), node.idents.slice(1), node.pos, run)
    case 'Chain':
      return fieldsOf(evaluateOperand(node.node, dot, scope, run), node.fields, node.pos, run)
    case 'Pipe':
      return evaluatePipe(node, dot, within(scope), run)
  }
}

function fieldsOf(receiver: GoValue, names: readonly string[], position: Position, run: Execution): GoValue {
  let value = receiver
  for (const [depth, name] of names.entries()) {
    const path = names.slice(0, depth + 1).join('.')
    if (value instanceof Struct) {
      const method = value.methods.get(name)
      const field = value.fields.get(name)
      if (method) value = guarded(name, () => method(), position)
      else if (field !== undefined) value = field
      else
        throw new Failure(
          `.${path} is not there: ${kindOf(value)} has ${[...value.fields.keys(), ...value.methods.keys()].join(', ')}`,
          position,
        )
    } else if (isMap(value)) {
      value = value.get(name) ?? missing(path, value, run.strictKeys, position)
    } else if (isNil(value) && depth === 0 && !run.strictKeys) {
      value = new Missing(path)
    } else if (isNil(value)) {
      const before = names.slice(0, depth).join('.')
      throw new Failure(
        `.${path} is not there: ${before ? `.${before}` : 'what it is asked of'} has no value`,
        position,
      )
    } else {
      throw new Failure(`.${path} is not there: ${kindOf(value)} has no fields`, position)
    }
  }
  return value
}

function missing(path: string, map: Map<string | bigint, GoValue>, strict: boolean, position: Position): GoValue {
  const others = sortedKeys(map).map(String)
  // A key that is there and holds nil comes here too.
  const one = new Missing(path, others, { isNull: map.has(path.split('.').at(-1)!) })
  if (strict && !one.isNull) throw new Failure(`${withoutValue(one)}${goWrites(one.written)}`, position)
  return one
}

function variable(name: string, scope: Scope, position: Position): GoValue {
  const holder = holderOf(name, scope)
  if (!holder) throw new Failure(`undefined variable ${name}`, position)
  return holder.variables.get(name)!
}

function assign(name: string, value: GoValue, scope: Scope, position: Position): void {
  const holder = holderOf(name, scope)
  if (!holder) throw new Failure(`undefined variable ${name}`, position)
  holder.variables.set(name, value)
}

function holderOf(name: string, scope: Scope): Scope | undefined {
  for (let current: Scope | undefined = scope; current; current = current.parent) {
    if (current.variables.has(name)) return current
  }
}

const within = (parent: Scope): Scope => ({ parent, variables: new Map() })

function call(name: string, operands: () => GoValue[], position: Position, run: Execution): GoValue {
  if (name === 'executeTemplate') {
    const [template, argument = null, ...more] = operands()
    if (typeof template !== 'string' || more.length > 0) {
      throw new Failure('executeTemplate needs the name of a template, and at most one argument', position)
    }
    const output: string[] = []
    invoke(template, argument, position, { ...run, output })
    return output.join('')
  }
  const known = run.functions.get(name) ?? builtins.get(name)
  if (!known) throw new Failure(`function "${name}" is not known`, position)
  const values = operands()
  const lost = takesNothing.has(name.replace(/^sprig_(must)?/i, '').toLowerCase())
    ? undefined
    : values.find(isUndefined)
  if (lost) throw new Failure(`${name}: ${withoutValue(lost)}; sprig_default would give it one`, position)
  return guarded(name, () => known(...values), position)
}

/**
 * Functions that may be given what is not defined: they ask whether it is, compare it, or keep it in a list or a dict. Every other one
 * would write it down as something (`null`, `<nil>`, an empty text) that nobody meant. In small letters, without `sprig_` and `must`.
 */
const takesNothing = new Set(
  (
    'not eq ne in contains containsall containsany containsnone containsnotall default empty coalesce all any ternary ' +
    'kindof kindis typeof typeis typeislike deepequal deepcopy has list tuple append push prepend dict set'
  ).split(' '),
)

/** Run a function; what it throws gets its name and the place of its call. */
function guarded(name: string, run: () => GoValue, position: Position): GoValue {
  try {
    return run()
  } catch (error) {
    if (error instanceof Failure || !(error instanceof Error)) throw error
    throw new Failure(error instanceof RekeyError ? error.message : `${name}: ${error.message}`, position, error)
  }
}

function printed(value: GoValue, position: Position): string {
  if (value instanceof Missing) throw new Failure(`${withoutValue(value)}${goWrites(value.written)}`, position)
  if (value === null) throw new Failure(`this has no value${goWrites('<no value>')}`, position)
  if ((value instanceof Struct && value.text === undefined) || value instanceof Channel) {
    throw new Failure(`${kindOf(value)} can't be printed as a whole: name one of its fields`, position)
  }
  if (typeof value === 'string') return value
  return value instanceof JsonNumber ? value.text : (guarded('print', () => sprint([value]), position) as string)
}

const goWrites = (text: string) => ` (consul-template would write "${text}")`

function withoutValue({ name, others }: Missing): string {
  const there = others.length > 0 ? `; there is ${others.slice(0, 12).map(toText).join(', ')}` : ''
  return `.${name} has no value${there}`
}

/** Refuse, before anything is asked of anyone, functions and variables that don't exist: Go does so when it parses. */
function checkNames({ root, ownDefines }: Parsed, functions: ReadonlySet<string>): void {
  const check = (node: Node | Command | undefined): void => {
    if (!node) return
    if (node.type === 'Identifier' && !functions.has(node.ident) && !builtins.has(node.ident)) {
      if (!['and', 'or', 'executeTemplate'].includes(node.ident)) {
        throw new Failure(`function "${node.ident}" is not known`, node.pos, undefined, 'template.syntax')
      }
    }
    if (node.type === 'List') node.nodes.forEach(check)
    if (node.type === 'Pipe') node.cmds.forEach(check)
    if (node.type === 'Command') node.args.forEach(check)
    if (node.type === 'Chain') check(node.node)
    if ('pipe' in node) check(node.pipe)
    if ('list' in node) check(node.list)
    if ('elseList' in node) check(node.elseList)
  }
  check(root)
  for (const { list } of ownDefines.values()) check(list)
}

/** What went wrong while a template was executed, and where. */
class Failure extends Error {
  readonly position: Position
  readonly code: string
  constructor(message: string, position: Position, cause?: unknown, code = 'template.failed') {
    super(message, { cause })
    this.position = position
    this.code = code
  }
}

/** Run, and turn every error into one that says in which template, on which line and column. */
function located<T>(name: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof Failure) {
      const { cause, position } = error
      const known = cause instanceof RekeyError ? cause : undefined
      throw new RekeyError(`${at(name, position.line, position.column)}: ${error.message}`, {
        code: known?.code ?? error.code,
        hint: known?.hint,
        cause: known,
      })
    }
    // Neither the parser nor Go's own limits: so deep nobody means it.
    if (error instanceof RangeError) {
      throw new RekeyError(`${at(name)}: is nested too deep: ${error.message}`, {
        code: 'template.syntax',
        cause: error,
      })
    }
    if (!(error instanceof TemplateError)) throw error
    // The library's own error is no cause: it carries the whole template.
    throw new RekeyError(`${at(name, error.pos.line, error.pos.column)}: ${toText(error.message)}`, {
      code: 'template.syntax',
    })
  }
}
