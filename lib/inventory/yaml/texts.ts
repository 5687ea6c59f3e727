// Texts of YAML as libyaml scans them: in quotes, without, and in blocks behind `|` and `>`.
import {
  apostrophe,
  backslash,
  type Cursor,
  colon,
  dash,
  dot,
  end,
  greater,
  hash,
  isBlank,
  isBreak,
  isFlowIndicator,
  isGap,
  plus,
  question,
  quote,
  space,
  tab,
} from './cursor.ts'

const tabs = 'a tab stands where only spaces may indent'

/** A text behind `|` or `>`. `outer`: the column of what it belongs to. */
export function scanBlock(cursor: Cursor, outer: number): string {
  const folded = cursor.unit() === greater
  cursor.at++
  let chomping: number | undefined
  let increment = 0
  for (let index = 0; index < 2; index++) {
    const unit = cursor.unit()
    if (chomping === undefined && (unit === plus || unit === dash)) chomping = unit
    else if (increment === 0 && unit >= 0x30 && unit <= 0x39) {
      increment = unit - 0x30
      if (increment === 0) throw cursor.error('an indentation of 0 is not possible')
    } else break
    cursor.at++
  }
  cursor.skipRestOfLine()
  let indent = increment === 0 ? 0 : Math.max(outer, 0) + increment
  let [text, leading] = ['', '']
  let leadingBlank = false
  const breaks = (): string => {
    let found = ''
    let deepest = 0
    for (;;) {
      while ((indent === 0 || cursor.column < indent) && cursor.unit() === space) cursor.at++
      deepest = Math.max(deepest, cursor.column)
      if ((indent === 0 || cursor.column < indent) && cursor.unit() === tab) throw cursor.error(tabs)
      if (!isBreak(cursor.unit())) break
      found += cursor.break()
    }
    if (indent === 0) indent = Math.max(deepest, outer + 1, 1)
    return found
  }
  let trailing = breaks()
  while (cursor.column === indent && cursor.unit() !== end) {
    const blank = isBlank(cursor.unit())
    if (folded && leading.startsWith('\n') && !leadingBlank && !blank) text += trailing === '' ? ' ' : ''
    else text += leading
    text += trailing
    leadingBlank = blank
    const from = cursor.at
    cursor.skipLine()
    text += cursor.text.slice(from, cursor.at)
    leading = cursor.break()
    trailing = breaks()
  }
  if (chomping !== dash) text += leading
  if (chomping === plus) text += trailing
  return text
}

/** A text in quotes. */
export function scanQuoted(cursor: Cursor): string {
  const [mark, start] = [cursor.unit(), cursor.at++]
  let text = ''
  let from = cursor.at
  for (;;) {
    const unit = cursor.unit()
    if (unit === end) throw cursor.error('a quoted text is not closed', start)
    if (unit === mark) {
      if (mark !== apostrophe || cursor.unit(1) !== apostrophe) break
      text += cursor.text.slice(from, cursor.at + 1)
      cursor.at += 2
      from = cursor.at
    } else if (unit === backslash && mark === quote) {
      text += cursor.text.slice(from, cursor.at++)
      if (isBreak(cursor.unit())) {
        cursor.break()
        text += foldWithinQuotes(cursor, '')
      } else text += scanEscape(cursor)
      from = cursor.at
    } else if (isGap(unit)) {
      const to = cursor.at
      cursor.skipBlanks()
      if (!isBreak(cursor.unit())) continue
      text += cursor.text.slice(from, to) + foldWithinQuotes(cursor, cursor.break())
      from = cursor.at
    } else cursor.at++
  }
  text += cursor.text.slice(from, cursor.at++)
  return text
}

function foldWithinQuotes(cursor: Cursor, first: string): string {
  const folded = fold(cursor, first)
  if (cursor.atMarker(dash) || cursor.atMarker(dot)) throw cursor.error('a document ends within a quoted text')
  return folded
}

/**
 * What line breaks and the blanks around them become: one break is a space, and of more the first is left out. `first`: the one that
 * was read, nothing for one that was escaped; `indent`: the column where a text without quotes goes on, before which no tab may stand.
 */
function fold(cursor: Cursor, first: string, indent = 0): string {
  let more = ''
  for (;;) {
    for (let unit = cursor.unit(); isBlank(unit); unit = cursor.unit()) {
      if (unit === tab && cursor.column < indent) throw cursor.error(tabs)
      cursor.at++
    }
    if (!isBreak(cursor.unit())) return first === '\n' ? more || ' ' : first + more
    more += cursor.break()
  }
}

const escapes = new Map([
  ['0', '\0'],
  ['a', '\x07'],
  ['b', '\b'],
  ['t', '\t'],
  ['\t', '\t'],
  ['n', '\n'],
  ['v', '\v'],
  ['f', '\f'],
  ['r', '\r'],
  ['e', '\x1b'],
  [' ', ' '],
  ['"', '"'],
  ['/', '/'],
  ['\\', '\\'],
  ['N', '\x85'],
  ['_', '\xa0'],
  ['L', '\u2028'],
  ['P', '\u2029'],
])

function scanEscape(cursor: Cursor): string {
  const character = cursor.text[cursor.at] ?? ''
  const simple = escapes.get(character)
  if (simple !== undefined) {
    cursor.at++
    return simple
  }
  const length = { x: 2, u: 4, U: 8 }[character]
  if (length === undefined) throw cursor.error(`\\${character} is no escape that is known`, cursor.at - 1)
  const digits = cursor.text.slice(cursor.at + 1, cursor.at + 1 + length)
  if (digits.length < length || !/^[0-9a-fA-F]+$/.test(digits))
    throw cursor.error(`${length} hexadecimal digits are expected behind \\${character}`)
  const point = Number.parseInt(digits, 16)
  if ((point >= 0xd800 && point <= 0xdfff) || point > 0x10ffff)
    throw cursor.error(`\\${character}${digits} is no character`)
  cursor.at += 1 + length
  return String.fromCodePoint(point)
}

/** A text without quotes, and whether it ends behind line breaks. `outer`: the column of what it belongs to; `flow`: within brackets. */
export function scanPlain(cursor: Cursor, outer: number, flow: boolean): { text: string; broken: boolean } {
  let [text, gap] = ['', '']
  // The words of the line that is read.
  let [from, to] = [cursor.at, cursor.at]
  while (!cursor.atMarker(dash) && !cursor.atMarker(dot) && cursor.unit() !== hash) {
    const start = cursor.at
    skipPlainWord(cursor, flow)
    if (cursor.at === start) break
    to = cursor.at
    cursor.skipBlanks()
    // Blanks stay in the text where another word follows them.
    if (!isBreak(cursor.unit())) continue
    text += gap + cursor.text.slice(from, to)
    gap = fold(cursor, cursor.break(), outer + 1)
    from = to = cursor.at
    if (!flow && cursor.column <= outer) break
  }
  return to > from ? { text: text + gap + cursor.text.slice(from, to), broken: false } : { text, broken: gap !== '' }
}

/** Steps over what belongs to a text without quotes, up to white space or what ends it. */
function skipPlainWord(cursor: Cursor, flow: boolean): void {
  for (let unit = cursor.unit(); !isGap(unit); unit = cursor.unit()) {
    if (unit === colon) {
      const behind = cursor.unit(1)
      if (flow && (behind === question || isFlowIndicator(behind)))
        throw cursor.error("a ':' without a space behind it is not allowed here")
      if (isGap(behind)) return
    }
    if (flow && isFlowIndicator(unit)) return
    cursor.at++
  }
}
