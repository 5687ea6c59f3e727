// Text of hosts on a screen: what would move the cursor is taken out, and a line is cut where the screen ends.
import { createRequire } from 'node:module'
import { withoutSequences } from './control.ts'

const ascii = /^[\x20-\x7e]*$/
/** Letters and signs of one column each, rekey's own among them. */
const narrow = /^[\x20-\x7e\xa1-\xac\xae-\u02ff\u2010-\u2027\u2190-\u2193\u2500-\u257f\u2714\u2716\u2800-\u28ff]*$/
const require = createRequire(import.meta.url)
// Both take long to load, and few lines need them.
let graphemes: Intl.Segmenter | undefined
let stringWidth: ((text: string) => number) | undefined

/** The columns that a line takes: wide characters take two. */
export function widthOf(line: string): number {
  if (narrow.test(line)) return line.length
  stringWidth ??= (require('string-width') as { default: (text: string) => number }).default
  return stringWidth(line)
}

/** A line that takes at most `columns`, with `ellipsis` for what is left out. */
export function cut(line: string, columns: number, ellipsis: string): string {
  if (line.length <= columns && ascii.test(line)) return line
  if (widthOf(line) <= columns) return line
  const room = columns - ellipsis.length
  if (room <= 0) return ellipsis.slice(0, Math.max(0, columns))
  if (ascii.test(line)) return line.slice(0, room) + ellipsis
  let [kept, width] = ['', 0]
  graphemes ??= new Intl.Segmenter()
  for (const { segment } of graphemes.segment(line)) {
    width += widthOf(segment)
    if (width > room) break
    kept += segment
  }
  return kept + ellipsis
}

/** Everything else that is no sign: control characters, what breaks lines, what turns the direction of text. */
const unseen = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** One line as it can be shown: no escape sequences, of a progress bar what it showed last, tabs as blanks. */
export function visible(line: string): string {
  if (ascii.test(line)) return line
  const shown =
    withoutSequences(line)
      .split('\r')
      .findLast(part => part.trim() !== '') ?? ''
  return shown.replaceAll('\t', '  ').replace(unseen, '')
}

/** What somebody said, on one line that may be shown. */
export const oneLine = (text: string): string => text.split('\n').map(visible).filter(Boolean).join(' ')

/** A value as JSON on one line that shows nothing but itself: JSON leaves some control characters as they are. */
export function visibleJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(
    /[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    sign => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** The same for a terminal that knows ASCII alone. */
export function asciiOnly(line: string): string {
  if (ascii.test(line)) return line
  return line
    .replaceAll('…', '...')
    .replace(/[‘’]/g, "'")
    .replace(/[“”«»]/g, '"')
    .replace(/[×✖]/g, 'x')
    .replaceAll('✔', '+')
    .replace(/[^\x20-\x7e]/gu, '?')
}

/**
 * A line in lines of at most `columns`, broken between words; those that follow are set in a little more than the first. What stands in
 * columns of a table goes on to.
 */
export function wrapped(line: string, columns: number): string[] {
  if (widthOf(line) <= columns) return [line]
  const indent = `${/^ */.exec(line)?.[0] ?? ''}  `
  const lines: string[] = []
  let current = ''
  for (const [, gap = '', word = ''] of line.matchAll(/( *)([^ ]+)/g)) {
    if (current === '' || widthOf(current) + gap.length + widthOf(word) <= columns) current += gap + word
    else {
      lines.push(current)
      current = indent + word
    }
  }
  return [...lines, current]
}
