// Every token Secret of a cluster written anew: some at a time, and one that nobody fills in stops nothing else.
import { limiter } from '../../connection/limiter.ts'
import { HostFailedError } from '../../errors.ts'
import { ApiError, foundAt, type KubernetesApi } from '../api/api.ts'
import { firstOf } from '../before/secrets.ts'
import { regenerateToken, type TokenSecret, tokenSecrets } from './tokens.ts'

/** Who has tokens written anew. */
export interface Renewing {
  /** The CA that Secrets must carry when this is over; PEM. */
  readonly ca: string
  readonly signal: AbortSignal
  /** How long one Secret may wait for its token, in milliseconds: the controller-manager that writes it may have just started. */
  readonly within?: number
  redact(value: string): void
  log(line: string): void
}

/** What was done. Plain data. */
export interface RenewedTokens {
  readonly namespaces: number
  readonly secrets: number
  /** Secrets that have no new token, each with the reason: `shop/deploy: its service account is gone`. */
  readonly failed: readonly string[]
}

/** How many Secrets are written anew at once: the controller-manager writes some 20 in a second. */
const atOnce = 10

const patience = 120_000

/** Has one Secret written anew. Returns why nobody would fill it in. */
async function renewOne(
  api: KubernetesApi,
  one: TokenSecret,
  { ca, signal, within = patience, redact }: Renewing,
): Promise<string | undefined> {
  const of = `/api/v1/namespaces/${one.namespace}`
  const { annotations } = (await foundAt(api, `${of}/secrets/${one.name}`))?.metadata ?? {}
  const name = annotations?.['kubernetes.io/service-account.name']
  const uid = annotations?.['kubernetes.io/service-account.uid']
  const account = name && (await foundAt(api, `${of}/serviceaccounts/${name}`))
  // The controller-manager fills in none of these, and removes some by itself.
  if (!account) return 'its service account is gone'
  if (uid !== undefined && account.metadata.uid !== uid) return 'its service account is another one of that name'
  try {
    redact((await regenerateToken(api, one, { ca, within, signal })).reveal())
    return undefined
  } catch (error) {
    if (error instanceof HostFailedError && error.code === 'tokens.gone') return 'it is gone'
    if (!(error instanceof ApiError)) throw error
    return error.status === 404 ? 'it is gone' : error.message
  }
}

/**
 * Has every token Secret written anew, namespace by namespace. Those that could not be are told, and registered by whoever asks.
 * @throws HostFailedError where nobody fills in any: so many in a row waited in vain
 */
export async function renewTokens(api: KubernetesApi, renewing: Renewing): Promise<RenewedTokens> {
  const { signal, log } = renewing
  const failed: string[] = []
  const all = await tokenSecrets(api)
  const limit = limiter(atOnce)
  let inVain = 0
  const renewed = async (one: TokenSecret) => {
    signal.throwIfAborted()
    if (inVain >= atOnce) return
    try {
      const why = await renewOne(api, one, renewing)
      if (why === undefined) inVain = 0
      else failed.push(`${one.namespace}/${one.name}: ${why}`)
    } catch (error) {
      signal.throwIfAborted()
      inVain++
      failed.push(`${one.namespace}/${one.name}: ${(error as Error).message}`)
    }
  }
  const namespaces = Map.groupBy(all, ({ namespace }) => namespace)
  for (const [namespace, secrets] of namespaces) {
    await Promise.all(secrets.map(one => limit(() => renewed(one))))
    signal.throwIfAborted()
    if (inVain >= atOnce || (inVain > 0 && inVain === all.length))
      throw new HostFailedError(`${inVain} token Secrets in a row got no new token: ${firstOf(failed, 5)}`, {
        code: 'tokens.not-renewed',
        hint: 'Does a controller-manager run, and hold the lease? Then: rekey resume.',
      })
    log(`${namespace}: ${firstOf(secrets.map(({ name }) => name))}`)
  }
  for (const one of failed) log(`not written anew: ${one}`)
  return { namespaces: namespaces.size, secrets: all.length - failed.length, failed }
}
