// In which state the keys of a cluster are, from who trusts and who uses them.
import test from 'ava'
import { publicKeyOf } from '../../lib/pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../lib/pki/certificates/certificate.ts'
import {
  behindOf,
  factsTogether,
  type HeldKey,
  joined,
  type KeysetFacts,
  type KeyUse,
  keysetsOf,
  primaryOf,
  type Truster,
} from '../../lib/pki/keyset.ts'
import { issue } from './certificates/_certificates.ts'

const day = 86_400_000
const from = (days: number) => new Date(Date.now() + days * day)
const held = ({ pem }: { pem: string }): HeldKey => ({ key: publicKeyOf(pem)!, certificate: parseCertificate(pem) })
const authority = (begins: number, ends: number, more: Partial<Parameters<typeof issue>[0]> = {}) =>
  issue({ name: 'CN=kubernetes', ca: true, notBefore: from(begins), notAfter: from(ends), ...more })

const issuedFirst = await authority(-300, 100)
const old = held(issuedFirst)
const next = held(await authority(-1, 300))
const spent = held(await authority(-900, -5))
const renewed = held(await authority(-2, 900, { keys: issuedFirst.keys }))
const ended = held(await authority(-900, -5, { keys: issuedFirst.keys }))
const crossSigned = held(await issue({ name: 'CN=next', ca: true, issuer: issuedFirst, notBefore: from(-1) }))
const [bare, bareNext] = ['1', '2'].map(digit => ({ key: digit.repeat(64) })) as [HeldKey, HeldKey]

const truster = (where: string, holds: HeldKey[], more: Partial<Truster> = {}): Truster => ({
  ...{ where, kind: 'component', directions: ['servers'], holds },
  ...(where.includes(':') && { host: where.split(':')[0] }),
  ...more,
})
const use = (as: KeyUse['as'], { key }: HeldKey, where = `m1:${as}`): KeyUse => ({ as, key, where })
const read = (facts: KeysetFacts) => {
  const [set] = keysetsOf({ 'kubernetes-ca': facts })
  return set!
}
/** `primary`, `staged` … of each key, as they are told. */
const names = new Map([
  [old.key, 'old'],
  [next.key, 'next'],
  [spent.key, 'spent'],
  [bare.key, 'bare'],
  [bareNext.key, 'bareNext'],
  ['3'.repeat(64), 'bareFormer'],
  [crossSigned.key, 'crossSigned'],
])
const told = (facts: KeysetFacts) => read(facts).items.map(({ key, state }) => `${names.get(key)} ${state}`)
const masters = (...each: HeldKey[][]) => each.map((holds, index) => truster(`m${index + 1}:ca.crt`, holds))

