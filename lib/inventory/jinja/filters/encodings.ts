// Filters to and from other notations: JSON, YAML, base64, hashes, UUIDs, addresses of the web.
import { createHash, getHashes } from 'node:crypto'
import { jsonText } from '../../python/python-json.ts'
import { iterate, PythonObject, TemplateError, text, truthy } from '../../python/python-values.ts'
import { Dict, EncryptedText, isMapping, UnsafeText, type Value } from '../../values.ts'
import { createVault } from '../../vault/vault.ts'
import { parseDocuments } from '../../yaml/document.ts'
import { dumpYaml } from '../../yaml/dump.ts'
import { parseJson } from '../../yaml/json.ts'
import { toValue } from '../../yaml/node.ts'
import { absent, bind, type CallContext, list, mostText, string, whole } from '../jinja-call.ts'
import { type Filter, type Filters, refuse } from './filter.ts'

const noVault = createVault([])

/** JSON of a value, as Python's `json.dumps` writes it. */
function toJson(value: unknown, given: Readonly<Record<string, unknown>>, { limits }: CallContext): string {
  if (value instanceof PythonObject) throw new TemplateError(`a ${value.type} is no data`)
  const indent = given['indent']
  const written = jsonText(value as Value, {
    indent: absent(indent) ? undefined : Math.min(whole(indent), 1000),
    sortKeys: truthy(given['sort_keys'] ?? false),
    ascii: truthy(given['ensure_ascii'] ?? true),
    separators: absent(given['separators']) ? undefined : separatorsOf(given['separators']),
    most: mostText,
  })
  limits.text(written.length)
  return written
}

function separatorsOf(given: unknown): readonly [string, string] {
  const [comma, colon] = list(given)
  return [string(comma), string(colon)]
}

const jsonOptions = ['indent', 'sort_keys', 'ensure_ascii', 'separators'] as const

const fromJson: Filter = value => {
  const written = string(value)
  try {
    return untagged(parseJson(written, 'the text', noVault))
  } catch (error) {
    throw new TemplateError(`"from_json" can't read it: ${(error as Error).message}`)
  }
}

/** What a text was read to: neither filter takes the tags and marks of Ansible's own. */
function untagged(value: Value): unknown {
  if (value instanceof UnsafeText || value instanceof EncryptedText)
    throw new Error('it marks a string as encrypted or unsafe')
  if (Array.isArray(value)) return value.map(untagged)
  return isMapping(value) ? Dict.of(value.entries().map(([key, item]) => [key, untagged(item)])) : value
}

function documents(written: string, filter: string): unknown[] {
  try {
    return parseDocuments(written, { file: 'the text', vault: noVault, notice() {} }).map(node =>
      untagged(toValue(node)),
    )
  } catch (error) {
    throw new TemplateError(`"${filter}" can't read it: ${(error as Error).message}`)
  }
}

const fromYaml: Filter = value => {
  if (typeof value !== 'string') return value
  const [first = null, ...others] = documents(value, 'from_yaml')
  if (others.length > 0) throw new TemplateError('"from_yaml" reads one document; "from_yaml_all" reads several')
  return first
}

const toYaml =
  (otherwise: { indent: number; flow?: boolean }): Filter =>
  (value, args, { limits }) => {
    const names = ['indent', 'width', 'sort_keys', 'default_flow_style', 'explicit_start', 'explicit_end'] as const
    const given = bind({ positional: [], named: args.named }, ...names)
    const [indent, width] = [
      whole(given.indent ?? args.positional[0] ?? otherwise.indent),
      absent(given.width) ? 80 : whole(given.width),
    ]
    const steps = indent >= 2 && indent <= 9 ? indent : 2
    const flow = given.default_flow_style === undefined ? otherwise.flow : given.default_flow_style
    return dumpYaml(value, {
      indent: steps,
      width: width < 0 ? Number.POSITIVE_INFINITY : width <= steps * 2 ? 80 : width,
      flow: absent(flow) ? undefined : truthy(flow),
      sortKeys: truthy(given.sort_keys ?? true),
      explicitStart: truthy(given.explicit_start ?? false),
      explicitEnd: truthy(given.explicit_end ?? false),
      count: length => limits.text(length),
    })
  }

const encodings: Readonly<Record<string, BufferEncoding>> = {
  'utf-8': 'utf8',
  utf8: 'utf8',
  'utf-16-le': 'utf16le',
  'utf-16le': 'utf16le',
  utf16le: 'utf16le',
  'latin-1': 'latin1',
  latin1: 'latin1',
  'iso-8859-1': 'latin1',
}

function encodingOf(given: unknown): BufferEncoding {
  const name = string(given ?? 'utf-8')
    .toLowerCase()
    .replaceAll('_', '-')
  const encoding = Object.hasOwn(encodings, name) ? encodings[name] : undefined
  if (!encoding) throw new TemplateError(`the encoding "${name}" is not one that rekey has`)
  return encoding
}

const b64decode: Filter = (value, args) => {
  const { encoding, urlsafe = false } = bind(args, 'encoding', 'urlsafe')
  const written = truthy(urlsafe) ? string(value).replaceAll('-', '+').replaceAll('_', '/') : string(value)
  const [, digits = '', padding = ''] = /^([^=]*)(=*)/.exec(written.replace(/[^A-Za-z0-9+/=]/g, ''))!
  if (
    digits.length % 4 === 1 ||
    (digits.length % 4 !== 0 && digits.length + padding.length < Math.ceil(digits.length / 4) * 4)
  )
    throw new TemplateError('"b64decode": the padding is not right')
  return Buffer.from(digits, 'base64').toString(encodingOf(encoding))
}

