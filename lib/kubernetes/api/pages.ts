// A list of the API, page by page: a cluster has tens of thousands of Secrets, and nobody needs more than a few of them at a time.
import { HostFailedError } from '../../errors.ts'
import { AnswerTooLongError, ApiError } from './api-errors.ts'
import type { KubernetesObject } from './object.ts'
import { patiently } from './patience.ts'

/** What is asked for: the objects after those that were given, as far as the API server remembers where that was. */
export interface PageRequest {
  readonly limit: number
  readonly continue?: string
  /** What is being waited for, for messages: `page 3 of /api/v1/secrets`. */
  readonly what: string
}

/** An answer of the API to a list. */
export interface Page {
  readonly items?: readonly KubernetesObject[] | null
  readonly metadata?: { readonly continue?: string }
}

const usualLimit = 250
const mostBeginnings = 5
const mostTries = 6

/**
 * Hands on the objects of a list one by one, each once. Where the API server has forgotten where the last page ended (after five
 * minutes), it begins again and leaves out what was given already; where it has too much to do, it waits as long as it is told to.
 * @param name of the list, for messages
 * @param ask fetches one page; of what it throws `ApiError` and `AnswerTooLongError` are understood
 * @throws HostFailedError where a page does not come, or the list is forgotten again and again
 */
export async function* eachOfPages(
  name: string,
  ask: (request: PageRequest) => Promise<Page>,
  signal?: AbortSignal,
): AsyncGenerator<KubernetesObject> {
  const given = new Set<string>()
  let limit = usualLimit
  let after: string | undefined
  let [beginnings, number] = [1, 1]
  for (;;) {
    const request = { limit, continue: after, what: `page ${number} of ${name}` }
    let page: Page
    try {
      page = await patiently(() => ask(request), { passes: hasNoTime, tries: mostTries, most: 10_000, signal })
    } catch (error) {
      if (error instanceof AnswerTooLongError && limit > 1) {
        limit = Math.ceil(limit / 5)
        continue
      }
      if (after === undefined || !(error instanceof ApiError) || error.status !== 410) throw error
      if (beginnings++ >= mostBeginnings)
        throw new HostFailedError(
          `${name} was begun ${mostBeginnings} times, and the API server forgot each time where it was (${error.message})`,
          {
            code: 'api.list-expired',
            hint: 'It keeps a list for five minutes: see what makes it or the way to it slow.',
          },
        )
      ;[after, number] = [undefined, 1]
      continue
    }
    for (const item of page.items ?? []) {
      const { uid = `${item.metadata.namespace}/${item.metadata.name}` } = item.metadata
      if (given.has(uid)) continue
      given.add(uid)
      yield item
    }
    after = page.metadata?.continue || undefined
    if (after === undefined) return
    number++
  }
}

/** The API server has too much to do, and says for how long. */
const hasNoTime = (error: unknown): boolean => error instanceof ApiError && error.retryAfter !== undefined
