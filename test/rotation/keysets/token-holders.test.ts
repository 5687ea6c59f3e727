// Who holds tokens of a key that is followed by another: what a promotion makes for them, what it leaves, and what its way back takes away again.
import { generateKeyPairSync } from 'node:crypto'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { ApiError } from '../../../lib/kubernetes/api/api.ts'
import { digestOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { stepsOf } from '../../../lib/playbook/steps.ts'
import { conditionsStep, readingStep } from '../../../lib/rotation/given/found.ts'
import { lookStep, type TokenKeys } from '../../../lib/rotation/keysets/state.ts'
import { renewed } from '../../../lib/rotation/keysets/tokens/holders.ts'
import { promotedPlays } from '../../../lib/rotation/keysets/tokens/plays.ts'
import { besides } from '../../../lib/rotation/keysets/tokens/secrets.ts'

const pair = () => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const key = digestOf(publicKey)
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  return { key, id: key.slice(0, 8), pem, jwk: publicKey.export({ format: 'jwk' }) }
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

/** A pod of a node, and the tokens that its kubelet gives it, one after the other as they are looked at. */
interface Pod {
  readonly uid: string
  readonly deletionTimestamp?: string
  readonly account?: string
  /** It has the token from a Secret. */
  readonly secret?: true
  readonly signedBy: readonly Pair[]
}

/** A cluster of a node with these pods, on which kubelets are restarted; the accounts `there` are there. */
function node(
  pods: readonly Pod[],
  { absent = [], besides = [] }: { absent?: readonly string[]; besides?: readonly unknown[] } = {},
) {
  const log: string[] = []
  let restarts = 0
  const looked = new Map<string, number>()
  const host = { name: 'n1', groups: [] }
  const path = (uid: string) => `/var/lib/kubelet/pods/${uid}/volumes/kubernetes.io~projected/api/token`
  const print = () =>
    pods.map(({ uid, signedBy }) => {
      const times = looked.get(uid) ?? 0
      looked.set(uid, times + 1)
      return `.. ${tokenOf(signedBy[Math.min(times, signedBy.length - 1)]!).split('.')[0]} ${path(uid)}\n`
    })
  const $ = (first: unknown) => {
    if (Array.isArray(first)) {
      restarts++
      return Promise.resolve({ stdout: '' })
    }
    return async () => ({ stdout: `${print().join('')}.. end\n` })
  }
  const api = {
    async *each() {
      for (const { uid, deletionTimestamp, account, secret } of pods)
        yield {
          metadata: { namespace: 'shop', name: `pod-${uid}`, uid, deletionTimestamp },
          spec: {
            serviceAccountName: account ?? 'there',
            volumes: [
              { name: 'tmp', emptyDir: {} },
              {
                name: 'api',
                projected: {
                  sources: [secret ? { secret: { name: 'x' } } : { serviceAccountToken: { path: 'token' } }],
                },
              },
            ],
          },
          status: { phase: 'Running' },
        }
    },
    get: async (asked: string) =>
      asked.endsWith('/serviceaccounts/there') ? {} : Promise.reject(new ApiError('GET: 404', 404)),
  }
  const kubelet = { component: 'kubelet', flags: {}, files: [], runs: { kind: 'unit', unit: 'kubelet' } }
  const ctx = {
    ...{ host, hosts: () => [host], signal: new AbortController().signal, check: false },
    ...{ log: (text: string) => log.push(text), on: async () => ({ host, $ }) },
    cluster: { api: async () => api, heartbeat: async () => '2026-01-01T00:00:00Z', nodesReady: async () => {} },
    registered: (step: string) =>
      step === lookStep
        ? [...besides, state]
        : step === readingStep
          ? { nodeName: 'node-1', layout: { host: 'n1', components: { kubelet } } }
          : step === conditionsStep
            ? { absent }
            : undefined,
  } as never
  return { ctx, log, restarts: () => restarts }
}

test('pods that get no other token are told, and not waited for: whose account is gone, that are being deleted, that have theirs from a Secret', async t => {
  const [ending, orphan, well] = ['1', '2', '3'].map(uid => ({ uid, signedBy: [old] }))
  const { ctx, log, restarts } = node([
    { ...ending!, deletionTimestamp: '2026-01-01T00:00:00Z' },
    { ...orphan!, account: 'gone' },
    { ...well!, signedBy: [old, next] },
    { uid: '4', secret: true, signedBy: [old] },
  ])
  await renewed.run(ctx)
  t.is(restarts(), 1)
  for (const line of [
    /Pod shop\/pod-1, which is being deleted/,
    /Pod shop\/pod-2, whose ServiceAccount gone is gone/,
    /Pod shop\/pod-4, which has it from a Secret/,
  ])
    t.true(
      log.some(one => line.test(one)),
      log.join('\n'),
    )
  t.false(log.some(one => one.includes('pod-3')))
})

test('a kubelet that was just started anew for the cluster’s own CA is not started anew for tokens', async t => {
  const pods = [{ uid: '1', signedBy: [old, next] }]
  const besides = [{ name: 'kubernetes-ca', authority: 'kubernetes', items: [], bundles: {} }]
  const both = node(pods, { besides })
  await renewed.run(both.ctx)
  t.is(both.restarts(), 0)
  t.regex(both.log.join('\n'), /n1: every token is of the key that signs now/)
  const alone = node(pods)
  await renewed.run(alone.ctx)
  t.is(alone.restarts(), 1)
})

test('a kubelet is not restarted where nobody would get another token, nor where its node was left out', async t => {
  const ended = node([{ uid: '1', account: 'gone', signedBy: [old] }])
  await renewed.run(ended.ctx)
  t.is(ended.restarts(), 0)
  const away = node([{ uid: '1', signedBy: [old] }], { absent: ['node-1'] })
  await renewed.run(away.ctx)
  t.is(away.restarts(), 0)
  t.regex(away.log.join('\n'), /n1 is left out/)
})

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
  const component = 'kube-apiserver'
  const file = { role: 'service-account-verify', path: '/sa.pub', real: '/sa.pub' }
  const layout = { host: 'm1', components: { [component]: { component, flags: {}, files: [file] } } }
  const ctx = {
    ...{ host, hosts: () => [host], signal: new AbortController().signal, check: false, vars: { accept: [] } },
    ...{ log: (text: string) => log.push(text), redact: () => {} },
    cluster: { api: async () => api, apiOf: async () => api },
    registered: (step: string) => (step === lookStep ? [state] : step === readingStep ? { layout } : undefined),
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

test('a second Secret that the API server does not take is told, and the others are made', async t => {
  const { ctx, api, names, log } = cluster([old, next], secretOf('closed', old), secretOf('deploy', old))
  const { post } = api
  api.post = async (path, body) => {
    if (body.metadata.name.startsWith('closed')) throw new ApiError('POST: 403 the namespace is being terminated', 403)
    return post(path, body)
  }
  await besides.run(ctx)
  t.deepEqual(names(), ['closed', 'deploy', other])
  t.true(
    log.some(line => /Secret ci\/closed .* none is beside it: .*being terminated/.test(line)),
    log.join('\n'),
  )
  api.post = () => Promise.reject(new ApiError('POST: 401', 401))
  await t.throwsAsync(async () => besides.run(ctx), { message: 'POST: 401' }, 'who is not known goes no further')
})

test('on the way back the second Secrets are asked about first, and stay where API servers distrust the old key since', async t => {
  const changing = promotedPlays.flatMap(play => stepsOf(play)).filter(({ readOnly }) => !readOnly)
  t.is(changing.at(-1)?.title, 'Make a Secret beside each that holds a token of the old key')
  const { ctx, names } = cluster([next], secretOf('deploy', old), secretOf(other, next, 'deploy'))
  const error = await t.throwsAsync<RekeyError>(async () => besides.rollback?.(ctx))
  t.is(error?.code, 'rollback.changed')
  t.regex(error?.hint ?? '', /Undo that first/)
  t.true(error?.message.includes(old.id), error?.message)
  t.deepEqual(names(), ['deploy', other])
})

test('an API server that is down on the way back is judged by its files', async t => {
  for (const [there, code] of [
    [old, undefined],
    [next, 'rollback.changed'],
  ] as const) {
    const { ctx, api } = cluster([old], secretOf('deploy', old))
    api.getText = () => Promise.reject(new Error('nobody answers'))
    const session = { host: { name: 'm1' }, $: () => async () => ({ stdout: `== /sa.pub\n${there.pem}.. end\n` }) }
    const one = { ...(ctx as object), on: async () => session } as never
    const error = await Promise.resolve(besides.rollback?.(one)).then(
      () => undefined,
      (thrown: RekeyError) => thrown,
    )
    t.is(error?.code, code)
  }
})

test('on the way back a second Secret stays whose first one is gone: its users have no other', async t => {
  const { ctx, names, log } = cluster([old, next], secretOf(other, next, 'deploy'))
  await besides.rollback?.(ctx)
  t.deepEqual(names(), [other])
  t.true(
    log.some(line => line.includes(`Secret ci/${other} stays`)),
    log.join('\n'),
  )
})
