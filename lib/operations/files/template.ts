// A file that a template makes: Ansible's `template`, in Jinja's language or in consul-template's.
import { readFileSync, statSync } from 'node:fs'
import { basename, extname, isAbsolute, join } from 'node:path'
import { Secret } from '../../connection/shell.ts'
import { RekeyError } from '../../errors.ts'
import type { StepContext } from '../../playbook/model.ts'
import { type Operation, operation } from '../operation.ts'
import {
  anyText,
  checkedOptions,
  type Kind,
  type Kinds,
  oneOf,
  required,
  text,
  truth,
  wrongOptions,
} from '../options.ts'
import type { FileResult } from './file.ts'
import { keptShape, undoKept } from './kept.ts'
import { type Mode, modeKind, octal } from './mode.ts'
import { type Edit, lookToWrite, type WriteOptions, writeKinds } from './write.ts'

/** A file, and the template that makes it. */
export interface TemplateOptions extends Omit<WriteOptions, 'mode'> {
  /** The template's file on this machine. One that does not begin with `/` is looked for in `templates/` beside the playbook, and beside it. */
  readonly src?: string
  /** The template itself, in the place of a file. */
  readonly content?: string
  /** Where the file shall be; with a `/` at its end, in that folder under the name of `src`. */
  readonly dest: string
  /** `preserve`: as `src` has it. */
  readonly mode?: Mode | 'preserve'
  /** Default: consul-template's for `.ctmpl` and `.tpl`, else Jinja's. */
  readonly engine?: 'jinja' | 'consul-template'
  /** Names of its own, above those of the playbook and of the inventory. A `secret()` is its text. */
  readonly vars?: Readonly<Record<string, unknown>>
  /** For consul-template's language: what its functions draw on, by `createRenderer`; without it there are no secrets, files or environment. */
  readonly renderer?: TemplateRenderer
  /** false: only where there is no file yet. Default: true. */
  readonly force?: boolean
  /** A link stays, and what it leads to is written. Default: false, a file takes its place. */
  readonly follow?: boolean
  /** Its content is never shown. Default: what not everybody may read is not. */
  readonly secret?: boolean
  readonly trimBlocks?: boolean
  readonly lstripBlocks?: boolean
  readonly newlineSequence?: '\n' | '\r\n' | '\r'
  readonly variableStartString?: string
  readonly variableEndString?: string
  readonly blockStartString?: string
  readonly blockEndString?: string
  readonly commentStartString?: string
  readonly commentEndString?: string
}

/** Renders consul-template's language, as what `createRenderer` makes does. */
export interface TemplateRenderer {
  render(
    source: string,
    options: { readonly name: string; readonly data?: Readonly<Record<string, unknown>> },
  ): Promise<{ readonly bytes: Buffer }>
}

const renderer: Kind = {
  words: 'what createRenderer() makes',
  fits: value => typeof (value as { render?: unknown } | null)?.render === 'function',
}
const map: Kind = {
  words: 'a map of names',
  fits: value => typeof value === 'object' && value !== null && !Array.isArray(value),
}

const jinjaKinds = {
  trimBlocks: truth,
  lstripBlocks: truth,
  newlineSequence: oneOf('\n', '\r\n', '\r'),
  variableStartString: text,
  variableEndString: text,
  blockStartString: text,
  blockEndString: text,
  commentStartString: text,
  commentEndString: text,
}

const kinds: Kinds<TemplateOptions> = {
  src: text,
  content: anyText,
  dest: required({
    words: 'an absolute path',
    fits: value => typeof value === 'string' && isAbsolute(value) && !/[\n\0]/.test(value),
  }),
  engine: oneOf('jinja', 'consul-template'),
  vars: map,
  renderer,
  force: truth,
  follow: truth,
  secret: truth,
  ...writeKinds,
  mode: {
    ...modeKind,
    words: `${modeKind.words}, or 'preserve'`,
    fits: value => value === 'preserve' || modeKind.fits(value),
  },
  ...jinjaKinds,
}

