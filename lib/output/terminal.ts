// What the other end of a stream can show: a screen that can be drawn anew, colours, Unicode.
import { styleText } from 'node:util'
import { asciiOnly, visible } from './text.ts'

/** The stream that a view writes to, as far as views care. */
export type OutputStream = Pick<NodeJS.WriteStream, 'write'> &
  Partial<Pick<NodeJS.WriteStream, 'isTTY' | 'columns' | 'rows' | 'getColorDepth' | 'on' | 'off'>>

/** What can be shown, and with which signs. */
export interface Terminal {
  /** Whether lines can be drawn over. */
  readonly screen: boolean
  /** Whether somebody looks on: a CI's log is none, also where it pretends to be a screen. */
  readonly watched: boolean
  readonly signs: Signs
  /** What a host, or anybody, said, as it can be shown: line by line, nothing but signs. */
  text(said: string): string
  /** Colours a text, where there are colours. */
  paint(style: Style, text: string): string
}

/** What a piece of text stands for; how it looks is said here alone. */
export type Style = 'good' | 'changed' | 'bad' | 'skipped' | 'quiet' | 'strong' | 'plain'

/** The signs of every view, in one of two alphabets. */
export interface Signs {
  readonly done: string
  readonly failed: string
  readonly stopped: string
  readonly current: string
  readonly waiting: string
  readonly ellipsis: string
  readonly dot: string
  readonly spinner: readonly string[]
}

const unicodeSigns: Signs = {
  done: '✔',
  failed: '✖',
  stopped: '◼',
  current: '❯',
  waiting: '◻',
  ellipsis: '…',
  dot: '·',
  spinner: [...'⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏'],
}

const asciiSigns: Signs = {
  done: '+',
  failed: 'x',
  stopped: '-',
  current: '>',
  waiting: ' ',
  ellipsis: '...',
  dot: '-',
  spinner: [...'|/-\\'],
}

const colors = {
  good: 'green',
  changed: 'yellow',
  bad: 'red',
  skipped: 'cyan',
  quiet: 'dim',
  strong: 'bold',
} as const

/**
 * What a stream can show, by its kind and the environment: `TERM`, `CI`, the locale, and `NO_COLOR` and `FORCE_COLOR`, of which the
 * latter wins, as in Node itself.
 */
export function terminalOf(out: OutputStream, environment: NodeJS.ProcessEnv = process.env): Terminal {
  const { TERM: kind = '', CI: ci = '', ...others } = environment
  const screen = out.isTTY === true && kind !== 'dumb'
  // An empty NO_COLOR or FORCE_COLOR says nothing.
  const forced = environment['FORCE_COLOR'] || undefined
  const refused = (environment['NO_COLOR'] ?? '') !== ''
  // Of a CI that it does not know, Node says that it has no colours; an empty one counts, too.
  const able = screen && !refused && (out.getColorDepth?.({ ...others, TERM: kind }) ?? 1) > 1
  const colored = forced === undefined ? able : !['0', 'false'].includes(forced)
  const locale = environment['LC_ALL'] || environment['LC_CTYPE'] || environment['LANG'] || ''
  // The console of Linux knows UTF-8, and few of its signs.
  const unicode = /utf-?8/i.test(locale) && kind !== 'linux' && kind !== 'dumb'
  return {
    screen,
    watched: screen && (ci === '' || ci === 'false'),
    signs: unicode ? unicodeSigns : asciiSigns,
    // A file or a pipe gets what the host said: who reads it has a locale of their own.
    text: said => {
      const shown = (line: string) => (out.isTTY && !unicode ? asciiOnly(visible(line)) : visible(line))
      return said.includes('\n') ? said.split('\n').map(shown).join('\n') : shown(said)
    },
    paint: (style, text) =>
      colored && style !== 'plain' && text !== '' ? styleText(colors[style], text, { validateStream: false }) : text,
  }
}
