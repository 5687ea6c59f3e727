// Certificates in texts: found by what they are, whatever stands around them, and replaced without touching that.
import test from 'ava'
import fc from 'fast-check'
import {
  certificatesWithin,
  holdsKey,
  privateKeysWithin,
  publicKeysOf,
  withCertificates,
} from '../../../lib/pki/certificates/bundle-text.ts'
import { tries } from '../../_fuzz.ts'
import { processorTime } from '../../_processor-time.ts'
import { issue } from './_certificates.ts'

const authority = async (name: string) => (await issue({ name: `CN=${name}`, ca: true })).pem
const blob = (text: string) => Buffer.from(text, 'latin1').toString('base64')
const [own, other, next] = (await Promise.all(['kubernetes', 'company', 'kubernetes'].map(authority))) as [
  string,
  string,
  string,
]
const old = publicKeysOf(own)
const crlf = (text: string) => text.replaceAll('\n', '\r\n')
const indented = (text: string, by = '    ') => text.trimEnd().replaceAll(/^/gm, by)
const wrapped = (text: string, width: number) =>
  blob(text)
    .replace(new RegExp(`.{${width}}`, 'g'), '$&\n    ')
    .trimEnd()

// Of a bundle with one CA or two, what is in it before and after.
const bundles: Record<string, [before: string, after: string]> = {
  'the CA alone': [own, next],
  'the CA before another one': [own + other, next + other],
  'the CA after another one': [other + own, other + next],
  'the CA between two': [other + own + other, other + next + other],
  'a comment before it': [`# of the cluster\n${own}`, `# of the cluster\n${next}`],
  'comments everywhere, and what is no text': [
    `# a\n${own}# \xe9\xff\n${other}# b`,
    `# a\n${next}# \xe9\xff\n${other}# b`,
  ],
  'openssl’s words before each': [
    `subject=CN = x\nissuer=CN = x\n${other}\nsubject=CN = y\n${own}`,
    `subject=CN = x\nissuer=CN = x\n${other}\nsubject=CN = y\n${next}`,
  ],
  'line ends of Windows': [crlf(own), next],
  'another one with line ends of Windows': [crlf(other + own), crlf(other) + next],
  'no last newline': [own.trimEnd(), next],
  'another one, and no last newline': [(other + own).trimEnd(), other + next],
  'no newline between them': [own.trimEnd() + other, next + other],
  'the same CA twice': [own + other + own, next + other],
  'the next one there already': [own + next, next],
  'the next one there already, before it': [next + other + own, next + other],
  'lines of another length': [
    own.replaceAll(/(.{32})(?!-)/g, '$1\n').replace('-----BEGIN CERTIFICAT\nE', '-----BEGIN CERTIFICATE'),
    next,
  ],
  'blanks behind the lines': [own.replaceAll('\n', ' \n'), next],
  'a broken certificate beside it': [
    `-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n${own}`,
    `-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n${next}`,
  ],
  'a certificate that is cut off beside it': [
    `${own}-----BEGIN CERTIFICATE-----\nQUJD\n`,
    `${next}-----BEGIN CERTIFICATE-----\nQUJD\n`,
  ],
  'another one alone': [other, other],
  none: ['# nothing\n', '# nothing\n'],
  nothing: ['', ''],
}

for (const [what, [before, after]] of Object.entries(bundles)) {
  test(`a bundle with ${what}`, t => {
    t.is(withCertificates(before, old, next), after)
    t.is(holdsKey(before, old), before !== after)
    t.false(holdsKey(after, old))
  })
}

