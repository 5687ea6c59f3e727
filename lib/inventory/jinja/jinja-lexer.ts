// Cuts templates into text and tags, and tags into tokens, by Jinja's own rules and those that a template's header sets.
import { pythonLiteral, stringEscapes } from '../python/python-literal.ts'

/** How tags look and what becomes of the white space around them: what the first line of a template, `#jinja2: …`, may set. */
export interface TemplateOptions {
  readonly block_start_string: string
  readonly block_end_string: string
  readonly variable_start_string: string
  readonly variable_end_string: string
  readonly comment_start_string: string
  readonly comment_end_string: string
  /** Whether the line break right behind a block goes with it. */
  readonly trim_blocks: boolean
  /** Whether the blanks before a block at the begin of a line go with it. */
  readonly lstrip_blocks: boolean
  readonly newline_sequence: string
  readonly keep_trailing_newline: boolean
}

/** As Ansible has them. */
export const defaultOptions: TemplateOptions = {
  block_start_string: '{%',
  block_end_string: '%}',
  variable_start_string: '{{',
  variable_end_string: '}}',
  comment_start_string: '{#',
  comment_end_string: '#}',
  trim_blocks: true,
  lstrip_blocks: false,
  newline_sequence: '\n',
  keep_trailing_newline: false,
}

const header = '#jinja2:'

