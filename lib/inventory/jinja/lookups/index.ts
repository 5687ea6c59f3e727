// Lookups of templates: what they are in Ansible on this machine. Those that are not here are refused by name.
import { spawnSync } from 'node:child_process'
import { globSync, statSync } from 'node:fs'
import { withoutSecrets } from '../../../connection/environment.ts'
import { iterate, TemplateError, text, truthy, UndefinedError } from '../../python/python-values.ts'
import { Dict, isMapping } from '../../values.ts'
import { filters } from '../filters/index.ts'
import { absent, type CallArguments, type CallContext, list, map, string } from '../jinja-call.ts'
import { type Frame, lookupName, Missing, missing } from '../jinja-frame.ts'
import { checkOptions, defaultOptions, type TemplateOptions } from '../jinja-lexer.ts'
import { findFile, inFolder, readText } from './files.ts'
import { passwordLookup } from './password.ts'

/** What a lookup gives for its terms: something for each, mostly. */
type Lookup = (
  terms: readonly unknown[],
  options: ReadonlyMap<string, unknown>,
  frame: Frame,
  context: CallContext,
) => unknown[]

/** The names under which templates call lookups. */
export const isLookup = (name: string): boolean => name === 'lookup' || name === 'query' || name === 'q'

/** Runs a lookup, as `lookup` or as `query`, which always gives a list. */
export function runLookup(
  name: string,
  { positional, named }: CallArguments,
  context: CallContext,
  frame: Frame,
): unknown {
  const [given, ...terms] = positional
  if (given instanceof Missing) return given
  const plugin = string(given).replace(/^ansible\.(builtin|legacy)\./, '')
  const lookup = Object.hasOwn(lookups, plugin) ? lookups[plugin] : undefined
  if (!lookup) {
    const known = Object.keys(lookups).sort().join(', ')
    throw new TemplateError(`the lookup "${plugin}" is not one that rekey has: they are ${known}`)
  }
  const options = new Map(named)
  const wantList = name !== 'lookup' || truthy(options.get('wantlist') ?? false)
  const errors = options.get('errors') ?? 'strict'
  options.delete('wantlist')
  options.delete('errors')
  if (!['strict', 'warn', 'ignore'].includes(string(errors)))
    throw new TemplateError('"errors" is "strict", "warn" or "ignore"')
  const absentTerm = plugin === 'env' ? undefined : [...terms, ...options.values()].find(one => one instanceof Missing)
  if (absentTerm !== undefined) return absentTerm
  let found: unknown[]
  try {
    found = lookup(terms, options, frame, context)
  } catch (error) {
    if (error instanceof UndefinedError) return new Missing(error)
    if (!(error instanceof TemplateError)) throw error
    if (errors !== 'strict') return wantList ? [] : null
    throw new TemplateError(`the lookup "${plugin}": ${error.message}`)
  }
  const first = found.find(one => one instanceof Missing)
  if (first !== undefined) return first
  if (wantList || found.length === 0) return found
  if (found.length === 1) return found[0]
  return found.every(one => typeof one === 'string') ? found.join(',') : found
}

const env: Lookup = (terms, options, _frame, { machine }) =>
  terms.map(term => {
    if (term instanceof Missing) return term
    const name = string(term).trim().split(/\s/)[0]!
    return machine.environment[name] ?? options.get('default') ?? ''
  })

const vars: Lookup = (terms, options, frame) =>
  terms.map(term => {
    const found = lookupName(string(term), frame)
    const otherwise = options.get('default')
    if (!(found instanceof Missing)) return found
    // A variable that is there, but whose template needs what is not, stays missing.
    if (frame.run.scope.has(string(term))) return found
    return absent(otherwise) ? missing(`no variable named "${string(term)}" was found`) : otherwise
  })

const file: Lookup = (terms, options, frame) =>
  terms.map(term => {
    const content = readText(findFile(string(term), 'files', frame.run.scope.machine), frame)
    const start = truthy(options.get('lstrip') ?? false) ? content.trimStart() : content
    return truthy(options.get('rstrip') ?? true) ? start.trimEnd() : start
  })

