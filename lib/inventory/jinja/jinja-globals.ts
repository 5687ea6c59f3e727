// The functions that templates have without a variable of that name: range, dict, namespace, cycler, joiner, undef.
import { asKey, iterate, pythonType, TemplateError, text, toNumber } from '../python/python-values.ts'
import { Dict, isMapping } from '../values.ts'
import { bind, type CallArguments, type Limits, mostMembers } from './jinja-call.ts'
import { Attributed, Callable, missing, Namespace } from './jinja-frame.ts'

/** Each makes its function, for an evaluation of these limits. */
export const globals: Readonly<Record<string, ((limits: Limits) => Callable) | undefined>> = {
  range: limits => new Callable(args => range(args, limits)),
  dict: () => new Callable(args => toDict(args)),
  namespace: () =>
    new Callable(
      args =>
        new Namespace(
          new Map(
            toDict(args)
              .entries()
              .map(([key, one]) => [text(key), one]),
          ),
        ),
    ),
  cycler: () => new Callable(cycler),
  joiner: () => new Callable(joiner),
  undef: () =>
    new Callable(args => {
      const { hint } = bind(args, 'hint')
      return missing(hint === undefined || hint === null ? 'a variable that must be set is not' : text(hint))
    }),
}

function range({ positional, named }: CallArguments, limits: Limits): number[] {
  const [first = 0, second, step = 1] = positional.map(toNumber)
  const [from, to] = positional.length === 1 ? [0, first] : [first, second]
  if (named.size > 0 || to === undefined || !step || ![from, to, step].every(Number.isInteger))
    throw new TemplateError('range() takes whole numbers')
  const length = Math.max(0, Math.ceil((to - from) / step))
  if (length > mostMembers) throw new TemplateError('range() of more than a million')
  limits.members(length)
  return Array.from({ length }, (_, index) => from + index * step)
}

/** Python's `dict()`: of a map, of pairs, of names. */
function toDict({ positional, named }: CallArguments): Dict {
  const [given = new Dict(), ...others] = positional
  if (others.length > 0) throw new TemplateError('takes one value and names here')
  const result = new Dict()
  if (isMapping(given)) for (const [key, one] of given.entries()) result.set(key, one)
  else {
    for (const pair of iterate(given)) {
      const parts = Array.isArray(pair) || typeof pair === 'string' ? iterate(pair) : []
      if (parts.length !== 2) throw new TemplateError(`a ${pythonType(pair)} is no key with its value`)
      result.set(asKey(parts[0]), parts[1])
    }
  }
  for (const [name, one] of named) result.set(name, one)
  return result
}

function cycler({ positional, named }: CallArguments): Attributed {
  if (positional.length === 0 || named.size > 0) throw new TemplateError('cycler() takes one value at least')
  let at = 0
  return new Attributed('Cycler', name => {
    if (name === 'current') return positional[at]
    if (name === 'reset')
      return new Callable(() => {
        at = 0
        return null
      })
    if (name !== 'next') return undefined
    return new Callable(() => {
      const current = positional[at]
      at = (at + 1) % positional.length
      return current
    })
  })
}

function joiner(args: CallArguments): Callable {
  const { sep = ', ' } = bind(args, 'sep')
  let used = false
  return new Callable(() => {
    const said = used ? sep : ''
    used = true
    return said
  })
}
