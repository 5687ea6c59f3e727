// What undoes a run: the steps that did something, in reverse, each by its own way back; a play that has one as a whole by that.
import { RekeyError } from '../errors.ts'
import { type Play, type Playbook, play, type Step, step } from '../playbook/model.ts'
import { stepsOf } from '../playbook/steps.ts'
import { suggestion } from '../suggestion.ts'
import type { RunHistory } from './journal/history.ts'
import { connectId } from './select.ts'

/** What a rollback will do, and what it will leave. */
export interface RollbackPlan {
  /** In the order in which they are done. */
  readonly plays: readonly Play[]
  /** What was done, can't be undone, and stays: for the step's own sake, or since its host, or the step itself, is gone. */
  readonly left: readonly { readonly title: string; readonly hosts: readonly string[]; readonly why: string }[]
}

/** The command that undoes a run, as people are told it. */
export function rollbackCommand(run: string, to?: string): string {
  return `rekey rollback ${run}${to === undefined ? '' : ` --to ${to}`}`
}

/**
 * Plans the way back of a run.
 * @param touched on which hosts each step did something, or may have
 * @param known the hosts that there are; what was done on others stays
 * @param to the id of the step that is the last to stay done; without it, everything is undone
 * @throws RekeyError where there is no such step, or the way back of a later one undoes it too
 */
export function planRollback(
  { name, plays }: Pick<Playbook, 'name' | 'plays'>,
  touched: RunHistory['touched'],
  known: ReadonlySet<string>,
  to?: string,
): RollbackPlan {
  const all = (plays as readonly Play[]).flatMap(one => stepsOf(one).map(each => ({ play: one, step: each })))
  const stays = to === undefined ? -1 : all.findIndex(({ step: { id } }) => id === to)
  if (to !== undefined && stays < 0) {
    const ids = all.map(({ step: { id } }) => id)
    throw new RekeyError(`${name} has no step '${to}'${suggestion(to, ids)}`, {
      code: 'rollback.unknown-step',
      hint: "See the ids of its steps with 'rekey run PLAYBOOK --list-steps'.",
    })
  }
  const everywhere = all
    .map((one, index) => ({ ...one, index, hosts: [...(touched.get(one.step.id) ?? [])].sort() }))
    .filter(({ step: { readOnly }, hosts, index }) => index > stays && !readOnly && hosts.length > 0)
  const gone = everywhere
    .map(({ step: { title }, hosts }) => ({ title, hosts: hosts.filter(host => !known.has(host)) }))
    .filter(({ hosts }) => hosts.length > 0)
  const done = everywhere
    .map(one => ({ ...one, hosts: one.hosts.filter(host => known.has(host)) }))
    .filter(({ hosts }) => hosts.length > 0)
  const asOne = new Set<Play>()
  for (const { play: own, step: each } of done) {
    const undoing = each.undoneWith === undefined ? own : all.find(({ step: { id } }) => id === each.undoneWith)?.play
    if (!undoing?.rollback) continue
    const kept = all.findIndex(({ play: one }) => one === undoing) <= stays
    if (kept) {
      throw new RekeyError(`'${each.id}' can't be undone without undoing '${stepsOf(undoing)[0]?.id}'`, {
        code: 'rollback.together',
        hint: `They are undone together. Go back to before that, or leave out --to to undo everything.`,
      })
    }
    asOne.add(undoing)
  }

  const undoing: Play[] = []
  for (const one of (plays as readonly Play[]).toReversed()) {
    if (asOne.has(one)) undoing.push(play(`Undo: ${one.title}`, { hosts: one.hosts }, one.rollback ?? []))
    else {
      const single = done.filter(({ play: own, step: { rollback } }) => own === one && rollback).toReversed()
      for (const group of neighbours(single, ({ hosts }) => hosts.join(','))) {
        const steps = group.map(({ step: each }) => undoOf(each))
        const hosts = group[0]?.hosts.join(',') ?? ''
        undoing.push(play(`Undo: ${one.title}`, { hosts, serial: one.serial }, steps))
      }
    }
  }
  if (undoing.length > 0) undoing.unshift(...beginningOf(plays as readonly Play[]))
  const left = done
    .filter(({ play: own, step: { rollback, undoneWith } }) => !rollback && undoneWith === undefined && !asOne.has(own))
    .map(({ step: { title, irreversible }, hosts }) => ({
      title,
      hosts,
      why: irreversible ?? 'its playbook does not say how',
    }))
  const lost = gone.map(one => ({ ...one, why: 'not in the inventory any more' }))
  const ids = new Set([connectId, ...all.map(({ step: { id } }) => id)])
  const strange = [...touched]
    .filter(([id]) => !ids.has(id))
    .map(([id, hosts]) => ({
      title: id,
      hosts: [...hosts].sort(),
      why: 'no step of the playbook has this id any more',
    }))
  return { plays: undoing, left: [...left, ...lost, ...strange] }
}

/** Neighbours with the same key, together. */
function neighbours<T>(all: readonly T[], key: (one: T) => string): T[][] {
  const groups: T[][] = []
  for (const one of all) {
    const last = groups.at(-1)
    if (last?.[0] !== undefined && key(last[0]) === key(one)) last.push(one)
    else groups.push([one])
  }
  return groups
}

/** What a way back begins with: the steps that say so, as they were done on the way there. */
function beginningOf(plays: readonly Play[]): Play[] {
  return plays.flatMap(({ title, hosts, steps }) => {
    const first = stepsOf({ steps }).filter(({ beginsRollback }) => beginsRollback)
    return first.length === 0 ? [] : [play(title, { hosts }, first.map(again))]
  })
}

function again({ id, title, ...definition }: Step): Step {
  return step(title, { ...definition, id: `undo-${id}`, ignoreErrors: true, ignoreUnreachable: true })
}

/** A step's way back as a step: under an id of its own, so that what the step itself returned stays known. */
function undoOf({ id, title, delegateTo, rollback }: Step): Step {
  return step(title, { id: `undo-${id}`, delegateTo, run: context => rollback?.({ ...context, step: id }) })
}
