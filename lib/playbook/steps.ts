// The steps of a play one by one, however they are nested.
import type { Block, Play, PlayItem, Step } from './model.ts'

/** Tells blocks from steps. */
export function isBlock<Context>(item: PlayItem<Context>): item is Block<Context> {
  return 'steps' in item
}

/** Every step of a play in the order in which they stand: a block's own, its rescue, its always; the handlers at the end. */
export function stepsOf<Context>({ steps, handlers = [] }: Pick<Play<Context>, 'steps' | 'handlers'>): Step<Context>[] {
  return [...steps.flatMap(stepsIn), ...handlers]
}

function stepsIn<Context>(item: PlayItem<Context>): Step<Context>[] {
  if (!isBlock(item)) return [item]
  return [...item.steps, ...(item.rescue ?? []), ...(item.always ?? [])].flatMap(stepsIn)
}
