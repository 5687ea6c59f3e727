// Has every object of resources written anew, so that it lies in etcd under the key that API servers write with now: an empty patch each. What is
// written so already its server leaves alone, so whoever was interrupted begins again.
import { HostFailedError } from '../../errors.ts'
import { ApiError, type KubernetesApi, type KubernetesObject, mostSockets } from '../../kubernetes/api/api.ts'
import { isUnreadable, untilItPasses } from './passing.ts'
import type { ApiResource } from './resources.ts'

/** How far it is. */
export interface ReencryptionProgress {
  readonly done: number
  /** As the census counted them; more may have come since. */
  readonly total?: number
  /** Objects a second, from the beginning. */
  readonly rate: number
  /** Seconds, where there is a total. */
  readonly left?: number
}

export interface Reencrypted {
  /** Objects that were patched. */
  readonly done: number
  /** Those that were deleted before their turn came. */
  readonly gone: number
  readonly seconds: number
}

interface Options {
  /** How many at a time. */
  readonly parallel?: number
  readonly total?: number
  readonly signal?: AbortSignal
  /** Told every two seconds or so. */
  readonly progress?: (progress: ReencryptionProgress) => void
  /** Milliseconds of the first pause before an object is tried again; each next one is twice as long. */
  readonly pause?: number
}

/** How many objects are named that were not written. */
const mostNamed = 10

/**
 * Rewrites all objects of resources. No Secret comes over the wire: neither lists nor answers hold more than metadata.
 * @param api of a server that writes with the new key
 * @throws HostFailedError for an object that can't be read any more, by its name and at once: no other way of trying will mend it, and a key is
 * missing; at the end for those that were refused
 */
export async function reencrypt(
  api: Pick<KubernetesApi, 'each' | 'touch'>,
  resources: readonly ApiResource[],
  { parallel = mostSockets, total, signal, progress, pause = 250 }: Options = {},
): Promise<Reencrypted> {
  const began = performance.now()
  const elapsed = () => (performance.now() - began) / 1_000
  const refused: string[] = []
  let [done, gone, failed, told] = [0, 0, 0, 0]
  const ending = new AbortController()
  const both = signal ? AbortSignal.any([signal, ending.signal]) : ending.signal
  const one = async (resource: ApiResource, { metadata }: KubernetesObject) => {
    const path = pathOf(resource, metadata)
    try {
      if (await touched(api, path, pause, both)) done++
      else gone++
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (isUnreadable(error)) throw unreadable(path, error)
      failed++
      if (refused.length < mostNamed) refused.push(error.message)
    }
    if (progress && elapsed() - told >= 2) {
      told = elapsed()
      const rate = done / told
      progress({ done, rate, ...(total !== undefined && { total, left: Math.max(0, total - done) / rate }) })
    }
  }
  for (const resource of resources) {
    const objects = api.each(resource.list, { metadata: true, signal: both })
    // A server without a cache for it reads the values to list them.
    const nextOf = ({ list }: ApiResource) =>
      objects.next().catch(error => {
        throw error instanceof ApiError && isUnreadable(error) ? unreadable(list, error) : error
      })
    const work = async () => {
      for (let next = await nextOf(resource); !next.done; next = await nextOf(resource)) await one(resource, next.value)
    }
    const workers = Array.from({ length: parallel }, () =>
      work().catch(error => {
        ending.abort(error)
        throw error
      }),
    )
    // The first that fails ends the others; all have ended before anybody is told.
    await Promise.allSettled(workers)
    both.throwIfAborted()
  }
  if (failed > 0) throw notAll(failed, refused)
  return { done, gone, seconds: elapsed() }
}

/** Where an object of a resource is. */
function pathOf({ list, namespaced }: ApiResource, { name, namespace }: KubernetesObject['metadata']): string {
  const own = encodeURIComponent(name)
  if (!namespaced || namespace === undefined) return `${list}/${own}`
  const at = list.lastIndexOf('/')
  return `${list.slice(0, at)}/namespaces/${encodeURIComponent(namespace)}${list.slice(at)}/${own}`
}

/** Whether it was there. */
async function touched(
  api: Pick<KubernetesApi, 'touch'>,
  path: string,
  pause: number,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await untilItPasses(() => api.touch(path), signal, pause)
    return true
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false
    throw error
  }
}

const unreadable = (path: string, cause: ApiError) =>
  new HostFailedError(`${path} can't be read any more: ${cause.message}`, {
    code: 'encryption.unreadable',
    cause,
    hint: 'A key that it needs is in no provider of this API server. Put that key back as one to read with; `rekey encryption` says under which one it lies.',
  })

const notAll = (failed: number, refused: readonly string[]) =>
  new HostFailedError(
    `${failed} objects were not written anew: ${refused.join('; ')}${failed > refused.length ? `; and ${failed - refused.length} more` : ''}`,
    {
      code: 'encryption.not-rewritten',
      hint: 'They are as they were. See why they are refused (a webhook?), and go on: what is written anew already is passed over.',
    },
  )
