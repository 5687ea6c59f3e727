// `-e`: `key=value` pairs, YAML or JSON in braces, and `@file`; what is given later wins.
import { resolve } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { expandHome } from '../../operator.ts'
import type { Assignments } from '../groups.ts'
import { isEncrypted, type Vault } from '../vault/vault.ts'
import { vaulted } from '../vault/vaulted.ts'
import { readText, readVariables } from './variable-files.ts'

export interface ExtraVariablesOptions {
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly vault: Vault
  readonly notice: (line: string) => void
}

/** What `-e` arguments set, as given in order. Throws `RekeyError` for one that sets nothing. */
export function readExtraVariables(args: readonly string[], options: ExtraVariablesOptions): Assignments {
  const variables: Assignments = new Map()
  for (const argument of args) {
    if (argument === '') continue
    for (const [name, assignment] of readArgument(argument, options)) {
      variables.set(name, { ...assignment, replaced: variables.get(name) })
    }
  }
  return variables
}

function readArgument(argument: string, { cwd, environment, vault, notice }: ExtraVariablesOptions): Assignments {
  if (argument.startsWith('@')) {
    const file = resolve(cwd, expandHome(argument.slice(1), environment))
    const text = readText(file)
    if (!isEncrypted(text)) return readVariables(text, file, vault, notice)
    return vaulted(readVariables(vault.decrypt(text, file), file, vault, notice))
  }
  const first = argument[0]!
  if (first === '/' || first === '.') {
    throw new RekeyError(`-e ${argument}: a file of variables needs an @ before its name`, {
      code: 'inventory.extra-variables',
      hint: `Write -e @${argument}`,
    })
  }
  if (first === '{' || first === '[') return readVariables(argument, '-e', vault, notice)
  return readPairs(argument)
}

/** `key=value` pairs: values stay text, quotes go, and what stands in quotes or braces is not split. */
function readPairs(argument: string): Assignments {
  const variables: Assignments = new Map()
  const origin = { file: '-e' }
  for (const word of splitPairs(argument)) {
    const text = decodeEscapes(word)
    const equals = /(?<=[^\\])=/s.exec(text)
    if (!equals) {
      throw new RekeyError(`-e ${word.trim()}: expected key=value`, {
        code: 'inventory.extra-variables',
        hint: 'Quote a value that contains spaces: -e \'key="a value"\', or give a map: -e \'{"key": …}\'.',
      })
    }
    const name = text.slice(0, equals.index).trim()
    const value = unquote(text.slice(equals.index + 1).trim())
    variables.set(name, { value, origin, replaced: variables.get(name) })
  }
  return variables
}

/** Splits at white space outside of quotes and of `{{ }}`, `{% %}` and `{# #}`. */
function splitPairs(argument: string): string[] {
  const words: string[] = []
  let word = ''
  let quote = ''
  let depth = 0
  for (let index = 0; index < argument.length; index++) {
    const character = argument[index]!
    const two = argument.slice(index, index + 2)
    if ((character === '"' || character === "'") && argument[index - 1] !== '\\') {
      if (quote === '') quote = character
      else if (quote === character) quote = ''
    }
    if (['{{', '{%', '{#'].includes(two)) depth++
    else if (['}}', '%}', '#}'].includes(two)) depth = Math.max(0, depth - 1)
    if (/[ \n]/.test(character) && quote === '' && depth === 0) {
      if (word !== '') words.push(word)
      word = ''
    } else word += character
  }
  if (quote !== '' || depth > 0) {
    throw new RekeyError(`-e ${argument}: a quote or brace is not closed`, {
      code: 'inventory.extra-variables',
      hint: 'Close it, or give a map: -e \'{"key": …}\'.',
    })
  }
  if (word !== '') words.push(word)
  return words
}

const escapes: Record<string, string> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }

function decodeEscapes(text: string): string {
  return text.replace(
    /\\(?:U([a-fA-F0-9]{8})|u([a-fA-F0-9]{4})|x([a-fA-F0-9]{2})|([\\'"abfnrtv]))/g,
    (_whole, long, short, byte, single: string | undefined) => {
      if (single !== undefined) return escapes[single] ?? single
      return String.fromCodePoint(Number.parseInt(long ?? short ?? byte, 16))
    },
  )
}

function unquote(text: string): string {
  const quoted = text.length > 1 && text[0] === text.at(-1) && /["']/.test(text[0]!) && text.at(-2) !== '\\'
  return quoted ? text.slice(1, -1) : text
}
