// The run as a JUnit report, for the CI that started it: a suite a play, a test a step and host.
import { closeSync, openSync, writeSync } from 'node:fs'
import { RekeyError } from '../../errors.ts'
import type { RunEvent } from '../../run/events.ts'
import { visible } from '../text.ts'
import type { View } from '../view.ts'
import { placed } from '../words.ts'

type RunStarted = Extract<RunEvent, { kind: 'run.started' }>
type RunFinished = Extract<RunEvent, { kind: 'run.finished' }>
type StepFinished = Extract<RunEvent, { kind: 'step.finished' }>

interface Suite {
  readonly name: string
  readonly started?: number
  readonly cases: readonly Case[]
}

interface Case {
  readonly step: string
  readonly host: string
  readonly seconds: number
  /** `failure`: the step failed. `error`: nobody can say that it did, e.g. since its host could not be reached. */
  readonly verdict?: {
    readonly kind: 'failure' | 'error' | 'skipped'
    readonly message: string
    readonly type?: string
  }
  /** A failure that does not count, what it would do, and what it writes. */
  readonly said: readonly string[]
}

/**
 * Collects a run, and writes its report into a file when it ends.
 * @throws RekeyError at once where the file can't be written
 */
export function junitView(file: string): View {
  const descriptor = open(file)
  let started: RunStarted | undefined
  let finished: RunFinished | undefined
  let plays: { started?: number; begun: Set<string>; ended: Map<string, StepFinished>; said: Map<string, string[]> }[] =
    []
  const key = ({ step, host }: { step: string; host: string }) => `${step}\n${host}`
  return {
    event: event => {
      if (event.kind === 'run.started') {
        started = event
        plays = event.plays.map(() => ({ begun: new Set(), ended: new Map(), said: new Map() }))
      } else if (event.kind === 'run.finished') finished = event
      else if (event.kind === 'play.started') Object.assign(plays[event.play] ?? {}, { started: event.at })
      else if (event.kind === 'step.started') plays[event.play]?.begun.add(key(event))
      else if (event.kind === 'step.finished') plays[event.play]?.ended.set(key(event), event)
      else if (event.kind === 'step.diff') {
        const said = plays[event.play]?.said
        said?.set(key(event), [...(said.get(key(event)) ?? []), ...event.diff])
      }
    },
    close: async () => {
      const suites = (started?.plays ?? []).map(({ title, hosts, steps }, index): Suite => {
        const play = plays[index]
        const cases = steps.flatMap(planned => {
          const { id, runOnce, section } = planned
          const step = placed(planned)
          const known = hosts.filter(
            host => play?.begun.has(key({ step: id, host })) || play?.ended.has(key({ step: id, host })),
          )
          // Which host a step that is run once would have had is not known before, nor which would have come to what follows a failure.
          const isOpen = runOnce || section !== undefined
          const expected = section ? [] : runOnce ? hosts.slice(0, 1) : hosts
          return (isOpen && known.length > 0 ? known : expected).map(host => {
            const of = key({ step: id, host })
            return caseOf(step, host, play?.ended.get(of), play?.begun.has(of) ?? false, play?.said.get(of) ?? [])
          })
        })
        return { name: title, started: play?.started ?? started?.at, cases }
      })
      try {
        writeAll(descriptor, report(started, finished, suites))
        closeSync(descriptor)
      } catch (error) {
        throw unwritable(file, error as Error)
      }
    },
  }
}

const declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'

/** The file is begun at once: where nothing can be written, nothing is to be done. */
function open(file: string): number {
  try {
    const descriptor = openSync(file, 'w')
    writeAll(descriptor, declaration)
    return descriptor
  } catch (error) {
    throw unwritable(file, error as Error)
  }
}

function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text)
  // A disk that is nearly full takes the beginning.
  for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written)
}

function unwritable(file: string, cause: NodeJS.ErrnoException): RekeyError {
  return new RekeyError(`the JUnit report can't be written to ${file}: ${cause.message}`, {
    code: 'output.junit',
    hint: cause.code === 'ENOENT' ? 'Name a file in a folder that is there.' : 'Name a file that can be written.',
    cause,
  })
}

