// `npm run bench:rotation`: what a rotation's time goes into, from the journal of a run: of one that there is (--run RUN), or of
// one in the lab that it makes.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { columns } from '../lib/output/words.ts'
import type { RunEvent } from '../lib/run/events.ts'
import { runsDirectory } from '../lib/run/folder/folder.ts'
import { findRun, journalEvents } from '../lib/run/journal/history.ts'

/** What time goes into. At a moment when several go on, the first of these counts. */
const shares = {
  kubernetes: 'waiting for Kubernetes',
  vault: 'keys and certificates, by Vault',
  hosts: 'commands and files on hosts',
  rekey: 'rekey between steps',
} as const
type Share = keyof typeof shares

/** Steps that end when Kubernetes has done something: a pod runs, a node is Ready, a copy is published. */
const kubernetesSteps =
  /^(wait-|restart-|regenerate-tokens|update-copies|check-the-nodes|verify-(pods|exec|secrets|refusals)|the-canaries-)/
const vaultSteps = /vault|pki|issue|root-ca|roles|policy/

const { values } = parseArgs({ options: { run: { type: 'string' }, json: { type: 'boolean', default: false } } })
if (values.run === undefined) rotateInLab()
const folder = findRun(values.run ?? 'last', runsDirectory())
const found = timesOf([...journalEvents(folder)])
if (values.json) console.log(JSON.stringify(found, undefined, 2))
else print(found)

function rotateInLab(): void {
  const rekey = join(import.meta.dirname, '..', 'bin', 'rekey')
  execFileSync(rekey, ['lab', 'up', '--yes'], { stdio: 'inherit' })
  const inventory = execFileSync(rekey, ['lab', 'inventory'], { encoding: 'utf8' }).trim()
  execFileSync(rekey, ['run', 'rotate-ca', '-i', inventory], { stdio: 'inherit' })
}

interface Times {
  readonly run: string
  readonly phases: readonly { readonly title: string; readonly seconds: number }[]
  readonly seconds: number
  readonly shares: Readonly<Record<Share, number>>
}

/** Goes through the events, and gives the time between two of them to what was going on. */
function timesOf(events: readonly RunEvent[]): Times {
  const started = events.find(event => event.kind === 'run.started')
  const finished = events.findLast(event => event.kind === 'run.finished')
  if (!started || !finished) throw new Error(`${folder} holds no journal of a run that ended`)
  const running = new Map<string, Share>()
  const milliseconds: Record<Share, number> = { kubernetes: 0, vault: 0, hosts: 0, rekey: 0 }
  const phases: { title: string; seconds: number }[] = []
  let last = started.at
  for (const event of events) {
    const going = new Set(running.values())
    const share = (Object.keys(shares) as Share[]).find(one => going.has(one)) ?? 'rekey'
    milliseconds[share] += event.at - last
    last = event.at
    if (event.kind === 'step.started') running.set(`${event.step} ${event.host}`, shareOf(event.step))
    else if (event.kind === 'step.finished') running.delete(`${event.step} ${event.host}`)
    else if (event.kind === 'play.finished')
      phases.push({ title: started.plays[event.play]?.title ?? '', seconds: event.milliseconds / 1_000 })
  }
  const seconds = Object.fromEntries(Object.entries(milliseconds).map(([share, sum]) => [share, sum / 1_000]))
  return {
    run: started.run,
    phases,
    seconds: (finished.at - started.at) / 1_000,
    shares: seconds as Record<Share, number>,
  }
}

function shareOf(step: string): Share {
  if (kubernetesSteps.test(step)) return 'kubernetes'
  return vaultSteps.test(step) ? 'vault' : 'hosts'
}

function print({ run, phases, seconds, shares: parts }: Times): void {
  const line = (title: string, part: number): [string, string] => [
    title,
    `${part.toFixed(1).padStart(6)} s  ${((part / seconds) * 100).toFixed(0).padStart(3)} %`,
  ]
  console.log(`${run}: ${seconds.toFixed(1)} s\n\nPhases`)
  for (const text of columns(phases.map(({ title, seconds: part }) => line(title, part)))) console.log(text)
  console.log('\nWhat the time went into')
  for (const text of columns((Object.keys(shares) as Share[]).map(share => line(shares[share], parts[share]))))
    console.log(text)
}
