// Who holds tokens of a key that is followed by another: what a promotion makes for them, what it leaves, and what its way back takes away again.
import { generateKeyPairSync } from 'node:crypto'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { ApiError } from '../../../lib/kubernetes/api/api.ts'
import { digestOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { readingStep } from '../../../lib/rotation/given/found.ts'
import { lookStep, type TokenKeys } from '../../../lib/rotation/keysets/state.ts'
import { besides } from '../../../lib/rotation/keysets/tokens/holders.ts'
import { promotedPlays } from '../../../lib/rotation/keysets/tokens/plays.ts'

const pair = () => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const key = digestOf(publicKey)
  return { key, id: key.slice(0, 8), jwk: publicKey.export({ format: 'jwk' }) }
}
type Pair = ReturnType<typeof pair>
const [old, next] = [pair(), pair()]

/** A token that a key signs. */
const tokenOf = ({ key }: Pair) => {
  const kid = Buffer.from(key, 'hex').toString('base64url')
  return `${Buffer.from(JSON.stringify({ kid })).toString('base64url')}.e30.c2ln`
}

/** A Secret of the namespace `ci` with a token. */
const secretOf = (name: string, pairOf: Pair, beside?: string) => ({
  metadata: {
    ...{ namespace: 'ci', name },
    annotations: {
      'kubernetes.io/service-account.name': 'deploy',
      ...(beside !== undefined && { 'rekey.dev/beside': beside }),
    },
  },
  data: { token: Buffer.from(tokenOf(pairOf)).toString('base64') },
})
type Secret = ReturnType<typeof secretOf>

const state: TokenKeys = {
  name: 'service-account',
  items: [
    { id: old.id, key: old.key, state: 'primary' },
    { id: next.id, key: next.key, state: 'staged', kept: true },
  ],
  ...{ files: {}, uses: [], unread: [] },
}

/** A cluster of one master whose API server verifies tokens by these keys, and has these Secrets. */
function cluster(served: readonly Pair[], ...secrets: readonly Secret[]) {
  const there = new Map(secrets.map(one => [one.metadata.name, one]))
  const log: string[] = []
  const host = { name: 'm1', groups: ['masters'] }
  const notFound = () => Promise.reject(new ApiError('GET: 404', 404))
  const api = {
    async *each(path: string) {
      if (path.startsWith('/api/v1/secrets')) yield* [...there.values()]
    },
    get: async (path: string) => there.get(path.split('/').at(-1) ?? '') ?? notFound(),
    post: async (_: string, { metadata }: Secret) =>
      there.set(metadata.name, { ...secretOf(metadata.name, next), metadata }),
    delete: async (path: string) => there.delete(path.split('/').at(-1) ?? ''),
    getText: async () => JSON.stringify({ keys: served.map(({ jwk }) => jwk) }),
  }
  const layout = { host: 'm1', components: { 'kube-apiserver': { flags: {}, files: [] } } }
  const ctx = {
    ...{ host, hosts: () => [host], signal: new AbortController().signal, check: false, vars: { accept: [] } },
    ...{ log: (text: string) => log.push(text), redact: () => {} },
    cluster: { api: async () => api, apiOf: async () => api },
    registered: (step: string) =>
      step === lookStep ? [state] : step === readingStep ? { layout } : undefined,
  } as never
  return { ctx, api, log, names: () => [...there.keys()].toSorted() }
}

const other = `deploy-${next.id}`

test('a second Secret is made beside one with a token of the old key, and goes again on the way back', async t => {
  const { ctx, names } = cluster([old, next], secretOf('deploy', old))
  await besides.run(ctx)
  t.deepEqual(names(), ['deploy', other])
  await besides.rollback?.(ctx)
  t.deepEqual(names(), ['deploy'])
})

test('on the way back the second Secrets are asked about first, and stay where API servers distrust the old key since', async t => {
  const [{ steps } = { steps: [] }] = promotedPlays
  t.is(
    steps.findLast(item => !('readOnly' in item && item.readOnly))?.id,
    besides.id,
    'nothing is undone before it could refuse',
  )
  const { ctx, names } = cluster([next], secretOf('deploy', old), secretOf(other, next, 'deploy'))
  const error = await t.throwsAsync<RekeyError>(async () => besides.rollback?.(ctx))
  t.is(error?.code, 'rollback.changed')
  t.regex(error?.hint ?? '', /Undo that first/)
  t.true(error?.message.includes(old.id), error?.message)
  t.deepEqual(names(), ['deploy', other])
})

test('on the way back a second Secret stays whose first one is gone: its users have no other', async t => {
  const { ctx, names, log } = cluster([old, next], secretOf(other, next, 'deploy'))
  await besides.rollback?.(ctx)
  t.deepEqual(names(), [other])
  t.true(log.some(line => line.includes(`Secret ci/${other} stays`)), log.join('\n'))
})