/** True when a text has anything that Jinja would act on. */
export function isTemplate(text: string): boolean {
  const brace = text.indexOf('{')
  return (brace !== -1 && /\{[{%#]/.test(text.slice(brace))) || text.startsWith(header)
}

/** A template without its header, and the options that this sets. Throws `SyntaxError` for a header that can't be read. */
export function readHeader(source: string, given: TemplateOptions = defaultOptions): [string, TemplateOptions] {
  if (!source.startsWith(header)) return [source, given]
  const end = source.indexOf('\n')
  if (end === -1) throw new SyntaxError(`a line break is missing behind ${header}`)
  const options: Record<string, unknown> = { ...given }
  for (const pair of source.slice(header.length, end).split(',')) {
    const colon = pair.indexOf(':')
    if (colon === -1) throw new SyntaxError(`"${pair.trim()}" in the line ${header} is no "name: value"`)
    const [name, value] = [pair.slice(0, colon).trim(), pythonLiteral(pair.slice(colon + 1).trim())]
    if (/^line_(statement|comment)_prefix$/.test(name) && value !== null)
      throw new SyntaxError(`"${name}" in the line ${header} is not one that rekey has`)
    if (!Object.hasOwn(options, name)) throw new SyntaxError(`"${name}" in the line ${header} is not known`)
    options[name] = value
  }
  return [source.slice(end + 1), checkOptions(options as unknown as TemplateOptions)]
}

/** The same options, if they are ones that can be. Throws `SyntaxError` otherwise. */
export function checkOptions(options: TemplateOptions): TemplateOptions {
  for (const [name, value] of Object.entries(options)) {
    const wanted = typeof defaultOptions[name as keyof TemplateOptions]
    if (typeof value !== wanted || value === '') throw new SyntaxError(`"${name}" must be a ${wanted}`)
  }
  if (!['\n', '\r\n', '\r'].includes(options.newline_sequence))
    throw new SyntaxError('"newline_sequence" must be a line break')
  const { block_start_string, variable_start_string, comment_start_string } = options
  if (new Set([block_start_string, variable_start_string, comment_start_string]).size < 3)
    throw new SyntaxError('blocks, variables and comments must begin differently')
  return options
}

export type Piece = { readonly kind: 'text' | 'output' | 'block'; readonly text: string }

const escapeRegex = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')

/** Cuts a template into text, `{{ … }}` and `{% … %}`. Throws `SyntaxError` for what is not closed. */
export function splitTemplate(source: string, options: TemplateOptions = defaultOptions): Piece[] {
  const marks = (['block', 'variable', 'comment'] as const)
    .map(kind => ({ kind, start: options[`${kind}_start_string`], end: options[`${kind}_end_string`] }))
    .sort((one, other) => other.start.length - one.start.length)
  const opening = new RegExp(`(${marks.map(({ start }) => escapeRegex(start)).join('|')})([-+]?)`, 'g')
  const [blockStart, blockEnd] = [escapeRegex(options.block_start_string), escapeRegex(options.block_end_string)]
  const endOfRaw = new RegExp(`${blockStart}([-+]?)\\s*endraw\\s*([-+]?)${blockEnd}`, 'g')
  const pieces: Piece[] = []
  let trimNext = false
  let rest = 0
  const text = (end: number, sign: string, block: boolean): void => {
    let part = source.slice(rest, end)
    if (trimNext) part = part.trimStart()
    if (sign === '-') part = part.trimEnd()
    else if (block && options.lstrip_blocks && sign !== '+') {
      const line = part.lastIndexOf('\n') + 1
      const begins = line > 0 || rest === 0 || source[rest - 1] === '\n'
      if (begins && part.slice(line).trim() === '') part = part.slice(0, line)
    }
    if (part !== '') pieces.push({ kind: 'text', text: part })
  }
  for (let match = opening.exec(source); match; match = opening.exec(source)) {
    const [whole, start, sign = ''] = match
    const { kind, end: close } = marks.find(mark => mark.start === start)!
    text(match.index, sign, kind !== 'variable')
    const end = findEnd(source, match.index + whole.length, start!, close, kind === 'comment')
    const trimmed = source[end - 1] === '-'
    const kept = source[end - 1] === '+' && kind !== 'variable'
    const inner = source.slice(match.index + whole.length, trimmed || kept ? end - 1 : end)
    rest = end + close.length
    trimNext = trimmed
    const skipBreak = (keep: boolean): void => {
      if (options.trim_blocks && !keep && source[rest] === '\n') rest++
    }
    if (kind === 'variable') pieces.push({ kind: 'output', text: inner })
    else if (kind === 'block' && inner.trim() === 'raw') {
      endOfRaw.lastIndex = rest
      const stop = endOfRaw.exec(source)
      if (!stop) throw new SyntaxError('{% raw %} without {% endraw %}')
      text(stop.index, stop[1]!, true)
      rest = stop.index + stop[0].length
      trimNext = stop[2] === '-'
      skipBreak(stop[2] !== '')
    } else {
      if (kind === 'block') pieces.push({ kind: 'block', text: inner })
      skipBreak(trimmed || kept)
    }
    opening.lastIndex = rest
  }
  text(source.length, '', false)
  return pieces
}

/** Where a `}}` or `%}` stands that is not within a string or a map. */
function findEnd(source: string, from: number, open: string, close: string, comment: boolean): number {
  let quote = ''
  let depth = 0
  const index = comment ? source.indexOf(close, from) : from
  if (comment && index !== -1) return index
  for (let at = comment ? source.length : from; at < source.length; at++) {
    const character = source[at]!
    if (quote !== '') {
      if (character === '\\') at++
      else if (character === quote) quote = ''
    } else if (character === '"' || character === "'") quote = character
    else if (depth === 0 && source.startsWith(close, at)) return at
    else if ('([{'.includes(character)) depth++
    else if (')]}'.includes(character)) depth--
  }
  throw new SyntaxError(`"${open}" is not closed with "${close}"`)
}

export type Token = {
  readonly kind: 'name' | 'string' | 'integer' | 'float' | 'operator' | 'end'
  readonly text: string
}

const tokenPattern =
  /\s+|([\p{L}_][\p{L}\p{N}_]*)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(\d+(?:_\d+)*(?:(?:\.\d+(?:_\d+)*)(?:[eE][-+]?\d+(?:_\d+)*)?|[eE][-+]?\d+(?:_\d+)*))|(0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[\da-fA-F])+|[1-9](?:_?\d)*|0(?:_?0)*)|(\/\/|\*\*|==|!=|>=|<=|[-+*/%~[\](){}<>=.:|,])/suy

/** The tokens of a tag; `decode` where backslashes in its strings mean anything. Throws `SyntaxError`. */
export function tokenize(source: string, decode: boolean): Token[] {
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
    else if (integer !== undefined) {
      // Python reads no longer ones, either.
      if (integer.length > 4300) throw new SyntaxError('a number has more than 4,300 digits')
      tokens.push({ kind: 'integer', text: integer.replaceAll('_', '') })
    } else if (operator !== undefined) tokens.push({ kind: 'operator', text: operator })
  }
  return tokens
}

/** A string literal's escapes: Python's; an unknown one stays as it is, backslash and all. */
function decodeEscapes(text: string): string {
  return text.replace(
    /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|(.))/gs,
    (whole, x, u, U, octal, single: string | undefined) => {
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8))
      if (single === undefined) {
        const code = Number.parseInt(x ?? u ?? U, 16)
        if (code > 0x10ffff) throw new SyntaxError(`the escape ${whole} is no character`)
        return String.fromCodePoint(code)
      }
      if ('xuUN'.includes(single)) throw new SyntaxError(`the escape ${whole} is not understood`)
      return stringEscapes[single] ?? whole
    },
  )
}
