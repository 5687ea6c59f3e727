// Stages of a keyset run in a lab as an operator runs them: once through, killed once and gone on with, undone.
import { strict as assert } from 'node:assert'
import * as lab from '../../../lib/lab/index.ts'
import type { RunEvent } from '../../../lib/run/events.ts'
import { type Called, eventOf, eventsOf, killedAt, rekey, saidBy } from '../_lab.ts'

/** What is done with a keyset. */
export interface Stages {
  /** Runs a stage. Returns its folder. */
  run(stage: string): Promise<string>
  /** Runs a stage, killed once as a step begins, and gone on with. Returns its folder. */
  killedOnce(stage: string, step: string): Promise<string>
  undone(folder: string): Promise<void>
}

/** What a run came to: well, and no canary was refused anything, but where the only API server was to be away. */
function wentWell(called: Called, gap = false): string {
  assert.equal(called.code, 0, saidBy(called))
  const events = eventsOf(called)
  if (gap) return eventOf(events, 'run.started').folder
  const workloads = eventOf(events, 'run.report').sections.find(({ title }) => title === 'Workloads')?.rows ?? []
  assert.ok(workloads.length > 0)
  for (const [, said] of workloads) assert.match(said, /, 0 of them refused/)
  return eventOf(events, 'run.started').folder
}

/**
 * The stages of a keyset in a lab. Each throws where a run doesn't come through, or a canary was refused anything.
 * @param gap the cluster has one API server, which is away while it starts anew: canaries may notice
 */
export function stagesOf(labName: string, keyset: string, { gap = false }: { readonly gap?: boolean } = {}): Stages {
  const words = (stage: string) => [
    ...['run', `${stage}-keysets`, '-i', lab.inventoryPath(labName), '-e', `keysets=${keyset}`, '--output', 'json'],
    ...(gap ? ['-e', 'accept_gap=true'] : []),
  ]
  return {
    run: async stage => wentWell(await rekey(words(stage)), gap),
    killedOnce: async (stage, step) => {
      let killed = false
      const fatal = (event: RunEvent) => {
        if (killed || event.kind !== 'step.started' || event.step !== step) return false
        killed = true
        return true
      }
      const first = await killedAt(words(stage), fatal)
      assert.equal(first.code, null, `it was killed: ${saidBy(first)}`)
      const { folder } = eventOf(eventsOf(first), 'run.started')
      wentWell(await rekey(['resume', folder, '--output', 'json']), gap)
      return folder
    },
    undone: async folder => {
      const called = await rekey(['rollback', folder, '--output', 'json'])
      assert.equal(called.code, 0, saidBy(called))
    },
  }
}