const b64encode: Filter = (value, args) => {
  const { encoding, urlsafe = false } = bind(args, 'encoding', 'urlsafe')
  const written = Buffer.from(text(value), encodingOf(encoding)).toString('base64')
  return truthy(urlsafe) ? written.replaceAll('+', '-').replaceAll('/', '_') : written
}

const otherNames: Readonly<Record<string, string>> = { blake2b: 'blake2b512', blake2s: 'blake2s256' }

function digest(value: unknown, algorithm: unknown): string {
  const given = string(algorithm)
  const name = otherNames[given] ?? given.replace('_', '-')
  if (!/^(md5|sha1|sha(224|256|384|512)|sha3-\d+|blake2[bs]\d+)$/.test(name) || !getHashes().includes(name))
    throw new TemplateError(`the hash "${given}" is not one that rekey has`)
  return createHash(name).update(text(value)).digest('hex')
}

const ansibleNamespace = '361e6d51-faec-444a-9079-341386da8e2e'

const toUuid: Filter = (value, args) => {
  const { namespace = ansibleNamespace } = bind(args, 'namespace')
  const space = text(namespace).replace(/^urn:uuid:|[{}-]/g, '')
  if (!/^[\da-f]{32}$/i.test(space)) throw new TemplateError(`the namespace "${text(namespace)}" is no UUID`)
  const bytes = createHash('sha1').update(Buffer.from(space, 'hex')).update(text(value)).digest().subarray(0, 16)
  bytes[6] = (bytes[6]! & 0x0f) | 0x50
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

function urlQuoted(written: string, safe: string): string {
  return [...Buffer.from(written)]
    .map(byte => {
      const character = String.fromCharCode(byte)
      return /[A-Za-z0-9_.~-]/.test(character) || safe.includes(character)
        ? character
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')
}

const urlencode: Filter = value => {
  if (typeof value === 'string' || (!Array.isArray(value) && !isMapping(value))) return urlQuoted(text(value), '/')
  const pairs = isMapping(value) ? value.entries() : value.map(pair => iterate(pair))
  const field = (one: unknown): string => urlQuoted(text(one), '').replaceAll('%20', '+')
  return pairs.map(([name, one]) => `${field(name)}=${field(one)}`).join('&')
}

function urldecode(value: unknown): string {
  return string(value)
    .replaceAll('+', ' ')
    .replace(/(?:%[\da-fA-F]{2})+/g, bytes => Buffer.from(bytes.replaceAll('%', ''), 'hex').toString())
}

const urlsplit: Filter = (value, args) => {
  const { query: wanted = '' } = bind(args, 'query')
  const written = string(value)
    .replace(/^[\x00-\x20]+/, '')
    .replace(/[\t\r\n]/g, '')
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(written)?.[1]
  const rest = scheme === undefined ? written : written.slice(scheme.length + 1)
  const [, , netloc = '', path = '', , query = '', , fragment = ''] =
    /^(\/\/([^/?#]*))?([^?#]*)(\?([^#]*))?(#(.*))?$/s.exec(rest)!
  const at = netloc.lastIndexOf('@')
  const [user, password] = at === -1 ? [null, null] : splitOnce(netloc.slice(0, at), ':')
  const place = netloc.slice(at + 1)
  const [, bracketed, plainHost, port] = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/s.exec(place) ?? []
  if (port !== undefined && !/^\d*$/.test(port)) throw new TemplateError(`"urlsplit": the port "${port}" is no number`)
  const host = bracketed ?? plainHost ?? ''
  const parts: Readonly<Record<string, unknown>> = {
    fragment,
    hostname: host === '' ? null : host.toLowerCase(),
    netloc,
    password,
    path,
    port: port === undefined || port === '' ? null : Number(port),
    query,
    scheme: (scheme ?? '').toLowerCase(),
    username: user,
  }
  if (wanted === '') return Dict.of(Object.entries(parts))
  if (!Object.hasOwn(parts, string(wanted))) throw new TemplateError(`"urlsplit" has no part "${text(wanted)}"`)
  return parts[string(wanted)]
}

function splitOnce(written: string, separator: string): [string, string | null] {
  const at = written.indexOf(separator)
  return at === -1 ? [written, null] : [written.slice(0, at), written.slice(at + separator.length)]
}

const hashOf =
  (algorithm: string) =>
  (value: unknown): string =>
    digest(value, algorithm)

const withVault = refuse("is not one that rekey has: ansible-vault's own values are read as they are")

export const notations: Filters = {
  b64decode,
  b64encode,
  checksum: hashOf('sha1'),
  from_json: fromJson,
  from_yaml: fromYaml,
  from_yaml_all: value => (typeof value === 'string' ? documents(value, 'from_yaml_all') : absent(value) ? [] : value),
  hash: (value, args) => digest(value, bind(args, 'hashtype').hashtype ?? 'sha1'),
  md5: hashOf('md5'),
  password_hash: refuse('makes a new salt at every run, and so is refused'),
  sha1: hashOf('sha1'),
  to_json: (value, args, context) => toJson(value, bind(args, ...jsonOptions), context),
  to_nice_json: (value, args, context) =>
    toJson(value, { indent: 4, sort_keys: true, ...bind(args, 'indent', 'sort_keys', 'ensure_ascii') }, context),
  tojson: (value, args, context) =>
    toJson(value, { ...bind(args, 'indent'), sort_keys: true }, context).replace(
      /[<>&']/g,
      character => `\\u00${character.charCodeAt(0).toString(16)}`,
    ),
  to_nice_yaml: toYaml({ indent: 4, flow: false }),
  to_uuid: toUuid,
  to_yaml: toYaml({ indent: 2 }),
  unvault: withVault,
  urldecode,
  urlencode,
  urlsplit,
  vault: withVault,
}