const cases: Record<string, [facts: KeysetFacts, expected: string[]]> = {
  'one CA that signs': [{ trusters: masters([old]), uses: [use('signs', old)] }, ['old primary']],
  'one CA that nobody is seen to use': [{ trusters: masters([old]), uses: [] }, ['old primary']],
  'a newer one that is trusted beside it': [
    { trusters: masters([old, next]), uses: [use('signs', old)] },
    ['old primary', 'next staged'],
  ],
  'a newer one that one of two hosts trusts': [
    { trusters: masters([old, next], [old]), uses: [use('signs', old)] },
    ['old primary', 'next staged'],
  ],
  'a newer one with the first leaves, while the old one signs': [
    { trusters: masters([old, next]), uses: [use('signs', old), use('holds', next), use('presents', next)] },
    ['old primary', 'next staged'],
  ],
  'the newer one signs': [
    { trusters: masters([old, next]), uses: [use('signs', next), use('presents', old)] },
    ['next primary', 'old trusted'],
  ],
  'the old one is trusted on one of two hosts still': [
    { trusters: masters([next], [old, next]), uses: [use('signs', next)] },
    ['next primary', 'old trusted'],
  ],
  'the old one is trusted by nobody, and something presents its leaf': [
    { trusters: masters([next]), uses: [use('signs', next), use('presents', old)] },
    ['next primary', 'old distrusted'],
  ],
  'the old one is in a kubeconfig of somebody only': [
    {
      trusters: [...masters([next]), truster('m1:/root/.kube/config', [old], { kind: 'copy' })],
      uses: [use('signs', next)],
    },
    ['next primary', 'old distrusted'],
  ],
  'the old one is published still': [
    {
      trusters: [...masters([next]), truster('ConfigMap a', [old], { kind: 'published' })],
      uses: [use('signs', next)],
    },
    ['next primary', 'old trusted'],
  ],
  'one that is kept, and trusted nowhere yet': [
    { trusters: masters([old]), uses: [use('signs', old)], kept: [{ ...next, where: 'Vault' }] },
    ['old primary', 'next staged'],
  ],
  'one that is kept, and trusted nowhere any more': [
    { trusters: masters([next]), uses: [use('signs', next)], kept: [{ ...old, where: 'Vault' }] },
    ['next primary', 'old distrusted'],
  ],
  'one that is trusted, and has expired': [
    { trusters: masters([spent, next]), uses: [use('signs', next)] },
    ['next primary', 'spent distrusted'],
  ],
  'the primary itself has expired': [{ trusters: masters([spent]), uses: [use('signs', spent)] }, ['spent primary']],
  'two certificates of one key': [{ trusters: masters([old], [renewed]), uses: [use('signs', old)] }, ['old primary']],
  'no signer: what an issuer has as its default': [
    { trusters: masters([old, next]), uses: [use('issues', next), use('presents', old)] },
    ['next primary', 'old trusted'],
  ],
  'an issuer whose default nobody knows': [
    { trusters: masters([old]), uses: [use('issues', next), use('presents', old)] },
    ['old primary', 'next distrusted'],
  ],
  'no signer and no issuer: what is presented, then what is held': [
    { trusters: masters([old, next]), uses: [use('presents', next), use('holds', old)] },
    ['next primary', 'old trusted'],
  ],
  'only leaves in files': [
    { trusters: masters([old, next]), uses: [use('holds', old)] },
    ['old primary', 'next staged'],
  ],
  'nobody uses either': [{ trusters: masters([old, next]), uses: [] }, ['next trusted', 'old trusted']],
  'one that was brought along, older than the primary': [
    { trusters: masters([next, old]), uses: [use('signs', next)], comesNext: [old.key] },
    ['next primary', 'old staged'],
  ],
  'one that is said to come next, and signed what is in use': [
    { trusters: masters([next, old]), uses: [use('signs', next), use('holds', old)], comesNext: [old.key] },
    ['next primary', 'old trusted'],
  ],
  'keys without a date: what follows the primary in bundles': [
    { trusters: masters([bare, bareNext]), uses: [use('signs', bare)] },
    ['bare primary', 'bareNext staged'],
  ],
  'keys without a date: what goes before the primary': [
    { trusters: masters([bare, bareNext]), uses: [use('signs', bareNext)] },
    ['bareNext primary', 'bare trusted'],
  ],
  'a bare key that is kept to sign, and one that was kept when nobody trusted it any more': [
    {
      trusters: masters([bare]),
      uses: [use('signs', bare)],
      kept: [
        { ...bareNext, where: 'the masters' },
        { key: '3'.repeat(64), where: 'the masters' },
      ],
      comesNext: [bareNext.key],
    },
    ['bare primary', 'bareNext staged', 'bareFormer distrusted'],
  ],
  'nothing at all': [{ trusters: [truster('m1:empty', [])], uses: [] }, []],
}

for (const [title, [facts, expected]] of Object.entries(cases)) {
  test(`${title}: ${expected.join(', ') || 'no keyset'}`, t => {
    const [set] = keysetsOf({ 'kubernetes-ca': facts })
    t.deepEqual(set ? told(facts) : [], expected)
    t.is(set?.name, expected.length > 0 ? 'kubernetes-ca' : undefined)
  })
}

test('a host that does not trust a staged key yet is behind, and a copy that others keep is not', t => {
  const home = truster('m1:/root/.kube/config', [old], { kind: 'copy', directions: ['clients'] })
  const set = read({ trusters: [...masters([old, next], [old]), home], uses: [use('signs', old)] })
  const staged = set.items.find(({ state }) => state === 'staged')
  t.deepEqual(
    behindOf(staged!).map(({ where }) => where),
    ['m2:ca.crt'],
  )
  t.deepEqual(
    staged!.trustedBy.map(({ where }) => where),
    ['m1:ca.crt'],
  )
  t.deepEqual(
    staged!.missingFrom.map(({ where }) => where),
    ['m2:ca.crt', 'm1:/root/.kube/config'],
  )
  t.deepEqual(behindOf(primaryOf(set)!), [])
})

test('a host that does not trust the primary is behind, one that trusts the old key no more is not', t => {
  const set = read({ trusters: masters([next], [old]), uses: [use('signs', next)] })
  t.deepEqual(
    behindOf(primaryOf(set)!).map(({ where }) => where),
    ['m2:ca.crt'],
  )
  const trusted = set.items.find(({ state }) => state === 'trusted')
  t.deepEqual(behindOf(trusted!), [])
  t.deepEqual(
    trusted!.missingFrom.map(({ where }) => where),
    ['m1:ca.crt'],
  )
})

test('two certificates of one key are one authority, and trust by the one that has expired is none', t => {
  const set = read({ trusters: masters([ended], [renewed], [old, renewed]), uses: [use('signs', old)] })
  t.is(set.items.length, 1)
  const [item] = set.items
  t.deepEqual(
    item!.certificates.map(({ fingerprint }) => fingerprint),
    [renewed, old, ended].map(({ certificate }) => certificate!.fingerprint),
  )
  t.deepEqual([item!.created, item!.ends], [ended.certificate!.notBefore, renewed.certificate!.notAfter])
  t.is(item!.keyIdentifier, old.certificate!.subjectKeyId!)
  t.deepEqual([item!.expired, behindOf(item!).map(({ where }) => where)], [false, ['m1:ca.crt']])
})

