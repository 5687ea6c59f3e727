// The functions of Sprig that consul-template offers as sprig_…: those that depend on nothing but their arguments. They
// work on Go's values; the library's own work on JavaScript's, which would show (`1.0` as `1`, `é` as one byte, `\n` unquoted).
import { posix } from 'node:path'
import { sprigSemver } from '@promptctl/go-template-js'
import { regexFindAll, regexMatches, regexReplaceAll, regexSplit } from './regex.ts'
import { collectionFunctions, withMustForms } from './sprig-collections.ts'
import { cryptoFunctions } from './sprig-crypto.ts'
import { dateFunctions } from './sprig-dates.ts'
import { numberFunctions } from './sprig-numbers.ts'
import { stringFunctions } from './sprig-strings.ts'
import { urlFunctions } from './sprig-urls.ts'
import { type GoFunction, type GoValue, Struct, toBytes, toText } from './values.ts'

/** By the name under which consul-template offers them. `now` is what `ago` counts from. */
export function sprigFunctions(now: () => Date): Map<string, GoFunction> {
  const all: Record<string, GoFunction> = {
    ...collectionFunctions,
    ...cryptoFunctions,
    ...dateFunctions(now),
    ...numberFunctions,
    ...pathFunctions,
    ...withMustForms(regexFunctions, Object.keys(regexFunctions)),
    ...semverFunctions,
    ...stringFunctions,
    ...urlFunctions,
    fail: message => {
      throw new Error(text(message))
    },
  }
  return new Map(Object.entries(all).map(([name, run]) => [`sprig_${name}`, run]))
}

const paths: Record<string, (path: string) => string | boolean> = {
  base: path => (path === '' ? '.' : posix.basename(path) || '/'),
  dir: path => posix.normalize(path.replace(/[^/]*$/, '')).replace(/(.)\/$/, '$1'),
  ext: path => /\.[^./]*$/.exec(path)?.[0] ?? '',
  clean: path => (path === '' ? '.' : posix.normalize(path).replace(/(.)\/$/, '$1')),
  isAbs: path => posix.isAbsolute(path),
}

const pathFunctions: Record<string, GoFunction> = Object.fromEntries(
  Object.entries(paths).flatMap(([name, run]) => {
    const onText: GoFunction = (...args) => {
      if (args.length !== 1 || typeof args[0] !== 'string') throw new Error('needs one string')
      const answer = run(toText(args[0]))
      return typeof answer === 'string' ? toBytes(answer) : answer
    }
    return [
      [name, onText],
      [`os${name[0]!.toUpperCase()}${name.slice(1)}`, onText],
    ]
  }),
)

interface Version {
  readonly Major: number
  readonly Minor: number
  readonly Patch: number
  readonly Prerelease: string
  readonly Metadata: string
  readonly Original: string
}

const library = sprigSemver() as unknown as {
  semver: { fn(text: string): Version }
  semverCompare: { fn(constraint: string, version: string): boolean }
}

const semverFunctions: Record<string, GoFunction> = {
  semver: version => {
    const { Major, Minor, Patch, Prerelease, Metadata, Original } = library.semver.fn(text(version))
    const number = (value: number) => () => BigInt(value)
    const written = `${Major}.${Minor}.${Patch}${Prerelease && `-${Prerelease}`}${Metadata && `+${Metadata}`}`
    const methods = { Major: number(Major), Minor: number(Minor), Patch: number(Patch), String: () => written }
    const texts = { Prerelease: () => Prerelease, Metadata: () => Metadata, Original: () => Original }
    return new Struct('version', {}, { ...methods, ...texts }, written)
  },
  semverCompare: (constraint, version) => library.semverCompare.fn(wholeConstraint(text(constraint)), text(version)),
}

/**
 * A constraint in the forms that the library knows: `1.2.x` is `~1.2`, `1.2 - 1.4.5` is `>=1.2, <=1.4.5`, `*` is any.
 * Throws for a version that is not whole where the library would take it for one.
 */
function wholeConstraint(constraint: string): string {
  return constraint
    .replaceAll(/(\S+)\s+-\s+(\S+)/g, '>=$1, <=$2')
    .replaceAll(/([!<>=~^]*)\s*(v?(?:\d+|[xX*])(?:\.[^\s,|]+)*)/g, (_, operator: string, version: string) => {
      const known = version.replace(/(^|\.)[xX*].*$/, '')
      if (known === '') return '>=0.0.0'
      if (/^v?\d+\.\d+\.\d+/.test(known)) return operator + known
      if (operator === '' || operator === '=') return `~${known}`
      if (['!=', '>', '<='].includes(operator)) throw new Error(`needs a version of three numbers after ${operator}`)
      return operator + known
    })
}

function text(value: GoValue | undefined): string {
  if (typeof value === 'string') return toText(value)
  throw new Error('needs a string')
}

const regexFunctions: Record<string, GoFunction> = {
  regexMatch: (...args) => {
    const [pattern, text] = texts(args, 2)
    return regexMatches(pattern!, text!)
  },
  regexFind: (...args) => {
    const [pattern, text] = texts(args, 2)
    return regexFindAll(pattern!, text!, 1)[0] ?? ''
  },
  regexFindAll: (...args) => {
    const [pattern, text] = texts(args, 3)
    return regexFindAll(pattern!, text!, atMost(args[2]))
  },
  regexReplaceAll: (...args) => {
    const [pattern, text, replacement] = texts(args, 3)
    return regexReplaceAll(pattern!, text!, replacement!)
  },
  regexReplaceAllLiteral: (...args) => {
    const [pattern, text, replacement] = texts(args, 3)
    return regexReplaceAll(pattern!, text!, replacement!, { literally: true })
  },
  regexSplit: (...args) => {
    const [pattern, text] = texts(args, 3)
    return regexSplit(pattern!, text!, atMost(args[2]))
  },
}

/** The strings among the arguments, of which there must be `count`. */
function texts(args: readonly GoValue[], count: number): string[] {
  if (args.length !== count) throw new Error(`needs ${count} arguments, and got ${args.length}`)
  return args.filter(value => typeof value === 'string')
}

/** A limit as Go has it: below zero there is none. */
function atMost(limit: GoValue | undefined): number | undefined {
  if (typeof limit !== 'bigint') throw new Error('needs a limit, an integer')
  return limit < 0n ? undefined : Number(limit)
}
