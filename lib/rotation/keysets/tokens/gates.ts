// Whether each API server knows who comes by a token that a key signs: tokens are made here, held in memory for ten minutes, and shown to nobody
// else. They are those of an account that each namespace has, with its own claims, as a server of the cluster has just written them.
import { createPrivateKey, sign } from 'node:crypto'
import { HostFailedError } from '../../../errors.ts'
import { keyOfToken, servedTokenKeys } from '../../../kubernetes/keysets/token-keys.ts'
import { doorOf, isKnown, type Visitor } from '../../../kubernetes/probes/doors.ts'
import { waitFor } from '../../../operations/wait.ts'
import type { Host } from '../../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { type OnCluster, seconds } from '../../given/context.ts'
import { apiServerHosts, layoutOf } from '../../given/found.ts'
import { masters } from '../../given/hosts.ts'
import type { Key } from '../state.ts'
import { aboutTokens, keptKey, privateHalf } from './keys.ts'

type Needs = OnCluster<BackupVariables>

/** Whose tokens are shown: an account that is there in every cluster, and may do nothing unless somebody has let it. */
const account = { namespace: 'default', name: 'default' }
const user = `system:serviceaccount:${account.namespace}:${account.name}`

/** A token that the API server of a master signs. */
async function askForToken(ctx: OnCluster, host: Host): Promise<string> {
  const api = await ctx.cluster.apiOf(host)
  const { namespace, name } = account
  const asked = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 600 } }
  const { status } = await api.post(`/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`, asked)
  const token = String(status?.['token'] ?? '')
  if (token.split('.').length !== 3) {
    throw new HostFailedError(`the API server of ${host.name} gives no token for ${user}`, {
      code: 'keysets.no-token',
      host: host.name,
    })
  }
  ctx.redact(token)
  return token
}

/** The same, of one that may take a while to answer: it was started anew just now, or another one was, which etcd has not got over yet. */
const requestToken = (ctx: OnCluster, host: Host): Promise<string> =>
  waitFor(
    `the API server of ${host.name} to give a token`,
    { within: patience, signal: ctx.signal, host: host.name },
    () => askForToken(ctx, host),
  )

/** How a key signs tokens: as what its kind and its curve allow. */
const algorithms: Readonly<Record<string, readonly [alg: string, hash: string]>> = {
  rsa: ['RS256', 'sha256'],
  prime256v1: ['ES256', 'sha256'],
  secp384r1: ['ES384', 'sha384'],
  secp521r1: ['ES512', 'sha512'],
}

/** A token with the claims of another, signed with a private key, PEM. */
export function signedWith(privateKey: string, key: string, token: string): string {
  const signing = createPrivateKey(privateKey)
  const { asymmetricKeyType: kind = '', asymmetricKeyDetails: details } = signing
  const [alg, hash] = algorithms[details?.namedCurve ?? kind] ?? []
  if (alg === undefined || hash === undefined) {
    throw new HostFailedError(`no token can be signed here with a key of ${kind}`, {
      code: 'keysets.no-old-credential',
    })
  }
  const kid = Buffer.from(key, 'hex').toString('base64url')
  const header = Buffer.from(JSON.stringify({ alg, kid })).toString('base64url')
  const signed = `${header}.${token.split('.')[1]}`
  const signature = sign(hash, Buffer.from(signed), { key: signing, dsaEncoding: 'ieee-p1363' })
  return `${signed}.${signature.toString('base64url')}`
}

const visitor = (token: string): Visitor => ({ user, headers: { authorization: `Bearer ${token}` } })

/** Somebody who comes by a token that is signed with a key that masters keep, just now. */
async function forged(ctx: Needs, key: Pick<Key, 'key' | 'id'>): Promise<Visitor> {
  const privateKey = await privateHalf(ctx, await keptKey(ctx, key))
  const [any] = ctx.hosts(masters)
  const token = signedWith(privateKey, key.key, await requestToken(ctx, any!))
  ctx.redact(token)
  return visitor(token)
}

const patience = seconds(75)

