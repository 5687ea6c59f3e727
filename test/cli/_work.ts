// Playbooks whose steps only say that they were there: what tests of blocks, handlers and strategies look at is who came when.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RunEvent } from '../../lib/run/events.ts'
import { type Called, workbench } from './_rekey.ts'

/** A workbench whose hosts are this machine, and what its playbooks did. */
export interface Work {
  readonly folder: string
  readonly bench: ReturnType<typeof workbench>
  /** Writes a playbook of these plays: TypeScript, in which `say('A')` is a step that writes `A HOST` to the log. */
  playbook(plays: string): string
  /** Runs such a playbook. */
  run(plays: string, ...args: string[]): Promise<Called>
  resume(...args: string[]): Promise<Called>
  /** What was written to the log since it was last asked; hosts that did the same one after the other stand in order. */
  log(): string[]
  /** The same, as it was written. */
  rawLog(): string[]
  /** Lets steps fail: `A-h1` is the step A on h1. */
  failOn(...words: string[]): void
  /** Lets them succeed again. */
  heal(...words: string[]): void
  /** The ends of steps in the journal of the last run, as `step host outcome`, those from before left out. */
  ends(): string[]
  finished(): Extract<RunEvent, { kind: 'step.finished' }>[]
}

/** Makes a folder to work in. */
export function work(hosts?: readonly string[]): Work {
  const bench = workbench('local', hosts, true)
  const { folder } = bench
  const path = join(folder, 'log')
  const playbook = (plays: string) =>
    bench.playbook(`
import { block, play, playbook, step, unchanged } from API
import { z } from ZOD
const log = ({ $, host }, word) => $\`echo \${word + ' ' + host.name} >>${path}; [ ! -e ${folder}/fail-\${word}-\${host.name} ]\`
const say = (word, more = {}) => step(word, { run: async ctx => { await log(ctx, word) }, ...more })
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}), plays: [${plays}] })`)
  const rawLog = () => {
    const lines = existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : []
    rmSync(path, { force: true })
    return lines
  }
  const finished: Work['finished'] = () =>
    readFileSync(join(bench.runs().at(-1) ?? '', 'events.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as RunEvent)
      .filter(event => event.kind === 'step.finished')
  return {
    folder,
    bench,
    playbook,
    run: (plays, ...args) => bench.rekey(['run', playbook(plays), '-i', bench.inventory, ...args]),
    resume: (...args) => bench.rekey(['resume', 'last', ...args]),
    log: () => alike(rawLog()).flatMap(group => group.sort()),
    rawLog,
    failOn: (...words) => {
      for (const word of words) writeFileSync(join(folder, `fail-${word}`), '')
    },
    heal: (...words) => {
      for (const word of words) rmSync(join(folder, `fail-${word}`))
    },
    ends: () =>
      finished()
        .filter(({ earlier, step }) => !earlier && step !== 'connect')
        .map(({ step, host, outcome, handled }) => `${step} ${host} ${handled ?? outcome}`),
    finished,
  }
}

/** Neighbouring lines of the same word, together. */
function alike(lines: readonly string[]): string[][] {
  const word = (line = '') => line.split(' ')[0]
  const groups: string[][] = []
  for (const line of lines) {
    const last = groups.at(-1)
    if (last && word(last[0]) === word(line)) last.push(line)
    else groups.push([line])
  }
  return groups
}
