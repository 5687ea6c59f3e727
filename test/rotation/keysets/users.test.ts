// Who came to API servers by certificates of a CA of before keeps that from being distrusted.
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { publicKeyOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { keysetsOf } from '../../../lib/pki/keyset.ts'
import { stages } from '../../../lib/rotation/keysets/index.ts'
import { whatComesNext } from '../../../lib/rotation/keysets/report.ts'
import { type Item, type KeysetState, lookStep, usersIn } from '../../../lib/rotation/keysets/state.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

test('users by certificates of the old CA, or of nobody knows whom, are named, unless they are accepted', async t => {
  const begun = (days: number) => new Date(Date.now() - days * 86_400_000)
  const [old, next] = await Promise.all(
    [9, 3].map(days => issue({ name: 'CN=kubernetes', ca: true, notBefore: begun(days) })),
  )
  const [jane, joe] = await Promise.all([
    issue({ name: 'CN=jane', issuer: old! }),
    issue({ name: 'CN=joe', issuer: next! }),
  ])
  const holds = [next!, old!].map(({ pem }) => ({ key: publicKeyOf(pem)!, certificate: parseCertificate(pem) }))
  const where = 'm1:/ca.crt'
  const [keyset] = keysetsOf({
    'kubernetes-ca': {
      trusters: [{ where, host: 'm1', kind: 'component', directions: ['servers'], holds }],
      uses: [{ where, as: 'signs', key: holds[0]!.key }],
    },
  })
  const facts = [jane, joe].map(({ pem }) => parseCertificate(pem))
  const came = (user: string, fingerprint: string) => ({
    ...{ user, agent: 'curl', address: '10.0.0.9', count: 1, last: new Date() },
    fingerprint: fingerprint.replaceAll(':', '').toLowerCase(),
  })
  const clients = [came('jane', facts[0]!.fingerprint), came('joe', facts[1]!.fingerprint), came('ci', '1'.repeat(64))]
  const entries = facts.map(one => ({
    where: 'm1:/x',
    kind: 'file' as const,
    host: 'm1',
    component: 'file',
    facts: one,
  }))
  const uses = usersIn({ hosts: [{ host: 'm1', entries, audit: { host: 'm1', clients } }] }, keyset!)
  t.deepEqual(uses.map(use => use.where).toSorted(), ['user ci (curl from 10.0.0.9)', 'user jane (curl from 10.0.0.9)'])
  const items = [next!, old!].map(({ pem }, index): Item => {
    const key = publicKeyOf(pem)!
    return { id: key.slice(0, 8), key, state: index === 0 ? 'primary' : 'trusted', certificate: pem }
  })
  const state: KeysetState = { name: 'kubernetes-ca', authority: 'kubernetes', items, bundles: {}, uses, unread: [] }
  const gate = (...accept: string[]) =>
    stages.nobodyNeedsTheOld.run({
      ...{ vars: { accept, items: [] }, log: () => {}, check: false },
      registered: (step: string) => (step === lookStep ? [state] : undefined),
    } as never)
  const error = t.throws<RekeyError>(() => gate('certificate/user ci*'))
  t.is(error?.code, 'keysets.old-in-use')
  t.regex(error?.message ?? '', /would be refused: user jane \(curl from 10\.0\.0\.9\)$/)
  t.notThrows(() => gate('certificate/user ci*', 'certificate/user jane*'))
})

test('a stage’s report says what users are to be handed, by what it was about', t => {
  const told = (...asked: Parameters<typeof whatComesNext>) => Object.fromEntries(whatComesNext(...asked))
  t.regex(told('staged', ['kubernetes-ca', 'etcd-ca'])['users'] ?? '', /before it is promoted: rekey kubeconfig -i/)
  t.regex(told('promoted', ['kubernetes-ca', 'service-account'])['users'] ?? '', /--admin.*\n.*second Secret/)
  t.regex(told('distrusted', ['service-account'])['users'] ?? '', /^tokens of the old key work no more$/)
  t.regex(told('distrusted', ['kubernetes-ca'])['back'] ?? '', /trust-keysets/)
  for (const stage of ['staged', 'promoted', 'distrusted', 'trusted'] as const)
    t.is(told(stage, ['etcd-ca', 'front-proxy-ca'])['users'], 'nothing of theirs has to do with it')
})
