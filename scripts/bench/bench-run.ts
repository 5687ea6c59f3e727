// Runs the cases: every runner in turn, again and again, and what each run did is checked.
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Case, Phase } from './cases.ts'
import type { BenchHosts, Reach } from './hosts.ts'
import { type Inside, insideOf, watched } from './inside.ts'
import type { Runner, Task } from './jobs.ts'
import { type Measured, measure } from './measure.ts'

/** How much is measured. Times are milliseconds. */
export interface Effort {
  /** How often every runner does every case. */
  readonly runs: number
  /** A run that takes longer is ended, and counts as longer than this. */
  readonly patience: number
}

/** What a runner took for a phase of a case. */
export interface Row {
  readonly phase: string
  readonly title: string
  readonly runner: string
  /** Seconds of each run that came to its end. */
  readonly seconds: number[]
  readonly processorSeconds: number[]
  /** Megabytes. */
  readonly memory: number[]
  /** How many others were ended, and after how many seconds. */
  ended: number
  stopped?: number
  /** Why there are no figures. */
  missing?: string
  inside?: Inside
}

/** Runs one case. `tell` is given a line for each run. */
export async function runCase(
  one: Case,
  runners: readonly Runner[],
  bench: BenchHosts,
  { runs, patience }: Effort,
  tell: (line: string) => void,
): Promise<Row[]> {
  one.prepare?.()
  const reach = await bench.reach(one.hosts, one.delay)
  const rows = new Map<string, Row>()
  const rowOf = ({ id, title }: Phase, runner: Runner): Row => {
    const key = `${id} ${runner.id}`
    const none = { seconds: [], processorSeconds: [], memory: [], ended: 0 }
    const row = rows.get(key) ?? { phase: id, title, runner: runner.id, ...none }
    rows.set(key, row)
    return row
  }
  const taskOf = (phase: Phase, runner: Runner): Task => {
    // Between phases only the log is cleared.
    if (phase.again) writeFileSync(bench.log, '')
    else {
      bench.clear(reach.hosts)
      rounds.set(runner, (rounds.get(runner) ?? 0) + 1)
    }
    const folder = join(bench.folder, one.id, `${runner.id}-${rounds.get(runner)}`)
    mkdirSync(folder, { recursive: true })
    return { job: phase.job, reach, bench, folder, inventory: inventoryOf(reach, folder) }
  }
  const givenUp = new Set<Runner>()
  for (let round = 0; round < runs; round++) {
    for (const runner of runners) {
      if (givenUp.has(runner)) continue
      for (const phase of one.phases) {
        const row = rowOf(phase, runner)
        const task = taskOf(phase, runner)
        const command = phase.without?.[runner.id] === undefined ? runner.command(task) : undefined
        if (command === undefined) {
          row.missing = phase.without?.[runner.id] ?? 'has nothing for it'
          continue
        }
        const measured = await measure(command, task.folder, patience)
        try {
          tell(measured.stopped ? noteEnded(row, patience) : note(row, measured, task, phase))
        } catch (error) {
          // One of the others that did less has no figures, and keeps nobody from theirs.
          if (runner.tellsOfItself) throw error
          tell(`${phase.id} ${runner.id}: NOT DONE: ${(error as Error).message}`)
          row.missing = 'did not do its work'
          row.seconds.length = 0
          // What comes after it needs what it did.
          givenUp.add(runner)
          await hostsAreDone(bench)
          break
        }
        if (measured.stopped) {
          await hostsAreDone(bench)
          if (phase.layDown) {
            bench.clear(reach.hosts)
            phase.layDown(task)
            phase.check(task, measured)
          }
        }
      }
    }
  }
  for (const runner of runners.filter(({ tellsOfItself }) => tellsOfItself)) {
    for (const phase of one.phases.filter(({ job }) => job.kind === 'steps')) {
      const task = taskOf(phase, runner)
      const command = runner.command(task)
      if (!command) continue
      const measured = await measure(watched(command, task.folder), task.folder, patience)
      if (measured.exitCode !== 0) throw new Error(`${phase.id}: ${measured.output.slice(-2_000)}`)
      rowOf(phase, runner).inside = insideOf(task.folder)
    }
  }
  return [...rows.values()]
}

/**
 * How often each runner has begun a case, in all of the bench. Each time has a folder of its own, and all of them are removed at the end:
 * where many files were just deleted, ext4 takes long to make others.
 */
const rounds = new Map<Runner, number>()

/** Milliseconds in which hosts that are done write nothing. */
const silence = 2_000
const longestWait = 30_000

/** What a run that was ended had begun on the hosts goes on there, and would write into the log of the next one. */
async function hostsAreDone({ log }: BenchHosts): Promise<void> {
  const until = performance.now() + longestWait
  let [before, now] = [-1, statSync(log).size]
  while (before !== now && performance.now() < until) {
    before = now
    await delay(silence)
    now = statSync(log).size
  }
}

/** Keeps that a run took longer than this; how long it took to end is not known to be its own. */
function noteEnded(row: Row, patience: number): string {
  row.ended++
  row.stopped = patience / 1_000
  return `${row.phase} ${row.runner}: ended after ${row.stopped} s`
}

/** Checks a run and keeps its figures. Throws where it did not do its work: then there is nothing to compare. */
function note(row: Row, measured: Measured, task: Task, phase: Phase): string {
  const what = `${row.phase} ${row.runner}`
  let seconds = measured.seconds
  try {
    if (measured.exitCode !== 0) throw new Error(`exit status 0, not ${measured.exitCode}`)
    seconds = phase.check(task, measured) ?? measured.seconds
  } catch (error) {
    throw new Error(`${what}: ${(error as Error).message}\n${measured.output.slice(-2_000)}`)
  }
  row.seconds.push(seconds)
  row.processorSeconds.push(measured.processorSeconds)
  row.memory.push(measured.memory)
  return `${what}: ${seconds.toFixed(3)} s, processor ${measured.processorSeconds.toFixed(2)} s, ${measured.memory.toFixed(0)} MB`
}

/** An inventory as Ansible and rekey read it: three masters, the other hosts nodes. */
function inventoryOf({ hosts, user, privateKey, knownHosts }: Reach, folder: string): string {
  const path = join(folder, 'hosts.json')
  const entry = (host: (typeof hosts)[number]) => [
    host.name,
    {
      ansible_host: host.address,
      ansible_port: host.port,
      bench_folder: host.folder,
      bench_name: host.name,
      rekey_directory: join(host.folder, 'rekey'),
    },
  ]
  const group = (some: typeof hosts) => ({ hosts: Object.fromEntries(some.map(entry)) })
  const vars = {
    ansible_user: user,
    ansible_ssh_private_key_file: privateKey,
    ansible_ssh_common_args: `-o UserKnownHostsFile=${knownHosts} -o StrictHostKeyChecking=yes`,
    ansible_python_interpreter: '/usr/bin/python3',
  }
  const all = { vars, children: { masters: group(hosts.slice(0, 3)), nodes: group(hosts.slice(3)) } }
  writeFileSync(path, JSON.stringify({ all }))
  return path
}
