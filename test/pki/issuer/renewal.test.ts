// A CA for a longer time, with the key that it has: judged by openssl, which knows nothing of rekey.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { parseCertificate, verifyChain } from '../../../lib/pki/certificates/certificate.ts'
import {
  namesIssuerBySerial,
  renewedRoot,
  requireRoot,
  requireSame,
  rootToSign,
} from '../../../lib/pki/issuer/renewal.ts'
import { temporaryFolder } from '../../_temporary.ts'

const folder = temporaryFolder('renewal')
const openssl = (...words: string[]) =>
  execFileSync('openssl', words, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const read = (name: string) => readFileSync(join(folder, name), 'utf8')
const write = (name: string, text: string) => writeFileSync(join(folder, name), text)

/** A root with everything that one may say of itself, and a leaf that names it by its key, or by its serial number, too. */
function make(name: string, kind: string[], identifier = 'keyid') {
  openssl(
    ...['req', '-x509', '-newkey', ...kind, '-nodes', '-keyout', `${name}.key`, '-out', `${name}.crt`, '-days', '30'],
    ...['-subj', '/O=Example Ltd/CN=kubernetes', '-addext', 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'],
    ...['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:1', '-addext', 'subjectAltName=DNS:kubernetes'],
    ...['-addext', 'nsComment=an extension that nobody reads'],
  )
  openssl(
    ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}-leaf.key`],
    ...['-out', `${name}-leaf.csr`, '-subj', '/CN=leaf'],
  )
  write(`${name}.ext`, `authorityKeyIdentifier=${identifier}\n`)
  openssl(
    ...['x509', '-req', '-in', `${name}-leaf.csr`, '-CA', `${name}.crt`, '-CAkey', `${name}.key`, '-CAcreateserial'],
    ...['-days', '20', '-extfile', `${name}.ext`, '-out', `${name}-leaf.crt`],
  )
  return { root: read(`${name}.crt`), key: read(`${name}.key`), leaf: read(`${name}-leaf.crt`) }
}

const renewal = {
  notBefore: new Date(Date.now() - 300_000),
  notAfter: new Date(Math.floor(Date.now() / 1_000) * 1_000 + 40 * 365 * 86_400_000),
}
const verifies = (root: string, leaf: string) => {
  write('new.crt', root)
  write('leaf.crt', leaf)
  return spawnSync('openssl', ['verify', '-x509_strict', '-CAfile', 'new.crt', 'leaf.crt'], {
    cwd: folder,
    encoding: 'utf8',
  })
}

const kinds: [title: string, words: string[]][] = [
  ['RSA', ['rsa:2048']],
  ['P-256', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']],
  ['P-384', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384']],
  ['Ed25519', ['ed25519']],
]
for (const [title, words] of kinds) {
  test(`a root of ${title} holds longer, and is the same to all that it signed`, async t => {
    const name = title.toLowerCase()
    const { root, key, leaf } = make(name, words)
    const renewed = await renewedRoot(root, key, renewal)
    const [before, after] = [parseCertificate(root), parseCertificate(renewed)]
    t.deepEqual(after.notAfter, renewal.notAfter)
    t.true(after.notBefore < new Date())
    t.not(after.serialNumber, before.serialNumber)
    for (const what of ['subject', 'issuer', 'keyType', 'keyUsages', 'subjectKeyId', 'dnsNames', 'pathLength'] as const)
      t.deepEqual(after[what], before[what], what)
    const { status, stderr } = verifies(renewed, leaf)
    t.is(status, 0, stderr)
    t.is(verifyChain(leaf, renewed).length, 2)
    // All but what must differ is there byte for byte, also what rekey has no name for.
    const told = (file: string) =>
      openssl('x509', '-in', file, '-noout', '-text')
        .replace(/Serial Number:[\s\S]*?Signature Algorithm: .*/, '')
        .replace(/Not (Before|After).*/g, '')
        .replace(/\n {4}Signature Algorithm:[\s\S]*/, '')
    t.is(told('new.crt'), told(`${name}.crt`))
    // What another one is to sign says the same.
    const unsigned = parseCertificate(await rootToSign(root, renewal))
    t.is(unsigned.subjectKeyId, before.subjectKeyId)
    t.throws(() => requireSame(unsigned.pem, root), { message: /its signature differs/ })
  })
}

test('the serial number is kept for certificates that name their issuer by it: openssl takes no other', async t => {
  const { root, key, leaf } = make('serial', kinds[1]![1], 'keyid,issuer:always')
  t.true(namesIssuerBySerial(leaf))
  t.false(namesIssuerBySerial(root))
  t.not(verifies(await renewedRoot(root, key, renewal), leaf).status, 0)
  const renewed = await renewedRoot(root, key, { ...renewal, sameSerial: true })
  t.is(parseCertificate(renewed).serialNumber, parseCertificate(root).serialNumber)
  const { status, stderr } = verifies(renewed, leaf)
  t.is(status, 0, stderr)
})

test("another's key, an intermediate and a leaf are refused, and it is said what to do", async t => {
  const [one, other] = [make('one', kinds[1]![1]), make('other', kinds[1]![1])]
  await t.throwsAsync(renewedRoot(one.root, other.key, renewal), { code: 'pki.other-key' })
  const leaf = t.throws(() => requireRoot(one.leaf))
  t.is(leaf?.message, '"CN=leaf" is not a CA')
  write('sub.ext', 'basicConstraints=critical,CA:TRUE\n')
  openssl(
    'x509',
    '-req',
    '-in',
    'one-leaf.csr',
    '-CA',
    'one.crt',
    '-CAkey',
    'one.key',
    '-CAcreateserial',
    '-days',
    '9',
    '-extfile',
    'sub.ext',
    '-out',
    'sub.crt',
  )
  const intermediate = t.throws<Error & { hint: string }>(() => requireRoot(read('sub.crt')))
  t.regex(intermediate?.message ?? '', /^"CN=leaf" is no root: "O=Example Ltd, CN=kubernetes" signed it$/)
  t.regex(intermediate?.hint ?? '', /have it signed there, for the same key and name/)
  t.throws(() => requireSame(other.root, one.root), { message: /its key, the extension 2\.5\.29\.14.* differs/ })
})
