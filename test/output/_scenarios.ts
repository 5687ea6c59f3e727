// Runs as their events tell them, each with what every view must show of it.
import type { Outcome } from '../../lib/playbook/model.ts'
import type { EventError, Failure, Prediction, RunEvent, RunEventBody, Tally } from '../../lib/run/events.ts'

export interface Scenario {
  readonly name: string
  readonly events: readonly RunEvent[]
  /** `-v` */
  readonly verbose?: boolean
  /** What the views that show text say. */
  readonly text: readonly RegExp[]
  /** What only the tree, and only plain lines say. */
  readonly tree?: readonly RegExp[]
  readonly plain?: readonly RegExp[]
  readonly junit: readonly RegExp[]
  /** What none of them may show. */
  readonly never?: readonly RegExp[]
}

/** How a step went on a host. */
export interface Went {
  readonly outcome?: Outcome
  readonly error?: EventError
  readonly output?: readonly string[]
  readonly would?: readonly string[]
  readonly predicted?: Prediction
  readonly earlier?: true
  readonly diff?: readonly string[]
}

interface Shape {
  readonly hosts?: readonly string[]
  readonly steps?: readonly string[]
  readonly mode?: 'run' | 'resume' | 'rollback'
  readonly check?: boolean
  readonly outcome?: 'done' | 'failed' | 'interrupted'
  /** Steps from here on are not begun. */
  readonly stopsAfter?: string
  readonly more?: readonly RunEventBody[]
  readonly error?: EventError
  went?(host: string, step: string): Went
}

export const begun = Date.UTC(2026, 0, 2, 3, 4, 5)

/** The events of a run of one play; each step takes two seconds. */
export function recorded(shape: Shape = {}): RunEvent[] {
  const { hosts = ['h1', 'h2'], steps = ['First', 'Second'], mode = 'run', check = false } = shape
  const went = shape.went ?? ((): Went => ({}))
  const events: RunEvent[] = []
  let at = begun
  const emit = (body: RunEventBody) => events.push({ ...body, at })
  emit({
    ...{ kind: 'run.started', mode, run: 'R1', folder: '/runs/R1', playbook: 'two', summary: 'Two steps' },
    ...{ inventory: ['hosts.yml'], operator: 'ann', check, selection: {}, commit: 'c', playbookFile: 'two.ts' },
    ...{ playbookHash: 'h', inventoryHashes: {}, process: { machine: 'm', pid: 1, started: '' } },
    plays: [
      { title: 'Both', hosts, steps: steps.map(title => ({ id: title.toLowerCase(), title, runOnce: false })) },
      { title: 'Later', hosts, steps: [{ id: 'later', title: 'Later on', runOnce: true }] },
    ],
  } as RunEventBody)
  emit({ kind: 'play.started', play: 0 })
  const tally: Record<string, Tally> = {}
  const failures: Failure[] = []
  for (const title of steps) {
    const step = title.toLowerCase()
    const where = (host: string) => ({ play: 0, step, host })
    const results = hosts.map(host => [host, went(host, title)] as const)
    for (const [host, { earlier }] of results) if (!earlier) emit({ kind: 'step.started', ...where(host) })
    at += 2_000
    for (const [host, { outcome = 'changed', error, output = [], would, predicted, earlier, diff }] of results) {
      for (const line of output) emit({ kind: 'step.output', ...where(host), stream: 'stdout', line })
      if (diff) emit({ kind: 'step.diff', ...where(host), path: '/etc/x', diff })
      const rest = {
        ...(would && { would }),
        ...(predicted && { predicted }),
        ...(error && { error }),
        ...(earlier && { earlier }),
      }
      emit({ kind: 'step.finished', ...where(host), outcome, milliseconds: earlier ? 0 : 2_000, ...rest })
      tally[host] = { ...tally[host], [outcome]: (tally[host]?.[outcome] ?? 0) + 1 }
      if (error) failures.push({ host, step: title, outcome, error })
    }
    if (title === shape.stopsAfter) break
  }
  emit({ kind: 'play.finished', play: 0, milliseconds: at - begun })
  for (const body of shape.more ?? []) emit(body)
  const { outcome = 'done', error = failures[0]?.error } = shape
  emit({
    ...{
      kind: 'run.finished',
      outcome,
      exitCode: outcome === 'done' ? 0 : 2,
      milliseconds: at - begun,
      tally,
      failures,
    },
    ...(outcome === 'done' ? {} : { state: ['Finished everywhere, last: Preparation'] }),
    ...(error && { error }),
  } as RunEventBody)
  return events
}

