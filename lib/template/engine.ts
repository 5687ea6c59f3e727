// Go's text/template, strictly: the library's engine, mended where it parts from Go in a way that could reach a certificate.
import {
  createEngine,
  EvalError as EvaluationError,
  type FuncMap,
  type Delims as TemplateDelimiters,
  TemplateError,
} from '@promptctl/go-template-js'
import { at, RekeyError } from '../errors.ts'

export type { FuncMap, TemplateDelimiters }

interface Position {
  readonly line: number
  readonly column: number
  readonly offset: number
}

interface Scope {
  readonly dot: unknown
  readonly root: unknown
  readonly parent: Scope | undefined
  readonly vars: Map<string, unknown>
}

interface Context {
  readonly out: string[]
  readonly defines: unknown
  readonly source: string
}

interface Node {
  readonly type: string
  readonly pos: Position
}

interface Pipe extends Node {
  readonly decls: readonly { readonly idents: readonly string[] }[]
  readonly isAssign: boolean
  readonly cmds: readonly Command[]
}

interface Command extends Node {
  readonly args: readonly Node[]
}

interface Branch extends Node {
  readonly pipe: Pipe
  readonly list: Node
  readonly elseList?: Node
}

interface Invocation extends Node {
  readonly name: string
  readonly pipe?: Pipe
}

interface Block extends Invocation {
  readonly list: Node
}

/** The engine's own methods, as far as they are mended here. The library's version is pinned, and tests hold each one. */
interface EngineInternals {
  evalNode(node: Node, scope: Scope, context: Context): void
  evalIf(node: Branch, scope: Scope, context: Context): void
  evalWith(node: Branch, scope: Scope, context: Context): void
  evalRange(node: Branch, scope: Scope, context: Context): void
  evalTemplateInvoke(node: Invocation, scope: Scope, context: Context): void
  evalBlock(node: Block, scope: Scope, context: Context): void
  evalPipe(pipe: Pipe, scope: Scope, context: Context): unknown
  evalCommand(command: Command, scope: Scope, context: Context, piped: unknown): unknown
  resolveFieldChain(receiver: unknown, names: readonly string[], position: Position, context: Context): unknown
  emitFromValue(value: unknown, context: Context): void
}

/** A template that was parsed; rendering it again costs no parsing. */
export interface ParsedTemplate {
  /** Throws `RekeyError` with `name:line:column` for whatever goes wrong. */
  evaluate(dot: unknown): string
}

/**
 * Parse a template. `name` stands for it in errors: its file.
 * Throws `RekeyError` with `name:line:column` where it can't be parsed.
 */
export function parseTemplate(
  source: string,
  { name, functions, delimiters }: { name: string; functions: FuncMap; delimiters?: TemplateDelimiters },
): ParsedTemplate {
  return located(name, () => {
    const engine = createEngine<string>({
      fromString: text => text,
      isT: (value): value is string => typeof value === 'string',
      missingKey: 'error',
      funcs: functions,
      delims: delimiters,
    })
    mend(engine as unknown as EngineInternals)
    const template = engine.parse(source)
    return { evaluate: dot => located(name, () => template.evaluate(dot).join('')) }
  })
}

