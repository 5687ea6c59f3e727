// Templates in variables: the pieces put together, `if` with its branches, `for` with its body.
import { ExpressionParser } from './jinja-expressions.ts'
import { type Piece, splitTemplate, type TemplateOptions } from './jinja-lexer.ts'
import type { Branch, MacroSource, Statement, Target } from './jinja-syntax.ts'

/** Parses a template; `decode` where backslashes mean something in texts of `{{ }}`, too. Throws `SyntaxError` saying what is not understood. */
export function parseTemplate(source: string, options?: TemplateOptions, decode = false): readonly Statement[] {
  return new TemplateParser(splitTemplate(source, options), decode).whole()
}

/** How many blocks may stand within each other. */
const mostLevels = 200

const refused: Readonly<Record<string, string>> = {
  include: "lookup('template', …) reads other files",
  import: 'macros are written where they are used',
  from: 'macros are written where they are used',
  extends: 'a variable is a template of its own',
  block: 'a variable is a template of its own',
  autoescape: 'nothing is escaped',
  do: 'Ansible has it only where its configuration says so',
  break: 'Ansible has it only where its configuration says so',
  continue: 'Ansible has it only where its configuration says so',
}

class TemplateParser {
  readonly #pieces: readonly Piece[]
  readonly #decode: boolean
  #at = 0
  #levels = 0

  constructor(pieces: readonly Piece[], decode: boolean) {
    this.#pieces = pieces
    this.#decode = decode
  }

  whole(): readonly Statement[] {
    const { body } = this.#until([])
    return body
  }

  /** Statements up to one of the given block names; that block's own parser stands behind its name. */
  #until(names: readonly string[]): { body: Statement[]; ending: string; block: ExpressionParser } {
    if (++this.#levels > mostLevels) throw new SyntaxError(`more than ${mostLevels} blocks stand within each other`)
    const body: Statement[] = []
    for (let piece = this.#pieces[this.#at++]; piece; piece = this.#pieces[this.#at++]) {
      if (piece.kind === 'text') body.push({ kind: 'text', text: piece.text })
      else if (piece.kind === 'output')
        body.push({ kind: 'output', expression: new ExpressionParser(piece.text, this.#decode).whole() })
      else {
        const block = new ExpressionParser(piece.text, true)
        const name = block.need('name')
        if (names.includes(name)) {
          this.#levels--
          return { body, ending: name, block }
        }
        body.push(this.#block(name, block))
      }
    }
    if (names.length > 0) throw new SyntaxError(`{% ${names.at(-1)} %} is missing`)
    return { body, ending: '', block: new ExpressionParser('', true) }
  }

  /** The statements up to the end of a block that has one part only. */
  #body(ending: string): Statement[] {
    const { body, block } = this.#until([ending])
    // {% endset %}, {% endmacro name %}
    block.take('name')
    block.end()
    return body
  }

  #block(name: string, block: ExpressionParser): Statement {
    switch (name) {
      case 'if':
        return this.#if(block)
      case 'for':
        return this.#for(block)
      case 'set':
        return this.#set(block)
      case 'with':
        return this.#with(block)
      case 'filter': {
        const filters = block.filterCalls(true)
        return { kind: 'filter-block', filters, body: this.#body('endfilter') }
      }
      case 'macro': {
        const macro = block.need('name')
        return { kind: 'macro', macro: this.#macro(macro, block, 'endmacro') }
      }
      case 'call': {
        const parameters = block.at('(') ? block.parameters() : []
        const call = block.expression()
        block.end()
        if (call.kind !== 'call') throw new SyntaxError('{% call %} calls a macro')
        return { kind: 'call-block', call, caller: { name: 'caller', parameters, body: this.#body('endcall') } }
      }
    }
    const why = refused[name]
    throw new SyntaxError(
      why === undefined ? `{% ${name} %} is not understood` : `{% ${name} %} is not one that rekey has: ${why}`,
    )
  }

  #macro(name: string, block: ExpressionParser, ending: string): MacroSource {
    const parameters = block.parameters()
    block.end()
    return { name, parameters, body: this.#body(ending) }
  }

  #set(block: ExpressionParser): Statement {
    const target = block.target(true)
    if (block.take('operator', '=') === undefined) {
      const filters = block.filterCalls(false)
      return { kind: 'set-block', target, filters, body: this.#body('endset') }
    }
    const value = block.tuple()
    block.end()
    return { kind: 'set', target, value }
  }

  #with(block: ExpressionParser): Statement {
    const values: [Target, ReturnType<ExpressionParser['expression']>][] = []
    while (!block.ended()) {
      if (values.length > 0) block.need('operator', ',')
      const name = block.need('name')
      block.need('operator', '=')
      values.push([{ kind: 'name', name }, block.expression()])
    }
    return { kind: 'with', values, body: this.#body('endwith') }
  }

  #if(block: ExpressionParser): Statement {
    const branches: Branch[] = []
    let test = block.whole()
    for (;;) {
      const { body, ending, block: next } = this.#until(['elif', 'else', 'endif'])
      branches.push({ test, body })
      if (ending === 'elif') test = next.whole()
      else {
        next.end()
        return { kind: 'if', branches, otherwise: ending === 'endif' ? [] : this.#body('endif') }
      }
    }
  }

  #for(block: ExpressionParser): Statement {
    const target = block.target(false)
    block.need('name', 'in')
    const over = block.tupleWithoutCondition()
    const where = block.take('name', 'if') === undefined ? undefined : block.expression()
    const recursive = block.take('name', 'recursive') !== undefined
    block.end()
    const { body, ending, block: next } = this.#until(['else', 'endfor'])
    next.end()
    const otherwise = ending === 'endfor' ? [] : this.#body('endfor')
    return { kind: 'for', target, over, where, recursive, body, otherwise }
  }
}