function caseOf(
  step: string,
  host: string,
  ended: StepFinished | undefined,
  begun: boolean,
  diff: readonly string[],
): Case {
  const seconds = (ended?.milliseconds ?? 0) / 1_000
  const said = [...(ended?.would ?? []).map(line => `would: ${line}`), ...diff]
  const verdict = (kind: 'failure' | 'error' | 'skipped', message: string, type?: string): Case => ({
    ...{ step, host, seconds, said },
    verdict: { kind, message, type },
  })
  if (!ended)
    return begun ? verdict('error', 'it did not end', 'unknown') : verdict('skipped', 'the host did not come to it')
  const { outcome, error, earlier, handled } = ended
  if (earlier) return verdict('skipped', 'it was done before the run was gone on with')
  if (outcome === 'skipped') return verdict('skipped', 'there was nothing to do')
  const message = [error?.message ?? outcome, error?.hint].filter(Boolean).join('\n')
  // It fails nothing: whoever reads the report must not stop at it.
  if (handled) return { step, host, seconds, said: [`${handled}: ${message}`, ...said] }
  if (outcome === 'failed') return verdict('failure', message, error?.code ?? outcome)
  if (outcome === 'ok' || outcome === 'changed') return { step, host, seconds, said }
  return verdict('error', message, outcome)
}

function report(started: RunStarted | undefined, finished: RunFinished | undefined, plays: readonly Suite[]): string {
  const playbook = started?.playbook ?? 'rekey'
  // What ended the run and was no host's fault stands in none of the plays.
  const isTold = finished?.outcome === 'done' || (finished?.failures.length ?? 0) > 0
  const message = finished?.error?.message ?? (finished ? `the run was ${finished.outcome}` : 'the run did not end')
  const whole: Case = {
    step: playbook,
    host: 'run',
    seconds: 0,
    said: [],
    verdict: { kind: 'error', message, type: 'run' },
  }
  const suites = isTold ? plays : [...plays, { name: 'Run', started: started?.at, cases: [whole] }]
  const all = suites.flatMap(({ cases }) => cases)
  const head = element('testsuites', {
    name: playbook,
    ...counts(all),
    time: seconds((finished?.milliseconds ?? 0) / 1_000),
  })
  return [`<${head}>`, ...suites.flatMap(suite => suiteLines(playbook, suite)), '</testsuites>', ''].join('\n')
}

function suiteLines(playbook: string, { name, started, cases }: Suite): string[] {
  const time = seconds(cases.reduce((sum, one) => sum + one.seconds, 0))
  // Schemas want a time without a zone. A play that was not begun has that of the run.
  const timestamp = new Date(started ?? 0).toISOString().slice(0, 19)
  const { tests, failures, errors } = counts(cases)
  const skipped = cases.filter(({ verdict }) => verdict?.kind === 'skipped').length
  const head = element('testsuite', { name, tests, failures, errors, skipped, time, timestamp, hostname: 'localhost' })
  return [`  <${head}>`, ...cases.flatMap(one => caseLines(`${playbook}.${name}`, one)), '  </testsuite>']
}

function caseLines(classname: string, { step, host, seconds: took, verdict, said }: Case): string[] {
  const head = element('testcase', { name: `${step} [${host}]`, classname, time: seconds(took) })
  const inner: string[] = []
  if (verdict) {
    const { kind, message, type } = verdict
    const [first = ''] = message.split('\n')
    const start = element(kind, kind === 'skipped' ? { message } : { message: first, type: type ?? kind })
    inner.push(kind === 'skipped' ? `      <${start}/>` : `      <${start}>${escaped(message)}</${kind}>`)
  }
  if (said.length > 0) inner.push(`      <system-out>${escaped(said.join('\n'))}</system-out>`)
  return inner.length === 0 ? [`    <${head}/>`] : [`    <${head}>`, ...inner, '    </testcase>']
}

function counts(cases: readonly Case[]): { tests: string; failures: string; errors: string } {
  const count = (kind: string) => String(cases.filter(({ verdict }) => verdict?.kind === kind).length)
  return { tests: String(cases.length), failures: count('failure'), errors: count('error') }
}

const seconds = (value: number) => value.toFixed(3)

function element(name: string, attributes: Readonly<Record<string, string | number>>): string {
  return [name, ...Object.entries(attributes).map(([key, value]) => `${key}="${escaped(String(value))}"`)].join(' ')
}

/** Text for XML 1.0, which has no way to write most control characters. */
function escaped(text: string): string {
  return text
    .split('\n')
    .map(visible)
    .join('\n')
    .replace(/[\ufffe\uffff]|\p{Surrogate}/gu, '')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
