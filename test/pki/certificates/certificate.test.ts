// Facts, chains, key matches and coverage of certificates, against what openssl and these tests themselves make.
import 'reflect-metadata'
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import test from 'ava'
import {
  joinBundle,
  keyMatches,
  notCovered,
  parseCertificate,
  parseCertificates,
  splitBundle,
  verifyChain,
} from '../../../lib/pki/certificates/certificate.ts'
import { type Ask, ed25519, issue, p256, rsa } from './_certificates.ts'

const folder = mkdtempSync(join(tmpdir(), 'rekey-certificate-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

test.serial('reads what openssl wrote, names with commas and quotes among it', t => {
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')]
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', certificate, '-days', '1']
  execFileSync(
    'openssl',
    [
      ...[...request, '-subj', '/O=system:masters/O=b, c/CN=kube "x"'],
      ...['-addext', 'subjectAltName=DNS:a.example.org,DNS:*.b,IP:10.0.0.1,IP:fd00:0:0:0:0:0:0:1'],
      ...['-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
      ...['-addext', 'keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign'],
    ],
    { stdio: 'ignore' },
  )
  const pem = readFileSync(certificate, 'utf8')
  const facts = parseCertificate(pem)
  t.is(facts.commonName, 'kube "x"')
  t.deepEqual(facts.organizations, ['system:masters', 'b, c'])
  t.deepEqual(facts.dnsNames, ['a.example.org', '*.b'])
  t.deepEqual(facts.ipAddresses, ['10.0.0.1', 'fd00::1'])
  t.deepEqual(facts.extendedKeyUsages, ['serverAuth', 'clientAuth'])
  t.deepEqual(facts.keyUsages, ['digitalSignature', 'keyEncipherment', 'keyCertSign'])
  t.is(facts.keyType, 'RSA-2048')
  t.true(facts.isAuthority)
  const said = execFileSync('openssl', ['x509', '-in', certificate, '-noout', '-fingerprint', '-sha256', '-serial'])
  t.true(said.toString().includes(facts.fingerprint))
  t.true(said.toString().toLowerCase().includes(`serial=${facts.serialNumber}`))
  t.true(keyMatches(pem, readFileSync(key, 'utf8')))
})

test.serial('names the kind of key', async t => {
  t.is(parseCertificate((await issue({ name: 'CN=a', algorithm: rsa })).pem).keyType, 'RSA-2048')
  t.is(parseCertificate((await issue({ name: 'CN=a', algorithm: p256 })).pem).keyType, 'ECDSA-P-256')
  t.is(parseCertificate((await issue({ name: 'CN=a', algorithm: ed25519 })).pem).keyType, 'Ed25519')
})

test.serial('says which text holds no certificate, or a broken one', t => {
  t.throws(() => parseCertificates('', 'm1:/etc/kubernetes/pki/ca.crt'), {
    message: 'm1:/etc/kubernetes/pki/ca.crt: no certificate in it (no complete PEM block)',
  })
  const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
  t.throws(() => parseCertificates(broken, 'ca.crt'), { message: /^ca\.crt: a certificate in it can't be read/ })
})

test.serial('a key matches its own certificate only, and a bad key is not quoted in the error', async t => {
  const [one, other] = [await issue({ name: 'CN=a' }), await issue({ name: 'CN=a' })]
  t.true(keyMatches(one.pem, one.keyPem))
  t.false(keyMatches(one.pem, other.keyPem))
  const wrongKind = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  t.false(keyMatches(one.pem, wrongKind))
  const cut = one.keyPem.slice(0, 80)
  const error = t.throws(() => keyMatches(one.pem, cut, 'apiserver.key'))
  t.true(error.message.startsWith('apiserver.key: not a private key'))
  t.false(error.message.includes(cut.slice(30, 60)))
})

test.serial('a chain verifies over an intermediate, and over any certificate that the bundle holds', async t => {
  for (const algorithm of [rsa, p256, ed25519]) {
    const root = await issue({ name: 'CN=root', ca: true, algorithm })
    const middle = await issue({ name: 'CN=middle', ca: true, issuer: root, algorithm })
    const leaf = await issue({ name: 'CN=leaf', issuer: middle, algorithm })
    const chain = verifyChain(leaf.pem + middle.pem, [root.pem])
    t.deepEqual(
      chain.map(one => one.commonName),
      ['leaf', 'middle', 'root'],
    )
    t.is(verifyChain(leaf.pem, middle.pem).length, 2)
    t.throws(() => verifyChain(leaf.pem, root.pem), { message: /its issuer "CN=middle" is not in the trust bundle/ })
  }
})

test.serial('during a rotation the bundle of both CAs verifies both leaves, each alone only its own', async t => {
  const old = await issue({ name: 'CN=kubernetes', ca: true })
  const next = await issue({ name: 'CN=kubernetes', ca: true })
  const [before, after] = [await issue({ name: 'CN=x', issuer: old }), await issue({ name: 'CN=x', issuer: next })]
  const bundle = joinBundle(next.pem, old.pem)
  t.is(verifyChain(before.pem, bundle)[1]!.fingerprint, parseCertificate(old.pem).fingerprint)
  t.is(verifyChain(after.pem, bundle)[1]!.fingerprint, parseCertificate(next.pem).fingerprint)
  t.throws(() => verifyChain(before.pem, next.pem), { message: /issued by another key of "CN=kubernetes"/ })
})

test.serial('a chain breaks at what is expired, not valid yet, no CA, not allowed to sign, or too long', async t => {
  const root = await issue({ name: 'CN=root', ca: true, pathLength: 0 })
  const leaf = async (ask: Partial<Ask>) => (await issue({ name: 'CN=leaf', issuer: root, ...ask })).pem
  const past = { notBefore: new Date('2020-01-01'), notAfter: new Date('2021-01-01') }
  const future = { notBefore: new Date('2090-01-01'), notAfter: new Date('2091-01-01') }
  t.throws(() => verifyChain('', root.pem), { code: 'pki.no-certificate' })
  const expired = await leaf(past)
  t.throws(() => verifyChain(expired, root.pem, { source: 'a.crt' }), { message: /^a\.crt: .*expired on 2021-01-01/ })
  const early = await leaf(future)
  t.throws(() => verifyChain(early, root.pem), { message: /not valid before 2090-01-01/ })

  const plain = await issue({ name: 'CN=plain' })
  const underPlain = await issue({ name: 'CN=leaf', issuer: plain })
  t.throws(() => verifyChain(underPlain.pem, plain.pem), { message: /is not a CA/ })

  const noSigning = await issue({ name: 'CN=no-signing', ca: true, usages: x509.KeyUsageFlags.digitalSignature })
  const underNoSigning = await issue({ name: 'CN=leaf', issuer: noSigning })
  t.throws(() => verifyChain(underNoSigning.pem, noSigning.pem), { message: /no keyCertSign/ })

  const expiredRoot = await issue({ name: 'CN=expired', ca: true, ...past })
  const underExpired = await issue({ name: 'CN=leaf', issuer: expiredRoot })
  t.throws(() => verifyChain(underExpired.pem, expiredRoot.pem), { message: /its issuer .* expired/ })

  const middle = await issue({ name: 'CN=middle', ca: true, issuer: root })
  const tooDeep = await issue({ name: 'CN=leaf', issuer: middle })
  t.throws(() => verifyChain(tooDeep.pem + middle.pem, root.pem), { message: /allows 0 CAs below it, and there are 1/ })
})

test.serial('a forged signature under the right name and key id is refused', async t => {
  const root = await issue({ name: 'CN=root', ca: true })
  const leaf = await issue({ name: 'CN=leaf', issuer: root })
  const bytes = Buffer.from(leaf.certificate.rawData)
  bytes[bytes.length - 1]! ^= 1
  const forged = new x509.X509Certificate(bytes).toString('pem')
  t.throws(() => verifyChain(forged, root.pem), { message: /its signature is not from the key of/ })
})

test.serial('lists what a new certificate lacks of an old one, in words', async t => {
  const names = (...items: x509.JsonGeneralName[]) => [new x509.SubjectAlternativeNameExtension(items)]
  const old = await issue({
    name: 'O=system:masters, CN=admin',
    extensions: [
      ...names({ type: 'dns', value: 'a.example.org' }, { type: 'dns', value: 'b' }, { type: 'ip', value: '10.0.0.1' }),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
    ],
  })
  const next = await issue({ name: 'CN=other', extensions: names({ type: 'dns', value: 'b' }) })
  const [before, after] = [parseCertificate(old.pem), parseCertificate(next.pem)]
  t.deepEqual(notCovered(after, before), [
    'CN "admin" (the new one has "other")',
    'O "system:masters"',
    'DNS name "a.example.org"',
    'IP address "10.0.0.1"',
    'usage "clientAuth"',
  ])
  t.deepEqual(notCovered(before, before), [])
})

test.serial('a bundle keeps order, drops text between the blocks and holds each certificate once', async t => {
  const [one, two] = [await issue({ name: 'CN=one' }), await issue({ name: 'CN=two' })]
  const windows = `# first\r\n${one.pem.replaceAll('\n', '\r\n')}\r\nnoise\n${two.pem}`
  t.deepEqual(splitBundle(windows), [one.pem, two.pem])
  t.is(joinBundle(windows, one.pem, two.pem), one.pem + two.pem)
  t.is(joinBundle(), '')
})
