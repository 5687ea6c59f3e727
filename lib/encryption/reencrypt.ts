// Has every object of resources written anew, so that it lies in etcd under the key that API servers write with now: an empty patch each. What is
// written so already its server leaves alone, so whoever was interrupted begins again.
import { setTimeout as delay } from 'node:timers/promises'
import { HostFailedError } from '../errors.ts'
import { ApiError, type KubernetesApi, type KubernetesObject, mostSockets } from '../kubernetes/api/api.ts'
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

/** How often an object is tried. */
const mostTries = 8
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

/** Whether it was there. Tried again where the server has too much to do, is away, or somebody wrote at the same moment. */
async function touched(
  api: Pick<KubernetesApi, 'touch'>,
  path: string,
  pause: number,
  signal: AbortSignal,
): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    try {
      await api.touch(path)
      return true
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false
      if (!isPassing(error) || tries >= mostTries) throw error
      const after = error instanceof ApiError ? error.retryAfter : undefined
      await delay(Math.min(after ?? pause * 2 ** (tries - 1), 15_000), undefined, { signal })
    }
  }
}

function isPassing(error: unknown): boolean {
  if (error instanceof ApiError)
    return error.status === 409 || error.status === 429 || (error.status >= 500 && !isUnreadable(error))
  return error instanceof HostFailedError && error.code === 'api.no-answer'
}

/**
 * What API servers answer where no provider decrypts what is stored, by their own words: those of storage, of each provider, and of decoding where
 * aescbc decrypts to nonsense. A webhook's words (`could not transform spec`) are its own, and it may be well again soon.
 */
const isUnreadable = ({ status, message }: ApiError) => {
  const said = message.slice(message.indexOf(': 500 '))
  return status === 500 && !/webhook/i.test(said) && ownWords.test(said)
}

const ownWords =
  /unable to transform key|is not transformable|no matching prefix found|transformer tried to read encrypted data|invalid padding on input|invalid PKCS7|message authentication failed|the stored data |output array was not large enough|failed to decrypt|unable to decode|couldn't get version\/kind|proto: /

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
