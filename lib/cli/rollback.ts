// `rekey rollback`: undoes what a run did, from wherever it stands.
import { Command } from 'commander'
import { RekeyError } from '../errors.ts'
import { say } from '../output/print.ts'
import { namedHost, names } from '../playbook/host.ts'
import type { Playbook } from '../playbook/model.ts'
import { stepsOf } from '../playbook/steps.ts'
import { referenceOf } from '../run/folder/folder.ts'
import { hostsOf, isDone, isUndone, type RunHistory } from '../run/journal/history.ts'
import { planRollback, type RollbackPlan } from '../run/rollback.ts'
import { type ResumeOptions, takeUp, withResumeOptions } from './resume.ts'
import { execute } from './running/execute.ts'
import { openRun } from './taking-up/run-folder.ts'

interface RollbackOptions extends ResumeOptions {
  to?: string
  listSteps?: boolean
}

export function rollbackCommand(): Command {
  const command = new Command('rollback')
    .description('undo what a run did, also one that failed, was interrupted, or was killed')
    .argument('<run>', "its id, a part of it, 'last' (the last of a playbook), or the path of its folder")
    .option('--to <step>', 'the id of the step that is the last to stay done; without it, everything is undone')
    .option('--list-steps', 'print what would be undone and what would stay, and stop')
  return withResumeOptions(command).action(async (reference: string, options: RollbackOptions) => {
    process.exitCode = await rollback(openRun(reference), options)
  })
}

async function rollback(history: RunHistory, options: RollbackOptions): Promise<number> {
  const { run, undone } = history
  if (isUndone(history)) {
    throw new RekeyError(`${run} is undone already`, { code: 'rollback.done' })
  }
  if (history.missing !== undefined && history.latest.mode !== 'rollback' && !history.lostBeginning) {
    throw new RekeyError(`${run} did more than its journal says: ${history.damage.join('; ')}`, {
      code: 'rollback.lost',
      hint: `Put the journal back as it was; or go on with the run first, which does again what is missing: rekey resume ${referenceOf(run, history.folder)}`,
    })
  }
  const { playbook, ...execution } = await takeUp(history, options, true)
  const touched = new Set([...history.touched.values()].flatMap(hosts => [...hosts]))
  const known = new Set([...touched].filter(name => namedHost(execution.inventory, name) !== undefined))
  const plan = planRollback(playbook, history.touched, known, options.to)
  const staying = plan.left.map(({ title, hosts, why }) => `stays done on ${names(hosts)}: ${title} (${why})`)
  if (options.listSteps) {
    for (const line of [...describe(plan), ...staying]) say(line)
    return 0
  }
  if (plan.plays.length === 0 && plan.left.length > 0) {
    throw new RekeyError(`nothing of what ${run} did can be undone:\n  ${staying.join('\n  ')}`, {
      code: 'rollback.nothing',
      hint: 'Undo it by hand; or put the playbook and the inventory back as they were in the run.',
    })
  }
  return execute({
    ...execution,
    playbook: { ...playbook, plays: plan.plays } as Playbook,
    selection: { limit: history.first.selection.limit, forks: history.first.selection.forks, to: options.to },
    // Where nothing is to be undone, the lock of a run that was killed is still to be given back.
    notices: [
      ...(execution.notices ?? []),
      ...staying,
      ...(plan.plays.length === 0 ? ['it did nothing that can be undone'] : []),
    ],
    earlier: {
      mode: 'rollback',
      hosts: hostsOf(history),
      done: (step, host) => isDone(undone.get(step)?.get(host)),
      milestones: new Map(),
    },
  })
}

function describe({ plays }: RollbackPlan): string[] {
  return plays.flatMap(one => [
    `${one.title} [${one.hosts}]`,
    ...stepsOf(one).map(({ id, title: what }) => `  ${id.padEnd(32)} ${what}`),
  ])
}
