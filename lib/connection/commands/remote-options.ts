// What `$({…})` takes. What it does not know it refuses: a command would run as if that had not been said.
import { Readable } from 'node:stream'
import { RekeyError } from '../../errors.ts'
import { suggestion } from '../../suggestion.ts'
import { Secret } from '../shell.ts'

/** What `$({…})` takes beside zx's `nothrow` and `quiet`. */
export interface RemoteOptions {
  /** Fed to the command's stdin; a `secret()` may be given only here. */
  readonly input?: string | Buffer | Readable | Secret
  /** Milliseconds until the command's process group is ended on the host. */
  readonly timeout?: number
  /** A failing command resolves. A dropped connection still counts as an unknown outcome of the step. */
  readonly nothrow?: boolean
  /** Its output is not shown and not journalled: for what is long, or holds secrets. */
  readonly quiet?: boolean
  /** Directory to run in; the command is not run when it can't be entered. */
  readonly cwd?: string
  /**
   * Names of secrets in rekey's own environment that a command on this machine needs, such as `VAULT_TOKEN`: it has the rest of the
   * environment, and none of these. On another machine there are none to hand on.
   */
  readonly environment?: readonly string[]
}

const isTruth = (value: unknown) => typeof value === 'boolean'
const known: { readonly [Name in keyof Required<RemoteOptions>]: readonly [string, (value: unknown) => boolean] } = {
  input: ['a text, bytes, a stream or a secret()', isInput],
  timeout: ['a number of milliseconds', value => typeof value === 'number' && value >= 0],
  nothrow: ['true or false', isTruth],
  quiet: ['true or false', isTruth],
  cwd: ['the path of a folder', value => typeof value === 'string' && value !== ''],
  environment: ['a list of names', value => Array.isArray(value) && value.every(one => typeof one === 'string')],
}

/** What zx calls otherwise, or what a command on a host can't have. */
const otherwise: ReadonlyMap<string, string> = new Map([
  ['env', 'Set variables in the command itself: env NAME=value command.'],
  ['signal', 'Bound a command by timeout, or leave the loop that reads its lines (break): its step waits for its end.'],
  ['shell', 'Commands run in /bin/sh: call another one in the command itself.'],
])

/**
 * Options as a playbook gives them.
 * @throws RekeyError for a name that there is not, or a value of the wrong kind
 */
export function checkedOptions(options: unknown): RemoteOptions {
  if (typeof options !== 'object' || options === null)
    throw wrong(`$() takes options or a command as a template, not ${typeof options}`)
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(known, name)) {
      const names = Object.keys(known)
      throw wrong(
        `$({ ${name} }): there is no such option${suggestion(name, names)}`,
        otherwise.get(name) ?? `It takes ${names.join(', ')}.`,
      )
    }
    const [kind, fits] = known[name as keyof RemoteOptions]
    if (value !== undefined && !fits(value)) throw wrong(`$({ ${name} }): it must be ${kind}, not ${shown(value)}`)
  }
  return options
}

function isInput(value: unknown): boolean {
  return (
    typeof value === 'string' || value instanceof Uint8Array || value instanceof Readable || value instanceof Secret
  )
}

function shown(value: unknown): string {
  return typeof value === 'number' ? String(value) : value === null ? 'null' : `of the type ${typeof value}`
}

function wrong(message: string, hint?: string): RekeyError {
  return new RekeyError(message, { code: 'remote.option', ...(hint === undefined ? {} : { hint }) })
}
