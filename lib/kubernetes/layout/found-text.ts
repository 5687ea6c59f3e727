// What find-layout.sh prints, taken apart: processes, units, their environment, files. Nothing is judged here.
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'

/** A process of a component, or of what carries several of them. */
export interface FoundProcess {
  readonly pid: number
  readonly exe: string
  readonly cwd: string
  readonly cgroups: readonly string[]
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

/** A file that is named, or that lies where such files are kept. */
export interface FoundFile {
  readonly path: string
  /** Where it lies when links are followed. */
  readonly real: string
  /** Octal. */
  readonly mode: number
  /** `root:root`. */
  readonly owner: string
  /** Whether it holds a key. */
  readonly key?: 'private' | 'public'
  /** Each certificate in it, PEM. */
  readonly certificates: readonly string[]
  /** What else of it may be shown. */
  readonly text: string
}

/** A unit, by its properties as systemctl shows them. A property that is shown several times has a line for each. */
export type FoundUnit = Readonly<Record<string, string>>

export interface FoundText {
  readonly hostName: string
  readonly processes: readonly FoundProcess[]
  readonly units: readonly FoundUnit[]
  /** The environment that files give, by path. */
  readonly environments: ReadonlyMap<string, Readonly<Record<string, string>>>
  readonly files: ReadonlyMap<string, FoundFile>
  /** Whether it was read to its end. */
  readonly whole: boolean
}

/** Takes apart what the script printed. */
export function readFoundText(text: string): FoundText {
  const processes: FoundProcess[] = []
  const environments = new Map<string, Record<string, string>>()
  const files = new Map<string, FoundFile>()
  let units: FoundUnit[] = []
  let hostName = ''
  for (const section of `\n${text}`.split('\n== ').slice(1)) {
    const [head = '', ...lines] = section.split('\n')
    const [kind, ...rest] = head.split(' ')
    const name = rest.join(' ')
    if (kind === 'host') hostName = name
    else if (kind === 'process') processes.push(processOf(Number(name), lines))
    else if (kind === 'units') units = unitsOf(after(lines, 'u '))
    else if (kind === 'env') environments.set(name, environmentOf(after(lines, '|')))
    else if (kind === 'file' && !files.has(name)) files.set(name, fileOf(name, lines))
  }
  return { hostName, processes, units, environments, files, whole: text.trimEnd().endsWith('\n.. end') }
}

const after = (lines: readonly string[], mark: string) =>
  lines.flatMap(line => (line.startsWith(mark) ? [line.slice(mark.length)] : []))

function processOf(pid: number, lines: readonly string[]): FoundProcess {
  return {
    pid,
    exe: after(lines, 'exe ')[0] ?? '',
    cwd: after(lines, 'cwd ')[0] ?? '/',
    cgroups: after(lines, 'cgroup ').map(line => line.split(':').slice(2).join(':')),
    words: after(lines, 'a '),
    environment: assignments(after(lines, 'e ')),
  }
}

function assignments(lines: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    lines.flatMap(line => {
      const at = line.indexOf('=')
      return at > 0 ? [[line.slice(0, at), line.slice(at + 1)] as const] : []
    }),
  )
}

function unitsOf(lines: readonly string[]): FoundUnit[] {
  const found: Record<string, string>[] = []
  let current: Record<string, string> | undefined
  for (const line of lines) {
    if (line === '') {
      current = undefined
      continue
    }
    if (!current) {
      current = {}
      found.push(current)
    }
    const at = line.indexOf('=')
    const [name, value] = [line.slice(0, at), line.slice(at + 1)]
    current[name] = name in current ? `${current[name]}\n${value}` : value
  }
  return found.filter(unit => unit['LoadState'] === 'loaded')
}

/** As systemd reads it: quotes around a value are no part of it, and a backslash at the end of a line goes on with the next one. */
function environmentOf(lines: readonly string[]): Record<string, string> {
  const joined = lines.join('\n').replaceAll(/\\\n/g, '').split('\n')
  return Object.fromEntries(
    Object.entries(assignments(joined)).map(([name, value]) => [
      name.trim().replace(/^export +/, ''),
      value.trim().replace(/^(["'])(.*)\1$/, '$2'),
    ]),
  )
}

function fileOf(path: string, lines: readonly string[]): FoundFile {
  const [mode = '', owner = ''] = (after(lines, 'stat ')[0] ?? '').split(' ')
  const [key] = after(lines, 'key ')
  const text = after(lines, '|').join('\n')
  const isText =
    /^[ \t]*(?:"?(kind|apiVersion|clusters|contexts|[a-z-]+-security|listen-client-urls|data-dir)"?\s*:|\{)/m
  return {
    path,
    real: after(lines, 'real ')[0] || path,
    mode: Number.parseInt(mode, 8) || 0o600,
    owner,
    ...(key === 'private' || key === 'public' ? { key } : {}),
    certificates: isText.test(text) ? [] : certificatesWithin(text),
    text,
  }
}