/** Makes the operation, with what makes a renderer of consul-template's language. */
export function templateWith(makeRenderer: () => Promise<TemplateRenderer>): Operation<TemplateOptions, FileResult> {
  return operation<TemplateOptions, FileResult>({
    name: 'template',
    check,
    look: async (context, wanted) => {
      const edits: Edit[] = []
      for (const options of wanted) edits.push(await editOf(context, options, makeRenderer))
      return await lookToWrite(context, edits)
    },
    undo: undoKept,
    kept: keptShape,
  })
}

function check(given: unknown): TemplateOptions {
  const options = checkedOptions('template', given, kinds)
  const { src, content, dest, mode } = options
  if ((src === undefined) === (content === undefined))
    throw wrongOptions('template(): it needs src or content, one of them')
  if (src === undefined && dest.endsWith('/'))
    throw wrongOptions('template(): dest is the path of the file, where there is no src')
  if (src === undefined && mode === 'preserve') throw wrongOptions("template(): mode 'preserve' is that of src")
  const isJinja = engineOf(options) === 'jinja'
  for (const name of isJinja ? ['renderer'] : Object.keys(jinjaKinds)) {
    if (options[name as keyof TemplateOptions] !== undefined)
      throw wrongOptions(`template({ ${name} }): it goes with ${isJinja ? "consul-template's language" : "Jinja's"}`)
  }
  return options
}

function engineOf({ engine, src = '' }: TemplateOptions): 'jinja' | 'consul-template' {
  return engine ?? (['.ctmpl', '.tpl'].includes(extname(src)) ? 'consul-template' : 'jinja')
}

async function editOf(
  context: StepContext,
  options: TemplateOptions,
  makeRenderer: () => Promise<TemplateRenderer>,
): Promise<Edit> {
  const { dest, owner, group, backup, validate, force, follow = false, secret } = options
  const template = readTemplate(context, options)
  const after = await rendered(context, options, template, makeRenderer)
  const mode = options.mode === 'preserve' ? octal(template.bits) : options.mode
  return {
    path: dest.endsWith('/') ? join(dest, basename(options.src!)) : dest,
    options: { mode, owner, group, backup, validate },
    follow,
    secret,
    edit: before => (before && force === false ? undefined : after),
  }
}

interface ReadTemplate {
  readonly name: string
  readonly source: string
  readonly bits: number
}

/** The template, from where Ansible would look for it. */
function readTemplate({ host }: StepContext, { src, content }: TemplateOptions): ReadTemplate {
  if (src === undefined) return { name: 'a template', source: content!, bits: 0o644 }
  const folder = host.vars['playbook_dir']
  const beside = typeof folder === 'string' ? folder : process.cwd()
  const places = isAbsolute(src) ? [src] : [join(beside, 'templates', src), join(beside, src)]
  let failure: unknown
  for (const place of places) {
    try {
      const { mode } = statSync(place)
      return { name: place, source: readFileSync(place, 'utf8'), bits: mode & 0o7777 }
    } catch (error) {
      // Of several that are missing, the last is told; what can't be read is.
      failure = error
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') break
    }
  }
  throw new RekeyError(`template({ src }): ${places.join(' or ')} can't be read: ${(failure as Error).message}`, {
    code: 'template.source',
    cause: failure,
  })
}

async function rendered(
  context: StepContext,
  options: TemplateOptions,
  { name, source }: ReadTemplate,
  makeRenderer: () => Promise<TemplateRenderer>,
): Promise<Buffer> {
  const { host, vars } = context
  const names = Object.fromEntries(
    Object.entries({ ...vars, ...options.vars }).map(([key, value]) => [
      key,
      value instanceof Secret ? value.reveal() : value,
    ]),
  )
  if (engineOf(options) === 'consul-template') {
    const renderer = options.renderer ?? (await makeRenderer())
    return (await renderer.render(source, { name, data: { host: host.name, ...names } })).bytes
  }
  if (!host.render)
    throw new RekeyError(`${host.name} is of no inventory: there are no variables for ${name}`, {
      code: 'template.host',
    })
  const given = Object.keys(jinjaKinds).flatMap(option => {
    const value = options[option as keyof TemplateOptions]
    return value === undefined ? [] : [[option.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`), value]]
  })
  const own = { ansible_managed: 'Ansible managed', ...names }
  return Buffer.from(host.render(source, { name, vars: own, options: Object.fromEntries(given) }))
}
