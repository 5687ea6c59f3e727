// Sprig's urlParse and urlJoin: Go's net/url, which keeps what it does not understand.
import { type GoFunction, type GoMap, type GoValue, isMap, kindOf } from './values.ts'

const hex = (byte: string) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`

/** Bytes that are escaped within a part, beside those that always are. */
const escaped = (bytes: string, kept: RegExp) => bytes.replaceAll(/[\s\S]/g, one => (kept.test(one) ? one : hex(one)))

function unescaped(text: string): string {
  if (/%(?![0-9a-fA-F]{2})/.test(text)) throw new Error('the URL has an escape that is none')
  return text.replaceAll(/%([0-9a-fA-F]{2})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 16)))
}

const inPath = /[A-Za-z0-9\-_.~$&+,/:;=@]/
const inFragment = /[A-Za-z0-9\-_.~$&+,/:;=?@!()*]/
const inUser = /[A-Za-z0-9\-_.~$&+,;=]/

/** The parts of a URL, unescaped as Go has them. Throws an Error for what Go refuses. */
function parse(url: string): GoMap {
  if (/[\x00-\x1f\x7f]/.test(url)) throw new Error('the URL has a control character in it')
  const [beforeFragment, fragment] = cut(url, '#')
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(beforeFragment)?.[1]
  if (beforeFragment.startsWith(':')) throw new Error('the URL has no scheme before its colon')
  const [rest, query] = cut(scheme === undefined ? beforeFragment : beforeFragment.slice(scheme.length + 1), '?')
  const parts = { scheme: scheme?.toLowerCase() ?? '', query: query ?? '', fragment: unescaped(fragment ?? '') }
  const plain = { host: '', hostname: '', path: '', opaque: '', userinfo: '' }
  const all = (own: Partial<typeof plain>): GoMap =>
    new Map<string, GoValue>(Object.entries({ ...parts, ...plain, ...own }))
  if (scheme !== undefined && rest !== '' && !rest.startsWith('/')) return all({ opaque: rest })
  if (scheme === undefined && !rest.startsWith('/') && rest.split('/')[0]!.includes(':')) {
    throw new Error('the first part of its path has a colon in it')
  }
  if (!rest.startsWith('//') || (scheme === undefined && rest.startsWith('///'))) return all({ path: unescaped(rest) })
  const [, authority = '', path = ''] = /^\/\/([^/]*)(.*)$/s.exec(rest)!
  const at = authority.lastIndexOf('@')
  const host = unescaped(authority.slice(at + 1))
  const [, hostname = '', port] = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s.exec(host) ?? []
  if (port !== undefined && !/^\d*$/.test(port)) throw new Error('the port of the URL is no number')
  const userinfo = at < 0 ? '' : userText(authority.slice(0, at))
  return all({ host, hostname: hostname.replaceAll(/^\[|\]$/g, ''), path: unescaped(path), userinfo })
}

/** A name and perhaps a password, escaped anew. */
function userText(raw: string): string {
  const [name, password] = cut(raw, ':')
  const written = escaped(unescaped(name), inUser)
  return password === undefined ? written : `${written}:${escaped(unescaped(password), inUser)}`
}

function cut(text: string, at: string): [string, string | undefined] {
  const place = text.indexOf(at)
  return place < 0 ? [text, undefined] : [text.slice(0, place), text.slice(place + 1)]
}

function join(map: GoMap): string {
  const part = (name: string) => {
    const value = map.get(name) ?? ''
    if (typeof value !== 'string') throw new Error(`the ${name} must be a string, and is ${kindOf(value)}`)
    return value
  }
  const [scheme, host, path, query, opaque, fragment] = ['scheme', 'host', 'path', 'query', 'opaque', 'fragment'].map(
    part,
  )
  const user = part('userinfo')
  const tail = `${query ? `?${query}` : ''}${fragment ? `#${escaped(fragment, inFragment)}` : ''}`
  const head = scheme ? `${scheme}:` : ''
  if (opaque) return `${head}${opaque}${tail}`
  const authority = `${user ? `${userText(user)}@` : ''}${escaped(host!, /[A-Za-z0-9\-_.~!$&'()*+,;=:[\]<>"]/)}`
  const written = escaped(path!, inPath)
  const slashes = authority || (scheme && path!.startsWith('//')) ? '//' : ''
  const between = authority && written !== '' && !written.startsWith('/') ? '/' : ''
  const dotted = !head && !slashes && /^[^/]*:/.test(written) ? './' : ''
  return `${head}${slashes}${authority}${between}${dotted}${written}${tail}`
}

/** By their names without `sprig_`. */
export const urlFunctions: Readonly<Record<string, GoFunction>> = {
  urlParse: url => {
    if (typeof url !== 'string') throw new Error('needs a string')
    return parse(url)
  },
  urlJoin: map => {
    if (map === undefined || !isMap(map)) throw new Error('needs a dict')
    return join(map)
  },
}
