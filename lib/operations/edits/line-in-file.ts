// A line of a file: Ansible's `lineinfile`.
import type { StepContext } from '../../playbook/model.ts'
import type { FileResult } from '../files/file.ts'
import { keptShape, undoKept } from '../files/kept.ts'
import { lookToWrite, type WriteOptions, writeKinds } from '../files/write.ts'
import { type Operation, operation } from '../operation.ts'
import {
  absolutePath,
  anyText,
  checkedOptions,
  type Kinds,
  oneOf,
  required,
  text,
  truth,
  wrongOptions,
} from '../options.ts'
import { bare, linesOf, textOf } from './edited-text.ts'
import {
  compilePattern,
  type Expression,
  expressionKind,
  type Pattern,
  type Place,
  type PythonPatterns,
} from './patterns.ts'

/** A line that shall be in a file, or not. */
export interface LineInFileOptions extends WriteOptions {
  readonly path: string
  /** The line, without its line break. */
  readonly line?: string
  /** The last line that this is found in becomes `line`; with `absent`, all of them go. */
  readonly regexp?: Expression
  /** The same for a text that is what it is. */
  readonly searchString?: string
  readonly state?: 'present' | 'absent'
  /** Where a line that is new goes: behind the last that this is found in, or at the begin or the end. Default: `EOF`. */
  readonly insertAfter?: Expression | 'BOF' | 'EOF'
  readonly insertBefore?: Expression | 'BOF'
  /** `\1` and `\g<name>` in `line` are what `regexp` found. Where it finds nothing, nothing is done. */
  readonly backrefs?: boolean
  /** The first line that something is found in, in place of the last. */
  readonly firstMatch?: boolean
  /** Make the file, and folders above it, where it is missing. Default: false. */
  readonly create?: boolean
}

const kinds: Kinds<LineInFileOptions> = {
  path: required(absolutePath),
  line: anyText,
  regexp: expressionKind,
  searchString: text,
  state: oneOf('present', 'absent'),
  insertAfter: expressionKind,
  insertBefore: expressionKind,
  backrefs: truth,
  firstMatch: truth,
  create: truth,
  ...writeKinds,
}

/** Makes the operation, with what knows Python's regular expressions. */
export function lineInFileWith(python: () => Promise<PythonPatterns>): Operation<LineInFileOptions, FileResult> {
  return operation<LineInFileOptions, FileResult>({
    name: 'lineInFile',
    check,
    look: async (session: StepContext, wanted) => {
      const known = await python()
      return await lookToWrite(
        session,
        wanted.map(options => {
          const { path, mode, owner, group, backup, validate, create, state } = options
          return {
            path,
            options: { mode, owner, group, backup, validate },
            follow: true,
            makesFolders: create,
            edit: before => edited(before, options, state === 'absent' ? withoutLine : withLine, known),
          }
        }),
      )
    },
    undo: undoKept,
    kept: keptShape,
  })
}

function check(given: unknown): LineInFileOptions {
  const options = checkedOptions('lineInFile', given, kinds)
  const { line, regexp, searchString, state, insertAfter, insertBefore, backrefs } = options
  const wrong = (what: string) => wrongOptions(`lineInFile(): ${what}`)
  if (line?.includes('\n')) throw wrong('line is one line: blockInFile puts in several')
  if (regexp !== undefined && searchString !== undefined) throw wrong('regexp and searchString exclude each other')
  if (insertAfter !== undefined && insertBefore !== undefined)
    throw wrong('insertAfter and insertBefore exclude each other')
  if (backrefs && (regexp === undefined || state === 'absent'))
    throw wrong('backrefs goes with a regexp, and a line that is there')
  if (state === 'absent') {
    if (line === undefined && regexp === undefined && searchString === undefined)
      throw wrong('it needs line, regexp or searchString')
  } else if (line === undefined) throw wrong('it needs line')
  return options
}

type Editing = (lines: string[], options: LineInFileOptions, python: PythonPatterns) => string[]

function edited(
  before: Buffer | undefined,
  options: LineInFileOptions,
  edit: Editing,
  python: PythonPatterns,
): Buffer | undefined {
  if (!before && options.state === 'absent') return undefined
  if (!before && !options.create)
    throw wrongOptions(`lineInFile(): there is no file ${options.path}`, 'create: true makes it.')
  const { text, encode, adapted } = textOf(before ?? Buffer.alloc(0))
  return encode(edit(linesOf(text), adapted(options), python).join(''))
}

/** A pattern that is looked for in a line; one of JavaScript's sees no line break, as its `$` would not stand before it. */
function inLines(python: PythonPatterns, name: string, given: Expression): Pattern['search'] {
  const pattern = compilePattern(python, `lineInFile({ ${name} })`, given)
  return given instanceof RegExp ? line => pattern.search(bare(line)) : line => pattern.search(line)
}

/** The lines with the line among them, by the rules of Ansible's module. */
export function withLine(lines: string[], options: LineInFileOptions, python: PythonPatterns): string[] {
  const { line = '', insertAfter, insertBefore, backrefs, firstMatch } = options
  const found = findLine(lines, options, python)
  if (found) {
    const filled = backrefs && found.place ? python.expand(line, found.place) : line
    return lines.with(found.index, filled.endsWith('\n') ? filled : `${filled}\n`)
  }
  if (backrefs) return lines
  const place = insertAfter ?? insertBefore
  const words = place === undefined || place === 'EOF' || place === 'BOF'
  const search = words ? undefined : inLines(python, insertAfter === undefined ? 'insertBefore' : 'insertAfter', place)
  let [exact, beside] = [-1, -1]
  for (const [index, one] of lines.entries()) {
    if (bare(one) === line) exact = index
    else if (search?.(one)) beside = index
    if (beside === index && firstMatch) break
  }
  // The very line is there: it stays, but for its end.
  if (exact !== -1) return lines.with(exact, `${line}\n`)
  if (place === 'BOF') return [`${line}\n`, ...lines]
  const at = beside === -1 ? lines.length : insertAfter === undefined ? beside : beside + 1
  // Behind the first that fits it may stand already.
  if (beside !== -1 && insertAfter !== undefined && bare(lines[at] ?? '\n') === line) return lines
  return ended(lines).toSpliced(at, 0, `${line}\n`)
}

/** The line that is to be replaced: the last that fits, or the first. */
function findLine(
  lines: readonly string[],
  { regexp, searchString, firstMatch }: LineInFileOptions,
  python: PythonPatterns,
): { index: number; place?: Place } | undefined {
  const search = regexp === undefined ? undefined : inLines(python, 'regexp', regexp)
  const isIt = (one: string) =>
    search ? search(one) !== undefined : searchString !== undefined && one.includes(searchString)
  const index = firstMatch ? lines.findIndex(isIt) : lines.findLastIndex(isIt)
  return index === -1 ? undefined : { index, place: search?.(lines[index]!) }
}

/** Lines of which the last one has its line break. */
function ended(lines: string[]): string[] {
  const last = lines.at(-1)
  return last === undefined || /[\r\n]$/.test(last) ? lines : lines.with(-1, `${last}\n`)
}

/** The lines without those that fit. */
export function withoutLine(
  lines: string[],
  { line, regexp, searchString }: LineInFileOptions,
  python: PythonPatterns,
): string[] {
  const search = regexp === undefined ? undefined : inLines(python, 'regexp', regexp)
  return lines.filter(one => {
    if (search) return search(one) === undefined
    return searchString === undefined ? bare(one) !== line : !one.includes(searchString)
  })
}
