// Filters by regular expressions: Python's, on RE2.
import { expandReplacement, type Found, type PythonRegex, pythonRegex } from '../../python/python-regex.ts'
import { TemplateError, text, truthy } from '../../python/python-values.ts'
import { bind, type CallContext, string, whole } from '../jinja-call.ts'
import type { Filter, Filters } from './filter.ts'

interface Flags {
  readonly ignorecase?: unknown
  readonly multiline?: unknown
}

/** Does something by a pattern. Throws `TemplateError` for a pattern that can't be, and for too much work. */
export function byRegex<Result>(
  pattern: unknown,
  flags: Flags,
  written: string,
  context: Pick<CallContext, 'limits'>,
  act: (regex: PythonRegex) => Result,
): Result {
  const source = string(pattern)
  try {
    const regex = pythonRegex(source, {
      ignoreCase: truthy(flags.ignorecase ?? false),
      multiline: truthy(flags.multiline ?? false),
    })
    context.limits.step(Math.floor((written.length * regex.size) / 8))
    return act(regex)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new TemplateError(`the regular expression "${source}" can't be used: ${error.message}`)
  }
}

/** The most places where a pattern is looked for in one text. */
const mostPlaces = 100_000

function findAll(regex: PythonRegex, written: string, most = mostPlaces + 1): Found[] {
  const all = regex.findAll(written, Math.min(most, mostPlaces + 1))
  if (all.length > mostPlaces) throw new TemplateError('the regular expression is found more than 100,000 times')
  return all
}

const regexReplace: Filter = (value, args, context) => {
  const given = bind(args, 'pattern', 'replacement', 'ignorecase', 'multiline', 'count', 'mandatory_count')
  const written = text(value)
  const [most, needed] = [whole(given.count ?? 0), whole(given.mandatory_count ?? 0)]
  return byRegex(given.pattern ?? '', given, written, context, regex => {
    const replacement = string(given.replacement ?? '')
    const all = findAll(regex, written, most > 0 ? most : undefined)
    if (needed !== 0 && all.length !== needed)
      throw new TemplateError(`"${text(given.pattern)}" is to be found ${needed} times, and is ${all.length} times`)
    const pieces: string[] = []
    let end = 0
    for (const found of all) {
      const piece = expandReplacement(replacement, found)
      context.limits.text(found.start - end + piece.length)
      pieces.push(written.slice(end, found.start), piece)
      end = found.end
    }
    pieces.push(written.slice(end))
    context.limits.text(pieces.reduce((sum, piece) => sum + piece.length, 0))
    return pieces.join('')
  })
}

const regexSearch: Filter = (value, { positional, named }, context) => {
  const [pattern, ...groups] = named.has('regex') ? [named.get('regex'), ...positional] : positional
  const written = text(value)
  return byRegex(
    pattern,
    { ignorecase: named.get('ignorecase'), multiline: named.get('multiline') },
    written,
    context,
    regex => {
      const wanted = groups.map(group => {
        const name = /^\\g<(\S+)>/.exec(string(group))?.[1] ?? /^\\(\d+)/.exec(string(group))?.[1]
        if (name === undefined) throw new TemplateError(`"${text(group)}" names no group of a pattern`)
        return name
      })
      const found = regex.search(written)
      if (!found) return null
      if (wanted.length === 0) return found.groups[0]
      return wanted.map(name => {
        const index = /^\d+$/.test(name)
          ? Number(name)
          : Object.hasOwn(found.names, name)
            ? found.names[name]!
            : found.groups.length
        if (index >= found.groups.length) throw new TemplateError(`the pattern has no group "${name}"`)
        return found.groups[index] ?? null
      })
    },
  )
}

const regexFindAll: Filter = (value, args, context) => {
  const given = bind(args, 'regex', 'multiline', 'ignorecase')
  const written = text(value)
  return byRegex(given.regex, given, written, context, regex => {
    const all = findAll(regex, written)
    return all.map(({ groups }) => {
      if (groups.length === 1) return groups[0]
      return groups.length === 2 ? (groups[1] ?? '') : groups.slice(1).map(group => group ?? '')
    })
  })
}

const regexEscape: Filter = (value, args) => {
  const { re_type = 'python' } = bind(args, 're_type')
  if (re_type === 'python') return text(value).replace(/[-[\]{}()*+?.\\^$|#&~\s]/g, '\\$&')
  if (re_type === 'posix_basic') return text(value).replace(/[\][.^$*\\]/g, '\\$&')
  throw new TemplateError('"regex_escape" knows "python" and "posix_basic"')
}

export const regexes: Filters = {
  regex_escape: regexEscape,
  regex_findall: regexFindAll,
  regex_replace: regexReplace,
  regex_search: regexSearch,
}
