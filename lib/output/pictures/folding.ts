// Lines for a screen of any size: what there is no room for is folded into counts, and no line is wider than the screen.
import { formatDuration } from '../../playbook/duration.ts'
import type { Signs, Style, Terminal } from '../terminal.ts'
import { cut, widthOf } from '../text.ts'

/** The screen that a picture is made for. */
export interface Screen {
  readonly columns: number
  readonly rows: number
}

export type Piece = readonly [style: Style, text: string]
export type Line = readonly Piece[]

/** Lines of which some can be folded: `lines(n)` are at most `n`. */
export interface Section {
  /** How many there are. */
  readonly all: number
  lines(room: number): Line[]
}

/** Hands out the rows: each demand in turn gets what is left, its sections a row at a time. */
export function grant(rows: number, demands: readonly (readonly [readonly Section[], (section: Section) => number])[]) {
  const granted = new Map<Section, number>()
  let left = rows
  for (const [sections, want] of demands) {
    for (let given = true; given && left > 0; ) {
      given = false
      for (const section of sections) {
        const has = granted.get(section) ?? 0
        if (left === 0 || has >= want(section)) continue
        granted.set(section, has + 1)
        left--
        given = true
      }
    }
  }
  return granted
}

/**
 * Lines that are folded at the end that matters less: what comes before at its beginning, what comes after at its end.
 * @param what they are called, in the plural
 */
export function folding(
  lines: readonly Line[],
  where: 'before' | 'after',
  signs: Signs,
  what: string,
  indent = '',
): Section {
  return {
    all: lines.length,
    lines: room => {
      if (room >= lines.length) return [...lines]
      if (room <= 0) return []
      const kept = room - 1
      const count = lines.length - kept
      const fold: Line = [
        ['quiet', `${indent}${signs.ellipsis} ${count} ${where === 'before' ? 'earlier' : 'more'} ${what}`],
      ]
      return where === 'before' ? [fold, ...lines.slice(lines.length - kept)] : [...lines.slice(0, kept), fold]
    },
  }
}

/** A line as it is shown on a screen of so many columns. */
export function drawn(line: Line, columns: number, { signs, paint }: Pick<Terminal, 'signs' | 'paint'>): string {
  // The last column stays free: some terminals go to the next line as soon as it is written.
  let room = Math.max(0, columns - 1)
  let text = ''
  for (const [style, piece] of line) {
    const kept = cut(piece, room, signs.ellipsis)
    room -= widthOf(kept)
    text += paint(style, kept)
  }
  return text
}

/** How long something takes by now. Nothing below a second: a picture that changes with each tenth is not easier to read. */
export function wholeSeconds(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1_000)
  if (seconds < 1) return ''
  if (seconds < 60) return `${seconds} s`
  return formatDuration(seconds * 1_000)
}
