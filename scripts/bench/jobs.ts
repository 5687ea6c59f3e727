// What the runners are asked to do, and the shell commands that are the same for all of them.
import type { BenchHosts, Reach } from './hosts.ts'
import type { Command } from './measure.ts'

/** One piece of work. */
export type Job =
  /** Steps in lockstep that do next to nothing; each may print lines, and last some seconds. */
  | { readonly kind: 'steps'; readonly steps: number; readonly lines: number; readonly seconds: number }
  /** One step that writes down the time. */
  | { readonly kind: 'first' }
  /** Every file of a folder of this machine into `files` in the folder of each host; `onlyDifferent`: none that is there already is sent. */
  | {
      readonly kind: 'copy'
      readonly source: string
      readonly files: readonly string[]
      readonly onlyDifferent?: boolean
    }
  /** Templates rendered for each host into `rendered` in its folder. */
  | { readonly kind: 'templates'; readonly count: number }
  /** What a machine is made of. */
  | { readonly kind: 'facts' }
  /** What is said without a host, and nothing else. */
  | { readonly kind: 'words'; readonly words: readonly string[] }
  /** Every variable of every host of an inventory, printed. */
  | { readonly kind: 'inventory'; readonly file: string }

/** Up to so many files are sent one by one. */
export const fewFiles = 10

/** A job, and the hosts that it is for. */
export interface Task {
  readonly job: Job
  readonly reach: Reach
  readonly bench: BenchHosts
  /** An inventory of these hosts as Ansible and rekey read it. */
  readonly inventory: string
  /** A folder on this machine for what the runner keeps. */
  readonly folder: string
}

/** Something that can do jobs. */
export interface Runner {
  readonly id: string
  readonly title: string
  /** Its best honest settings, in words. */
  readonly settings: string
  /** Keeps a journal as rekey does, which `inside.ts` reads. */
  readonly tellsOfItself?: boolean
  /** Makes ready, and says what to run; `undefined` where it has nothing for such a job. */
  command(task: Task): Command | undefined
}

/** The command of a step: proves that it ran, in which order; what it prints, it prints in two halves if it lasts. */
export function stepCommand(
  step: number,
  { lines, seconds }: { readonly lines: number; readonly seconds: number },
  log: string,
): string {
  const mark = `echo ${step} >>${log}`
  if (seconds > 0) {
    const half = `${printLines(lines / 2)}sleep ${seconds / 2}`
    return `${mark}; ${half}; ${half}`
  }
  return lines === 0 ? mark : `${mark}; ${printLines(lines)}:`
}

function printLines(lines: number): string {
  if (lines === 0) return ''
  const text = 'a line of output of about eighty characters as programs print them now and then'
  return `i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo "$i ${text}"; done; `
}

/** The command that writes down when it ran, in nanoseconds since 1970. */
export function firstCommand(log: string): string {
  return `date +%s%N >>${log}`
}

/** Prints what a machine is made of, a line for each fact. */
export const factsCommand = [
  'uname -r; uname -m',
  '. /etc/os-release; echo "$PRETTY_NAME"',
  'getconf _NPROCESSORS_ONLN',
  "sed -n 's/^MemTotal: *//p' /proc/meminfo",
  'hostname -I',
  'cat /proc/mounts',
].join('\n')

/** What a template makes of a host's name and a number, line by line, whatever its language. */
export function renderedText(host: string, number: number): string {
  const rows = templateItems.map(item => `backend ${item} at ${host} port ${8000 + number}\n`).join('')
  return `# template ${number} of ${host}\n${rows}end\n`
}

export const templateItems = Array.from({ length: 20 }, (_, index) => `b${index + 1}`)

/** The template in Go's language, as rekey reads it, and in Jinja's. */
export function templateText(language: 'go' | 'jinja', number: number): string {
  return language === 'go'
    ? `# template ${number} of {{ .Host }}\n{{ range .Items }}backend {{ . }} at {{ $.Host }} port ${8000 + number}\n{{ end }}end\n`
    : `# template ${number} of {{ bench_name }}\n{% for item in bench_items %}backend {{ item }} at {{ bench_name }} port ${8000 + number}\n{% endfor %}end\n`
}
