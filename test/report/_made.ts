// Folders of runs that nobody ran: their events as a generator makes them, with everything in them that a report tells.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { EventCurve, RunEvent, RunEventBody, Tally } from '../../lib/run/events.ts'
import { outputFile } from '../../lib/run/printed/output-files.ts'
import { temporaryFolder } from '../_temporary.ts'

/** How a made run is. */
export interface Made {
  readonly hosts: readonly string[]
  readonly steps: number
  /** Hosts that fail in the last step. */
  readonly failing?: readonly string[]
  readonly inventory?: string
  /** How much longer than others everything takes. */
  readonly slowness?: number
  /** Lines that a failed step printed. */
  readonly printed?: readonly string[]
  readonly registered?: readonly object[]
  /** Milliseconds of gaps of the API. */
  readonly gaps?: readonly number[]
  readonly title?: (step: number) => string
  /** Ids of the first steps, where they are to be those of a rotation. */
  readonly ids?: readonly string[]
}

export const began = Date.UTC(2026, 0, 2, 3, 4, 5)

/** The same pseudo-random numbers each time: a page must not change from one test to the next. */
function numbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  }
}

/** Writes the folder of a run of some steps on some hosts in lockstep, and returns it. */
export function madeRun(made: Made): string {
  const { hosts, steps, failing = [], inventory = 'production', slowness = 1, printed = [], registered = [] } = made
  const { gaps = [], ids = [], title = (step: number) => `${verbs[step % verbs.length]} (${step + 1})` } = made
  const folder = join(temporaryFolder('made'), `20260102-030405-replace-${inventory}-0001`)
  const run = folder.split('/').at(-1)!
  const random = numbers(7)
  const perPlay = 5
  const planned = Array.from({ length: steps }, (_, index) => ({
    id: ids[index] ?? `step-${index}`,
    title: title(index),
    runOnce: false,
  }))
  const plays = Array.from({ length: Math.ceil(steps / perPlay) }, (_, index) => ({
    title: playTitles[index % playTitles.length]!,
    ...{ hosts, steps: planned.slice(index * perPlay, (index + 1) * perPlay), tags: index === 0 ? ['gate'] : [] },
  }))
  const events: RunEvent[] = []
  let now = began
  const emit = (body: RunEventBody, at = now) => events.push({ ...body, at })
  emit({
    ...{
      kind: 'run.started',
      mode: 'run',
      run,
      folder,
      playbook: 'replace',
      summary: 'Replace what every host presents',
    },
    ...{
      inventory: [`inventory/${inventory}`],
      operator: 'ann',
      check: false,
      commit: 'c'.repeat(40),
      selection: { forks: 50 },
    },
    ...{ playbookFile: '/repository/replace.ts', playbookHash: 'f'.repeat(64), inventoryHashes: {}, plays },
    process: { machine: 'control', pid: 4_242, started: '' },
  })
  emit({ kind: 'notice', text: 'by the groups of the inventory, masters: controllers' })
  const tally: Record<string, Record<string, number>> = {}
  const failures = []
  for (const [play, { steps: own }] of plays.entries()) {
    emit({ kind: 'play.started', play })
    const start = now
    for (const { id: step } of own) {
      const isLast = step === planned.at(-1)?.id
      const ended: RunEvent[] = []
      if (step === 'step-6') emit({ kind: 'milestone', name: 'first change' })
      for (const host of hosts) {
        emit({ kind: 'step.started', play, step, host })
        const milliseconds = Math.round((400 + 3_000 * random() ** 4) * slowness)
        const outcome =
          isLast && failing.includes(host) ? 'failed' : random() < 0.6 ? 'changed' : random() < 0.8 ? 'ok' : 'skipped'
        const error = {
          message: `${host}: exit code 1: it would not start`,
          code: 'command.failed',
          hint: 'See what it printed.',
        }
        const of = { play, step, host }
        ended.push({
          kind: 'step.finished',
          ...of,
          outcome,
          milliseconds,
          ...(outcome === 'failed' && { error }),
          at: now + milliseconds,
        })
        if (outcome === 'failed') {
          failures.push({ host, step: title(steps - 1), outcome, error } as const)
          write(outputFile(folder, play, plays[play]!.title, of), `${printed.join('\n')}\n`)
        }
        tally[host] = { ...tally[host], [outcome]: (tally[host]?.[outcome] ?? 0) + 1 }
      }
      events.push(...ended.sort((a, b) => a.at - b.at))
      now = Math.max(...ended.map(({ at }) => at)) + 2
    }
    emit({ kind: 'play.finished', play, milliseconds: now - start })
  }
  const curves = ['lb.example.com:6443', 'm1', 'm2'].map((label, index) =>
    curve(`${label}: reads`, now, index === 2 ? [] : gaps, random),
  )
  emit({
    kind: 'run.report',
    sections: [{ title: 'API gap: reads and writes that failed', rows: [['m1', `reads ${gaps.length} gaps`]], curves }],
  })
  const failed = failures.length > 0
  emit({
    ...{
      kind: 'run.finished',
      outcome: failed ? 'failed' : 'done',
      exitCode: failed ? 2 : 0,
      milliseconds: now - began,
    },
    ...{ tally: tally as Record<string, Tally>, failures },
    ...(failed && {
      error: failures[0]!.error,
      state: ['all hosts present the new certificates but those that failed'],
    }),
  })
  mkdirSync(folder, { recursive: true })
  write(join(folder, 'events.jsonl'), events.map(event => `${JSON.stringify(event)}\n`).join(''))
  if (registered.length > 0)
    write(join(folder, 'registered.jsonl'), registered.map(one => `${JSON.stringify(one)}\n`).join(''))
  return folder
}

const verbs = [
  'Read the certificates',
  'Back up keys and configuration',
  'Issue and stage what is new',
  'Put it in place',
  'Restart what does not read it again',
  'Wait until it answers',
  'See what is presented',
]
const playTitles = ['May it begin?', 'Back up the hosts', 'Swap the certificates', 'Verify']

function curve(label: string, end: number, gaps: readonly number[], random: () => number): EventCurve {
  const pieces = Math.ceil((end - began) / 1_000)
  const asked = Array.from({ length: pieces }, () => 5)
  const slowest = asked.map(() => Math.round(8 + 30 * random() ** 3))
  const failed = asked.map(() => 0)
  const told = gaps.map((length, index) => {
    const from = began + ((index + 1) / (gaps.length + 1)) * (end - began)
    failed[Math.floor((from - began) / 1_000)] = 3
    return { from, to: from + length, failed: 3, reason: '2 ECONNREFUSED, 1 503' }
  })
  return { label, from: began, every: 1_000, asked, failed, slowest, gaps: told }
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}
