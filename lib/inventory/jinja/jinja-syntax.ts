// What templates are made of, once they are parsed.

/** An expression. */
export type Expression =
  | { readonly kind: 'literal'; readonly value: string | number | bigint | boolean | null }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'list'; readonly items: readonly Expression[]; readonly tuple?: boolean }
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
  /** `*list` and `**map`. */
  readonly rest?: Expression
  readonly restNamed?: Expression
}

/** What `set`, `for` and `with` give values to: names, `namespace.name`, or several with commas between them. */
export type Target =
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'attribute'; readonly name: string; readonly attribute: string }
  | { readonly kind: 'several'; readonly targets: readonly Target[] }

/** A part of a template. */
export type Statement =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'output'; readonly expression: Expression }
  | { readonly kind: 'if'; readonly branches: readonly Branch[]; readonly otherwise: readonly Statement[] }
  | {
      readonly kind: 'for'
      readonly target: Target
      readonly over: Expression
      readonly where?: Expression
      readonly recursive: boolean
      readonly body: readonly Statement[]
      readonly otherwise: readonly Statement[]
    }
  | { readonly kind: 'set'; readonly target: Target; readonly value: Expression }
  | {
      readonly kind: 'set-block'
      readonly target: Target
      readonly filters: readonly FilterCall[]
      readonly body: readonly Statement[]
    }
  | {
      readonly kind: 'with'
      readonly values: readonly (readonly [Target, Expression])[]
      readonly body: readonly Statement[]
    }
  | { readonly kind: 'filter-block'; readonly filters: readonly FilterCall[]; readonly body: readonly Statement[] }
  | { readonly kind: 'macro'; readonly macro: MacroSource }
  | { readonly kind: 'call-block'; readonly call: Expression; readonly caller: MacroSource }
export interface Branch {
  readonly test: Expression
  readonly body: readonly Statement[]
}
export interface FilterCall {
  readonly name: string
  readonly args: Arguments
}
export interface MacroSource {
  readonly name: string
  readonly parameters: readonly { readonly name: string; readonly otherwise?: Expression }[]
  readonly body: readonly Statement[]
}
