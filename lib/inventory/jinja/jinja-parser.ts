// Templates in variables, parsed by Jinja's own grammar and precedence.
// Over 500 lines: one grammar, whose rules call each other from the loosest operator to the tightest.
//
// Not nunjucks: it reads `6 * 3 // 2` as 6 * (3 // 2), gives `~` another rank than Jinja does and drops the
// backslash of `'\d'`, all without a word. What isn't understood here is refused instead.
import { stringEscapes } from '../python/python-literal.ts'

/** An expression. */
export type Expression =
  | { readonly kind: 'literal'; readonly value: string | number | bigint | boolean | null }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'list'; readonly items: readonly Expression[] }
  | { readonly kind: 'map'; readonly entries: readonly (readonly [Expression, Expression])[] }
  | { readonly kind: 'item'; readonly target: Expression; readonly key: Expression; readonly attribute: boolean }
  | { readonly kind: 'slice'; readonly target: Expression; readonly bounds: readonly (Expression | undefined)[] }
  | { readonly kind: 'call'; readonly target: Expression; readonly args: Arguments }
  | { readonly kind: 'filter'; readonly name: string; readonly target: Expression; readonly args: Arguments }
  | { readonly kind: 'test'; readonly name: string; readonly target: Expression; readonly args: Arguments }
  | { readonly kind: 'unary'; readonly operator: 'not' | '-' | '+'; readonly operand: Expression }
  | { readonly kind: 'binary'; readonly operator: string; readonly left: Expression; readonly right: Expression }
  | { readonly kind: 'compare'; readonly first: Expression; readonly rest: readonly Comparison[] }
  | {
      readonly kind: 'condition'
      readonly test: Expression
      readonly value: Expression
      readonly otherwise?: Expression
    }
export interface Comparison {
  readonly operator: string
  readonly operand: Expression
}
export interface Arguments {
  readonly positional: readonly Expression[]
  readonly named: ReadonlyMap<string, Expression>
}

/** A part of a template. */
export type Statement =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'output'; readonly expression: Expression }
  | { readonly kind: 'if'; readonly branches: readonly Branch[]; readonly otherwise: readonly Statement[] }
  | {
      readonly kind: 'for'
      readonly names: readonly string[]
      readonly over: Expression
      readonly where?: Expression
      readonly body: readonly Statement[]
      readonly otherwise: readonly Statement[]
    }
  | { readonly kind: 'set'; readonly name: string; readonly value: Expression }
export interface Branch {
  readonly test: Expression
  readonly body: readonly Statement[]
}

