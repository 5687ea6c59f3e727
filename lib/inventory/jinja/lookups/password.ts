// `lookup('password', 'FILE length=20 chars=ascii_letters,digits')`: a password that is made once, and kept in a file.
import { createHash, randomInt } from 'node:crypto'
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { tellSecret } from '../../../secrets/index.ts'
import { pythonRandom } from '../../python/python-random.ts'
import { TemplateError, text, toNumber } from '../../python/python-values.ts'
import { absent, string } from '../jinja-call.ts'
import type { Frame } from '../jinja-frame.ts'
import { inFolder } from './files.ts'

const letters = 'abcdefghijklmnopqrstuvwxyz'
/** Python's module `string`. */
const sets: Readonly<Record<string, string>> = {
  ascii_letters: letters + letters.toUpperCase(),
  ascii_lowercase: letters,
  ascii_uppercase: letters.toUpperCase(),
  digits: '0123456789',
  hexdigits: '0123456789abcdefABCDEF',
  octdigits: '01234567',
  punctuation: '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~',
  whitespace: ' \t\n\r\v\f',
}
const parameters = ['length', 'chars', 'seed', 'encrypt', 'ident']

/** The password in a file; a new one where there is none. It is told to be a secret. Throws `TemplateError`. */
export function passwordLookup(term: string, options: ReadonlyMap<string, unknown>, { run }: Frame): string {
  const { path: name, given } = read(term)
  // Ansible takes the arguments only where the term has no parameters of its own.
  if (given.size === 0) for (const [option, value] of options) given.set(option, value)
  for (const option of options.keys())
    if (!parameters.includes(option)) throw new TemplateError(`the argument "${option}" is not one that rekey has`)
  for (const option of ['encrypt', 'ident'])
    if (!absent(given.get(option))) throw new TemplateError(`"${option}" is not one that rekey has`)
  const length = toNumber(given.get('length') ?? 20) ?? Number(text(given.get('length')))
  if (!Number.isInteger(length) || length < 0 || length > 10_000)
    throw new TemplateError('"length" is a whole number, up to 10,000')
  const characters = candidates(given.get('chars'))
  const make = (): string => random(characters, length, given.get('seed'))
  const path = inFolder(name, run.scope.machine)
  const password = path === '/dev/null' ? make() : locked(path, () => keep(path, make))
  tellSecret(password, `the password in ${path}`)
  return password
}

/** The path and the parameters of a term. Those who write a path with blanks in it put the parameters behind it. */
function read(term: string): { path: string; given: Map<string, unknown> } {
  const words = term.split(' ')
  const first = words.findIndex((word, index) => index > 0 && /^\w+=/.test(word))
  const own = first === -1 ? [] : words.slice(first).filter(word => word !== '')
  const given = new Map<string, unknown>()
  for (const word of own) {
    const at = word.indexOf('=')
    const option = word.slice(0, Math.max(at, 0))
    if (!parameters.includes(option))
      throw new TemplateError(`"${word}" is no parameter: they are ${parameters.join(', ')}`)
    given.set(option, word.slice(at + 1).replace(/^(["'])(.*)\1$/, '$2'))
  }
  return { path: (first === -1 ? words : words.slice(0, first)).join(' '), given }
}

function candidates(given: unknown): string {
  let names = ['ascii_letters', 'digits', '.,:-_']
  if (Array.isArray(given)) names = given.map(string)
  else if (!absent(given) && given !== '') {
    const written = string(given)
    names = [
      ...(written.includes(',,') ? [','] : []),
      ...written
        .replaceAll(',,', ',')
        .split(',')
        .filter(one => one !== ''),
    ]
  }
  const characters = names
    .map(name => (Object.hasOwn(sets, name) ? sets[name]! : name))
    .join('')
    .replace(/["']/g, '')
  if (characters === '') throw new TemplateError('"chars" has no character')
  return characters
}

function random(characters: string, length: number, seed: unknown): string {
  const all = [...characters]
  const source = absent(seed) ? undefined : pythonRandom(text(seed))
  const next = (): number => (source ? Number(source.below(BigInt(all.length))) : randomInt(all.length))
  return Array.from({ length }, () => all[next()]!).join('')
}

function keep(path: string, make: () => string): string {
  if (existsSync(path)) {
    const content = readFileSync(path, 'utf8').trimEnd()
    const salt = content.lastIndexOf(' salt=')
    return salt === -1 ? content : content.slice(0, salt)
  }
  const password = make()
  writeFileSync(path, `${password}\n`, { mode: 0o600, flag: 'wx' })
  chmodSync(path, 0o600)
  return password
}

/** Does something while nobody else, Ansible among them, makes the same password. */
function locked<Result>(path: string, act: () => Result): Result {
  const lock = join(dirname(path), `${createHash('sha1').update(path).digest('hex')}.ansible_lockfile`)
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    for (let tries = 0; ; tries++) {
      try {
        closeSync(openSync(lock, 'wx', 0o600))
        break
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
        if (tries === 3)
          throw new TemplateError(
            `${lock} is there for 7 seconds: another one makes the password, or was ended; then remove it`,
          )
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000 * 2 ** tries)
      }
    }
    try {
      return act()
    } finally {
      rmSync(lock, { force: true })
    }
  } catch (error) {
    if (error instanceof TemplateError) throw error
    throw new TemplateError(`${path} can't be read or made: ${(error as NodeJS.ErrnoException).code}`)
  }
}
