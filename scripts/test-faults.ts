// `npm run test:faults`: kills rotate-ca's process before and after each of its steps, and has the run gone on with, or undone;
// judges the cluster from outside each time. Takes hours: what is done is kept in a file, and the next call goes on after it.
import { spawn } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import * as lab from '../lib/lab/index.ts'
import type { RunEvent } from '../lib/run/events.ts'
import { assertAsBefore, assertRotated, takeOldCredentials } from '../test/lab/_outside.ts'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const ways = ['resume', 'rollback'] as const
type Way = (typeof ways)[number]

const { values: options } = parseArgs({
  options: {
    name: { type: 'string', default: 'faults' },
    masters: { type: 'string', default: '1' },
    nodes: { type: 'string', default: '1' },
    /** Only these ways: resume, rollback. */
    way: { type: 'string', multiple: true },
    /** Only these steps, by id. */
    step: { type: 'string', multiple: true },
    /** Only the first step of each play that changes something. */
    'each-play': { type: 'boolean', default: false },
    /** Go on with the cluster as the last case left it, instead of putting it back to its snapshot each time. */
    keep: { type: 'boolean', default: false },
    minutes: { type: 'string' },
  },
})
const { name, keep } = options

/** One death of the control process. */
interface Case {
  readonly way: Way
  /** When its journal has this, it is killed. */
  readonly when: 'before' | 'after'
  readonly step: string
}
const titleOf = ({ way, when, step }: Case) => `${way}, killed ${when} ${step}`

interface Ended {
  readonly code: number
  readonly text: string
  readonly folder: string
}

/** Calls rekey in a process group of its own, which is killed as soon as a line of its output says so. */
function rekey(words: readonly string[], fatal: (event: RunEvent) => boolean = () => false): Promise<Ended> {
  return new Promise(resolve => {
    const child = spawn(join(root, 'bin', 'rekey'), words, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    const end = () => child.pid && process.kill(-child.pid, 'SIGKILL')
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
        end()
      }
    })
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk
    })
    const timer = setTimeout(end, 15 * 60_000)
    child.on('close', code => {
      clearTimeout(timer)
      resolve({ code: code ?? 137, text, folder })
    })
  })
}

async function doCase(one: Case, shape: lab.Shape): Promise<string> {
  const { way, when, step } = one
  const old = await takeOldCredentials(shape)
  const kind = when === 'before' ? 'step.started' : 'step.finished'
  const killed = await rekey(
    ['run', 'rotate-ca', '-i', lab.inventoryPath(name), '--output', 'json'],
    event => event.kind === kind && event.step === step,
  )
  if (killed.code !== 137) throw new Error(`it was to be killed, and ended with ${killed.code}: ${killed.text}`)
  const ended = await rekey([way, killed.folder, '--output', 'json'])
  if (way === 'resume') {
    if (ended.code !== 0) throw new Error(`resume ended with ${ended.code}: ${ended.text}`)
    await assertRotated(shape, killed.folder, old)
    return 'rotated'
  }
  if (ended.code !== 0) throw new Error(`rollback ended with ${ended.code}: ${ended.text}`)
  await assertAsBefore(shape, old)
  return 'as before'
}

/** The steps of the playbook in their order, by play; the one that connects first. */
async function stepsOfPlays(): Promise<string[][]> {
  const child = spawn(join(root, 'bin', 'rekey'), ['run', 'rotate-ca', '-i', lab.inventoryPath(name), '--list-steps'])
  let text = ''
  for await (const chunk of child.stdout) text += chunk
  const plays: string[][] = [['connect']]
  for (const line of text.split('\n').filter(Boolean)) {
    if (line.startsWith(' ')) plays.at(-1)?.push(line.trim().split(' ')[0] ?? '')
    else plays.push([])
  }
  return plays
}

const up = (fresh: boolean) =>
  lab.up({ name, masters: Number(options.masters), nodes: Number(options.nodes), fresh }, () => {})

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
let shape = await up(false)
const plays = await stepsOfPlays()
const steps = options['each-play'] ? plays.map(play => play[0] ?? '') : plays.flat()
const cases = ways
  .filter(way => !options.way || options.way.includes(way))
  .flatMap(way => steps.flatMap(step => (['before', 'after'] as const).map(when => ({ way, when, step }))))
  .filter(({ step }) => !options.step || options.step.includes(step))
const deadline = options.minutes ? Date.now() + Number(options.minutes) * 60_000 : Number.POSITIVE_INFINITY
let [passed, failed, left] = [0, 0, 0]
let dirty = true
for (const one of cases) {
  const title = titleOf(one)
  if (known.has(title) && !options.step) {
    passed++
    continue
  }
  if (Date.now() > deadline) {
    left++
    continue
  }
  const started = performance.now()
  let result: string
  try {
    if (dirty || !keep) shape = await up(true)
    dirty = false
    result = await doCase(one, shape)
    passed++
    appendFileSync(results, `${JSON.stringify({ title, result, at: new Date().toISOString() })}\n`)
  } catch (error) {
    result = `FAILED: ${(error as Error).message}`
    failed++
    dirty = true
  }
  console.log(`${title}: ${result} (${Math.round((performance.now() - started) / 1_000)} s)`)
}
console.log(`${passed} passed, ${failed} failed${left > 0 ? `, ${left} not reached` : ''}; ${results}`)
await lab.down(name, () => {})
process.exit(failed > 0 || left > 0 ? 1 : 0)
