// What the types of a playbook can't say, checked when it is loaded: ids, who notifies whom, numbers.
import { RekeyError } from '../errors.ts'
import { suggestion } from '../suggestion.ts'
import type { Play, Playbook, Step } from './model.ts'
import { stepsOf } from './steps.ts'

/**
 * Checks a playbook as a whole.
 * @param file where it is, for messages
 * @throws RekeyError naming the step or play that is not right
 */
export function checkPlaybook(playbook: Playbook, file: string): void {
  const ids = new Set<string>()
  const plays = playbook.plays as readonly Play[]
  for (const play of plays) {
    checkPlay(play, file)
    for (const step of [...stepsOf(play), ...(play.rollback ?? [])]) {
      if (ids.has(step.id)) {
        throw new RekeyError(`${file}: two steps have the id '${step.id}'`, {
          code: 'playbook.duplicate-step',
          hint: 'Give one of them an id of its own: the journal knows steps by their ids.',
        })
      }
      ids.add(step.id)
      checkNumbers(step, file)
    }
  }
  const playOf = new Map(plays.flatMap(one => stepsOf(one).map(({ id }) => [id, one] as const)))
  for (const { id, undoneWith } of plays.flatMap(one => stepsOf(one))) {
    if (undoneWith === undefined || playOf.get(undoneWith)?.rollback) continue
    throw new RekeyError(`${file}: '${id}' is undone with '${undoneWith}', whose play says nothing of how`, {
      code: 'playbook.undone-with',
      hint: 'Name a step of a play that has a rollback of its own.',
    })
  }
}

function checkPlay(play: Play, file: string): void {
  const { title, maxFailPercentage: most = 0, strategy = 'linear', handlers = [] } = play
  const wrong = (what: string, code: string, hint?: string) =>
    new RekeyError(`${file}: ${title}: ${what}`, { code: `playbook.${code}`, hint })
  if (!(most >= 0 && most <= 100)) throw wrong(`maxFailPercentage ${most} is not a percentage`, 'max-fail')
  for (const size of [play.serial ?? []].flat()) {
    if (isBatchSize(size)) continue
    throw wrong(
      `serial ${JSON.stringify(size)} is not a number of hosts or a percentage`,
      'serial',
      "Write 1, '30%', or a list such as [1, '30%']; without serial, all hosts go together.",
    )
  }
  if (strategy !== 'linear' && strategy !== 'free') {
    throw wrong(`there is no strategy '${strategy satisfies never}'`, 'strategy', 'Write linear or free.')
  }
  const once = stepsOf(play).find(({ runOnce }) => runOnce)
  if (strategy === 'free' && once) {
    throw wrong(
      `'${once.id}' is to run once, and with the strategy 'free' no host knows whether another was first`,
      'run-once-free',
      'Put it into a play of its own.',
    )
  }
  const names = handlers.map(({ id }) => id)
  for (const step of stepsOf(play)) {
    for (const id of [step.notify ?? []].flat()) {
      if (!names.includes(id)) {
        throw wrong(
          `'${step.id}' notifies '${id}', which is no handler of the play${suggestion(id, names)}`,
          'unknown-handler',
          `Its handlers are: ${names.join(', ') || 'none'}.`,
        )
      }
      if (names.indexOf(id) <= names.indexOf(step.id)) {
        throw wrong(
          `'${step.id}' notifies '${id}', which had its turn before`,
          'handler-order',
          'A handler may notify those that stand after it.',
        )
      }
    }
  }
}

function isBatchSize(size: unknown): boolean {
  if (typeof size === 'number') return Number.isInteger(size) && size > 0
  return typeof size === 'string' && /^\d+(\.\d+)?%$/.test(size) && Number.parseFloat(size) > 0
}

function checkNumbers({ id, retries = 0, delay = 0 }: Step, file: string): void {
  if (!Number.isInteger(retries) || retries < 0 || !(delay >= 0)) {
    throw new RekeyError(`${file}: '${id}': retries and delay are whole numbers from 0`, { code: 'playbook.retries' })
  }
}
