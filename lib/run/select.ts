// Which hosts and steps a run will have: limits, tags, the step that it starts at. What plays and blocks hand down to their steps
// is handed down here.
import { RekeyError } from '../errors.ts'
import { type Host, type HostSource, namedHost } from '../playbook/host.ts'
import {
  type FailureRules,
  type Play,
  type Playbook,
  type PlayItem,
  play,
  type Step,
  type StepContext,
  step,
} from '../playbook/model.ts'
import { isBlock, stepsOf } from '../playbook/steps.ts'
import { suggestion } from '../suggestion.ts'
import { ordered } from './batches.ts'

export type AnyContext = StepContext & object
export type AnyPlay = Play<AnyContext>
export type AnyStep = Step<AnyContext>

/** What is asked for. */
export interface Selection {
  readonly inventory: HostSource
  /** Hosts that `--limit` leaves; all where nothing is said. */
  readonly limit?: ReadonlySet<string>
  readonly tags?: readonly string[]
  readonly skipTags?: readonly string[]
  readonly startAtStep?: string
  /** The run, where there is one: its hosts are shuffled in the same way whenever it is gone on with. */
  readonly run?: string
}

/** A play with the hosts and steps that it has in a run. */
export interface Selected {
  readonly play: AnyPlay
  readonly hosts: readonly Host[]
  readonly items: readonly SelectedItem[]
  readonly handlers: readonly SelectedStep[]
  /** Every step that may come, in the order in which they stand. */
  readonly steps: readonly SelectedStep[]
}

export type SelectedItem = SelectedStep | SelectedBlock

/** A step with everything that its play and its blocks hand down to it; its `when` is theirs and its own. */
export interface SelectedStep extends AnyStep {
  /** Where it is one that does not run by itself. */
  readonly section?: 'rescue' | 'always' | 'handler'
  /** The title of the block that it is in. */
  readonly block?: string
  /** The block whose rescue takes up its failure. */
  readonly caughtBy?: SelectedBlock
}

export interface SelectedBlock {
  readonly title: string
  readonly steps: readonly SelectedItem[]
  readonly rescue: readonly SelectedItem[]
  readonly always: readonly SelectedItem[]
}

/**
 * The plays of a run, those without hosts or steps left out.
 * @throws RekeyError for a step or a tag that the playbook does not have
 */
export function selectPlays(playbook: Playbook, selection: Selection): Selected[] {
  const { inventory, limit, run = '' } = selection
  const plays = playbook.plays as readonly AnyPlay[]
  checkTags(plays, playbook.name, selection)
  const choose = chooser(plays, playbook.name, selection)
  return plays
    .map((one): Selected => {
      const hosts = inventory.select(one.hosts).filter(({ name }) => !limit || limit.has(name))
      const own = { tags: one.tags ?? [], rules: rulesOf(one, {}), whens: [] }
      const items = selectItems(one.steps, own, choose)
      // Who notifies has been chosen: a handler has no say of its own.
      const handlers = (one.handlers ?? []).map(handler => selectStep(handler, { ...own, section: 'handler' }))
      const steps = items.length === 0 ? [] : [...items.flatMap(stepsIn), ...handlers]
      return { play: one, hosts: ordered(hosts, one.order, run), items, handlers, steps }
    })
    .filter(({ hosts, steps }) => hosts.length > 0 && steps.length > 0)
}

/** The hosts of plays, each once: those of the inventory, and this machine where a play is for it and the inventory does not name it. */
export function hostsIn(plays: readonly Selected[]): Host[] {
  return [...new Map(plays.flatMap(({ hosts }) => hosts.map(host => [host.name, host] as const))).values()]
}

/** Throws where steps are delegated by name to a host that there is not: better than in the middle of the run. */
export function requireDelegates(chosen: readonly Selected[], inventory: HostSource): void {
  const names = inventory.hosts.map(({ name }) => name)
  for (const { play: one, steps } of chosen) {
    for (const { id, delegateTo } of steps) {
      if (typeof delegateTo !== 'string' || namedHost(inventory, delegateTo)) continue
      throw new RekeyError(
        `${one.title}: '${id}' is delegated to '${delegateTo}', and there is no such host in the inventory${suggestion(delegateTo, names)}`,
        { code: 'run.unknown-host', hint: "This machine is 'localhost', also where the inventory does not name it." },
      )
    }
  }
}

/** The id of the step that every run begins with, and that no playbook has. */
export const connectId = 'connect'

/** Every run begins by connecting: a host that is down must be known before anything is changed anywhere. */
export function connectPlay(hosts: readonly Host[]): Selected {
  const connect: SelectedStep = step('Connect', { id: connectId, readOnly: true, run: () => {} })
  // Whether the others go on without those that can't be reached, the plays say.
  const one: AnyPlay = play('Connect', { hosts: 'all', maxFailPercentage: 100 }, [connect])
  return { play: one, hosts, items: [connect], handlers: [], steps: [connect] }
}

/** Whether tags are chosen, by Ansible's rules: `always` and `never`, `all`, `tagged` and `untagged`. */
export function isChosen(own: readonly string[], { tags, skipTags }: Pick<Selection, 'tags' | 'skipTags'>): boolean {
  const wanted = tags?.length ? tags : ['all']
  const left = skipTags ?? []
  const all = own.length > 0 ? own : ['untagged']
  const tagged = own.length > 0
  const never = all.includes('never')
  const named = all.some(tag => wanted.includes(tag))
  const byGroup = !never && (wanted.includes('all') || (wanted.includes('tagged') && tagged))
  if (!all.includes('always') && !named && !byGroup) return false
  if (left.includes('all')) return all.includes('always') && !left.includes('always')
  return !all.some(tag => left.includes(tag)) && !(left.includes('tagged') && tagged)
}