test('an expired CA says so, and is trusted by nobody', t => {
  const [item] = read({ trusters: masters([spent]), uses: [use('signs', spent)] }).items
  t.true(item!.expired)
  t.deepEqual(item!.trustedBy, [])
})

test('a bare key is called by what tokens call it', t => {
  const [item] = read({ trusters: masters([bare]), uses: [] }).items
  t.is(item!.keyIdentifier, Buffer.from(bare.key, 'hex').toString('base64url'))
  t.is(item!.id, '11111111')
  t.deepEqual([item!.created, item!.ends, item!.expired], [undefined, undefined, false])
})

test('while some sign with the new key and others with the old one, the keyset is split, and the new one the primary of as many', t => {
  const signers = [use('signs', old, 'm1'), use('signs', next, 'm2')]
  const set = read({ trusters: masters([old, next]), uses: signers })
  t.is(primaryOf(set)!.key, next.key)
  t.deepEqual(set.split, [signers[0]])
  const most = read({ trusters: masters([old, next]), uses: [...signers, use('signs', old, 'm3')] })
  t.is(primaryOf(most)!.key, old.key)
  t.deepEqual(most.split, [signers[1]])
})

test('a root, and a CA that signed another crosswise, are told by what they signed', t => {
  const set = read({ trusters: masters([old, crossSigned]), uses: [use('signs', old)] })
  const [primary, staged] = set.items
  t.deepEqual(primary!.signed, [staged!.id])
  t.deepEqual(staged!.signed, [])
})

test('keysets of one key, or of one bundle, go together; others don’t', t => {
  const of = (key: HeldKey, where: string): KeysetFacts => ({
    trusters: [truster(where, [key])],
    uses: [use('signs', key)],
  })
  const together = (facts: Parameters<typeof keysetsOf>[0]) =>
    keysetsOf(facts).map(({ name, together: all }) => [name, all])
  t.deepEqual(
    together({
      'kubernetes-ca': of(old, 'm1:ca'),
      'etcd-ca': of(next, 'm1:etcd'),
      'service-account': of(bare, 'm1:sa'),
    }),
    [
      ['kubernetes-ca', []],
      ['etcd-ca', []],
      ['service-account', []],
    ],
  )
  t.deepEqual(
    together({ 'kubernetes-ca': of(old, 'm1:ca'), 'etcd-ca': of(next, 'm1:ca'), 'service-account': of(old, 'm1:sa') }),
    [
      ['kubernetes-ca', ['etcd-ca', 'service-account']],
      ['etcd-ca', ['kubernetes-ca', 'service-account']],
      ['service-account', ['kubernetes-ca', 'etcd-ca']],
    ],
  )
})

test('a key that one keyset distrusts does not hold it together with another', t => {
  const gone: KeysetFacts = { trusters: [truster('m1:etcd', [next])], uses: [use('signs', next), use('holds', old)] }
  const sets = keysetsOf({
    'kubernetes-ca': { trusters: [truster('m1:ca', [old])], uses: [use('signs', old)] },
    'etcd-ca': gone,
  })
  t.deepEqual(
    sets.map(({ together }) => together),
    [[], []],
  )
})

test('of several keysets that one CA serves, what one of them trusts still is trusted in all, and a file counts once', t => {
  const file = truster('m1:ca.crt', [next])
  const cluster = { trusters: [file], uses: [use('signs', next)] }
  const etcd = { trusters: [file, truster('m1:etcd/ca.crt', [old, next])], uses: [use('presents', next, 'm1:2379')] }
  t.deepEqual(told(cluster), ['next primary'])
  const facts = { 'kubernetes-ca': cluster, 'etcd-ca': etcd, 'service-account': { trusters: [], uses: [] } }
  const together = factsTogether(facts, [['kubernetes-ca', 'etcd-ca'], ['front-proxy-ca']])
  t.deepEqual(Object.keys(together).sort(), ['kubernetes-ca', 'service-account'])
  const all = together['kubernetes-ca']!
  t.deepEqual(told(all), ['next primary', 'old trusted'])
  t.deepEqual(
    all.trusters.map(({ where }) => where),
    ['m1:ca.crt', 'm1:etcd/ca.crt'],
  )
  t.is(all.uses.length, 2)
})

test('lists that have something in common are joined', t => {
  t.deepEqual(
    joined([['a', 'b'], ['c'], ['b', 'd'], ['e', 'c']]).map(group => group.sort()),
    [
      ['a', 'b', 'd'],
      ['c', 'e'],
    ],
  )
})
