// consul-template's functions, but those that ask a Consul or Nomad server.
import { createHash, createHmac } from 'node:crypto'
import { RekeyError } from '../errors.ts'
import { decodeBase64, parseJson, writeJson, writeToml, writeYaml } from './encodings.ts'
import { regexMatches, regexReplaceAll } from './regex.ts'
import { evaluateSockaddr, type MachineInterfaces } from './sockaddr.ts'
import { sprigFunctions } from './sprig.ts'
import { mergeMaps } from './sprig-collections.ts'
import { formatTime } from './sprig-dates.ts'
import {
  Channel,
  type GoFunction,
  type GoMap,
  type GoValue,
  isList,
  isMap,
  JsonNumber,
  kindOf,
  Struct,
  sortedKeys,
  toBytes,
  toText,
} from './values.ts'
import { parseYaml } from './yaml.ts'

/** A file that a template wrote with `writeToFile`, to be placed where the template is rendered for. */
export interface WrittenFile {
  readonly path: string
  readonly owner: string
  readonly group: string
  readonly mode: number
  readonly content: Buffer
  readonly append: boolean
}

/** What functions reach outside of the template. */
export interface FunctionSources {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly now: () => Date
  /** What `sockaddr` works on; undefined while the answer is not there yet. Throws where no machine is known. */
  readonly interfaces: () => MachineInterfaces | undefined
  /** These four answer nil, or an empty text, while the answer is not there yet. Texts are JavaScript's. */
  readonly secret: (path: string, data: Record<string, string> | undefined) => GoValue
  readonly list: (path: string) => GoValue
  readonly file: (path: string) => GoValue
  readonly pkiCert: (path: string, data: Record<string, string>) => GoValue
  readonly write: (file: WrittenFile) => void
}

/** What would differ at every rendering, so that files changed and commands ran for nothing. */
const byChance =
  'shuffle randInt bcrypt htpasswd genPrivateKey genCA genCAWithKey genSelfSignedCert genSelfSignedCertWithKey ' +
  'genSignedCert genSignedCertWithKey encryptAES'

/** Functions of consul-template that rekey does not offer; said by name, instead of "not known". */
const refused: Record<string, string> = {
  ...Object.fromEntries(
    [
      ...['datacenters', 'exportedServices', 'key', 'keyExists', 'keyOrDefault', 'ls', 'safeLs', 'node', 'nodes'],
      ...['partitions', 'peerings', 'service', 'connect', 'services', 'tree', 'safeTree', 'caRoots', 'caLeaf'],
      ...['byMeta', 'byPort', 'byTag'],
    ].map(name => [name, 'it works on what a Consul server answers, and rekey asks none']),
  ),
  ...Object.fromEntries(
    ['nomadServices', 'nomadService', 'nomadVarList', 'nomadVarListSafe', 'nomadVar', 'nomadVarExists'].map(name => [
      name,
      'it works on what a Nomad server answers, and rekey asks none',
    ]),
  ),
  ...Object.fromEntries(
    ['spew_dump', 'spew_printf', 'spew_sdump', 'spew_sprintf'].map(name => [name, 'it prints secrets whole']),
  ),
  ...Object.fromEntries(
    byChance
      .split(' ')
      .map(name => [`sprig_${name}`, 'it answers something else at every rendering: keep what it made in Vault']),
  ),
  plugin: 'a template may not run programs here',
}

type Kind = 'string' | 'int' | 'list' | 'map' | 'any'
type Of<K> = K extends 'string'
  ? string
  : K extends 'int'
    ? bigint
    : K extends 'list'
      ? readonly GoValue[]
      : K extends 'map'
        ? GoMap
        : GoValue

const kindNames: Record<Kind, string> = { string: 'a string', int: 'an integer', list: 'a list', map: 'a map', any: '' }

function isOf(value: GoValue, kind: Kind): boolean {
  if (kind === 'string') return typeof value === 'string'
  if (kind === 'int') return typeof value === 'bigint'
  if (kind === 'list') return isList(value)
  return kind === 'any' || isMap(value)
}

function checkKind(value: GoValue, kind: Kind, position: number): void {
  if (isOf(value, kind)) return
  throw new Error(`argument ${position} must be ${kindNames[kind]}, and is ${kindOf(value)}`)
}

