// The record in docs: the figures of each case as they were found last, and the page and the picture made of them.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Row } from './bench-run.ts'
import type { Case } from './cases.ts'
import { judge } from './goals.ts'
import type { Runner } from './jobs.ts'
import { picture } from './picture.ts'
import { markdownSettings, markdownTable } from './table.ts'

/** What was found of a case: all runners in turn, in one run. */
export interface RecordedCase {
  readonly date: string
  readonly command: string
  readonly machine: string
  readonly versions: Readonly<Record<string, string>>
  readonly rows: readonly Row[]
}

const docs = join(import.meta.dirname, '..', '..', 'docs')
const figures = join(docs, 'benchmark.json')
/** What is above it in docs/benchmarks.md is written by hand. */
const mark = '<!-- what follows is written by npm run bench -- --record -->'

function readFigures(): Record<string, RecordedCase> {
  return existsSync(figures) ? (JSON.parse(readFileSync(figures, 'utf8')) as Record<string, RecordedCase>) : {}
}

/** Keeps what was found of a case, in place of what was found before. */
export function keep(id: string, found: RecordedCase): void {
  writeFileSync(figures, `${JSON.stringify({ ...readFigures(), [id]: found }, undefined, 1)}\n`)
}

/** Writes the page and the picture anew, from all that is kept. */
export function writeRecord(cases: readonly Case[], runners: readonly Runner[]): void {
  const kept = readFigures()
  const known = cases.flatMap(({ id }) => (kept[id] ? [{ id, ...kept[id] }] : []))
  const rows = known.flatMap(one => one.rows)
  const runs = [
    ...Map.groupBy(known, ({ date, command, machine, versions }) => {
      const programs = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
      return `on ${date} by \`${command}\`, on ${machine}: ${programs.join(', ')}`
    }),
  ]
  const goals = judge(rows)
  const text = [
    ...runs.map(([how, those]) => `${those.map(({ id }) => id).join(', ')}: recorded ${how}.`),
    '',
    '## Goals',
    '',
    '| goal | found | |',
    '|---|---:|---|',
    ...goals.map(({ goal, found, met }) => `| ${goal} | ${found} | ${met ? 'met' : '**missed**'} |`),
    '',
    '## Figures',
    '',
    markdownSettings(runners),
    '',
    markdownTable(rows, runners),
  ].join('\n')
  const path = join(docs, 'benchmarks.md')
  const [before = ''] = readFileSync(path, 'utf8').split(mark)
  writeFileSync(path, `${before}${mark}\n\n${text}`)
  const last =
    known
      .map(({ date }) => date)
      .sort()
      .at(-1) ?? ''
  writeFileSync(
    join(docs, 'benchmark.svg'),
    picture(rows, runners, `${last}, ${known[0]?.machine.split(',')[0] ?? ''}`),
  )
}