/** True when a text has anything that Jinja would act on. */
export function isTemplate(text: string): boolean {
  const brace = text.indexOf('{')
  return brace !== -1 && /\{[{%#]/.test(text.slice(brace))
}

/** Parses a template. Throws `SyntaxError` saying what is not understood. */
export function parseTemplate(source: string): readonly Statement[] {
  const parser = new TemplateParser(splitTemplate(source))
  return parser.whole()
}

type Piece = { readonly kind: 'text' | 'output' | 'block'; readonly text: string }

/** Cuts a template into text, `{{ … }}` and `{% … %}`, with Jinja's and Ansible's rules for white space around them. */
function splitTemplate(source: string): Piece[] {
  const pieces: Piece[] = []
  let trimNext = false
  let rest = 0
  const text = (end: number, trimEnd: boolean): void => {
    let part = source.slice(rest, end)
    if (trimNext) part = part.trimStart()
    if (trimEnd) part = part.trimEnd()
    if (part !== '') pieces.push({ kind: 'text', text: part })
  }
  const opening = /\{([{%#])([-+]?)/g
  for (let match = opening.exec(source); match; match = opening.exec(source)) {
    const [whole, mark = '', sign = ''] = match
    text(match.index, sign === '-')
    const close = mark === '{' ? '}}' : `${mark}}`
    const end = findEnd(source, match.index + whole.length, close, mark === '#')
    const trimmed = source[end - 1] === '-'
    const kept = source[end - 1] === '+' && mark === '%'
    const inner = source.slice(match.index + whole.length, trimmed || kept ? end - 1 : end)
    rest = end + 2
    trimNext = trimmed
    if (mark === '{') pieces.push({ kind: 'output', text: inner })
    else {
      // `trim_blocks`: the line break right behind a block goes with it.
      if (!trimmed && !kept && source[rest] === '\n') rest++
      if (mark === '%') {
        if (inner.trim() === 'raw') {
          const raw = /\{%([-+]?)\s*endraw\s*([-+]?)%\}\n?/g
          raw.lastIndex = rest
          const stop = raw.exec(source)
          if (!stop) throw new SyntaxError('{% raw %} without {% endraw %}')
          text(stop.index, stop[1] === '-')
          rest = stop.index + stop[0].length
          trimNext = stop[2] === '-'
        } else pieces.push({ kind: 'block', text: inner })
      }
    }
    opening.lastIndex = rest
  }
  text(source.length, false)
  return pieces
}

/** Where a `}}` or `%}` stands that is not within a string or a map. */
function findEnd(source: string, from: number, close: string, comment: boolean): number {
  let quote = ''
  let depth = 0
  for (let index = from; index < source.length; index++) {
    const character = source[index]!
    if (comment) {
      if (source.startsWith(close, index)) return index
    } else if (quote !== '') {
      if (character === '\\') index++
      else if (character === quote) quote = ''
    } else if (character === '"' || character === "'") quote = character
    else if (depth === 0 && source.startsWith(close, index)) return index
    else if ('([{'.includes(character)) depth++
    else if (')]}'.includes(character)) depth--
  }
  throw new SyntaxError(`"${source.slice(from - 2, from)}" is not closed with "${close}"`)
}

type Token = { readonly kind: 'name' | 'string' | 'integer' | 'float' | 'operator' | 'end'; readonly text: string }

const tokenPattern =
  /\s+|([\p{L}_][\p{L}\p{N}_]*)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(\d+(?:_\d+)*(?:(?:\.\d+(?:_\d+)*)(?:[eE][-+]?\d+(?:_\d+)*)?|[eE][-+]?\d+(?:_\d+)*))|(0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[\da-fA-F])+|[1-9](?:_?\d)*|0(?:_?0)*)|(\/\/|\*\*|==|!=|>=|<=|[-+*/%~[\](){}<>=.:|,])/suy

function tokenize(source: string, decode: boolean): Token[] {
  const tokens: Token[] = []
  tokenPattern.lastIndex = 0
  while (tokenPattern.lastIndex < source.length) {
    const from = tokenPattern.lastIndex
    const match = tokenPattern.exec(source)
    if (!match) throw new SyntaxError(`"${source.slice(from, from + 12)}" is not understood`)
    const [, name, string, float, integer, operator] = match
    if (name !== undefined) tokens.push({ kind: 'name', text: name })
    else if (string !== undefined)
      tokens.push({ kind: 'string', text: decode ? decodeEscapes(string.slice(1, -1)) : string.slice(1, -1) })
    else if (float !== undefined) tokens.push({ kind: 'float', text: float.replaceAll('_', '') })
    else if (integer !== undefined) tokens.push({ kind: 'integer', text: integer.replaceAll('_', '') })
    else if (operator !== undefined) tokens.push({ kind: 'operator', text: operator })
  }
  return tokens
}

/** A string literal's escapes: Python's; an unknown one stays as it is, backslash and all. */
function decodeEscapes(text: string): string {
  return text.replace(
    /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|(.))/gs,
    (whole, x, u, U, octal, single: string | undefined) => {
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8))
      if (single === undefined) return String.fromCodePoint(Number.parseInt(x ?? u ?? U, 16))
      if ('xuUN'.includes(single)) throw new SyntaxError(`the escape ${whole} is not understood`)
      return stringEscapes[single] ?? whole
    },
  )
}

const none: Arguments = { positional: [], named: new Map() }

/** A recursive-descent parser of one tag's tokens, rule by rule as Jinja's. */
class ExpressionParser {
  readonly #tokens: readonly Token[]
  #at = 0

  /** Takes the source of a tag, and whether backslashes in its strings mean anything: in `{% %}` they do, in `{{ }}` not. */
  constructor(source: string, decode: boolean) {
    this.#tokens = tokenize(source, decode)
  }

  whole(): Expression {
    const expression = this.tuple()
    this.end()
    return expression
  }

  end(): void {
    if (this.#at < this.#tokens.length) throw this.unexpected()
  }

  unexpected(): SyntaxError {
    const token = this.#peek()
    return new SyntaxError(
      token.kind === 'end' ? 'the expression ends too early' : `"${token.text}" is not expected there`,
    )
  }

  #peek(offset = 0): Token {
    return this.#tokens[this.#at + offset] ?? { kind: 'end', text: '' }
  }

  take(kind: Token['kind'], text?: string): string | undefined {
    const token = this.#peek()
    if (token.kind !== kind || (text !== undefined && token.text !== text)) return undefined
    this.#at++
    return token.text
  }

  need(kind: Token['kind'], text?: string): string {
    const taken = this.take(kind, text)
    if (taken === undefined) throw this.unexpected()
    return taken
  }

  #oneOf(operators: readonly string[]): string | undefined {
    const { kind, text } = this.#peek()
    return kind === 'operator' && operators.includes(text) ? this.take('operator') : undefined
  }

  /** One expression, or several with commas between them. */
  tuple(): Expression {
    const first = this.expression()
    if (this.take('operator', ',') === undefined) return first
    const items = [first]
    while (!['end', 'operator'].includes(this.#peek().kind) || '([{-+'.includes(this.#peek().text || ')')) {
      items.push(this.expression())
      if (this.take('operator', ',') === undefined) break
    }
    return { kind: 'list', items }
  }

  expression(): Expression {
    let expression = this.or()
    while (this.take('name', 'if') !== undefined) {
      const test = this.or()
      const otherwise = this.take('name', 'else') === undefined ? undefined : this.expression()
      expression = { kind: 'condition', test, value: expression, otherwise }
    }
    return expression
  }

  or(): Expression {
    let left = this.#and()
    while (this.take('name', 'or') !== undefined) left = { kind: 'binary', operator: 'or', left, right: this.#and() }
    return left
  }

  #and(): Expression {
    let left = this.#not()
    while (this.take('name', 'and') !== undefined) left = { kind: 'binary', operator: 'and', left, right: this.#not() }
    return left
  }

  #not(): Expression {
    if (this.take('name', 'not') !== undefined) return { kind: 'unary', operator: 'not', operand: this.#not() }
    const first = this.#sum()
    const rest: Comparison[] = []
    for (;;) {
      let operator = this.#oneOf(['==', '!=', '<', '>', '<=', '>='])
      if (operator === undefined && this.take('name', 'in') !== undefined) operator = 'in'
      if (operator === undefined && this.#peek().text === 'not' && this.#peek(1).text === 'in') {
        this.#at += 2
        operator = 'not in'
      }
      if (operator === undefined) break
      rest.push({ operator, operand: this.#sum() })
    }
    return rest.length === 0 ? first : { kind: 'compare', first, rest }
  }

  #binary(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand()
    for (let operator = this.#oneOf(operators); operator !== undefined; operator = this.#oneOf(operators)) {
      left = { kind: 'binary', operator, left, right: operand() }
    }
    return left
  }

  #sum(): Expression {
    const product = (): Expression => this.#binary(['*', '/', '//', '%'], power)
    const power = (): Expression => this.#binary(['**'], () => this.#unary(true))
    return this.#binary(['+', '-'], () => this.#binary(['~'], product))
  }

  #unary(filters: boolean): Expression {
    const operator = this.#oneOf(['-', '+']) as '-' | '+' | undefined
    let expression: Expression = operator ? { kind: 'unary', operator, operand: this.#unary(false) } : this.#primary()
    expression = this.#postfix(expression)
    return filters ? this.#filters(expression) : expression
  }

  #primary(): Expression {
    const token = this.#peek()
    switch (token.kind) {
      case 'name':
        this.#at++
        if (['true', 'True'].includes(token.text)) return { kind: 'literal', value: true }
        if (['false', 'False'].includes(token.text)) return { kind: 'literal', value: false }
        if (['none', 'None'].includes(token.text)) return { kind: 'literal', value: null }
        return { kind: 'name', name: token.text }
      case 'string': {
        let value = ''
        for (let part = this.take('string'); part !== undefined; part = this.take('string')) value += part
        return { kind: 'literal', value }
      }
      case 'integer': {
        this.#at++
        const value = BigInt(token.text)
        return { kind: 'literal', value: value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value }
      }
      case 'float':
        this.#at++
        return { kind: 'float', value: Number(token.text) }
    }
    if (this.take('operator', '(') !== undefined) {
      if (this.take('operator', ')') !== undefined) return { kind: 'list', items: [] }
      const inner = this.tuple()
      this.need('operator', ')')
      return inner
    }
    if (this.take('operator', '[') !== undefined)
      return { kind: 'list', items: this.#items(']', () => this.expression()) }
    if (this.take('operator', '{') !== undefined) {
      const entries = this.#items('}', (): readonly [Expression, Expression] => {
        const key = this.expression()
        this.need('operator', ':')
        return [key, this.expression()]
      })
      return { kind: 'map', entries }
    }
    throw this.unexpected()
  }

  #items<Item>(close: string, item: () => Item): Item[] {
    const items: Item[] = []
    while (this.take('operator', close) === undefined) {
      if (items.length > 0) {
        this.need('operator', ',')
        if (this.take('operator', close) !== undefined) break
      }
      items.push(item())
    }
    return items
  }

  #postfix(start: Expression): Expression {
    let target = start
    for (;;) {
      if (this.take('operator', '.') !== undefined) {
        const integer = this.take('integer')
        const key: Expression = { kind: 'literal', value: integer === undefined ? this.need('name') : Number(integer) }
        target = { kind: 'item', target, key, attribute: integer === undefined }
      } else if (this.take('operator', '[') !== undefined) target = this.#subscript(target)
      else if (this.#peek().text === '(' && this.#peek().kind === 'operator')
        target = { kind: 'call', target, args: this.#arguments() }
      else return target
    }
  }

  #subscript(target: Expression): Expression {
    const bounds: (Expression | undefined)[] = []
    let slice = false
    for (;;) {
      const { kind, text } = this.#peek()
      const empty = kind === 'operator' && (text === ':' || text === ']')
      bounds.push(empty ? undefined : this.expression())
      if (this.take('operator', ':') === undefined) break
      slice = true
    }
    this.need('operator', ']')
    if (slice && bounds.length <= 3) return { kind: 'slice', target, bounds }
    const key = bounds[0]
    if (bounds.length !== 1 || key === undefined) throw new SyntaxError('an index is missing between [ and ]')
    return { kind: 'item', target, key, attribute: false }
  }

  #arguments(): Arguments {
    this.need('operator', '(')
    const positional: Expression[] = []
    const named = new Map<string, Expression>()
    this.#items(')', () => {
      if (this.#peek().kind === 'operator' && ['*', '**'].includes(this.#peek().text)) {
        throw new SyntaxError('* and ** in arguments are not understood')
      }
      if (this.#peek().kind === 'name' && this.#peek(1).text === '=' && this.#peek(1).kind === 'operator') {
        const name = this.need('name')
        this.need('operator', '=')
        named.set(name, this.expression())
      } else positional.push(this.expression())
    })
    return { positional, named }
  }

  #filters(start: Expression): Expression {
    let target = start
    for (;;) {
      if (this.take('operator', '|') !== undefined) {
        const name = this.#dottedName()
        const args = this.#peek().text === '(' && this.#peek().kind === 'operator' ? this.#arguments() : none
        target = { kind: 'filter', name, target, args }
      } else if (this.take('name', 'is') !== undefined) target = this.#test(target)
      else if (this.#peek().text === '(' && this.#peek().kind === 'operator')
        target = { kind: 'call', target, args: this.#arguments() }
      else return target
    }
  }

  #dottedName(): string {
    let name = this.need('name')
    while (this.take('operator', '.') !== undefined) name += `.${this.need('name')}`
    return name
  }

  #test(target: Expression): Expression {
    const negated = this.take('name', 'not') !== undefined
    const name = this.#dottedName()
    let args = none
    const { kind, text } = this.#peek()
    if (kind === 'operator' && text === '(') args = this.#arguments()
    else if (
      (['name', 'string', 'integer', 'float'].includes(kind) &&
        !['else', 'or', 'and', 'is', 'if', 'not', 'in'].includes(text)) ||
      (kind === 'operator' && (text === '[' || text === '{'))
    ) {
      args = { positional: [this.#postfix(this.#primary())], named: new Map() }
    }
    const test: Expression = { kind: 'test', name, target, args }
    return negated ? { kind: 'unary', operator: 'not', operand: test } : test
  }
}

