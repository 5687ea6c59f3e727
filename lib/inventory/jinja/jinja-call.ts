// How filters, tests and methods of templates are called.

/** Arguments of a filter, test or method, evaluated. */
export interface CallArguments {
  readonly positional: readonly unknown[]
  readonly named: ReadonlyMap<string, unknown>
}

/** What a filter or test may call back. */
export interface CallContext {
  filter(name: string, value: unknown, args: CallArguments): unknown
  test(name: string, value: unknown, args: CallArguments): boolean
  /** An attribute or element, `undefined` when there is none. */
  item(target: unknown, key: unknown): unknown
}
