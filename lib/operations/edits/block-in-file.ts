// Lines of a file between two marks: Ansible's `blockinfile`.
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
import { linesOf, textOf } from './edited-text.ts'
import { compilePattern, type Expression, expressionKind, type PythonPatterns } from './patterns.ts'

/** A block of lines that shall be in a file, or not. */
export interface BlockInFileOptions extends WriteOptions {
  readonly path: string
  /** The lines; without any, the block is removed with its marks. */
  readonly block?: string
  /** What stands before and behind it; `{mark}` is `BEGIN` and `END`. Default: `# {mark} ANSIBLE MANAGED BLOCK`, so that a block of Ansible's is found again. */
  readonly marker?: string
  readonly markerBegin?: string
  readonly markerEnd?: string
  readonly state?: 'present' | 'absent'
  /** Where a block that is new goes: behind the last line that this is found in, or at the end. Default: `EOF`. */
  readonly insertAfter?: Expression | 'EOF'
  readonly insertBefore?: Expression | 'BOF'
  /** Make the file, and folders above it, where it is missing. Default: false. */
  readonly create?: boolean
  /** An empty line behind it, and before it, where there is none. */
  readonly appendNewline?: boolean
  readonly prependNewline?: boolean
}

const kinds: Kinds<BlockInFileOptions> = {
  path: required(absolutePath),
  block: anyText,
  marker: text,
  markerBegin: text,
  markerEnd: text,
  state: oneOf('present', 'absent'),
  insertAfter: expressionKind,
  insertBefore: expressionKind,
  create: truth,
  appendNewline: truth,
  prependNewline: truth,
  ...writeKinds,
}

/** Makes the operation, with what knows Python's regular expressions. */
export function blockInFileWith(python: () => Promise<PythonPatterns>): Operation<BlockInFileOptions, FileResult> {
  return operation<BlockInFileOptions, FileResult>({
    name: 'blockInFile',
    check: given => {
      const options = checkedOptions('blockInFile', given, kinds)
      const { insertAfter, insertBefore, marker, markerBegin, markerEnd } = options
      if (insertAfter !== undefined && insertBefore !== undefined)
        throw wrongOptions('blockInFile(): insertAfter and insertBefore exclude each other')
      for (const [name, value] of Object.entries({ marker, markerBegin, markerEnd }))
        if (value?.includes('\n')) throw wrongOptions(`blockInFile({ ${name} }): a mark is one line`)
      // Begin and end that are the same could not be told apart, and the block would grow with each run.
      if (marker !== undefined && !marker.includes('{mark}'))
        throw wrongOptions('blockInFile({ marker }): it must have {mark}, which begin and end are told apart by')
      return options
    },
    look: async (session: StepContext, wanted) => {
      const known = await python()
      return await lookToWrite(
        session,
        wanted.map(options => {
          const { path, mode, owner, group, backup, validate, create } = options
          return {
            path,
            options: { mode, owner, group, backup, validate },
            follow: true,
            makesFolders: create,
            edit: before => edited(before, options, known),
          }
        }),
      )
    },
    undo: undoKept,
    kept: keptShape,
  })
}

function edited(before: Buffer | undefined, options: BlockInFileOptions, python: PythonPatterns): Buffer | undefined {
  if (!before && !options.create)
    throw wrongOptions(`blockInFile(): there is no file ${options.path}`, 'create: true makes it.')
  if (!before && options.state === 'absent') return undefined
  const { text, encode, adapted } = textOf(before ?? Buffer.alloc(0))
  return encode(withBlock(text, adapted(options), python))
}

/** The text with the block in it, or without, by the rules of Ansible's module. */
export function withBlock(text: string, options: BlockInFileOptions, python: PythonPatterns): string {
  const { block = '', marker = '# {mark} ANSIBLE MANAGED BLOCK', markerBegin = 'BEGIN', markerEnd = 'END' } = options
  const present = options.state !== 'absent'
  const [begin, end] = [markerBegin, markerEnd].map(word => `${marker.replaceAll('{mark}', word)}\n`)
  const inner = block === '' || block.endsWith('\n') ? block : `${block}\n`
  const wanted = present && block !== '' ? [begin!, ...linesOf(inner), end!] : []
  const lines = linesOf(text)
  const [first, last] = [lines.lastIndexOf(begin!), lines.lastIndexOf(end!)]
  let at: number
  if (first !== -1 && last !== -1) {
    at = Math.min(first, last)
    lines.splice(at, Math.abs(last - first) + 1)
  } else at = placeOf(text, lines, options, python)
  if (at > 0 && !lines[at - 1]!.endsWith('\n')) lines[at - 1] += '\n'
  if (options.prependNewline && present && at !== 0 && lines[at - 1] !== '\n') lines.splice(at++, 0, '\n')
  lines.splice(at, 0, ...wanted)
  const behind = at + wanted.length
  if (options.appendNewline && present && behind < lines.length && lines[behind] !== '\n') lines.splice(behind, 0, '\n')
  return lines.join('')
}

/** The index of the line that a new block goes before. */
function placeOf(text: string, lines: readonly string[], options: BlockInFileOptions, python: PythonPatterns): number {
  const { insertAfter, insertBefore } = options
  if (insertBefore === 'BOF') return 0
  const given = insertAfter ?? insertBefore
  if (given === undefined || given === 'EOF') return lines.length
  const name = insertAfter === undefined ? 'insertBefore' : 'insertAfter'
  const pattern = compilePattern(python, `blockInFile({ ${name} })`, given)
  // As in Ansible: `(?m)` lets it see the whole file, and then the first place counts.
  if (given instanceof RegExp ? given.multiline : /^\(\?[a-z]*m[a-z]*\)/.test(given)) {
    const found = pattern.search(text)
    if (!found) return lines.length
    const before = linesOf(text.slice(0, insertAfter === undefined ? found.start : found.end)).filter(line =>
      line.endsWith('\n'),
    )
    return insertAfter === undefined ? before.length : before.length + 1
  }
  const search = given instanceof RegExp ? (line: string) => pattern.search(line.replace(/\n$/, '')) : pattern.search
  const index = lines.findLastIndex(line => search(line) !== undefined)
  if (index === -1) return lines.length
  return insertAfter === undefined ? index : index + 1
}
