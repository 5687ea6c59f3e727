// Whether API servers know who comes by a token: each is asked by one that is signed there and then. The server is one of this process.
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { digestOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { readingStep } from '../../../lib/rotation/given/found.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'
import {
  knownEverywhere,
  publishedEverywhere,
  refusedEverywhere,
  seenOn,
  signedEverywhere,
  signedWith,
} from '../../../lib/rotation/keysets/tokens/gates.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { localSession } from '../../kubernetes/_local.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

const user = 'system:serviceaccount:default:default'
const claims = Buffer.from(JSON.stringify({ sub: user })).toString('base64url')

const pair = () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const key = digestOf(publicKey)
  return {
    ...{ key, id: key.slice(0, 8), jwk: publicKey.export({ format: 'jwk' }) },
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    privateKey: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
  }
}
type Pair = ReturnType<typeof pair>

/** An API server that verifies tokens by the keys of each question: the last ones, from then on. */
async function serverOf(perQuestion: readonly (readonly Pair[])[]) {
  const { pem, keyPem } = await issue({ name: 'CN=kube-apiserver' })
  let asked = 0
  const now = () => perQuestion[Math.min(asked++, perQuestion.length - 1)] ?? []
  const server = createServer({ cert: pem, key: keyPem }, (request, response) => {
    const [header = '', payload = '', signature = ''] = (request.headers.authorization ?? '').slice(7).split('.')
    const isKnown = now().some(({ publicKey }) =>
      verify(
        'sha256',
        Buffer.from(`${header}.${payload}`),
        createPublicKey(publicKey),
        Buffer.from(signature, 'base64url'),
      ),
    )
    response.writeHead(isKnown ? 201 : 401)
    response.end(isKnown ? JSON.stringify({ status: { userInfo: { username: user } } }) : 'Unauthorized')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { port: (server.address() as AddressInfo).port, asked: () => asked, close: () => server.close(), now }
}

/** A cluster of one master whose API server that is, signs with the first of its keys, and that keeps these. */
async function masterWith(server: Awaited<ReturnType<typeof serverOf>>, ...kept: readonly Pair[]) {
  const backups = temporaryFolder('token-gates')
  for (const { id, publicKey, privateKey } of kept) {
    const folder = join(backups, 'keysets', 'service-account', id)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'sa.pub'), publicKey)
    writeFileSync(join(folder, 'sa.key'), privateKey)
  }
  const { port } = server
  const layout = {
    host: 'm1',
    components: {
      'kube-apiserver': { flags: {}, files: [], endpoints: [{ address: '127.0.0.1', port, role: 'serving' }] },
    },
  }
  const host = { name: 'm1', groups: ['masters'] }
  const forward = async (_: string, to: number) => connect(to, '127.0.0.1')
  const session = { ...(await localSession()), host, forward }
  const redacted: string[] = []
  const ctx = {
    ...session,
    ...{ vars: { backup_directory: backups }, signal: new AbortController().signal, check: false },
    ...{ redact: (value: string) => redacted.push(value), log: () => {}, hosts: () => [host], on: async () => session },
    registered: (step: string) =>
      step === readingStep ? { layout } : step === lookStep ? [{ name: 'service-account', files: {} }] : undefined,
    cluster: {
      apiOf: async () => ({
        post: async () => {
          const [{ privateKey, key } = kept[0]!] = server.now()
          return { status: { token: signedWith(privateKey, key, `e30.${claims}.c2ln`) } }
        },
        getText: async () => JSON.stringify({ keys: server.now().map(({ jwk }) => jwk) }),
      }),
    },
  } as never
  return { ctx, redacted }
}

test('an API server is asked until it knows tokens of a key, and until it refuses them; no token and no key is told', async t => {
  const [old, next] = [pair(), pair()]
  for (const [gate, perQuestion] of [
    [knownEverywhere, [[old], [old, next]]],
    [refusedEverywhere, [[old, next], [old]]],
  ] as const) {
    const server = await serverOf(perQuestion)
    t.teardown(server.close)
    const { ctx, redacted } = await masterWith(server, old, next)
    await gate(ctx, [next])
    t.true(server.asked() >= perQuestion.length, `${server.asked()}`)
    t.true(redacted.some(value => value.includes('PRIVATE KEY')))
    t.true(redacted.some(value => value.split('.').length === 3))
  }
})

test('an API server that gives no token for a moment is asked once more', async t => {
  const key = pair()
  const server = await serverOf([[key]])
  t.teardown(server.close)
  const { ctx } = await masterWith(server, key)
  const { cluster } = ctx as { cluster: { apiOf: () => Promise<{ post: (path: string) => Promise<unknown> }> } }
  let away = 1
  const apiOf = async () => {
    const api = await cluster.apiOf()
    const post = async (path: string) => {
      if (away-- > 0) throw new Error('waited 10 s for POST')
      return api.post(path)
    }
    return { ...api, post }
  }
  await t.notThrowsAsync(knownEverywhere({ ...(ctx as object), cluster: { apiOf } } as never, [key]))
})

test('an API server is asked until it publishes a key, and until it signs with it', async t => {
  const [old, next] = [pair(), pair()]
  for (const gate of [publishedEverywhere, signedEverywhere]) {
    const server = await serverOf([[old], [next, old]])
    t.teardown(server.close)
    const { ctx } = await masterWith(server, old)
    await gate(ctx, next)
    t.true(server.asked() >= 2, `${server.asked()}`)
  }
})

test('an API server that was started anew is a canary: it knows tokens of its own and of these keys, and refuses others, before the next one follows', async t => {
  const [old, next] = [pair(), pair()]
  for (const [seen, perQuestion] of [
    [{ knows: [next] }, [[old, next]]],
    [{ signs: next, knows: [old] }, [[next, old]]],
    [{ signs: next, refuses: [old] }, [[next, old], [next, old], [next, old], [next, old], [next]]],
  ] as const) {
    const server = await serverOf(perQuestion)
    t.teardown(server.close)
    const { ctx } = await masterWith(server, ...(perQuestion[0][0] === next ? [next, old] : [old, next]))
    await t.notThrowsAsync(() => seenOn(ctx, { host: { name: 'm1' } as never }, () => seen))
    t.true(server.asked() >= perQuestion.length)
  }
})

test('an API server that goes by other keys than it is to stops the next one from following', async t => {
  const [old, next] = [pair(), pair()]
  const server = await serverOf([[old]])
  t.teardown(server.close)
  const { ctx } = await masterWith(server, old, next)
  const stopped = new AbortController()
  const asked = seenOn(
    { ...(ctx as object), signal: stopped.signal } as never,
    { host: { name: 'm1' } as never },
    () => ({
      knows: [next],
    }),
  )
  while (server.asked() < 6) await new Promise(resolve => setTimeout(resolve, 20))
  stopped.abort(new Error('it knows no tokens of the new key still'))
  await t.throwsAsync(asked)
})
