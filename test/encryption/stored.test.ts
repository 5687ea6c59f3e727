// Values as they lie in etcd are told apart by their own bytes, whatever keys are called and whatever was encrypted.
import test from 'ava'
import fc from 'fast-check'
import {
  headBytes,
  keyedProviders,
  type NamedProvider,
  needsAll,
  prefixOf,
  tellingApart,
} from '../../lib/encryption/stored.ts'

const bytes = (text: string, ...rest: Uint8Array[]) => Buffer.concat([Buffer.from(text), ...rest])

/** A length-delimited field of protobuf. */
function field(number: number, content: Uint8Array): Buffer {
  const length: number[] = []
  for (let left = content.length; ; left >>>= 7) {
    length.push(left > 0x7f ? (left & 0x7f) | 0x80 : left)
    if (left <= 0x7f) break
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), content])
}

/** What a KMS v2 plugin's values look like behind their prefix, as API servers write them: ciphertext, key id, wrapped seed, its type. */
const envelope = (ciphertext: Uint8Array, keyId: string) =>
  Buffer.concat([
    field(1, ciphertext),
    field(2, Buffer.from(keyId)),
    field(3, Buffer.alloc(60, 7)),
    Buffer.from([0x28, 1]),
  ])

const anyBytes = fc.uint8Array({ maxLength: 1500 })
const name = fc.string({ unit: fc.constantFrom(...'abk1-_.:é'), minLength: 1, maxLength: 12 })
const plugin = fc.string({ unit: fc.constantFrom(...'abk1-_.'), minLength: 1, maxLength: 12 })
const keyed = fc.record({ kind: fc.constantFrom(...keyedProviders), name })

test('a value of a known key is told by the longest name that fits, colons and all', t => {
  fc.assert(
    fc.property(fc.array(keyed, { minLength: 1, maxLength: 6 }), anyBytes, fc.nat(), (keys, ciphertext, nth) => {
      const { kind, name } = keys[nth % keys.length]!
      const tell = tellingApart(keys)
      const told = tell(bytes(`k8s:enc:${kind}:v1:${name}:`, ciphertext))
      t.true(told.kind === 'key' && told.known && told.provider === kind && told.name.startsWith(name))
      // Where the ciphertext does not happen to go on like a longer name of ours, it is this very one.
      const begun = tell(bytes(`k8s:enc:${kind}:v1:${name}:`, Buffer.from([0]), ciphertext))
      t.deepEqual(begun, { kind: 'key', provider: kind, name, known: true })
    }),
    { numRuns: 60 },
  )
})

test('of a name that another one begins with, neither takes the other’s values', t => {
  const names = ['aescbckey', 'aescbckey-2022-08-02T16', 'aescbckey-2022-08-02T16:02:40Z', 'aescbckey-2022-08-02T16:02']
  const tell = tellingApart(names.map(one => ({ kind: 'aescbc', name: one })))
  for (const name of names)
    t.like(tell(bytes(`k8s:enc:aescbc:v1:${name}:`, Buffer.alloc(32, 0xfe))), { name, known: true })
  t.like(tell(bytes('k8s:enc:secretbox:v1:aescbckey:', Buffer.alloc(32))), { provider: 'secretbox', known: false })
})

test('the key id of a KMS v2 plugin is read behind a ciphertext of any length and content', t => {
  fc.assert(
    fc.property(
      plugin,
      fc.string({ minLength: 1, maxLength: 60 }),
      anyBytes,
      fc.boolean(),
      (name, keyId, all, known) => {
        const providers: NamedProvider[] = known ? [{ kind: 'kms', version: 'v2', name }] : []
        const value = bytes(`k8s:enc:kms:v2:${name}:`, envelope(all, keyId))
        t.true(needsAll(value.subarray(0, headBytes)))
        const text = Buffer.from(keyId).toString('utf8')
        t.deepEqual(tellingApart(providers)(value), { kind: 'kms', version: 'v2', name, known, keyId: text })
      },
    ),
    { numRuns: 60 },
  )
})

test('a ciphertext that holds another key id does not pass for the key id', t => {
  const value = bytes(
    'k8s:enc:kms:v2:hsm:',
    envelope(field(2, Buffer.from('old')), '99eca070-25d3-4dea-928e-8620f6790d2b'),
  )
  t.like(tellingApart([])(value), { keyId: '99eca070-25d3-4dea-928e-8620f6790d2b' })
})

test('a KMS v2 value that is cut off anywhere before its key id ends is damaged, and says whose it was', t => {
  const whole = bytes('k8s:enc:kms:v2:hsm:', envelope(Buffer.alloc(300, 1), 'key-1'))
  const tell = tellingApart([{ kind: 'kms', version: 'v2', name: 'hsm' }])
  const ends = whole.indexOf('key-1') + 'key-1'.length
  for (const cut of [19, 20, 21, 22, 100, ends - 5, ends - 1])
    t.deepEqual(tell(whole.subarray(0, cut)), {
      kind: 'unknown',
      why: 'the KMS plugin hsm wrote it, and it is cut off or damaged',
    })
})

test('what is plain, what a v1 plugin wrote, and what nobody knows', t => {
  const tell = tellingApart([{ kind: 'kms', version: 'v1', name: 'old' }])
  t.deepEqual(tell(bytes('k8s\0\n\f\n\u0002v1')), { kind: 'plain', form: 'protobuf' })
  t.deepEqual(tell(bytes('{"apiVersion":"example.com/v1"}')), { kind: 'plain', form: 'json' })
  t.deepEqual(tell(bytes('k8s:enc:kms:v1:old:\0p')), { kind: 'kms', version: 'v1', name: 'old', known: true })
  t.like(tell(bytes('k8s:enc:kms:v1:other:\0p')), { name: 'other', known: false })
  for (const damaged of [
    '',
    'k8s',
    'k8s:enc:',
    'k8s:enc:rot13:v1:k:x',
    'k8s:enc:aescbc:v2:k:x',
    'k8s:enc:aescbc:v1:k',
    'SQLite',
  ])
    t.is(tell(bytes(damaged)).kind, 'unknown', damaged)
})

test('whatever bytes there are, something is said, and nothing of what is behind the name', t => {
  fc.assert(
    fc.property(fc.constantFrom('', 'k8s:enc:', 'k8s:enc:kms:v2:x:', 'k8s:enc:aesgcm:v1:'), anyBytes, (head, rest) => {
      const secret = Buffer.from('do-not-keep-this')
      const told = JSON.stringify(tellingApart([])(bytes(head, Buffer.from([0]), secret, rest)))
      t.false(told.includes(secret.toString()))
    }),
    { numRuns: 60 },
  )
  t.is(prefixOf({ kind: 'kms', version: 'v2', name: 'hsm' }), 'k8s:enc:kms:v2:hsm:')
})
