// The figures as text: a table for the terminal, the same for docs/benchmarks.md.
import type { Row } from './bench-run.ts'
import type { Runner } from './jobs.ts'
import { median } from './median.ts'

/** The figures of a row, as they are shown. */
export interface Figures {
  readonly median: number
  readonly least: number
  readonly most: number
  readonly processorSeconds: number
  readonly memory: number
  readonly runs: number
}

/** `undefined` where a runner did not come to an end in most of its runs: then it is only known that it takes longer. */
export function figuresOf({ seconds, processorSeconds, memory, ended, stopped = 0 }: Row): Figures | undefined {
  const endless = Array.from({ length: ended }, () => Number.POSITIVE_INFINITY)
  const middle = median([...seconds, ...endless])
  if (!Number.isFinite(middle)) return undefined
  return {
    median: middle,
    least: Math.min(...seconds),
    most: ended > 0 ? stopped : Math.max(...seconds),
    processorSeconds: median(processorSeconds),
    memory: Math.max(...memory),
    runs: seconds.length + ended,
  }
}

/** How many times as long as rekey another one took; the least that is known where it was ended. */
export function ratio(rows: readonly Row[], phase: string, runner: string): number | undefined {
  const of = (id: string) => rows.find(row => row.phase === phase && row.runner === id)
  const own = of('rekey')
  const other = of(runner)
  const mine = own && figuresOf(own)?.median
  const theirs = other && (figuresOf(other)?.median ?? other.stopped)
  return mine && theirs ? theirs / mine : undefined
}

const heads = ['', 'median', 'least to most', 'processor', 'memory', 'runs', 'to rekey']

/** Rows of cells for each phase, its title first. */
function sections(rows: readonly Row[], runners: readonly Runner[]) {
  const titles = new Map(rows.map(({ phase, title }) => [phase, title]))
  return [...titles].map(([phase, title]) => ({
    title,
    cells: rows
      .filter(row => row.phase === phase)
      .map(row => {
        const name = runners.find(({ id }) => id === row.runner)?.title ?? row.runner
        const figures = figuresOf(row)
        const found = ratio(rows, phase, row.runner)
        // None where rekey was not asked, or was ended itself.
        const times = found === undefined ? '' : `${found.toFixed(1)}×`
        if (figures) {
          const { median, least, most, processorSeconds, memory, runs } = figures
          const spread = `${seconds(least)} to ${row.ended > 0 ? '> ' : ''}${seconds(most)}`
          return [name, seconds(median), spread, seconds(processorSeconds), `${memory.toFixed(0)} MB`, `${runs}`, times]
        }
        if (row.stopped !== undefined)
          return [
            name,
            `> ${row.stopped.toFixed(0)} s`,
            'ended',
            '',
            '',
            `${row.ended + row.seconds.length}`,
            times && `> ${times}`,
          ]
        return [name, '–', row.missing ?? '', '', '', '', '']
      }),
  }))
}

const seconds = (value: number) => (value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`)

/** For the terminal. */
export function plainTable(rows: readonly Row[], runners: readonly Runner[]): string {
  const all = sections(rows, runners)
  const widths = heads.map((head, column) =>
    Math.max(head.length, ...all.flatMap(({ cells }) => cells.map(cell => cell[column]?.length ?? 0))),
  )
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd()
  const settings = runners.map(({ title, settings }) => `${title}: ${settings}`)
  return [...all.flatMap(({ title, cells }) => [title, line(heads), ...cells.map(line), '']), ...settings, ''].join(
    '\n',
  )
}

const markdownLine = (cells: readonly string[]) => `| ${cells.join(' | ')} |`

/** How each runner is set up, for docs/benchmarks.md. */
export function markdownSettings(runners: readonly Runner[]): string {
  return ['| | settings |', '|---|---|', ...runners.map(({ title, settings }) => markdownLine([title, settings]))].join(
    '\n',
  )
}

/** For docs/benchmarks.md. */
export function markdownTable(rows: readonly Row[], runners: readonly Runner[]): string {
  return sections(rows, runners)
    .flatMap(({ title, cells }) => [
      `### ${title}`,
      '',
      markdownLine(heads),
      `|---|${'---:|'.repeat(heads.length - 1)}`,
      ...cells.map(markdownLine),
      '',
    ])
    .join('\n')
}