// The same within other texts.
const texts: Record<string, [before: string, after: string]> = {
  YAML: [
    `ca: |\n${indented(own + other)}\nname: x\nsecond: |\n${indented(own, '  ')}\n`,
    `ca: |\n${indented(next + other)}\nname: x\nsecond: |\n${indented(next, '  ')}\n`,
  ],
  JSON: [JSON.stringify({ ca: own + other, same: own, x: 1 }), JSON.stringify({ ca: next + other, same: next, x: 1 })],
  'a kubeconfig of two clusters': [
    `clusters:\n- cluster:\n    certificate-authority-data: ${blob(own)}\n    server: https://a\n- cluster:\n    certificate-authority-data: ${blob(other)}\n`,
    `clusters:\n- cluster:\n    certificate-authority-data: ${blob(next)}\n    server: https://a\n- cluster:\n    certificate-authority-data: ${blob(other)}\n`,
  ],
  'a kubeconfig as JSON, with a comment in its bundle': [
    `{"certificate-authority-data":"${blob(`# c\n${other}${own}`)}","server":"x"}`,
    `{"certificate-authority-data":"${blob(`# c\n${other}${next}`)}","server":"x"}`,
  ],
  'base64 in lines of 64': [`ca: >\n    ${wrapped(own, 64)}\nserver: x\n`, `ca: >\n    ${blob(next)}\nserver: x\n`],
  'base64 in lines of 76': [
    `ca: >\n    ${wrapped(own + other, 76)}\nserver: x\n`,
    `ca: >\n    ${blob(next + other)}\nserver: x\n`,
  ],
}

for (const [what, [before, after]] of Object.entries(texts)) {
  test(`certificates in ${what}`, t => {
    t.is(withCertificates(before, old, next), after)
    t.false(holdsKey(after, old))
    t.true(certificatesWithin(before).includes(own))
  })
}

test('a certificate that was made anew with the key of the CA is that CA as well', async t => {
  const before = await issue({ name: 'CN=kubernetes', ca: true })
  const x509 = await import('@peculiar/x509')
  const renewed = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=kubernetes',
    keys: before.keys,
    serialNumber: '77',
  })
  t.true(holdsKey(`${renewed.toString('pem')}\n`, publicKeysOf(before.pem)))
})

test('whatever stands around certificates stays as it is, byte for byte', t => {
  const noise = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.constantFrom('\r\n', '\n', '-----BEGIN', '=', 'QUJD'.repeat(40)),
  )
  const piece = fc.oneof(noise, fc.constantFrom(other, crlf(other)))
  fc.assert(
    fc.property(fc.array(piece), fc.array(piece), (before, after) => {
      const [head, tail] = [`${before.join('\n')}\n`, `#${after.join('\n')}`]
      fc.pre(!/BEGIN CERTIFICATE-----[^-]*$/.test(head))
      t.is(withCertificates(head + own + tail, old, next), head + next + tail)
      t.is(withCertificates(head + tail, old, next), head + tail)
    }),
    tries(300),
  )
})

test('long texts of any kind are read in a moment', t => {
  const texts = [
    'QUJD'.repeat(500_000),
    `${'A'.repeat(399)} `.repeat(5_000),
    `${'A'.repeat(64)}\n`.repeat(30_000),
    '-----BEGIN CERTIFICATE-----'.repeat(80_000),
    ' \n'.repeat(1_000_000),
    '\\'.repeat(1_000_000),
    `-----BEGIN PRIVATE KEY-----${'\\'.repeat(1_000_000)}`,
    '-----BEGIN PRIVATE KEY-----'.repeat(80_000),
    `-----BEGIN ${'A'.repeat(1_000_000)}`,
  ]
  const taken = processorTime(() => {
    for (const one of texts) {
      t.deepEqual(certificatesWithin(one), [])
      t.deepEqual(privateKeysWithin(one), [])
    }
  })
  t.true(taken < 5_000, `${taken} ms`)
})

test('text of megabytes that looks like base64 is gone through like any other', t => {
  const size = 9 * 1024 ** 2
  const line = `${'QUJD'.repeat(16)}\n`
  const there = blob(own + other)
  for (const text of ['x'.repeat(size), line.repeat(size / line.length), `LS0tLS1CRUdJTi${'A'.repeat(size)}`]) {
    t.is(privateKeysWithin(text).length, 0)
    t.true(withCertificates(`${text}\n- ${there}`, old, next) === `${text}\n- ${blob(next + other)}`)
  }
})