/** A function of a fixed number of arguments. */
function takes<const K extends readonly Kind[]>(
  kinds: K,
  run: (...args: { [I in keyof K]: Of<K[I]> }) => GoValue,
): GoFunction {
  return (...args) => {
    if (args.length !== kinds.length) throw new Error(`needs ${kinds.length} arguments, and got ${args.length}`)
    for (const [index, kind] of kinds.entries()) checkKind(args[index]!, kind, index + 1)
    return run(...(args as unknown as { [I in keyof K]: Of<K[I]> }))
  }
}

/** A function of any number of strings. */
function takesStrings(run: (...args: string[]) => GoValue): GoFunction {
  return (...args) => {
    for (const [index, value] of args.entries()) checkKind(value, 'string', index + 1)
    return run(...(args as string[]))
  }
}

/** Everything that a template may call, besides what text/template brings itself. */
export function templateFunctions(sources: FunctionSources): Map<string, GoFunction> {
  const refusals = Object.entries(refused).map(([name, why]): [string, GoFunction] => [
    name,
    () => {
      throw new RekeyError(`${name} is refused: ${why}`, { code: 'template.refused' })
    },
  ])
  return new Map<string, GoFunction>([
    ...refusals,
    ...Object.entries(pureFunctions),
    ...sprigFunctions(sources.now),
    ...Object.entries(reaching(sources)),
  ])
}

function reaching(sources: FunctionSources): Record<string, GoFunction> {
  const { environment } = sources
  const scratch = scratchPad()
  return {
    secret: takesStrings((path = '', ...rest) => {
      // consul-template answers nothing for an empty path; nobody can have meant that.
      const clean = cleanPath(path)
      return sources.secret(clean, rest.length === 0 ? undefined : pairs(rest))
    }),
    secrets: takes(['string'], path => sources.list(cleanPath(path))),
    pkiCert: takesStrings((path = '', ...rest) => sources.pkiCert(cleanPath(path), pairs(rest))),
    file: takes(['string'], path => (path === '' ? '' : sources.file(toText(path)))),

    env: takes(['string'], name => toBytes(environment[toText(name)] ?? '')),
    mustEnv: takes(['string'], name => {
      const value = environment[toText(name)]
      if (!value) throw new Error(`the variable ${toText(name)} is not set, or empty`)
      return toBytes(value)
    }),
    envOrDefault: takes(['string', 'string'], (name, otherwise) => {
      const value = environment[toText(name)]
      return value === undefined ? otherwise : toBytes(value)
    }),

    scratch: () => scratch,
    timestamp: takesStrings((...layouts) => timestamp(sources.now(), layouts)),
    sockaddr: takesStrings((...words) => {
      const machine = sources.interfaces()
      return machine ? evaluateSockaddr(words.join(' '), machine) : ''
    }),
    writeToFile: takesStrings((...args) => {
      sources.write(writtenFile(args))
      return ''
    }),
  }
}

