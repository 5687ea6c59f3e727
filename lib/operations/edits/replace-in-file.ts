// All places of a file that an expression is found in: Ansible's `replace`.
import type { StepContext } from '../../playbook/model.ts'
import type { FileResult } from '../files/file.ts'
import { keptShape, undoKept } from '../files/kept.ts'
import { lookToWrite, type WriteOptions, writeKinds } from '../files/write.ts'
import { type Operation, operation } from '../operation.ts'
import { absolutePath, anyText, checkedOptions, type Kinds, required, wrongOptions } from '../options.ts'
import { textOf } from './edited-text.ts'
import { compilePattern, type Expression, expressionKind, mostMatches, type PythonPatterns } from './patterns.ts'

/** What is replaced in a file. */
export interface ReplaceInFileOptions extends WriteOptions {
  readonly path: string
  /** `^` and `$` stand at every line. */
  readonly regexp: Expression
  /** What comes in its place, with `\1` and `\g<name>`; nothing where it is not given. */
  readonly replace?: string
  /** Only what comes behind this, and before that. Where they are not found, nothing is replaced. */
  readonly after?: Expression
  readonly before?: Expression
}

const kinds: Kinds<ReplaceInFileOptions> = {
  path: required(absolutePath),
  regexp: required(expressionKind),
  replace: anyText,
  after: expressionKind,
  before: expressionKind,
  ...writeKinds,
}

/** Makes the operation, with what knows Python's regular expressions. */
export function replaceInFileWith(python: () => Promise<PythonPatterns>): Operation<ReplaceInFileOptions, FileResult> {
  return operation<ReplaceInFileOptions, FileResult>({
    name: 'replaceInFile',
    check: given => checkedOptions('replaceInFile', given, kinds),
    look: async (session: StepContext, wanted) => {
      const known = await python()
      return await lookToWrite(
        session,
        wanted.map(options => {
          const { path, mode, owner, group, backup, validate } = options
          return {
            path,
            options: { mode, owner, group, backup, validate },
            follow: true,
            edit: content => {
              if (!content) throw wrongOptions(`replaceInFile(): there is no file ${path}`)
              const { text, encode, adapted } = textOf(content)
              return encode(replaced(text, adapted(options), known))
            },
          }
        }),
      )
    },
    undo: undoKept,
    kept: keptShape,
  })
}

/** The text with all replaced, by the rules of Ansible's module. */
export function replaced(text: string, options: ReplaceInFileOptions, python: PythonPatterns): string {
  const { regexp, replace = '', after, before } = options
  const compile = (name: 'regexp' | 'after' | 'before', given: Expression, multiline = false) =>
    compilePattern(python, `replaceInFile({ ${name} })`, given, { multiline })
  let [start, end] = [0, text.length]
  if (after !== undefined) {
    const found = compile('after', after).search(text)
    if (!found) return text
    start = found.end
  }
  if (before !== undefined) {
    const pattern = compile('before', before)
    const rest = text.slice(start)
    // Behind `after` it is the next one; by itself it is the last.
    const found = after === undefined ? pattern.findAll(rest, mostMatches).at(-1) : pattern.search(rest)
    if (!found) return text
    end = start + found.start
  }
  const section = text.slice(start, end)
  let result = ''
  let at = 0
  const places = compile('regexp', regexp, true).findAll(section, mostMatches)
  if (places.length >= mostMatches)
    throw wrongOptions(`replaceInFile(): the regexp is found ${mostMatches} times in ${options.path}`)
  for (const place of places) {
    result += section.slice(at, place.start) + python.expand(replace, place)
    at = place.end
  }
  return text.slice(0, start) + result + section.slice(at) + text.slice(end)
}
