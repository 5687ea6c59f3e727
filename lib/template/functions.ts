// consul-template's functions, as the engine calls them.
import { RekeyError } from '../errors.ts'
import type { FuncMap } from './engine.ts'
import type { SecretRequest } from './render.ts'

/** What functions reach outside of the template. */
export interface FunctionSources {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Undefined while the answer is not there yet. */
  readonly secret: (request: SecretRequest) => unknown
  readonly file: (path: string) => unknown
}

/** Everything that a template may call, besides what Go's text/template brings itself. */
export function templateFunctions({ environment, secret, file }: FunctionSources): FuncMap {
  return {
    secret: {
      argTypes: ['string'],
      fn: (...args: string[]) => {
        const [path, ...rest] = args
        // consul-template answers nothing for an empty path; a certificate template can't have meant that.
        if (!path) throw misuse('secret needs a path')
        return secret(rest.length === 0 ? { path: clean(path) } : { path: clean(path), data: pairs(rest) })
      },
    },
    file: { argTypes: ['string'], fn: (path: string) => file(path) },

    env: { argTypes: ['string'], fn: (name: string) => environment[name] ?? '' },
    mustEnv: {
      argTypes: ['string'],
      fn: (name: string) => {
        const value = environment[name]
        if (value === undefined) throw misuse(`mustEnv: the variable ${name} is not set`)
        return value
      },
    },
    envOrDefault: {
      argTypes: ['string'],
      fn: (name: string, otherwise: string) => environment[name] || otherwise,
    },

    base64Encode: { argTypes: ['string'], fn: (text: string) => Buffer.from(text).toString('base64') },
    base64Decode: { argTypes: ['string'], fn: (text: string) => decode(text, 'base64') },
    base64URLEncode: {
      argTypes: ['string'],
      fn: (text: string) => Buffer.from(text).toString('base64').replaceAll('+', '-').replaceAll('/', '_'),
    },
    base64URLDecode: { argTypes: ['string'], fn: (text: string) => decode(text, 'base64url') },
    join: { argTypes: ['string', 'list'], fn: (separator: string, list: unknown[]) => list.join(separator) },
    split: { argTypes: ['string'], fn: split },
    indent: {
      argTypes: ['int', 'string'],
      fn: (spaces: number, text: string) => text.replaceAll(/^(?=[^\n])/gm, ' '.repeat(spaces)),
    },
    replaceAll: {
      argTypes: ['string'],
      fn: (from: string, to: string, text: string) => text.replaceAll(from, () => to),
    },
    toLower: { argTypes: ['string'], fn: (text: string) => text.toLowerCase() },
    toUpper: { argTypes: ['string'], fn: (text: string) => text.toUpperCase() },
    trimSpace: { argTypes: ['string'], fn: (text: string) => text.trim() },
    trimPrefix: {
      argTypes: ['string'],
      fn: (prefix: string, text: string) => (text.startsWith(prefix) ? text.slice(prefix.length) : text),
    },
    trimSuffix: {
      argTypes: ['string'],
      fn: (suffix: string, text: string) => (text.endsWith(suffix) ? text.slice(0, text.length - suffix.length) : text),
    },
  }
}

/** `k=v` pairs, spaces around both dropped, as consul-template reads them. The value of a bad one is not quoted. */
function pairs(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map(text => {
      const split = text.indexOf('=')
      if (split < 0) throw misuse('secret: every argument after the path must be a "key=value" pair')
      return [text.slice(0, split).trim(), text.slice(split + 1).trim()]
    }),
  )
}

const clean = (path: string) => path.trim().replaceAll(/^\/+|\/+$/g, '')

/** Go's strings.Split of a trimmed text, as consul-template's: nothing in, an empty list out. */
function split(separator: string, text: string): string[] {
  const trimmed = text.trim()
  return trimmed === '' ? [] : trimmed.split(separator)
}

function decode(text: string, encoding: 'base64' | 'base64url'): string {
  const alphabet = encoding === 'base64' ? /^[A-Za-z0-9+/\r\n]*={0,2}\s*$/ : /^[A-Za-z0-9_\-\r\n]*={0,2}\s*$/
  if (!alphabet.test(text)) throw misuse(`not a text in ${encoding}`)
  return Buffer.from(text, encoding).toString('utf8')
}

function misuse(message: string): RekeyError {
  return new RekeyError(message, { code: 'template.failed' })
}
