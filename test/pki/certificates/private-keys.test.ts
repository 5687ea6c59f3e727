// The private keys in a text: where they are, and that no text takes long.
import { generateKeyPairSync } from 'node:crypto'
import test from 'ava'
import { privateKeysIn } from '../../../lib/pki/certificates/private-keys.ts'

const newKey = (type: 'sec1' | 'pkcs8') =>
  generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type, format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  })
const base64 = (text: string) => Buffer.from(text).toString('base64')

test('keys are found as PEM and in base64, among certificates and public keys', t => {
  const [one, two, three] = [newKey('sec1'), newKey('pkcs8'), newKey('sec1')]
  const kubeconfig = `client-certificate-data: ${base64(one.publicKey)}\nclient-key-data: ${base64(three.privateKey)}\n`
  const found = privateKeysIn(`${one.publicKey}${one.privateKey}${two.privateKey}\n${kubeconfig}`)
  t.deepEqual(
    found,
    [one, two, three].map(({ privateKey }) => privateKey.trim()),
  )
  t.deepEqual(privateKeysIn(one.publicKey), [])
  t.deepEqual(privateKeysIn('-----BEGIN PRIVATE KEY-----\nMII'), [])
})

test('a text of half keys takes no time', t => {
  const started = process.cpuUsage()
  for (const part of [
    '-----BEGIN PRIVATE KEY-----',
    '-----BEGIN PRIVATE KEY-----\n',
    '-----END ',
    'LS0t',
    'LS0t ',
    'LS0tLS1CRUdJTi',
  ])
    privateKeysIn(part.repeat(400_000 / part.length))
  t.true(process.cpuUsage(started).user < 3_000_000)
})