/** Puts the pieces of a template together: `if` with its branches, `for` with its body. */
class TemplateParser {
  readonly #pieces: readonly Piece[]
  #at = 0

  constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces
  }

  whole(): readonly Statement[] {
    const { body } = this.#until([])
    return body
  }

  /** Statements up to one of the given block names; that block's own parser stands behind its name. */
  #until(names: readonly string[]): { body: Statement[]; ending: string; block?: ExpressionParser } {
    const body: Statement[] = []
    for (let piece = this.#pieces[this.#at++]; piece; piece = this.#pieces[this.#at++]) {
      if (piece.kind === 'text') body.push({ kind: 'text', text: piece.text })
      else if (piece.kind === 'output')
        body.push({ kind: 'output', expression: new ExpressionParser(piece.text, false).whole() })
      else {
        const block = new ExpressionParser(piece.text, true)
        const name = block.need('name')
        if (names.includes(name)) return { body, ending: name, block }
        body.push(this.#block(name, block))
      }
    }
    if (names.length > 0) throw new SyntaxError(`{% ${names.at(-1)} %} is missing`)
    return { body, ending: '' }
  }

  #block(name: string, block: ExpressionParser): Statement {
    switch (name) {
      case 'if':
        return this.#if(block)
      case 'for':
        return this.#for(block)
      case 'set': {
        const variable = block.need('name')
        block.need('operator', '=')
        const value = block.tuple()
        block.end()
        return { kind: 'set', name: variable, value }
      }
    }
    throw new SyntaxError(`{% ${name} %} is not understood`)
  }

  #if(block: ExpressionParser): Statement {
    const branches: Branch[] = []
    let test = block.whole()
    for (;;) {
      const { body, ending, block: next } = this.#until(['elif', 'else', 'endif'])
      branches.push({ test, body })
      if (ending === 'elif') test = next!.whole()
      else {
        next!.end()
        if (ending === 'endif') return { kind: 'if', branches, otherwise: [] }
        const { body: otherwise, block: last } = this.#until(['endif'])
        last!.end()
        return { kind: 'if', branches, otherwise }
      }
    }
  }

  #for(block: ExpressionParser): Statement {
    const names = [block.need('name')]
    while (block.take('operator', ',') !== undefined) names.push(block.need('name'))
    block.need('name', 'in')
    const over = block.or()
    const where = block.take('name', 'if') === undefined ? undefined : block.or()
    block.end()
    const { body, ending, block: next } = this.#until(['else', 'endfor'])
    next!.end()
    if (ending === 'endfor') return { kind: 'for', names, over, where, body, otherwise: [] }
    const { body: otherwise, block: last } = this.#until(['endfor'])
    last!.end()
    return { kind: 'for', names, over, where, body, otherwise }
  }
}
