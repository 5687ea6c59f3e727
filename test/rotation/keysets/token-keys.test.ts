// Files with keys of tokens, as each stage writes them, and tokens as they are signed to try whether they are known.
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { keyOfToken } from '../../../lib/kubernetes/keysets/token-keys.ts'
import { digestOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { signedWith } from '../../../lib/rotation/keysets/tokens/gates.ts'
import { keysIn, signingWith, withFormerKey, withKey, withoutKeys } from '../../../lib/rotation/keysets/tokens/pem.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

const pair = (kind: 'rsa' | 'ec' = 'rsa') => {
  const { publicKey, privateKey } =
    kind === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  return {
    key: digestOf(publicKey),
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    privateKey: privateKey.export({ type: kind === 'rsa' ? 'pkcs1' : 'sec1', format: 'pem' }).toString(),
  }
}
const [old, next] = [pair(), pair()]
const keys = (text: string) => keysIn(text, 'm1:sa').map(({ key, isPrivate }) => [key, isPrivate])

test('the new key stands behind the old one, which stays as it was written, and goes where it is the only one', t => {
  const both = withKey(`# ours\n${old.publicKey}`, next.publicKey, 'm1:sa.pub')
  t.is(both, `# ours\n${old.publicKey}${next.publicKey}`)
  t.is(withKey(both, next.publicKey, 'm1:sa.pub'), both, 'done again, it changes nothing')
  t.is(withoutKeys(both, [old.key], next.publicKey, 'm1:sa.pub'), next.publicKey)
  t.is(withFormerKey(next.publicKey, old.publicKey, 'm1:sa.pub'), old.publicKey + next.publicKey)
})

test('a file that holds the old key alone gets the one that signs instead: no API server starts with an empty one', t => {
  t.is(withoutKeys(old.publicKey, [old.key], next.publicKey, 'm1:more.pub'), next.publicKey)
  t.is(withoutKeys(next.publicKey, [old.key], next.publicKey, 'm1:sa.pub'), next.publicKey)
})

test('a file without a newline at its end holds two keys afterwards, and not a broken one', t => {
  t.deepEqual(keys(withKey(old.publicKey.trimEnd(), next.publicKey, 'm1:sa.pub')), [
    [old.key, false],
    [next.key, false],
  ])
})

test('a file that signs gets the new key alone; where tokens are verified by it, too, the old one stays as a public key', t => {
  t.is(signingWith(old.privateKey, next.privateKey, false, 'm1:sa.key'), next.privateKey)
  const shared = signingWith(withKey(old.privateKey, next.publicKey, 'm1:sa.key'), next.privateKey, true, 'm1:sa.key')
  t.deepEqual(keys(shared), [
    [old.key, false],
    [next.key, true],
  ])
  t.is(signingWith(shared, next.privateKey, true, 'm1:sa.key'), shared, 'done again, it changes nothing')
  t.is(withoutKeys(shared, [old.key], next.publicKey, 'm1:sa.key'), next.privateKey)
})

test('a certificate verifies tokens by its key', async t => {
  const { pem } = await issue({ name: 'CN=service-accounts' })
  const [found] = keysIn(pem, 'm1:service-account.pem')
  const both = withKey(pem, next.publicKey, 'm1:service-account.pem')
  t.is(keysIn(both, 'm1:service-account.pem').length, 2)
  t.is(withoutKeys(both, [found?.key ?? ''], next.publicKey, 'm1:service-account.pem'), next.publicKey)
})

test('a key that can’t be read keeps its file from being written anew', t => {
  const broken = '-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n'
  const error = t.throws<RekeyError>(() => withKey(broken, next.publicKey, 'm1:sa.key'))
  t.is(error?.code, 'keysets.unread')
  t.regex(error?.message ?? '', /m1:sa\.key/)
})

for (const kind of ['rsa', 'ec'] as const) {
  test(`a token is signed with a key of ${kind}, and has the claims of another`, t => {
    const { key, publicKey, privateKey } = pair(kind)
    const claims = Buffer.from(JSON.stringify({ sub: 'system:serviceaccount:default:default' })).toString('base64url')
    const token = signedWith(privateKey, key, `e30.${claims}.c2lnbmF0dXJl`)
    const [header = '', payload, signature = ''] = token.split('.')
    t.is(payload, claims)
    t.is(keyOfToken(token), key)
    t.is(JSON.parse(Buffer.from(header, 'base64url').toString()).alg, kind === 'rsa' ? 'RS256' : 'ES256')
    const by = { key: createPublicKey(publicKey), dsaEncoding: 'ieee-p1363' as const }
    t.true(verify('sha256', Buffer.from(`${header}.${payload}`), by, Buffer.from(signature, 'base64url')))
  })
}
