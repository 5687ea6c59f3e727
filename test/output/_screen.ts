// A terminal of a few rows, as far as the tree makes use of one: what stands on it, and what has scrolled away.
import { EventEmitter } from 'node:events'
import { widthOf } from '../../lib/output/text.ts'

export interface Screen {
  readonly columns: number
  readonly rows: number
  /** The lines that are on it, without blanks at their ends. */
  lines(): string[]
  /** The lines that have scrolled off its top, and those that are on it. */
  everything(): string[]
  write(text: string): void
  cursorShown(): boolean
}

/** Makes an empty screen. It knows the few sequences that are written to it, and throws at any other. */
export function screen(columns: number, rows: number): Screen {
  const above: string[] = []
  const lines: string[] = ['']
  let [row, column, shown] = [0, 0, true]
  const trimmed = (list: readonly string[]) => list.map(line => line.trimEnd())
  const down = () => {
    row++
    while (lines.length <= row) lines.push('')
    while (lines.length > rows) {
      above.push(lines.shift() ?? '')
      row--
    }
  }
  const put = (text: string) => {
    for (const { segment } of new Intl.Segmenter().segment(text)) {
      const width = widthOf(segment)
      if (column + width > columns) {
        column = 0
        down()
      }
      // Text is only ever written at the end of what stands before it.
      const line = lines[row] ?? ''
      lines[row] = line.slice(0, sliceAt(line, column)).padEnd(column) + segment
      column += width
    }
  }
  const control = (sequence: string) => {
    const [, number = '', kind = ''] = /^\x1b\[(\??\d*)([A-Za-z])$/.exec(sequence) ?? []
    const count = Number(number || 1)
    if (kind === 'A') row = Math.max(0, row - count)
    else if (kind === 'B') row = Math.min(lines.length - 1, row + count)
    else if (kind === 'G') column = count - 1
    else if (kind === 'K' && number === '2') lines[row] = ''
    else if (kind === 'K') lines[row] = (lines[row] ?? '').slice(0, sliceAt(lines[row] ?? '', column))
    else if (number === '?25') shown = kind === 'h'
    else if (kind !== 'm' && number !== '?2026') throw new Error(`the screen does not know ${JSON.stringify(sequence)}`)
  }
  return {
    columns,
    rows,
    lines: () => trimmed(lines),
    everything: () => trimmed([...above, ...lines]),
    cursorShown: () => shown,
    write: text => {
      for (const part of text.split(/(\x1b\[\??\d*(?:;\d+)*[A-Za-z]|\r|\n)/)) {
        if (part === '\n') {
          column = 0
          down()
        } else if (part === '\r') column = 0
        else if (part.startsWith('\x1b')) control(part)
        else put(part)
      }
    },
  }
}

/** A screen as a stream to write to; `on` and `off` listen for `resize`. */
export function screenStream(on: Screen): NodeJS.WriteStream {
  return Object.assign(new EventEmitter(), {
    isTTY: true,
    columns: on.columns,
    rows: on.rows,
    getColorDepth: () => 8,
    write: (text: string) => {
      on.write(text)
      return true
    },
  }) as unknown as NodeJS.WriteStream
}

function sliceAt(line: string, column: number): number {
  let [at, width] = [0, 0]
  for (const { segment } of new Intl.Segmenter().segment(line)) {
    if (width >= column) break
    width += widthOf(segment)
    at += segment.length
  }
  return at
}
