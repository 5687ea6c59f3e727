// What no option of a playbook can tell by itself, checked when it is loaded: ids that come twice, who notifies whom.
import { RekeyError } from '../errors.ts'
import { suggestion } from '../suggestion.ts'
import type { Play, Playbook } from './model.ts'
import { lineIn } from './shape.ts'
import { stepsOf } from './steps.ts'

/**
 * Checks a playbook as a whole, whose shape is right.
 * @param file where it is, for messages
 * @throws RekeyError naming the step or play that is not right
 */
export function checkPlaybook(playbook: Playbook, file: string): void {
  /** The place of each step that was seen, by its id. */
  const seen = new Map<string, string>()
  const plays = playbook.plays as readonly Play[]
  for (const [index, play] of plays.entries()) {
    const place = `play ${index + 1} '${play.title}'`
    checkPlay(play, `${file}: ${place}`)
    for (const one of [...stepsOf(play), ...(play.rollback ?? [])]) {
      const { id, title } = one
      const before = seen.get(id)
      seen.set(id, `'${title}' in ${place}`)
      if (before === undefined) continue
      const at = [file, lineIn(file, one)].filter(Boolean).join(':')
      throw new RekeyError(`${at}: two steps have the id '${id}': ${before}, and ${seen.get(id)}`, {
        code: 'playbook.duplicate-step',
        hint: 'Give one of them an id of its own: the journal knows steps by their ids.',
      })
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

function checkPlay(play: Play, place: string): void {
  const { strategy = 'linear', handlers = [] } = play
  const wrong = (what: string, code: string, hint?: string) =>
    new RekeyError(`${place}: ${what}`, { code: `playbook.${code}`, hint })
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