/** What is handed down from a play or block to what is in it. */
interface Inherited {
  readonly tags: readonly string[]
  readonly rules: FailureRules
  readonly whens: readonly NonNullable<AnyStep['when']>[]
  readonly section?: SelectedStep['section']
  readonly block?: string
  readonly caughtBy?: SelectedBlock
}

type Choose = (id: string, tags: readonly string[]) => boolean

function selectItems(items: readonly PlayItem<AnyContext>[], from: Inherited, choose: Choose): SelectedItem[] {
  return items.flatMap((item): SelectedItem[] => {
    const tags = [...from.tags, ...(item.tags ?? [])]
    if (!isBlock(item)) return choose(item.id, tags) ? [selectStep(item, from)] : []
    const { title, when, steps, rescue = [], always = [] } = item
    const inside: Inherited = {
      ...from,
      tags,
      rules: rulesOf(item, from.rules),
      whens: when ? [...from.whens, context => when.call(item, context)] : from.whens,
      block: title,
    }
    const made = {
      title,
      steps: [] as SelectedItem[],
      rescue: selectItems(rescue, { ...inside, section: 'rescue' }, choose),
      always: [] as SelectedItem[],
    }
    made.steps = selectItems(steps, { ...inside, caughtBy: made.rescue.length > 0 ? made : from.caughtBy }, choose)
    made.always = selectItems(always, { ...inside, section: 'always' }, choose)
    if (made.steps.length === 0) made.rescue = []
    return made.steps.length + made.always.length > 0 ? [made] : []
  })
}

function selectStep(one: AnyStep, { rules, whens, section, block, caughtBy }: Inherited): SelectedStep {
  return {
    ...one,
    ...rulesOf(one, rules),
    when: async context => {
      for (const when of whens) if (!(await when(context))) return false
      return one.when ? one.when(context) : true
    },
    section,
    block,
    caughtBy,
  }
}

function rulesOf(own: FailureRules, from: FailureRules): FailureRules {
  return {
    ignoreErrors: own.ignoreErrors ?? from.ignoreErrors,
    ignoreUnreachable: own.ignoreUnreachable ?? from.ignoreUnreachable,
    anyErrorsFatal: own.anyErrorsFatal ?? from.anyErrorsFatal,
  }
}

function stepsIn(item: SelectedItem): SelectedStep[] {
  return 'steps' in item ? [...item.steps, ...item.rescue, ...item.always].flatMap(stepsIn) : [item]
}

/** Whether a step takes part, asked in the order of the playbook: from the one that is started at, those of the tags. */
function chooser(plays: readonly AnyPlay[], playbook: string, selection: Selection): Choose {
  const { startAtStep } = selection
  if (startAtStep === undefined) return (_id, tags) => isChosen(tags, selection)
  const order = plays.flatMap(one => stepsOf({ steps: one.steps }).map(({ id }) => id))
  // What is for the hosts on which something failed is nothing to start at.
  const outsideRescue = (item: PlayItem<AnyContext>): string[] =>
    isBlock(item) ? [...item.steps, ...(item.always ?? [])].flatMap(outsideRescue) : [item.id]
  const candidates = plays.flatMap(({ steps }) => steps.flatMap(outsideRescue))
  const titled = plays.flatMap(one => stepsOf({ steps: one.steps })).find(({ title }) => title === startAtStep)?.id
  const start = candidates.includes(startAtStep) ? startAtStep : (titled ?? '')
  const first = order.indexOf(start)
  if (!candidates.includes(start)) {
    throw new RekeyError(`${playbook} has no step '${startAtStep}' to start at${suggestion(startAtStep, candidates)}`, {
      code: 'run.unknown-step',
      hint: 'See the ids of its steps with --list-steps.',
    })
  }
  return (id, tags) => order.indexOf(id) >= first && isChosen(tags, selection)
}

/** Every tag of a play or a block, and of all that is in it. */
export function tagsIn(item: AnyPlay | PlayItem<AnyContext>): string[] {
  return [
    ...(item.tags ?? []),
    ...('steps' in item ? item.steps.flatMap(tagsIn) : []),
    ...('rescue' in item ? (item.rescue ?? []).flatMap(tagsIn) : []),
    ...('always' in item ? (item.always ?? []).flatMap(tagsIn) : []),
  ]
}

/** A tag that is nowhere is a slip of the hand: what was to be left out would be done. */
function checkTags(plays: readonly AnyPlay[], playbook: string, { tags = [], skipTags = [] }: Selection): void {
  const known = [...new Set(plays.flatMap(tagsIn))]
  for (const tag of [...tags, ...skipTags]) {
    if (known.includes(tag) || ['all', 'tagged', 'untagged', 'always', 'never'].includes(tag)) continue
    throw new RekeyError(`${playbook} has no tag '${tag}'${suggestion(tag, known)}`, {
      code: 'run.unknown-tag',
      hint: `Its tags are: ${known.sort().join(', ') || 'none'}.`,
    })
  }
}