const hundred = Array.from({ length: 100 }, (_, index) => `h${String(index + 1).padStart(3, '0')}`)

const failing = (outcome: Outcome, message: string, code = 'test') => ({
  outcome: 'failed' as const,
  stopsAfter: 'First',
  went: (host: string): Went => (host === 'h2' ? { outcome, error: { message, code, hint: 'Look at h2.' } } : {}),
})

export const scenarios: readonly Scenario[] = [
  {
    name: 'all is well',
    events: recorded({ went: (_, step) => ({ outcome: step === 'First' ? 'ok' : 'changed' }) }),
    text: [/two: Two steps/, /Run R1/, /two done after 4\.0 s/, /h1 +ok=1 changed=1/],
    tree: [/✔ Both +2 hosts · 4\.0 s/],
    plain: [/ok +First \[h1\] 2\.0 s/, /changed +Second \[h2\] 2\.0 s/],
    junit: [/<testsuite name="Both" tests="4" failures="0" errors="0" skipped="0" time="8\.000"/],
  },
  {
    name: 'a step is left out',
    events: recorded({ went: (_, step) => (step === 'First' ? { outcome: 'skipped' } : {}) }),
    text: [/h2 +changed=1 skipped=1/],
    plain: [/skipped +First \[h1\]/],
    junit: [/skipped="2"/, /<skipped message="there was nothing to do"\/>/],
  },
  {
    name: 'a step fails on a host',
    events: recorded(failing('failed', 'a command ended with exit status 9:\nthe disk <is> on fire', 'command.failed')),
    text: [/h2 +failed=1/, /Error: h2: a command ended with exit status 9/, /Hint: Look at h2\./, /Where things stand/],
    tree: [/✖ Both/, /✖ First +changed=1 failed=1/, /✖ h2 failed: a command ended .* on fire/, /◻ 1 step not begun/],
    plain: [/failed +First \[h2\] 2\.0 s: a command ended with exit status 9:\nthe disk <is> on fire/],
    junit: [
      /<failure message="a command ended with exit status 9:" type="command.failed">a command[^<]*&lt;is&gt; on fire\nLook at h2\./,
      /<testcase name="Second \[h1\]"[^>]*>\s*<skipped message="the host did not come to it"\/>/,
    ],
  },
  ...(['unreachable', 'unknown', 'cancelled'] as const).map(
    (outcome): Scenario => ({
      name: `a host is ${outcome}`,
      events: recorded({
        ...failing(outcome, `h2 is ${outcome}`),
        outcome: outcome === 'cancelled' ? 'interrupted' : 'failed',
      }),
      text: [new RegExp(`h2 +${outcome}=1`), new RegExp(`Error: h2 is ${outcome}`)],
      tree: [
        outcome === 'cancelled' ? /◼ First +changed=1 cancelled=1/ : new RegExp(`✖ h2 ${outcome}: h2 is ${outcome}`),
      ],
      plain: [new RegExp(`${outcome} +First \\[h2\\]`)],
      junit: [/errors="1"/, new RegExp(`<error message="h2 is ${outcome}" type="${outcome}">`)],
    }),
  ),
  {
    name: 'a run is interrupted between two steps',
    events: recorded({ outcome: 'interrupted', stopsAfter: 'First' }),
    text: [/two was interrupted after 2\.0 s/, /Where things stand/],
    tree: [/◼ Both[^\n]*\n {2}✔ First {2}changed=2[^\n]*\n {2}◻ 1 step not begun\n◻ 1 play not begun/],
    junit: [/<error message="the run was interrupted" type="run">/],
  },
  {
    name: 'a hundred hosts, three of which fail',
    events: recorded({
      ...{ hosts: hundred, outcome: 'failed', stopsAfter: 'First' },
      went: host => (/^h0[345]0$/.test(host) ? { outcome: 'failed', error: { message: `${host} is full` } } : {}),
    }),
    text: [/h030 +failed=1/, /h001, h002, .* and \d+ more +changed=1/, /Error: h030 is full\nError: h040 is full/],
    tree: [/✖ First +changed=97 failed=3/, /✖ h050 failed: h050 is full/],
    plain: [/failed +First \[h050\]/],
    junit: [/<testsuite name="Both" tests="200" failures="3" errors="0" skipped="100"/],
  },
  {
    name: 'a run is gone on with',
    events: recorded({
      mode: 'resume',
      went: (_, step) => (step === 'First' ? { outcome: 'skipped', earlier: true } : {}),
      more: [{ kind: 'notice', text: 'Second: begun on h1, its end is not known: it is done again' }],
    }),
    text: [/Run R1, gone on with/, /its end is not known: it is done again/],
    plain: [/changed +Second/],
    junit: [/<skipped message="it was done before the run was gone on with"\/>/],
  },
  {
    name: 'a check says what would be done',
    events: recorded({
      check: true,
      went: (_, step) => ({
        would: [`systemctl restart ${step.toLowerCase()}`],
        predicted: step === 'First' ? 'change' : 'unknown',
        diff: ['--- /etc/x', '+++ /etc/x', '@@ -1,1 +1,1 @@', '-a', '+b'],
      }),
    }),
    text: [/check: nothing is changed/, /h1 \| -a\n +h1 \| \+b/],
    tree: [/What would be done\n {2}First \[h1, h2\]\n {6}systemctl restart first/],
    plain: [/would change +First \[h1\].*\n +would: systemctl restart first/, /unknown +Second \[h1\]/],
    junit: [/<system-out>would: systemctl restart first\n--- \/etc\/x/],
  },
  {
    name: 'a report at the end, and a notice',
    events: recorded({
      more: [
        { kind: 'notice', text: 'the lock was taken over' },
        { kind: 'run.report', sections: [{ title: 'Downtime', rows: [['API', '12.4 s']] }] },
      ],
    }),
    text: [/the lock was taken over/, /Downtime\n {2}API {2}12\.4 s/],
    junit: [/<testsuites name="two" tests="5"/],
  },
  {
    name: 'a run that ends before its first step',
    events: recorded({ steps: [], outcome: 'failed', error: { message: 'the lock is held by r0', code: 'lock.held' } }),
    text: [/Error: the lock is held by r0/],
    junit: [
      /<testsuite name="Run" tests="1" failures="0" errors="1"/,
      /<error message="the lock is held by r0" type="run">/,
    ],
  },
  {
    name: 'hosts talk, in colours, in wide letters, and without an end',
    verbose: true,
    events: recorded({
      went: () => ({
        output: ['\x1b[31mred\x1b[0m\x1b[2J', '漢字'.repeat(60), 'a\rb\r', `${'long '.repeat(60)}end`, 'tab\there'],
      }),
    }),
    text: [/h1 \| red\n/, /h2 \| b\n/, /h1 \| tab +here/],
    junit: [/tests="4"/],
    never: [/\x1b\[2J|\x1b\[31mred/],
  },
  {
    name: 'secrets come by',
    verbose: true,
    events: recorded({
      ...failing('failed', 'the password is horse-battery', 'horse-battery'),
      went: host => ({
        output: [
          'token: eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl',
          'it is horse-battery',
          'aG9yc2UtYmF0dGVyeQ==',
        ],
        ...(host === 'h2' ? { outcome: 'failed', error: { message: 'the password is horse-battery' } } : {}),
      }),
    }),
    text: [/h1 \| it is «redacted»/, /Error: h2: the password is «redacted»/],
    junit: [/<failure message="the password is «redacted»"/],
    never: [/horse-battery|eyJhbGci|aG9yc2Ut/],
  },
]
