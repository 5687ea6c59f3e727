// Expressions of templates, parsed by Jinja's own grammar and precedence.
//
// Not nunjucks: it reads `6 * 3 // 2` as 6 * (3 // 2), gives `~` another rank than Jinja does and drops the
// backslash of `'\d'`, all without a word. What isn't understood here is refused instead.
import { type Token, tokenize } from './jinja-lexer.ts'
import type { Arguments, Comparison, Expression, FilterCall, Target } from './jinja-syntax.ts'

/** How many brackets, and operators before a value, may stand within each other: as many as Python reads. */
const mostLevels = 200

const none: Arguments = { positional: [], named: new Map() }

/** A recursive-descent parser of one tag's tokens, rule by rule as Jinja's. */
export class ExpressionParser {
  readonly #tokens: readonly Token[]
  #at = 0
  #levels = 0

  /** Takes the source of a tag, and whether backslashes in its strings mean anything: in `{% %}` they do, in `{{ }}` not. */
  constructor(source: string, decode: boolean) {
    this.#tokens = tokenize(source, decode)
  }

  whole(): Expression {
    const expression = this.tuple()
    this.end()
    return expression
  }

  ended(): boolean {
    return this.#at >= this.#tokens.length
  }

  end(): void {
    if (!this.ended()) throw this.#unexpected()
  }

  /** What stands within something else. */
  #within<Result>(read: () => Result): Result {
    if (++this.#levels > mostLevels)
      throw new SyntaxError(`more than ${mostLevels} brackets or operators stand within each other`)
    const result = read()
    this.#levels--
    return result
  }

  #unexpected(): SyntaxError {
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
    if (taken === undefined) throw this.#unexpected()
    return taken
  }

  #oneOf(operators: readonly string[]): string | undefined {
    const { kind, text } = this.#peek()
    return kind === 'operator' && operators.includes(text) ? this.take('operator') : undefined
  }

  /** One expression, or several with commas between them. */
  tuple(item = (): Expression => this.expression()): Expression {
    const first = item()
    if (this.take('operator', ',') === undefined) return first
    const items = [first]
    while (!['end', 'operator'].includes(this.#peek().kind) || '([{-+'.includes(this.#peek().text || ')')) {
      items.push(item())
      if (this.take('operator', ',') === undefined) break
    }
    return { kind: 'list', items, tuple: true }
  }

  /** The same, where an `if` behind it belongs to something else. */
  tupleWithoutCondition(): Expression {
    return this.tuple(() => this.#or())
  }

  expression(): Expression {
    let expression = this.#or()
    while (this.take('name', 'if') !== undefined) {
      const test = this.#or()
      const otherwise = this.take('name', 'else') === undefined ? undefined : this.#within(() => this.expression())
      expression = { kind: 'condition', test, value: expression, otherwise }
    }
    return expression
  }

  #or(): Expression {
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
    if (this.take('name', 'not') !== undefined)
      return { kind: 'unary', operator: 'not', operand: this.#within(() => this.#not()) }
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
    let expression: Expression = operator
      ? { kind: 'unary', operator, operand: this.#within(() => this.#unary(false)) }
      : this.#primary()
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
      if (this.take('operator', ')') !== undefined) return { kind: 'list', items: [], tuple: true }
      const inner = this.#within(() => this.tuple())
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
    throw this.#unexpected()
  }

  #items<Item>(close: string, item: () => Item): Item[] {
    const items: Item[] = []
    while (this.take('operator', close) === undefined) {
      if (items.length > 0) {
        this.need('operator', ',')
        if (this.take('operator', close) !== undefined) break
      }
      items.push(this.#within(item))
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
      bounds.push(empty ? undefined : this.#within(() => this.expression()))
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
    let [rest, restNamed]: (Expression | undefined)[] = []
    this.#items(')', () => {
      const stars = this.#oneOf(['*', '**'])
      if (stars === '*' && !rest) rest = this.expression()
      else if (stars === '**' && !restNamed) restNamed = this.expression()
      else if (stars !== undefined || rest || restNamed) throw this.#unexpected()
      else if (this.#peek().kind === 'name' && this.#peek(1).text === '=' && this.#peek(1).kind === 'operator') {
        const name = this.need('name')
        this.need('operator', '=')
        named.set(name, this.expression())
      } else if (named.size > 0) throw this.#unexpected()
      else positional.push(this.expression())
    })
    return { positional, named, rest, restNamed }
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

  /** `| upper | replace('a', 'b')` to the end of a tag; the first one without its `|` where `bare`. */
  filterCalls(bare: boolean): FilterCall[] {
    const calls: FilterCall[] = []
    while (bare && calls.length === 0 ? true : this.take('operator', '|') !== undefined) {
      const name = this.#dottedName()
      const args = this.#peek().text === '(' && this.#peek().kind === 'operator' ? this.#arguments() : none
      calls.push({ name, args })
    }
    this.end()
    return calls
  }

  /** What is given a value: `name`, `namespace.name`, `a, (b, c)`. */
  target(attributes: boolean): Target {
    const targets: Target[] = []
    let comma: string | undefined
    do {
      if (this.take('operator', '(') !== undefined) {
        targets.push(this.#within(() => this.target(attributes)))
        this.need('operator', ')')
      } else {
        const name = this.need('name')
        if (!attributes || this.take('operator', '.') === undefined) targets.push({ kind: 'name', name })
        else targets.push({ kind: 'attribute', name, attribute: this.need('name') })
      }
      comma = this.take('operator', ',')
    } while (
      comma !== undefined &&
      (this.#peek().kind === 'name' || this.#peek().text === '(') &&
      this.#peek().text !== 'in'
    )
    return targets.length === 1 && comma === undefined ? targets[0]! : { kind: 'several', targets }
  }

  /** `(a, b=1)`: the parameters of a macro. */
  parameters(): { name: string; otherwise?: Expression }[] {
    this.need('operator', '(')
    return this.#items(')', () => {
      const name = this.need('name')
      return this.take('operator', '=') === undefined ? { name } : { name, otherwise: this.expression() }
    })
  }

  /** True when the next token is this operator. */
  at(operator: string): boolean {
    return this.#peek().kind === 'operator' && this.#peek().text === operator
  }
}