const template: Lookup = (terms, given, frame) => {
  const options: Record<string, unknown> = { ...defaultOptions }
  const names = new Map<string, unknown>()
  for (const [name, value] of given) {
    if (name === 'template_vars') for (const [key, one] of map(value).entries()) names.set(text(key), one)
    else if (name === 'convert_data' || name === 'jinja2_native') continue
    else if (Object.hasOwn(options, name)) options[name] = value
    else throw new TemplateError(`the argument "${name}" is not one that rekey has`)
  }
  const checked = checkOptions(options as unknown as TemplateOptions)
  const { run } = frame
  return terms.map(term => {
    const path = findFile(string(term), 'templates', run.scope.machine)
    const source = readText(path, frame)
    return run.limits.within('templates', () => {
      try {
        return run.render(source, { options: checked, names, decode: true })
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error
        throw new TemplateError(`${path} can't be read: ${error.message}`)
      }
    })
  })
}

/** What a command of the shell prints: run only where the operator says so, as whoever writes the inventory could run anything. */
const pipe: Lookup = (terms, _options, { run }) => {
  const { machine } = run.scope
  if (!machine.pipe)
    throw new TemplateError('it runs a command on this machine, which it does only where REKEY_LOOKUP_PIPE=yes is set')
  return terms.map(term => {
    const { status, signal, stdout, error } = spawnSync('/bin/sh', ['-c', text(term)], {
      cwd: machine.folder,
      env: withoutSecrets(machine.environment),
      encoding: 'utf8',
      timeout: 60_000,
      killSignal: 'SIGKILL',
      maxBuffer: 16 * 1024 * 1024,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    if (error)
      throw new TemplateError(`the command could not be run to its end: ${(error as NodeJS.ErrnoException).code}`)
    if (status !== 0) throw new TemplateError(`the command ended with ${signal ?? `exit code ${status}`}`)
    run.limits.text(stdout.length)
    return stdout.trimEnd()
  })
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false

const fileglob: Lookup = (terms, _options, { run }) =>
  terms.flatMap(term => {
    const { machine } = run.scope
    for (const pattern of [inFolder(`files/${string(term)}`, machine), inFolder(string(term), machine)]) {
      const found = globSync(pattern).filter(isFile)
      if (found.length > 0) return found.sort()
    }
    return []
  })

const firstFound: Lookup = (terms, options, { run }) => {
  const paths = options.get('paths')
  const names: string[] = []
  for (const term of terms.flat()) {
    if (isMapping(term)) throw new TemplateError('maps are not among the terms that rekey reads')
    for (const folder of absent(paths) ? [undefined] : Array.isArray(paths) ? paths : [paths])
      names.push(folder === undefined ? string(term) : `${string(folder)}/${string(term)}`)
  }
  for (const name of names) {
    const { machine } = run.scope
    for (const folder of ['files', 'templates', 'vars', '.']) {
      const path = inFolder(folder === '.' ? name : `${folder}/${name}`, machine)
      if (statSync(path, { throwIfNoEntry: false })) return [path]
    }
  }
  if (truthy(options.get('skip') ?? false)) return []
  throw new TemplateError('no file was found')
}

const flattened = (terms: readonly unknown[]): unknown[] => terms.flatMap(term => (Array.isArray(term) ? term : [term]))

const lookups: Readonly<Record<string, Lookup>> = {
  dict: terms =>
    flattened(terms).flatMap(term =>
      map(term)
        .entries()
        .map(([key, value]) =>
          Dict.of<unknown>([
            ['key', key],
            ['value', value],
          ]),
        ),
    ),
  env,
  file,
  fileglob,
  first_found: firstFound,
  indexed_items: terms => flattened(terms).map((term, index) => [index, term]),
  items: flattened,
  list: terms => [...terms],
  nested: (terms, _options, _frame, context) => {
    const [first, ...others] = terms.map(term => iterate(term))
    if (!first) throw new TemplateError('it needs a list at least')
    return list(filters['product']!(first, { positional: others, named: new Map() }, context))
  },
  password: (terms, options, frame) => terms.map(term => passwordLookup(string(term), options, frame)),
  pipe,
  template,
  together: (terms, _options, _frame, context) => {
    const [first, ...others] = terms.map(term => list(term))
    if (!first) throw new TemplateError('it needs a list at least')
    return list(filters['zip_longest']!(first, { positional: others, named: new Map() }, context))
  },
  vars,
}
