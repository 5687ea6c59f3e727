// A stage as a part of a run that goes through several of them: its steps have ids of their own, see only what steps of the same stage returned,
// and keep backups of their own, so that each is undone to what it found.
import { join } from 'node:path'
import type { Play, PlayItem, Step, StepContext } from '../../../playbook/model.ts'

/**
 * The plays of a stage for a longer run, which must not hold blocks or handlers.
 * @param goesOn whether the stage is to be gone through, seen by the run as a whole; each step asks
 */
export function inStage<Context extends StepContext<unknown>, Asking>(
  stage: string,
  plays: readonly Play<Context>[],
  goesOn: (context: Asking) => boolean,
): Play<Context & Asking>[] {
  return plays.map(({ steps, title, ...play }) => ({
    ...play,
    title: `${stage[0]?.toUpperCase()}${stage.slice(1)}: ${title}`,
    steps: steps.map(item => stepIn(stage, item, goesOn)),
  }))
}

/** What a step of a stage is called within a longer run. */
const idIn = (stage: string, id: string): string => `${stage}-${id}`

function stepIn<Context extends StepContext<unknown>, Asking>(
  stage: string,
  item: PlayItem<Context>,
  goesOn: (context: Asking) => boolean,
): Step<Context & Asking> {
  if (!('run' in item)) throw new TypeError(`a stage has no blocks: ${item.title}`)
  const { when, check, plan, run, verify, rollback, ...rest } = item
  const own = (context: Context) => contextIn(stage, context)
  return {
    ...rest,
    id: idIn(stage, item.id),
    when: context => goesOn(context) && (when?.(own(context)) ?? true),
    ...(check && { check: (context: Context) => check(own(context)) }),
    ...(plan && { plan: (context: Context) => plan(own(context)) }),
    run: context => run(own(context)),
    ...(verify && { verify: (context: Context) => verify(own(context)) }),
    ...(rollback && { rollback: (context: Context) => rollback(own(context)) }),
  }
}

function contextIn<Context extends StepContext<unknown>>(stage: string, context: Context): Context {
  const { timeline, registered, milestone } = context
  const prefix = idIn(stage, '')
  const milestones = [...timeline.milestones].filter(([name]) => name.startsWith(prefix))
  return {
    ...context,
    run: `${context.run}-${stage}`,
    folder: join(context.folder, 'backups', stage),
    registered: <T>(step: string, host?: string) => registered<T>(idIn(stage, step), host),
    // The report of the run goes by the first of all stages.
    milestone: (name: string) => {
      milestone(name)
      milestone(idIn(stage, name))
    },
    timeline: {
      plays: timeline.plays,
      milestones: new Map(milestones.map(([name, at]) => [name.slice(prefix.length), at])),
    },
  }
}
