// `npm run test:faults`: kills rotate-ca's process before and after each of its steps, and has the run gone on with, or undone;
// judges the cluster from outside each time, and puts it back to its snapshot for the next. Takes hours: what passed is kept in a file,
// and the next call goes on after it. Most of that is waiting, so that a few labs side by side (`--jobs`) get more done. `--keep` and
// `--in-one-run` save most of the time: putting a lab back, and a rotation for each kill.
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import * as lab from '../lib/lab/index.ts'
import type { RunEvent } from '../lib/run/events.ts'
import { assertAsBefore, assertRotated, takeOldCredentials } from '../test/lab/_outside.ts'
import { counted } from './counted.ts'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const ways = ['resume', 'rollback'] as const
type Way = (typeof ways)[number]

const { values: options } = parseArgs({
  options: {
    /** What the labs are called: NAME-1, NAME-2, … */
    name: { type: 'string', default: 'faults' },
    masters: { type: 'string', default: '1' },
    nodes: { type: 'string', default: '1' },
    /** How many labs work side by side. */
    jobs: { type: 'string', default: '1' },
    /** Only these ways: resume, rollback. */
    way: { type: 'string', multiple: true },
    /** Only these steps, by id, whether they passed before or not. */
    step: { type: 'string', multiple: true },
    /** Only the first step of each play. */
    'each-play': { type: 'boolean', default: false },
    /** A lab that is as before, as the check from outside has just found, is not put back to its snapshot for its next case. */
    keep: { type: 'boolean', default: false },
    /** Instead: one rotation that is killed at all of these places, and gone on with each time, until it ends. */
    'in-one-run': { type: 'boolean', default: false },
    /** Begin no case after so many minutes. */
    minutes: { type: 'string' },
  },
})

const moments = ['before', 'after'] as const

/** One death of the control process. */
interface Case {
  readonly way: Way
  /** When its journal has this, it is killed. */
  readonly when: (typeof moments)[number]
  readonly step: string
}
const titleOf = ({ way, when, step }: Case) => `${way}, killed ${when} ${step}`

interface Ended {
  readonly code: number
  readonly text: string
  readonly folder: string
}

// A rekey is in a group of its own: what ends this process would leave it alone.
const running = new Set<ChildProcess>()
function end({ pid }: ChildProcess): void {
  try {
    if (pid) process.kill(-pid, 'SIGKILL')
  } catch {
    // It has just ended by itself.
  }
}
process.on('exit', () => running.forEach(end))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))

/** Calls rekey in a process group of its own, which is killed as soon as a line of its output says so. */
function rekey(words: readonly string[], fatal: (event: RunEvent) => boolean = () => false): Promise<Ended> {
  return new Promise(resolve => {
    const child = spawn(join(root, 'bin', 'rekey'), words, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    running.add(child)
    let [text, rest, folder, dead] = ['', '', '', false]
    child.stdout.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        if (dead || !line.startsWith('{')) continue
        const event = JSON.parse(line) as RunEvent
        if (event.kind === 'run.started') folder = event.folder
        if (event.kind === 'run.finished' && event.error) text += event.error.message
        if (!fatal(event)) continue
        dead = true
        end(child)
      }
    })
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk
    })
    const timer = setTimeout(end, 15 * 60_000, child)
    child.on('close', code => {
      clearTimeout(timer)
      running.delete(child)
      resolve({ code: code ?? 137, text, folder })
    })
  })
}

/** Throws unless the cluster is, after a kill and what `way` makes of it, as it must be. The lab must be as its snapshot. */
async function doCase({ way, when, step }: Case, shape: lab.Shape): Promise<string> {
  const old = await takeOldCredentials(shape)
  const kind = when === 'before' ? 'step.started' : 'step.finished'
  const killed = await rekey(
    ['run', 'rotate-ca', '-i', lab.inventoryPath(shape.name), '--output', 'json'],
    event => event.kind === kind && event.step === step,
  )
  const at = `${shape.name}, ${killed.folder}`
  if (killed.code !== 137) throw new Error(`it was to be killed, and ended with ${killed.code}: ${killed.text} (${at})`)
  const ended = await rekey([way, killed.folder, '--output', 'json'])
  if (ended.code !== 0) throw new Error(`${way} ended with ${ended.code}: ${ended.text} (${at})`)
  try {
    await (way === 'resume' ? assertRotated(shape, killed.folder, old) : assertAsBefore(shape, old))
  } catch (error) {
    throw new Error(`${(error as Error).message} (${at})`)
  }
  return way === 'resume' ? 'rotated' : 'as before'
}

/**
 * Kills a rotation before and after each of its steps, and goes on with it each time, until it ends by itself; throws unless the cluster
 * is rotated then. A step may be so short that it has ended when the kill comes: another rotation is killed where the ones before it
 * were not.
 * @returns how many kills there were, which the steps are that ran and were not killed at both moments, and which never ran
 */
