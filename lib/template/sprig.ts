// The functions of Sprig that consul-template offers as sprig_…: those that depend on nothing but their arguments.
import { posix } from 'node:path'
import * as library from '@promptctl/go-template-js'
import { compileRegex, expand } from './regex.ts'
import {
  type GoFunction,
  type GoValue,
  isList,
  isMap,
  isNil,
  JsonNumber,
  kindOf,
  print,
  toBytes,
  toGo,
  toText,
} from './values.ts'

interface LibraryFunction {
  readonly fn: (...args: unknown[]) => unknown
}

const groups: Record<string, LibraryFunction> = Object.assign(
  {},
  library.sprigConversions(),
  library.sprigDatetime(),
  library.sprigDefaults(),
  library.sprigDicts(),
  library.sprigFlow(),
  library.sprigHash(),
  library.sprigLists(),
  library.sprigMath(),
  library.sprigRegex(),
  library.sprigSemver(),
  library.sprigStrings(),
  library.sprigTypes(),
)

/** In the library, and not in Sprig's hermetic set: they depend on the clock or on chance. */
const notHermetic = ['now', 'date', 'dateInZone', 'dateModify', 'htmlDate', 'htmlDateInZone', 'uuidv4', 'ago']

/** A `must…` of these differs only in how it fails, and here everything fails loudly. */
const mustVariants =
  'Append Chunk Compact DeepCopy First FromJson Has Initial Last Merge MergeOverwrite Prepend Push RegexFind RegexFindAll ' +
  'RegexMatch RegexReplaceAll RegexReplaceAllLiteral RegexSplit Rest Reverse Slice ToJson ToPrettyJson ToRawJson Uniq Without'

/** What these answer is a float64 also where it is whole. */
const floats = new Set('add1f addf subf mulf divf maxf minf floor ceil round float64'.split(' '))

const paths: Record<string, (path: string) => string | boolean> = {
  base: path => posix.basename(path) || '.',
  dir: path => posix.dirname(path),
  ext: path => /\.[^./]*$/.exec(path)?.[0] ?? '',
  clean: path => (path === '' ? '.' : posix.normalize(path).replace(/(.)\/$/, '$1')),
  isAbs: path => posix.isAbsolute(path),
}

/** By the name under which consul-template offers them. */
export function sprigFunctions(): Map<string, GoFunction> {
  const found = new Map<string, GoFunction>()
  const add = (name: string, run: GoFunction) => found.set(`sprig_${name}`, run)
  for (const [name, { fn }] of Object.entries(groups)) {
    if (!notHermetic.includes(name)) add(name, adapted(name, fn))
  }
  for (const name of mustVariants.split(' ')) {
    const plain = name[0]!.toLowerCase() + name.slice(1)
    add(`must${name}`, adapted(plain, groups[plain]!.fn))
  }
  add('trimall', adapted('trimAll', groups['trimAll']!.fn))
  for (const [name, run] of Object.entries(paths)) {
    const onText: GoFunction = (...args) => {
      if (args.length !== 1 || typeof args[0] !== 'string') throw new Error('needs one string')
      const answer = run(toText(args[0]))
      return typeof answer === 'string' ? toBytes(answer) : answer
    }
    add(name, onText)
    add(`os${name[0]!.toUpperCase()}${name.slice(1)}`, onText)
  }
  // What keeps the types that the library would lose.
  add('toString', (value = null) => print(value))
  add('toStrings', (value = null) => (isList(value) ? value.map(print) : [print(value)]))
  add('list', (...values) => values)
  add('tuple', (...values) => values)
  add('dict', (...values) => {
    const map = new Map<string, GoValue>()
    for (let index = 0; index < values.length; index += 2) map.set(print(values[index]!), values[index + 1] ?? '')
    return map
  })
  for (const [name, run] of Object.entries(regexFunctions)) {
    add(name, run)
    add(`must${name[0]!.toUpperCase()}${name.slice(1)}`, run)
  }
  return found
}

/** On Go's regular expressions; the library's are JavaScript's. */
const regexFunctions: Record<string, GoFunction> = {
  regexMatch: (...args) => {
    const [pattern, text] = texts(args, 2)
    return compileRegex(pattern!).test(text!)
  },
  regexFind: (...args) => {
    const [pattern, text] = texts(args, 2)
    return toBytes(compileRegex(pattern!).exec(text!)?.[0] ?? '')
  },
  regexFindAll: (...args) => {
    const [pattern, text] = texts(args, 3)
    const all = [...text!.matchAll(compileRegex(pattern!, 'g'))].map(found => toBytes(found[0]))
    return all.slice(0, atMost(args[2]))
  },
  regexReplaceAll: (...args) => {
    const [pattern, text, replacement] = texts(args, 3)
    return toBytes(text!.replace(compileRegex(pattern!, 'g'), (...found) => expand(replacement!, found)))
  },
  regexReplaceAllLiteral: (...args) => {
    const [pattern, text, replacement] = texts(args, 3)
    return toBytes(text!.replace(compileRegex(pattern!, 'g'), () => replacement!))
  },
  regexSplit: (...args) => {
    const [pattern, text] = texts(args, 3)
    const most = atMost(args[2])
    const found = [...text!.matchAll(compileRegex(pattern!, 'g'))].slice(0, most === undefined ? undefined : most - 1)
    const starts = [0, ...found.map(one => one.index + one[0].length)]
    return starts.map((start, index) => toBytes(text!.slice(start, found[index]?.index)))
  },
}

/** The strings among the arguments, of which there must be `count`. */
function texts(args: readonly GoValue[], count: number): string[] {
  if (args.length !== count) throw new Error(`needs ${count} arguments, and got ${args.length}`)
  return args.filter(value => typeof value === 'string').map(toText)
}

/** A limit as Go has it: below zero there is none. */
function atMost(limit: GoValue | undefined): number | undefined {
  if (typeof limit !== 'bigint') throw new Error('needs a limit, an integer')
  return limit < 0n ? undefined : Number(limit)
}

function adapted(name: string, run: LibraryFunction['fn']): GoFunction {
  return (...args) => {
    const answer = run(...args.map(toPlain))
    return floats.has(name) && typeof answer === 'number' ? answer : toGo(answer)
  }
}

/** Go's values as the library's functions take them. */
function toPlain(value: GoValue): unknown {
  if (isNil(value)) return undefined
  if (typeof value === 'string') return toText(value)
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value
  if (value instanceof JsonNumber) return value.text
  if (isList(value)) return value.map(toPlain)
  if (isMap(value)) return Object.fromEntries([...value].map(([key, one]) => [toText(String(key)), toPlain(one)]))
  if (typeof value === 'object') throw new Error(`can't work on ${kindOf(value)}`)
  return value
}
