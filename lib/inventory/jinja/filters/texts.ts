// Filters over texts: case, fields, cutting, what is written for people and for the shell.
import { formatPercent } from '../../python/python-format.ts'
import { repr, TemplateError, text, truthy } from '../../python/python-values.ts'
import { Dict } from '../../values.ts'
import { absent, bind, string, whole } from '../jinja-call.ts'
import { capitalized, padded, replaceText, split, strip } from '../jinja-methods.ts'
import { type Filter, type Filters, refuse } from './filter.ts'

const indent: Filter = (value, args, { limits }) => {
  const { width = 4, first = false, blank = false } = bind(args, 'width', 'first', 'blank')
  if (typeof width !== 'string') limits.text(whole(width))
  const space = typeof width === 'string' ? width : ' '.repeat(Math.max(0, whole(width)))
  const lines = text(value).split('\n')
  limits.text(lines.length * (space.length + 1) + text(value).length)
  return lines
    .map((line, index) => ((index === 0 ? truthy(first) : line !== '' || truthy(blank)) ? space + line : line))
    .join('\n')
}

/** Jinja's own rule: words start behind white space, dashes and opening brackets. */
const title: Filter = value =>
  text(value)
    .split(/([-\s({[<]+)/u)
    .map(word => word.slice(0, 1).toUpperCase() + word.slice(1).toLowerCase())
    .join('')

const truncate: Filter = (value, args) => {
  const given = bind(args, 'length', 'killwords', 'end', 'leeway')
  const [end, leeway] = [string(given.end ?? '...'), whole(given.leeway ?? 5)]
  const most = whole(given.length ?? 255)
  const characters = [...text(value)]
  if (most < end.length || leeway < 0) throw new TemplateError(`"truncate" leaves ${end.length} characters at least`)
  if (characters.length <= most + leeway) return text(value)
  const cut = characters.slice(0, most - end.length).join('')
  const space = cut.lastIndexOf(' ')
  return (truthy(given.killwords ?? false) || space === -1 ? cut : cut.slice(0, space)) + end
}

const styles: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  plain: { decoration: '# ' },
  erlang: { decoration: '% ' },
  c: { decoration: '// ' },
  cblock: { beginning: '/*', decoration: ' * ', end: ' */' },
  xml: { beginning: '<!--', decoration: ' - ', end: '-->' },
}

/** A comment of a language, as Ansible writes it. */
const comment: Filter = (value, { positional, named }, { limits }) => {
  const { style = 'plain' } = bind({ positional, named: new Map() }, 'style')
  const name = string(named.get('style') ?? style)
  const known = Object.hasOwn(styles, name) ? styles[name]! : undefined
  if (!known) throw new TemplateError(`"comment" has the styles ${Object.keys(styles).join(', ')}`)
  const given = bind(
    { positional: [], named: new Map([...named].filter(([key]) => key !== 'style')) },
    ...(['newline', 'beginning', 'prefix', 'prefix_count', 'decoration', 'postfix', 'postfix_count', 'end'] as const),
  )
  const bare = strip(string(given.decoration ?? known['decoration']), null, false, true)
  const part = (key: keyof typeof given, otherwise: string): string => string(given[key] ?? known[key] ?? otherwise)
  const [newline, decoration] = [part('newline', '\n'), part('decoration', '')]
  const times = (key: 'prefix_count' | 'postfix_count'): number => {
    const count = Math.max(0, whole(given[key] ?? 1))
    limits.text(count * (bare.length + newline.length))
    return count
  }
  const [beginning, end, prefix, postfix] = [
    part('beginning', ''),
    part('end', ''),
    part('prefix', bare),
    part('postfix', bare),
  ]
  const decorated =
    decoration +
    string(value)
      .split(newline)
      .join(newline + decoration)
  return [
    beginning === '' ? '' : beginning + newline,
    prefix === '' ? '' : (prefix === newline ? newline : prefix + newline).repeat(times('prefix_count')),
    decorated.split(decoration + newline).join(strip(decoration, null, false, true) + newline),
    (newline + postfix).repeat(times('postfix_count')),
    end === '' ? '' : newline + end,
  ].join('')
}

const quote: Filter = value => {
  const written = value === null ? '' : text(value)
  if (written === '') return "''"
  return /^[\w@%+=:,./-]+$/.test(written) && !/[^\x00-\x7f]/.test(written)
    ? written
    : `'${written.replaceAll("'", `'"'"'`)}'`
}

const escapeHtml: Filter = value =>
  text(value)
    .replaceAll('&', '&amp;')
    .replaceAll('>', '&gt;')
    .replaceAll('<', '&lt;')
    .replaceAll("'", '&#39;')
    .replaceAll('"', '&#34;')

const html = refuse('makes HTML, and is not one that rekey has')

export const texts: Filters = {
  capitalize: value => capitalized(text(value)),
  center: (value, args, { limits }) => padded(text(value), whole(bind(args, 'width').width ?? 80), ' ', 'both', limits),
  comment,
  e: escapeHtml,
  escape: escapeHtml,
  forceescape: escapeHtml,
  format: (value, { positional, named }, { limits }) => {
    if (positional.length > 0 && named.size > 0)
      throw new TemplateError('"format" takes values, or values with names, not both')
    const formatted = formatPercent(string(value), named.size > 0 ? [Dict.of(named)] : positional)
    limits.text(formatted.length)
    return formatted
  },
  indent,
  lower: value => text(value).toLowerCase(),
  pprint: value => {
    const printed = repr(value)
    if (printed.length > 80) throw new TemplateError('"pprint" of more than 80 characters is not one that rekey has')
    return printed
  },
  quote,
  replace: (value, args, { limits }) => {
    const { old, new: to, count } = bind(args, 'old', 'new', 'count')
    return replaceText(text(value), text(old), text(to), absent(count) ? -1 : whole(count), limits)
  },
  safe: value => text(value),
  split: (value, args) => {
    const { sep, maxsplit } = bind(args, 'sep', 'maxsplit')
    return split(string(value), sep, maxsplit ?? -1)
  },
  string: value => text(value),
  striptags: html,
  title,
  trim: (value, args) => strip(text(value), bind(args, 'chars').chars, true, true),
  truncate,
  upper: value => text(value).toUpperCase(),
  urlize: html,
  wordcount: value => (text(value).match(/[\p{L}\p{N}_]+/gu) ?? []).length,
  wordwrap: refuse('is not one that rekey has: it breaks lines by rules of its own'),
  xmlattr: html,
}
