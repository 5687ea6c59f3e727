// What a playbook's code does behind everybody's back: a promise that nobody waited for, an error in a timer, process.exit, a wait for
// what never comes. Each is led back to the step that it came from, so that its run ends in good order.
import { AsyncLocalStorage } from 'node:async_hooks'
import { errorOf, HostFailedError, RekeyError, thrownAt } from '../errors.ts'

/** Whose code it is that runs. */
export interface Place {
  /** What it is called, as the beginning of a sentence. */
  readonly what: string
  /** The id of the run; of a file that is being loaded there is none yet. */
  readonly run?: string
  /** The step, where it is one's: its play, and the host that it is done for. */
  readonly step?: { readonly play: number; readonly id: string; readonly title: string; readonly host: string }
}

/** What nobody was there to catch: it is thrown where it can be. */
export class Stray {
  readonly thrown: unknown
  /** `promise`: nobody waited for it. `callback`: it was thrown where nothing could catch it. */
  readonly from: 'promise' | 'callback'
  readonly place?: Place

  constructor(thrown: unknown, from: Stray['from'], place?: Place) {
    this.thrown = thrown
    this.from = from
    this.place = place
  }
}

interface Work {
  readonly place: Place
  /** Ends the wait for it, whatever becomes of it. */
  giveUp(error: Error): void
  /** What it threw behind its own back while it went on. */
  stray?: Stray
}

interface RunWatch {
  readonly signal: AbortSignal
  take(stray: Stray): void
  readonly patience: number
}

/** Milliseconds that code of a playbook gets to end once it was told to, or once it has failed behind its own back. */
const usualPatience = 10_000

const current = new AsyncLocalStorage<Work>()
const underWay = new Set<Work>()
const runs = new Map<string, RunWatch>()

/**
 * Runs code of a playbook. Settles as it does. Rejects with a `Stray` where it failed behind its own back, and with an error where it does
 * not end although its run is being stopped, or where nothing is left that could bring what it waits for.
 */
export async function within<T>(place: Place, work: () => T | Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const one: Work = { place, giveUp: reject }
  underWay.add(one)
  if (runs.get(place.run ?? '')?.signal.aborted) giveUpSoon(one)
  try {
    const result = await Promise.race([current.run(one, async () => work()), promise])
    if (one.stray) throw one.stray
    return result
  } catch (thrown) {
    throw one.stray ?? lookable(thrown)
  } finally {
    underWay.delete(one)
  }
}

/**
 * Watches over a run until the function that is returned is called.
 * @param signal aborted when the run is being stopped: what does not end then is given up a while later
 * @param take is told what came from a step that had ended, or from no step at all
 * @param patience milliseconds until it is given up
 */
export function watchRun(
  run: string,
  signal: AbortSignal,
  take: (stray: Stray) => void,
  patience = usualPatience,
): () => void {
  runs.set(run, { signal, take, patience })
  const stop = () => {
    for (const one of underWay) if (one.place.run === run) giveUpSoon(one)
  }
  signal.addEventListener('abort', stop, { once: true })
  return () => {
    signal.removeEventListener('abort', stop)
    runs.delete(run)
  }
}

/**
 * Watches over this process, for good.
 * @param otherwise is told what came from no run that is going on, and that all waits for what never comes where no playbook does
 * @returns what ends the watch over waiting: from then on this process may end at any time
 */
export function watchProcess(otherwise: (stray: Stray) => void): () => void {
  const take = (from: Stray['from']) => (thrown: unknown) => {
    const work = current.getStore()
    const stray = new Stray(lookable(thrown), from, work?.place)
    if (work && underWay.has(work)) {
      work.stray ??= stray
      giveUpSoon(work)
    } else {
      // What can't be led back to a run is everybody's.
      const own = runs.get(work?.place.run ?? '')
      const all = own ? [own] : [...runs.values()]
      for (const one of all) one.take(stray)
      // Whoever is told does not act for the playbook.
      if (all.length === 0) current.exit(otherwise, stray)
    }
  }
  process.on('unhandledRejection', take('promise'))
  process.on('uncaughtException', take('callback'))
  const giveUp = () => {
    for (const one of underWay) one.giveUp(neverComes(one.place.what))
    if (underWay.size === 0) otherwise(new Stray(neverComes('rekey itself'), 'callback'))
  }
  process.on('beforeExit', giveUp)
  const { exit } = process
  process.exit = (...code: Parameters<typeof exit>) => {
    // With none at all, that of `process.exitCode` counts.
    if (!current.getStore()) return exit.apply(process, code)
    throw new HostFailedError(`process.exit(${code[0] ?? ''}) was called, which would leave everything as it stands`, {
      code: 'playbook.exit',
      hint: 'A playbook ends by returning, or by throwing an error.',
    })
  }
  return () => process.off('beforeExit', giveUp)
}

/** Whether it is code of a playbook that runs, also in a timer or a callback of it. */
export function isPlaybooks(): boolean {
  return current.getStore() !== undefined
}

/**
 * What is told of it.
 * @param error what was thrown, as an error
 */
export function strayError({ from, place }: Stray, error: Error): Error {
  // Whose code it was is said already.
  if (error instanceof RekeyError && error.code.startsWith('playbook.')) return error
  const where = thrownAt(error)
  const how =
    from === 'promise' ? 'a promise that nobody waited for failed' : 'something failed in a timer or a callback'
  return new HostFailedError(`${place?.what ?? 'outside of any step'}: ${how}: ${error.message}`, {
    code: 'playbook.stray',
    host: place?.step?.host,
    step: place?.step?.id,
    hint: `${from === 'promise' ? 'Write an await before it' : 'Catch it there'}${where === undefined ? '' : `: it comes from ${where}`}.`,
    cause: error,
  })
}

/** What was thrown, or an error in its place where not even its kind can be asked for. */
function lookable(thrown: unknown): unknown {
  try {
    void (thrown instanceof Error)
    return thrown
  } catch {
    return errorOf(thrown)
  }
}

function giveUpSoon(one: Work): void {
  const { patience } = runs.get(one.place.run ?? '') ?? { patience: usualPatience }
  const late = () =>
    one.giveUp(
      new HostFailedError(`${one.place.what}: did not end within ${patience / 1_000} s after it was to`, {
        code: 'playbook.no-end',
        hint: 'A promise in it never settles, or waits for something without looking at its signal.',
      }),
    )
  setTimeout(late, patience).unref()
}

function neverComes(what: string): HostFailedError {
  return new HostFailedError(`${what}: waits for what never comes, and nothing is left that could bring it`, {
    code: 'playbook.never',
    hint: 'A promise in it never settles: perhaps a callback is not called.',
  })
}