function mend(engine: EngineInternals): void {
  const original = {
    evalNode: engine.evalNode.bind(engine),
    evalIf: engine.evalIf.bind(engine),
    evalWith: engine.evalWith.bind(engine),
    evalRange: engine.evalRange.bind(engine),
    evalTemplateInvoke: engine.evalTemplateInvoke.bind(engine),
    evalBlock: engine.evalBlock.bind(engine),
    evalPipe: engine.evalPipe.bind(engine),
    evalCommand: engine.evalCommand.bind(engine),
    emitFromValue: engine.emitFromValue.bind(engine),
  }
  let position: Position | undefined

  Object.assign(engine, {
    evalNode: (node, scope, context) => {
      if (node.type === 'Action') position = node.pos
      original.evalNode(node, scope, context)
    },

    // A variable that is declared in a block ends with it.
    evalIf: (node, scope, context) => original.evalIf(node, inner(scope), context),
    evalWith: (node, scope, context) => original.evalWith(node, inner(scope), context),
    evalRange: (node, scope, context) => original.evalRange(node, inner(scope), context),

    // Inside a named template `$` is its argument, and the caller's variables are out of sight.
    evalTemplateInvoke: (node, scope, context) => {
      const argument = node.pipe ? engine.evalPipe(node.pipe, scope, context) : undefined
      original.evalTemplateInvoke({ ...node, pipe: undefined }, root(argument), context)
    },
    evalBlock: (node, scope, context) => {
      const argument = node.pipe ? engine.evalPipe(node.pipe, scope, context) : undefined
      original.evalBlock({ ...node, pipe: undefined }, root(argument), context)
    },

    // `$x = …` changes the variable where it was declared.
    evalPipe: (pipe, scope, context) => {
      if (!pipe.isAssign) return original.evalPipe(pipe, scope, context)
      const value = original.evalPipe({ ...pipe, decls: [], isAssign: false }, scope, context)
      for (const { idents } of pipe.decls) {
        const holder = holderOf(scope, idents[0]!)
        if (!holder) throw new EvaluationError(`undefined variable ${idents[0]}`, pipe.pos, { source: context.source })
        holder.vars.set(idents[0]!, value)
      }
      return value
    },

    // What a function throws gets the place of its call.
    evalCommand: (command, scope, context, piped) => {
      try {
        return original.evalCommand(command, scope, context, piped)
      } catch (error) {
        if (!(error instanceof Error) || error instanceof TemplateError || error instanceof Located) throw error
        throw new Located(error, command.pos)
      }
    },

    // Only what the data itself has: nothing from a prototype, no `<no value>`.
    resolveFieldChain: (receiver, names, pos, context) => {
      let value = receiver
      for (const [depth, name] of names.entries()) {
        const path = names.slice(0, depth + 1).join('.')
        if (value instanceof Map ? value.has(name) : isRecord(value) && Object.hasOwn(value, name)) {
          value = value instanceof Map ? value.get(name) : (value as Record<string, unknown>)[name]
        } else {
          throw new EvaluationError(`.${path} is not there${nearby(value)}`, pos, { source: context.source })
        }
      }
      return value
    },
    emitFromValue: (value, context) => {
      if (value === null || value === undefined) {
        const pos = position ?? { line: 1, column: 1, offset: 0 }
        throw new EvaluationError('this has no value (consul-template would write "<no value>")', pos, {
          source: context.source,
        })
      }
      original.emitFromValue(value, context)
    },
  } satisfies Partial<EngineInternals>)
}

/** An error thrown by a function of a template, and where it was called. */
class Located extends Error {
  readonly position: Position
  override readonly cause: Error

  constructor(cause: Error, position: Position) {
    super(cause.message)
    this.cause = cause
    this.position = position
  }
}

/** Run, and turn every error into one that says in which template, on which line and column. */
function located<T>(name: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof Located) {
      const { cause, position } = error
      const where = at(name, position.line, position.column)
      if (cause instanceof RekeyError) {
        throw new RekeyError(`${where}: ${cause.message}`, { code: cause.code, hint: cause.hint, cause: cause.cause })
      }
      throw new RekeyError(`${where}: ${cause.message}`, { code: 'template.failed' })
    }
    if (!(error instanceof TemplateError)) throw error
    // The library's own error is no cause: it carries the whole template.
    throw new RekeyError(`${at(name, error.pos.line, error.pos.column)}: ${error.message}`, {
      code: error.kind === 'ParseError' ? 'template.syntax' : 'template.failed',
    })
  }
}

const inner = (scope: Scope): Scope => ({ dot: scope.dot, root: scope.root, parent: scope, vars: new Map() })

const root = (dot: unknown): Scope => ({ dot, root: dot, parent: undefined, vars: new Map() })

function holderOf(scope: Scope, name: string): Scope | undefined {
  for (let current: Scope | undefined = scope; current; current = current.parent) {
    if (current.vars.has(name)) return current
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The names that are there, never their values. */
function nearby(value: unknown): string {
  if (value === null || value === undefined) return ': what it is asked of has no value'
  const names = value instanceof Map ? [...value.keys()].map(String) : isRecord(value) ? Object.keys(value) : []
  return names.length > 0 ? `; there is ${names.sort().slice(0, 12).join(', ')}` : ''
}