const pureFunctions: Record<string, GoFunction> = {
  base64Decode: takes(['string'], text => decodeBase64(text)),
  base64Encode: takes(['string'], bytes => Buffer.from(bytes, 'latin1').toString('base64')),
  base64URLDecode: takes(['string'], text => decodeBase64(text, 'url')),
  base64URLEncode: takes(['string'], bytes =>
    Buffer.from(bytes, 'latin1').toString('base64').replaceAll('+', '-').replaceAll('/', '_'),
  ),

  md5sum: takes(['string'], bytes => createHash('md5').update(bytes, 'latin1').digest('hex')),
  sha256Hex: takes(['string'], bytes => createHash('sha256').update(bytes, 'latin1').digest('hex')),
  hmacSHA256Hex: takes(['string', 'string'], (message, key) =>
    createHmac('sha256', Buffer.from(key, 'latin1')).update(message, 'latin1').digest('hex'),
  ),

  contains: takes(['any', 'any'], (value, list) => isIn(list, value)),
  containsAll: takes(['list', 'any'], (values, list) => values.every(value => isIn(list, value))),
  containsAny: takes(['list', 'any'], (values, list) => values.some(value => isIn(list, value))),
  containsNone: takes(['list', 'any'], (values, list) => !values.some(value => isIn(list, value))),
  containsNotAll: takes(['list', 'any'], (values, list) => !values.every(value => isIn(list, value))),
  in: takes(['any', 'any'], (list, value) => isIn(list, value)),

  join: takes(['string', 'list'], (separator, list) => {
    for (const [index, value] of list.entries()) {
      if (typeof value !== 'string') throw new Error(`element ${index} of the list is ${kindOf(value)}, not a string`)
    }
    return list.join(separator)
  }),
  split: takes(['string', 'string'], split),
  splitToMap: takes(['string', 'string', 'string'], (between, within, text) => {
    const found: GoMap = new Map()
    for (const part of split(between, text)) {
      const place = part.indexOf(within)
      if (place >= 0) found.set(part.slice(0, place), part.slice(place + within.length))
    }
    return found
  }),
  indent: takes(['int', 'string'], (spaces, text) => {
    if (spaces < 0n) throw new Error('the number of spaces must not be negative')
    return text.replaceAll(/^(?=[^\n])/gm, ' '.repeat(Number(spaces)))
  }),
  replaceAll: takes(['string', 'string', 'string'], (from, to, text) => text.replaceAll(from, () => to)),
  trim: takes(['string', 'string'], (cutset, text) => trim(toText(text), new Set(toText(cutset)))),
  trimPrefix: takes(['string', 'string'], (prefix, text) =>
    text.startsWith(prefix) ? text.slice(prefix.length) : text,
  ),
  trimSuffix: takes(['string', 'string'], (suffix, text) =>
    text.endsWith(suffix) ? text.slice(0, text.length - suffix.length) : text,
  ),
  trimSpace: takes(['string'], trimSpace),
  toLower: takes(['string'], text => mapLetters(text, letter => letter.toLowerCase())),
  toUpper: takes(['string'], text => mapLetters(text, letter => letter.toUpperCase())),
  toTitle: takes(['string'], text =>
    toBytes(
      toText(text).replaceAll(/[\p{L}\p{N}\p{M}_'’.]+/gu, word => word.replace(/\p{L}/u, one => one.toUpperCase())),
    ),
  ),
  regexMatch: takes(['string', 'string'], regexMatches),
  regexReplaceAll: takes(['string', 'string', 'string'], (pattern, replacement, text) =>
    regexReplaceAll(pattern, text, replacement),
  ),

  parseBool: takes(['string'], text => {
    if (['', '0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false
    if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true
    throw new Error('the text is not a bool')
  }),
  parseFloat: takes(['string'], text => {
    if (text === '') return 0
    if (!/^[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) throw new Error('the text is not a number')
    return Number(text)
  }),
  parseInt: takes(['string'], text => parseInteger(text, /^[+-]?\d+$/, -(2n ** 63n), 2n ** 63n - 1n)),
  parseUint: takes(['string'], text => parseInteger(text, /^\d+$/, 0n, 2n ** 64n - 1n)),
  parseJSON: takes(['string'], text => (text === '' ? new Map() : parseJson(text))),
  parseYAML: takes(['string'], text => (text === '' ? new Map() : parseYaml(text))),
  toJSON: takes(['any'], value => writeJson(value, { escapeHtml: true })),
  toJSONPretty: takes(['any'], value => writeJson(value, { escapeHtml: true, pretty: true })),
  toUnescapedJSON: takes(['any'], value => writeJson(value, {})),
  toUnescapedJSONPretty: takes(['any'], value => writeJson(value, { pretty: true })),
  toTOML: takes(['any'], value => trimSpace(writeToml(value))),
  toYAML: takes(['any'], value => trimSpace(writeYaml(value))),

  byKey: takes(['list'], byKey),
  explode: takes(['list'], list => explode(list.map(keyValue))),
  explodeMap: takes(['map'], map => explode(sortedKeys(map).map(key => [String(key), map.get(key)!]))),
  mergeMap: takes(['map', 'map'], (into, from) => mergeMaps(into, from, false)),
  mergeMapWithOverride: takes(['map', 'map'], (into, from) => mergeMaps(into, from, true)),

  loop: (...args) => {
    if (args.length !== 1 && args.length !== 2) throw new Error(`needs one or two arguments, and got ${args.length}`)
    const [from, to] = args.length === 1 ? [0n, args[0]!] : args
    return new Channel(loopBound(from!), loopBound(to!))
  },

  add: arithmetic(
    (a, b) => a + b,
    (a, b) => a + b,
  ),
  subtract: arithmetic(
    (a, b) => a - b,
    (a, b) => a - b,
  ),
  multiply: arithmetic(
    (a, b) => a * b,
    (a, b) => a * b,
  ),
  divide: arithmetic(
    (a, b) => a / notZero(b),
    (a, b) => a / b,
  ),
  modulo: (b, a) => {
    if (typeof a !== 'bigint' || typeof b !== 'bigint') throw new Error('works on integers only')
    return a % notZero(b)
  },
  minimum: (b, a) => (numberOf(a) < numberOf(b) ? a! : b!),
  maximum: (b, a) => (numberOf(a) > numberOf(b) ? a! : b!),
}

/** `k=v` pairs, spaces around both dropped, empty ones left out. The value of a bad one is not quoted. */
function pairs(texts: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {}
  for (const text of texts.map(toText)) {
    if (text === '') continue
    const place = text.indexOf('=')
    if (place < 0) throw new Error('every argument after the path must be a "key=value" pair')
    found[text.slice(0, place).trim()] = text.slice(place + 1).trim()
  }
  return found
}

function cleanPath(path: string): string {
  const clean = toText(path)
    .trim()
    .replaceAll(/^\/+|\/+$/g, '')
  if (clean === '') throw new Error('needs a path')
  return clean
}

function isIn(list: GoValue, value: GoValue): boolean {
  if (typeof list === 'string') return typeof value === 'string' && list.includes(value)
  if (!isList(list)) return false
  return list.some(one => {
    if (one instanceof JsonNumber) return value instanceof JsonNumber && one.text === value.text
    return typeof one === typeof value && ['bigint', 'number', 'string'].includes(typeof one) && one === value
  })
}

function split(separator: string, text: string): string[] {
  const trimmed = trimSpace(text)
  if (trimmed === '') return []
  return separator === '' ? [...toText(trimmed)].map(toBytes) : trimmed.split(separator)
}

const space = /^[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$/

function trimSpace(bytes: string): string {
  return trim(toText(bytes), { has: character => space.test(character) })
}

function trim(text: string, cut: { has(character: string): boolean }): string {
  const characters = [...text]
  let [from, to] = [0, characters.length]
  while (from < to && cut.has(characters[from]!)) from++
  while (to > from && cut.has(characters[to - 1]!)) to--
  return toBytes(characters.slice(from, to).join(''))
}

/** Go maps each letter to one letter; JavaScript turns some into two. */
function mapLetters(bytes: string, map: (letter: string) => string): string {
  const mapped = [...toText(bytes)].map(letter => {
    const other = map(letter)
    return [...other].length === 1 ? other : letter
  })
  return toBytes(mapped.join(''))
}

function parseInteger(text: string, form: RegExp, least: bigint, most: bigint): bigint {
  if (text === '') return 0n
  if (!form.test(text)) throw new Error('the text is not an integer')
  const value = BigInt(text.replace('+', ''))
  if (value < least || value > most) throw new Error('the integer is out of range')
  return value
}

function loopBound(value: GoValue): bigint {
  if (typeof value === 'bigint') return value
  if (typeof value === 'string') return parseInteger(value, /^[+-]?\d+$/, -(2n ** 63n), 2n ** 63n - 1n)
  throw new Error(`goes over integers, not ${kindOf(value)}`)
}

/** The second argument comes first, so that `{{ 3 | subtract 1 }}` is 2. */
function arithmetic(integers: (a: bigint, b: bigint) => bigint, floats: (a: number, b: number) => number): GoFunction {
  return (...args) => {
    if (args.length !== 2) throw new Error(`needs two arguments, and got ${args.length}`)
    const [b, a] = args
    if (typeof a === 'bigint' && typeof b === 'bigint') return BigInt.asIntN(64, integers(a, b))
    return floats(numberOf(a), numberOf(b))
  }
}

function numberOf(value: GoValue | undefined): number {
  if (typeof value === 'number' || typeof value === 'bigint') return Number(value)
  throw new Error(`works on numbers, not on ${value === undefined ? 'nothing' : kindOf(value)}`)
}

function notZero(value: bigint): bigint {
  if (value === 0n) throw new Error('division by zero')
  return value
}

function keyValue(pair: GoValue): [string, GoValue] {
  const [key, value] = isMap(pair) ? [pair.get('Key'), pair.get('Value')] : []
  if (typeof key !== 'string' || value === undefined) throw new Error('works on a list of maps with Key and Value')
  return [key, value]
}

function byKey(list: readonly GoValue[]): GoMap {
  const grouped = new Map<string, GoMap>()
  for (const [whole, value] of list.map(keyValue)) {
    const [top, ...rest] = whole.split('/')
    const key = rest.join('/')
    if (key === '') continue
    const group = grouped.get(top!) ?? new Map()
    grouped.set(
      top!,
      group.set(
        key,
        new Map([
          ['Key', key],
          ['Value', value],
        ]),
      ),
    )
  }
  return grouped
}

function explode(entries: readonly [string, GoValue][]): GoMap {
  const root: GoMap = new Map()
  for (const [path, value] of entries) {
    let map = root
    const names = path.split('/')
    const last = names.pop()!
    for (const name of names) {
      const next = map.get(name) ?? new Map()
      if (!isMap(next)) throw new Error(`the key "${toText(path)}" lies under one that has a value`)
      map.set(name, next)
      map = next
    }
    if (last !== '') map.set(last, value)
  }
  return root
}

function timestamp(now: Date, layouts: readonly string[]): string {
  if (layouts.length > 1) throw new Error(`needs at most one argument, and got ${layouts.length}`)
  const layout = layouts[0] === undefined ? '2006-01-02T15:04:05Z07:00' : toText(layouts[0])
  if (layout === 'unix') return String(Math.floor(now.getTime() / 1000))
  return formatTime(layout, now)
}

/** A store that all parts of one template share. */
function scratchPad(): Struct {
  const values = new Map<string, GoValue>()
  const mapOf = (key: string): GoMap => {
    const map = values.get(key) ?? new Map()
    if (!isMap(map)) throw new Error(`"${toText(key)}" is not a map`)
    values.set(key, map)
    return map
  }
  const setIn = (map: Map<string | bigint, GoValue>, key: string, value: GoValue, over: boolean) => {
    if (over || !map.has(key)) map.set(key, value)
    return ''
  }
  const store = values as Map<string | bigint, GoValue>
  return new Struct(
    'scratch',
    {},
    {
      Key: takes(['string'], key => values.has(key)),
      Get: takes(['string'], key => values.get(key) ?? null),
      Set: takes(['string', 'any'], (key, value) => setIn(store, key, value, true)),
      SetX: takes(['string', 'any'], (key, value) => setIn(store, key, value, false)),
      MapSet: takes(['string', 'string', 'any'], (key, name, value) => setIn(mapOf(key), name, value, true)),
      MapSetX: takes(['string', 'string', 'any'], (key, name, value) => setIn(mapOf(key), name, value, false)),
      MapValues: takes(['string'], key => {
        const map = values.get(key)
        return map !== undefined && isMap(map) ? sortedKeys(map).map(name => map.get(name)!) : []
      }),
    },
  )
}

function writtenFile(args: readonly string[]): WrittenFile {
  if (args.length !== 5 && args.length !== 6) {
    throw new Error('needs path, user, group, permissions, flags (or not) and content')
  }
  const [path, owner, group, permissions] = args.slice(0, 4).map(toText)
  const flags = args.length === 6 ? args[4]! : ''
  if (!/^[0-7]{1,5}$/.test(permissions!)) throw new Error('the permissions must be octal, e.g. "0600"')
  const content = args.at(-1)! + (flags.includes('newline') ? '\n' : '')
  return {
    path: path!,
    owner: owner!,
    group: group!,
    // Of more than nine bits the last nine count, as for `perms`.
    mode: Number.parseInt(permissions!, 8) & 0o777,
    content: Buffer.from(content, 'latin1'),
    append: flags.includes('append'),
  }
}
