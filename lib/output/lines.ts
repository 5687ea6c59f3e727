// What hosts print and what steps write, as lines with the host before them: the same in every view that shows text.
import type { RunEvent } from '../run/events.ts'
import type { Style, Terminal } from './terminal.ts'

/** A line that a step printed. */
export function outputLine({ host, line }: Extract<RunEvent, { kind: 'step.output' }>): string {
  return line
    .split('\n')
    .map(one => `    ${host} | ${one}`)
    .join('\n')
}

/** A unified diff of a file. */
export function diffLines({ host, diff }: Extract<RunEvent, { kind: 'step.diff' }>, terminal: Terminal): string[] {
  return diff.map(line => `    ${host} | ${terminal.paint(styleOf(line), line)}`)
}

function styleOf(line: string): Style {
  if (line.startsWith('---') || line.startsWith('+++')) return 'strong'
  if (line.startsWith('@@')) return 'skipped'
  if (line.startsWith('+')) return 'good'
  return line.startsWith('-') ? 'bad' : 'plain'
}
