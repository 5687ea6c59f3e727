// Secrets with a token that a key of before signed: a second one is made beside each, since renewing one in place revokes at once what its users
// have.
import { HostFailedError } from '../../../errors.ts'
import { ApiError, foundAt, type KubernetesApi } from '../../../kubernetes/api/api.ts'
import { keyOfToken, servedTokenKeys, tokenKeysOfHost } from '../../../kubernetes/keysets/token-keys.ts'
import { tokenIn, tokenSecretsPath, tokenSecretType } from '../../../kubernetes/trust/tokens.ts'
import { waitFor } from '../../../operations/wait.ts'
import type { Host } from '../../../playbook/host.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import { type OnCluster, seconds } from '../../given/context.ts'
import { apiServerHosts, layoutOf } from '../../given/found.ts'
import type { Key } from '../state.ts'
import { keysBefore } from './holders.ts'
import { aboutTokens, before, nextKey } from './keys.ts'

/** A token Secret, and who mounts it or has it in their environment. */
interface Holder {
  readonly namespace: string
  readonly name: string
  readonly account: string
  readonly consumers: readonly string[]
}

const accountAnnotation = 'kubernetes.io/service-account.name'
const beside = 'rekey.dev/beside'

async function holders(api: KubernetesApi, keys: readonly string[]): Promise<Holder[]> {
  const found: Omit<Holder, 'consumers'>[] = []
  for await (const { metadata, data } of api.each(tokenSecretsPath)) {
    const key = keyOfToken(tokenIn(data))
    const account = metadata.annotations?.[accountAnnotation]
    if (key !== undefined && keys.includes(key) && account !== undefined)
      found.push({ namespace: metadata.namespace ?? '', name: metadata.name, account })
  }
  const users = new Map<string, string[]>()
  if (found.length > 0) {
    for await (const pod of api.each('/api/v1/pods')) {
      const { namespace = '', name } = pod.metadata
      for (const secret of secretsOf(pod.spec)) {
        const id = `${namespace}/${secret}`
        users.set(id, [...(users.get(id) ?? []), `${namespace}/${name}`])
      }
    }
  }
  return found.map(one => ({ ...one, consumers: users.get(`${one.namespace}/${one.name}`) ?? [] }))
}

/** The Secrets that a pod names: in volumes, and in the environment of its containers. */
function secretsOf(spec: unknown): string[] {
  const text = JSON.stringify(spec ?? {})
  const names = [
    ...[...text.matchAll(/"secretName":"([^"]+)"/g)],
    ...[...text.matchAll(/"secret(?:KeyRef|Ref)?":\{[^{}]*"name":"([^"]+)"/g)],
  ].map(([, name = '']) => name)
  return [...new Set(names)]
}

const besideOf = (name: string, id: string) => `${name.slice(0, 240)}-${id}`

/**
 * Makes a second Secret beside each that holds a token of the old key, and waits until it holds one of the new key. Who uses the old one is named:
 * they are to go by the other before the old key is distrusted.
 */
export const besides: StepDefinition<OnCluster> = {
  id: 'make-token-secrets-beside-the-old-ones',
  runOnce: true,
  when: aboutTokens,
  plan: async ctx =>
    (await holders(await ctx.cluster.api(), keysBefore(ctx))).map(
      ({ namespace, name }) => `make Secret ${namespace}/${besideOf(name, nextKey(ctx).id)} beside ${name}`,
    ),
  run: async ctx => {
    const api = await ctx.cluster.api()
    const { id, key } = nextKey(ctx)
    for (const { namespace, name, account, consumers } of await holders(api, keysBefore(ctx))) {
      const other = besideOf(name, id)
      const path = `/api/v1/namespaces/${namespace}/secrets`
      const body = {
        ...{ apiVersion: 'v1', kind: 'Secret', type: tokenSecretType },
        metadata: { name: other, namespace, annotations: { [accountAnnotation]: account, [beside]: name } },
      }
      const refused = (await foundAt(api, `${path}/${other}`)) ? undefined : await refusalOf(api.post(path, body))
      const made = await waitFor(
        `a token in Secret ${namespace}/${other}`,
        { within: seconds(60), signal: ctx.signal },
        async () => {
          const there = refused === undefined ? await foundAt(api, `${path}/${other}`) : undefined
          // Where the ServiceAccount is gone, its Secrets go.
          if (!there) return { why: refused ?? `its ServiceAccount ${account} is gone?` }
          const token = tokenIn(there.data)
          if (token !== '') ctx.redact(token)
          return keyOfToken(token) === key && { why: undefined }
        },
      )
      const has = made.why === undefined ? `${other} beside it one of the new key` : `none is beside it: ${made.why}`
      ctx.log(
        `Secret ${namespace}/${name} holds a token of the old key; ${has}. Used by ${consumers.join(', ') || 'no pod: whoever has its token from elsewhere'}`,
      )
    }
  },
  rollback: async ctx => {
    await requireServed(ctx, before(ctx))
    const api = await ctx.cluster.api()
    const { id } = nextKey(ctx)
    for await (const { metadata } of api.each(tokenSecretsPath)) {
      const first = metadata.annotations?.[beside]
      if (first === undefined || metadata.name !== besideOf(first, id)) continue
      const path = `/api/v1/namespaces/${metadata.namespace}/secrets`
      if (await foundAt(api, `${path}/${first}`)) await api.delete(`${path}/${metadata.name}`)
      else
        ctx.log(
          `Secret ${metadata.namespace}/${metadata.name} stays: ${first}, beside which it was made, is gone, and its users have no other`,
        )
    }
  },
}

/** Why an API server does not take a Secret: its namespace is ending, a quota, a webhook. The gate of a distrust names what holds an old token. */
async function refusalOf(made: Promise<unknown>): Promise<string | undefined> {
  try {
    await made
    return undefined
  } catch (error) {
    // Somebody has made it meanwhile.
    if (error instanceof ApiError && error.status === 409) return undefined
    if (error instanceof ApiError && ![401, 429, 503, 504].includes(error.status)) return error.message
    throw error
  }
}

/** By which keys an API server that does not answer is to verify tokens, once it runs. */
async function keysInFiles(ctx: OnCluster, host: Host, { message }: Error): Promise<string[]> {
  ctx.signal.throwIfAborted()
  ctx.log(`the API server of ${host.name} does not say by which keys it verifies tokens, its files do: ${message}`)
  const { files } = await tokenKeysOfHost(await ctx.on(host), layoutOf(ctx, host.name), () => {})
  return files.filter(({ signs }) => !signs).flatMap(({ keys }) => keys)
}

/** Fails where an API server does not verify tokens by these keys any more: who goes back to them would be refused. */
async function requireServed(ctx: OnCluster, keys: readonly Pick<Key, 'key' | 'id'>[]): Promise<void> {
  for (const host of apiServerHosts(ctx)) {
    const served = await ctx.cluster
      .apiOf(host)
      .then(servedTokenKeys)
      .catch((error: Error) => keysInFiles(ctx, host, error))
    const gone = keys.filter(({ key }) => !served.includes(key)).map(({ id }) => id)
    if (gone.length === 0) continue
    throw new HostFailedError(`the API server of ${host.name} knows no tokens of ${gone.join(', ')} any more`, {
      code: 'rollback.changed',
      host: host.name,
      hint: 'Was another stage run since? Undo that first.',
    })
  }
}