async function killInOneRun(shape: lab.Shape, wanted: readonly string[]) {
  const killed = new Set<string>()
  const ran = new Set<string>()
  const missing = () =>
    [...ran].flatMap(step => moments.map(when => `${when} ${step}`)).filter(place => !killed.has(place))
  for (let round = 1; round === 1 || (round <= 3 && missing().length > 0); round++) {
    const old = await takeOldCredentials(shape)
    let words = ['run', 'rotate-ca', '-i', lab.inventoryPath(shape.name)]
    let folder = ''
    for (let code = 137; code === 137; ) {
      let place = ''
      const ended = await rekey([...words, '--output', 'json'], event => {
        const at = placeOf(event)
        if (!at || !wanted.includes(at.step)) return false
        if (at.when === 'after') ran.add(at.step)
        place = `${at.when} ${at.step}`
        return !killed.has(place)
      })
      ;({ code } = ended)
      folder ||= ended.folder
      if (code !== 137 && code !== 0)
        throw new Error(`after ${killed.size} kills it ended with ${code}: ${ended.text} (${folder})`)
      if (code === 137 && killed.has(place)) throw new Error(`it did not end by itself, ${place} (${folder})`)
      if (code === 137) {
        killed.add(place)
        console.log(`killed ${place} (rotation ${round}, after ${Math.round(performance.now() / 1_000)} s)`)
      }
      words = ['resume', folder]
    }
    await assertRotated(shape, folder, old)
    console.log(`rotation ${round}: rotated (${folder})`)
  }
  return { kills: killed.size, missing: missing(), idle: wanted.filter(step => !ran.has(step)) }
}

/** Which step an event is the beginning or the end of; of none, where that was done before, or was skipped. */
function placeOf(event: RunEvent): Pick<Case, 'when' | 'step'> | undefined {
  if (event.kind === 'step.started' && !event.again) return { when: 'before', step: event.step }
  if (event.kind === 'step.finished' && !event.earlier && event.outcome !== 'skipped')
    return { when: 'after', step: event.step }
  return undefined
}

/** The steps of the playbook in their order, by play; the one that connects first. */
async function stepsOfPlays(name: string): Promise<string[][]> {
  const { stdout } = spawn(join(root, 'bin', 'rekey'), [
    ...['run', 'rotate-ca', '-i', lab.inventoryPath(name), '--list-steps'],
  ])
  let text = ''
  for await (const chunk of stdout) text += chunk
  const plays: string[][] = [['connect']]
  for (const line of text.split('\n').filter(Boolean)) {
    if (line.startsWith(' ')) plays.at(-1)?.push(line.trim().split(' ')[0] ?? '')
    else plays.push([])
  }
  return plays
}

/** From its snapshot: one that a call before this was cut off in may never be well again as it is. */
const upFresh = (name: string) =>
  lab.up({ name, masters: counted('masters', options.masters), nodes: Number(options.nodes), fresh: true }, () => {})

const state = process.env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state')
const results = join(state, 'rekey', 'faults', `${options.masters}+${options.nodes}.jsonl`)
mkdirSync(dirname(results), { recursive: true, mode: 0o700 })
const known = new Set(
  existsSync(results)
    ? readFileSync(results, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map(line => (JSON.parse(line) as { title: string }).title)
    : [],
)
const jobs = counted('jobs', options.jobs)
const names = Array.from({ length: jobs }, (_, index) => `${options.name}-${index + 1}`)
const deadline = options.minutes ? Date.now() + counted('minutes', options.minutes) * 60_000 : Number.POSITIVE_INFINITY
const first = await upFresh(names[0] ?? '')
const plays = await stepsOfPlays(names[0] ?? '')
const steps = (options['each-play'] ? plays.map(play => play[0] ?? '') : plays.flat()).filter(
  step => !options.step || options.step.includes(step),
)
if (options['in-one-run']) {
  const { kills, missing, idle } = await killInOneRun(first, steps)
  console.log(`${kills} kills in ${Math.round(performance.now() / 1_000)} s, each gone on with`)
  if (idle.length > 0) console.log(`not run: ${idle.join(', ')}`)
  if (missing.length > 0) console.log(`NOT KILLED: ${missing.join(', ')}`)
  await lab.down(names[0] ?? '', () => {})
  process.exit(missing.length > 0 ? 1 : 0)
}
// From the last step backwards, and first those that die in mid-step: a call that is cut off has seen more of what may go wrong.
const cases = moments
  .flatMap(when => steps.toReversed().flatMap(step => ways.map(way => ({ way, when, step }))))
  .filter(({ way }) => !options.way || options.way.includes(way))
const queue = options.step ? [...cases] : cases.filter(one => !known.has(titleOf(one)))
let [passed, failed] = [cases.length - queue.length, 0]

/** Does one case after the other on a lab that is as its snapshot, until there is none left, or no time. */
async function work(shape: lab.Shape): Promise<void> {
  let usable = true
  while (Date.now() < deadline) {
    const one = queue.shift()
    if (!one) return
    const title = titleOf(one)
    const started = performance.now()
    const seconds = () => Math.round((performance.now() - started) / 1_000)
    let restored = 0
    let result: string
    try {
      if (!usable) await upFresh(shape.name)
      usable = false
      restored = seconds()
      result = await doCase(one, shape)
      usable = options.keep && one.way === 'rollback'
      passed++
      appendFileSync(results, `${JSON.stringify({ title, result, at: new Date().toISOString() })}\n`)
    } catch (error) {
      result = `FAILED: ${(error as Error).message}`
      failed++
    }
    console.log(`${title}: ${result} (${seconds()} s, ${restored} of them to restore the lab)`)
  }
}

// A lab that isn't there is made while the ones before it are at work already.
const workers: Promise<void>[] = []
for (const name of names) {
  if (queue.length === 0) break
  workers.push(work(name === first.name ? first : await upFresh(name)))
}
await Promise.all(workers)
const left = queue.length
console.log(`${passed} passed, ${failed} failed${left > 0 ? `, ${left} not reached` : ''}; ${results}`)
await Promise.all(names.map(name => lab.down(name, () => {})))
process.exit(failed > 0 || left > 0 ? 1 : 0)
