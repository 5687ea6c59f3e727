// Tags and directives of YAML as libyaml scans them.
import {
  type Cursor,
  closeBracket,
  comma,
  exclamation,
  greater,
  isBlank,
  isGap,
  isWord,
  less,
  openBracket,
  percent,
} from './cursor.ts'

/** `%YAML 1.2` or `%TAG !x! tag:example.org,2000:`. */
export type Directive =
  | { readonly kind: 'version'; readonly supported: boolean }
  | { readonly kind: 'tag-directive'; readonly handle: string; readonly prefix: string }

const uriCharacters: ReadonlySet<number> = new Set(Buffer.from(";/?:@&=+$.!~*'()"))

/** A tag: its handle, and what follows it. `flow`: within brackets. */
export function scanTag(cursor: Cursor, flow: boolean): { handle: string; suffix: string } {
  let [handle, suffix] = ['', '']
  if (cursor.unit(1) === less) {
    cursor.at += 2
    suffix = scanUri(cursor, true)
    if (cursor.unit() !== greater) throw cursor.error("a tag that starts with !< ends with '>'")
    cursor.at++
  } else {
    handle = scanHandle(cursor)
    if (handle.length > 1 && handle.endsWith('!')) suffix = scanUri(cursor, false)
    else {
      suffix = scanUri(cursor, false, handle.slice(1))
      handle = suffix === '' ? '' : '!'
      if (suffix === '') suffix = '!'
    }
  }
  const behind = cursor.unit()
  if (!isGap(behind) && !(flow && behind === comma))
    throw cursor.error('a space or a line break is expected behind a tag')
  return { handle, suffix }
}

function scanHandle(cursor: Cursor): string {
  const start = cursor.at
  if (cursor.unit() !== exclamation) throw cursor.error("a '!' is expected")
  cursor.at++
  cursor.skipWord()
  if (cursor.unit() === exclamation) cursor.at++
  return cursor.text.slice(start, cursor.at)
}

/** The rest of a tag; `head` is what of it was read as a handle. */
function scanUri(cursor: Cursor, whole: boolean, head?: string): string {
  let text = head ?? ''
  let bytes: number[] = []
  const start = cursor.at
  const flush = (): void => {
    if (bytes.length === 0) return
    const decoded = Buffer.from(bytes).toString('utf8')
    if (decoded.includes('\ufffd')) throw cursor.error('an escape in a tag is no UTF-8')
    text += decoded
    bytes = []
  }
  for (;;) {
    const unit = cursor.unit()
    if (unit === percent) {
      const digits = cursor.text.slice(cursor.at + 1, cursor.at + 3)
      if (!/^[0-9a-fA-F]{2}$/.test(digits)) throw cursor.error('an escape in a tag is % and two hexadecimal digits')
      bytes.push(Number.parseInt(digits, 16))
      cursor.at += 3
    } else if (
      isWord(unit) ||
      uriCharacters.has(unit) ||
      (whole && (unit === comma || unit === openBracket || unit === closeBracket))
    ) {
      flush()
      text += cursor.text[cursor.at++]
    } else break
  }
  flush()
  if (cursor.at === start && head === undefined) throw cursor.error('the tag is not complete')
  return text
}

/** What `%YAML` or `%TAG` says. */
export function scanDirective(cursor: Cursor): Directive {
  const start = cursor.at++
  let directive: Directive
  cursor.skipWord()
  const name = cursor.text.slice(start + 1, cursor.at)
  if (name === '' || !isGap(cursor.unit())) throw cursor.error('the name of a directive is expected behind %')
  if (name === 'YAML') {
    cursor.skipBlanks()
    const version = /^(\d{1,9})\.(\d{1,9})(?!\d)/.exec(cursor.text.slice(cursor.at, cursor.at + 20))
    if (!version) throw cursor.error('a version is expected behind %YAML')
    cursor.at += version[0].length
    const supported = Number(version[1]) === 1 && [1, 2].includes(Number(version[2]))
    directive = { kind: 'version', supported }
  } else if (name === 'TAG') {
    cursor.skipBlanks()
    const handle = scanHandle(cursor)
    if (handle !== '!' && !handle.endsWith('!')) throw cursor.error("the handle of a tag ends with '!'")
    if (!isBlank(cursor.unit())) throw cursor.error('a space is expected behind the handle of a tag')
    cursor.skipBlanks()
    const prefix = scanUri(cursor, true)
    if (!isGap(cursor.unit())) throw cursor.error('a space or a line break is expected behind the prefix of a tag')
    directive = { kind: 'tag-directive', handle, prefix }
  } else throw cursor.error(`%${name} is no directive that is known`, start)
  cursor.skipRestOfLine()
  return directive
}
