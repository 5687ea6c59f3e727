// Which keys tokens are signed and verified with, as a host, an API server and tokens tell it: no private key and no token leaves its machine.
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { chmodSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { KubernetesApi } from '../../../lib/kubernetes/api/api.ts'
import {
  keyOfHeader,
  servedTokenKeys,
  tokenKeysOfHost,
  tokensOfSecrets,
} from '../../../lib/kubernetes/keysets/token-keys.ts'
import type { FoundComponent, HostLayout } from '../../../lib/kubernetes/layout/host-layout.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { localSession } from '../_local.ts'

const digest = (key: KeyObject | string) =>
  createHash('sha256')
    .update((typeof key === 'string' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' }))
    .digest('hex')
const header = (key: string) =>
  Buffer.from(JSON.stringify({ alg: 'RS256', kid: Buffer.from(key, 'hex').toString('base64url') })).toString(
    'base64url',
  )

const first = generateKeyPairSync('rsa', { modulusLength: 2048 })
const second = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const publicPem = ({ publicKey }: { publicKey: KeyObject }) =>
  publicKey.export({ type: 'spki', format: 'pem' }) as string

function layoutWith(folder: string, files: readonly (readonly [role: string, path: string])[]): HostLayout {
  const component = (name: string, more: object) =>
    ({ component: name, flags: {}, files: [], ...more }) as unknown as FoundComponent
  const named = files.map(([role, path]) => ({ role, by: '--x', path, real: path }))
  return {
    host: 'm1',
    components: {
      'kube-apiserver': component('kube-apiserver', { files: named }),
      kubelet: component('kubelet', { flags: { 'root-dir': [folder] } }),
    },
  }
}

/** A folder with keys in each form in which they are met, and a pod with a token. */
async function scene() {
  const folder = temporaryFolder('token-keys')
  const ca = await issue({ name: 'CN=kubernetes', ca: true })
  const texts: Record<string, string> = {
    'sa.pub': `${publicPem(first)}# the next one\n${publicPem(second)}`,
    'rsa.pub': first.publicKey.export({ type: 'pkcs1', format: 'pem' }) as string,
    'sa.key': first.privateKey.export({ type: 'pkcs1', format: 'pem' }) as string,
    'ec.key': second.privateKey.export({ type: 'sec1', format: 'pem' }) as string,
    'ca.pem': ca.pem,
    'broken.key': '-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n',
  }
  for (const [name, text] of Object.entries(texts)) writeFileSync(join(folder, name), text, { mode: 0o600 })
  const volume = join(folder, 'pods/1/volumes/kubernetes.io~projected/kube-api-access')
  mkdirSync(volume, { recursive: true })
  writeFileSync(join(volume, 'token'), `${header(digest(first.publicKey))}.payload.signature`)
  writeFileSync(join(volume, 'ca.crt'), ca.pem)
  utimesSync(join(volume, 'ca.crt'), 1_700_000_000, 1_700_000_000)
  // As a kubelet writes what a pod calls otherwise, beside a Secret, in a folder of the volume.
  const tokens = join(folder, 'pods/2/volumes/kubernetes.io~projected/tokens')
  mkdirSync(join(tokens, '..2026', 'deep'), { recursive: true })
  symlinkSync('..2026', join(tokens, '..data'))
  const written = {
    'istio-token': `${header(digest(second.publicKey))}.payload.signature`,
    'deep/vault': `${header(digest(first.publicKey))}.payload.signature`,
    password: 'Secret.of.somebody',
    json: `${header(digest(first.publicKey))}: eyJhIjoic2VjcmV0In0`,
  }
  for (const [name, text] of Object.entries(written)) writeFileSync(join(tokens, '..2026', name), text)
  for (const name of ['istio-token', 'deep', 'password', 'json']) symlinkSync(`..data/${name}`, join(tokens, name))
  const cni = join(folder, 'net.d')
  mkdirSync(cni)
  const user = `- name: calico\n  user:\n    token: "${header(digest(second.publicKey))}.payload.signature"\n`
  writeFileSync(join(cni, 'calico-kubeconfig'), `users:\n${user}`)
  writeFileSync(join(cni, '10-calico.conflist'), user)
  return { folder, ca, cni, token: join(volume, 'token'), tokens, path: (name: string) => join(folder, name) }
}

test('public keys of files in each form, of private ones too, and the key of each token that pods and network plugins hold', async t => {
  const { folder, ca, cni, token, tokens: others, path } = await scene()
  const session = await localSession()
  const roles = [
    ['service-account-verify', 'sa.pub'],
    ['service-account-verify', 'rsa.pub'],
    ['service-account-verify', 'ca.pem'],
    ['service-account-sign', 'sa.key'],
    ['service-account-sign', 'ec.key'],
  ] as const
  const missed: string[] = []
  const layout = layoutWith(
    folder,
    roles.map(([role, name]) => [role, path(name)]),
  )
  const { files, tokens, written } = await tokenKeysOfHost(session, layout, text => missed.push(text), cni)
  t.deepEqual([...written!], [['1', new Date(1_700_000_000_000)]])
  const [rsa, ec] = [digest(first.publicKey), digest(second.publicKey)]
  t.deepEqual(
    files.map(({ path: at, signs, keys }) => [at.slice(folder.length + 1), signs, keys]),
    [
      ['sa.pub', false, [rsa, ec]],
      ['rsa.pub', false, [rsa]],
      ['ca.pem', false, [digest(ca.pem)]],
      ['sa.key', true, [rsa]],
      ['ec.key', true, [ec]],
    ],
  )
  const byPlace = tokens.toSorted((a, b) => a.where.localeCompare(b.where))
  t.deepEqual(byPlace, [
    { where: `m1:${cni}/calico-kubeconfig`, host: 'm1', key: ec },
    { where: `m1:${token}`, host: 'm1', key: rsa, pod: '1' },
    { where: `m1:${others}/deep/vault`, host: 'm1', key: rsa, pod: '2' },
    { where: `m1:${others}/istio-token`, host: 'm1', key: ec, pod: '2' },
  ])
  t.deepEqual(missed, [])
})

test('a key that can’t be read is told, and nothing of it is shown', async t => {
  const { folder, path } = await scene()
  const missed: string[] = []
  const layout = layoutWith(folder, [['service-account-sign', path('broken.key')]])
  const { files } = await tokenKeysOfHost(await localSession(), layout, text => missed.push(text))
  t.deepEqual(files[0]!.keys, [])
  t.is(missed.length, 1)
  t.regex(
    missed[0]!,
    /^m1: which key is in .*broken\.key is not known, with which kube-apiserver signs or verifies tokens$/,
  )
})

test('what the host prints holds no private key and no more of a token than its header', async t => {
  const { folder, cni, path } = await scene()
  const session = await localSession()
  let printed = ''
  const watched = new Proxy(session.$, {
    apply: (target, self, args) => {
      const made = Reflect.apply(target, self, args)
      return (...words: unknown[]) => {
        const answer = (made as (...all: unknown[]) => Promise<{ stdout: string }>)(...words)
        return answer.then(one => {
          printed += one.stdout
          return one
        })
      }
    },
  })
  chmodSync(path('sa.key'), 0o644)
  await tokenKeysOfHost(
    { ...session, $: watched },
    layoutWith(folder, [['service-account-sign', path('sa.key')]]),
    () => {},
    cni,
  )
  t.regex(printed, /PUBLIC KEY/)
  t.regex(printed, /istio-token/)
  t.notRegex(printed, /PRIVATE KEY|payload|signature|somebody|eyJhIjoic2VjcmV0In0/)
})

test('an API server says which keys it verifies by, and a token by its header who signed it', async t => {
  const keys = [first, second].map(({ publicKey }) => ({
    ...publicKey.export({ format: 'jwk' }),
    use: 'sig',
    kid: 'x',
  }))
  const asked: string[] = []
  const api = {
    getText: async (path: string) => {
      asked.push(path)
      return JSON.stringify({ keys })
    },
    each: async function* () {
      const token = Buffer.from(`${header(digest(first.publicKey))}.a.b`).toString('base64')
      yield { metadata: { namespace: 'a', name: 'one' }, data: { token } }
      yield { metadata: { namespace: 'a', name: 'none-yet' } }
    },
  } as unknown as KubernetesApi
  t.deepEqual(await servedTokenKeys(api), [digest(first.publicKey), digest(second.publicKey)])
  t.deepEqual(asked, ['/openid/v1/jwks'])
  t.deepEqual(await tokensOfSecrets(api), [{ where: 'Secret a/one', key: digest(first.publicKey) }])
})

test('what is no header of a token of Kubernetes says nothing', t => {
  for (const text of [
    '',
    'x',
    Buffer.from('{}').toString('base64url'),
    Buffer.from('{"kid":"short"}').toString('base64url'),
  ])
    t.is(keyOfHeader(text), undefined, text)
})