/** Waits until the API servers of these masters know, or refuse, who comes by these. */
async function ask(
  ctx: Needs,
  visitors: readonly Visitor[],
  what: string,
  known: boolean,
  hosts: readonly Host[] = ctx.hosts(masters),
): Promise<void> {
  const doors = await Promise.all(
    hosts.map(async host => doorOf(await ctx.on(host), layoutOf(ctx, host.name), 'kube-apiserver')),
  )
  for (const door of doors) {
    if (!door) continue
    for (const one of visitors) {
      const waiting = `${door.where} to ${known ? 'know' : 'refuse'} ${what}`
      await waitFor(
        waiting,
        { within: patience, signal: ctx.signal },
        async () => (await isKnown(door, one)) === known,
      ).catch((error: Error) => {
        ctx.signal.throwIfAborted()
        throw new HostFailedError(error.message, {
          code: known ? 'keysets.not-let-in' : 'keysets.still-let-in',
          hint: 'It goes by the keys that it read when it was started. Look at its --service-account-key-file, and go on with rekey resume, or undo with rekey rollback.',
          cause: error,
        })
      })
    }
  }
  ctx.log(`asked: ${doors.flatMap(door => door?.where ?? []).join(', ')}`)
}

/** Each API server knows a token as they sign them now: what is asked afterwards can be asked. */
export async function currentKnown(ctx: Needs): Promise<void> {
  const [any] = ctx.hosts(masters)
  if (any) await ask(ctx, [visitor(await requestToken(ctx, any))], 'a token of now', true)
}

const everywhere =
  (known: boolean) =>
  async (ctx: Needs, keys: readonly Pick<Key, 'key' | 'id'>[]): Promise<void> => {
    const visitors = await Promise.all(keys.map(key => forged(ctx, key)))
    await ask(ctx, visitors, tokensOf(keys), known)
  }

/** Each API server knows tokens that are signed with these keys now. */
export const knownEverywhere = everywhere(true)
/** Each API server refuses them. */
export const refusedEverywhere = everywhere(false)

/** Waits until each API server, asked one after the other, has it so. */
async function eachServer(
  ctx: Needs,
  what: string,
  isSo: (host: Host) => Promise<boolean>,
  hosts: readonly Host[] = apiServerHosts(ctx),
): Promise<void> {
  for (const host of hosts) {
    const { signal } = ctx
    await waitFor(`the API server of ${host.name} to ${what}`, { within: patience, signal, host: host.name }, () =>
      isSo(host),
    )
  }
}

/** Each API server says itself that it verifies tokens by a key. */
export const publishedEverywhere = (ctx: Needs, { key, id }: Pick<Key, 'key' | 'id'>): Promise<void> =>
  eachServer(ctx, `publish the key ${id}`, async host =>
    (await servedTokenKeys(await ctx.cluster.apiOf(host))).includes(key),
  )

/** Each API server signs with a key; or those of these masters do. */
export const signedEverywhere = (
  ctx: Needs,
  { key, id }: Pick<Key, 'key' | 'id'>,
  hosts?: readonly Host[],
): Promise<void> =>
  eachServer(
    ctx,
    `sign tokens with the key ${id}`,
    async host => keyOfToken(await askForToken(ctx, host)) === key,
    hosts,
  )

/** What an API server is to do with tokens since it was started anew. */
export interface Seen {
  /** The key that it signs with. */
  readonly signs?: Pick<Key, 'key' | 'id'>
  /** The keys, which masters keep, whose tokens it knows. */
  readonly knows?: readonly Pick<Key, 'key' | 'id'>[]
  /** Those whose tokens it refuses. */
  readonly refuses?: readonly Pick<Key, 'key' | 'id'>[]
}

/**
 * Waits until the API server of a master does so, and knows a token of its own, before the next one is started anew: the first of them is a canary.
 * Where the run is not about tokens, or nothing that serves the API was started there, nobody is asked.
 */
export async function seenOn(ctx: Needs, { host }: Pick<HostSession, 'host'>, seen: () => Seen): Promise<void> {
  if (!aboutTokens(ctx) || !layoutOf(ctx, host.name).components['kube-apiserver']) return
  const { signs, knows = [], refuses = [] } = seen()
  if (signs) await signedEverywhere(ctx, signs, [host])
  await ask(ctx, [visitor(await requestToken(ctx, host))], 'a token of its own', true, [host])
  for (const [keys, known] of [
    [knows, true],
    [refuses, false],
  ] as const) {
    const visitors = await Promise.all(keys.map(key => forged(ctx, key)))
    if (keys.length > 0) await ask(ctx, visitors, tokensOf(keys), known, [host])
  }
}

const tokensOf = (keys: readonly Pick<Key, 'id'>[]) => `tokens of ${keys.map(({ id }) => id).join(', ')}`

/** A gate that asks every API server once. */
export const gate = <In extends Needs>(run: (ctx: In) => Promise<void>): StepDefinition<In> => ({
  ...{ readOnly: true, runOnce: true },
  when: ctx => !ctx.check && aboutTokens(ctx),
  run,
})
