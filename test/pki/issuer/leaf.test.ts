// Leaves signed with the key of a CA that lies in a file: judged by openssl, which knows nothing of rekey.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { keyMatches, parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { answerFrom } from '../../../lib/pki/issuer/leaf.ts'
import type { RoleSettings } from '../../../lib/pki/vault/contract.ts'
import { temporaryFolder } from '../../_temporary.ts'

const folder = temporaryFolder('leaf')
const openssl = (...words: string[]) =>
  execFileSync('openssl', words, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const read = (name: string) => readFileSync(join(folder, name), 'utf8')

/** A CA that calls its key as programs of Go do since 1.25: not by its SHA-1. */
const identifier = 'aabbccddeeff00112233445566778899aabbccdd'

test.before(() => {
  const extensions = `basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=${identifier}`
  writeFileSync(
    join(folder, 'ca.cnf'),
    `[req]\ndistinguished_name=name\nx509_extensions=ca\n[name]\n[ca]\n${extensions}\n`,
  )
  openssl(
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '30'],
    ...['-subj', '/CN=kubernetes', '-config', 'ca.cnf'],
  )
})

const role: RoleSettings = {
  ...{
    allowed_domains: ['m1'],
    allow_bare_domains: true,
    cn_validations: ['disabled'],
    organization: ['system:nodes'],
  },
  ...{ server_flag: true, client_flag: false, key_type: 'ec', key_bits: 384, max_ttl: '24h' },
}

const signer = () => ({ certificate: read('ca.crt'), key: read('ca.key'), maxLeaseTtl: '24h' })

test('a leaf says what was asked, fits its key, and is taken by openssl for one of this CA, however that calls its key', async t => {
  const data = {
    common_name: 'system:node:m1',
    alt_names: 'm1',
    ip_sans: '10.0.0.1',
    exclude_cn_from_sans: 'true',
    ttl: '12h',
  }
  const { data: answer } = await answerFrom(signer(), role, 'kubernetes-ca/issue/any', data)
  const pem = `${answer['certificate']}\n`
  const facts = parseCertificate(pem)
  t.deepEqual(facts.dnsNames, ['m1'])
  t.deepEqual(facts.ipAddresses, ['10.0.0.1'])
  t.deepEqual(facts.organizations, ['system:nodes'])
  t.deepEqual(facts.extendedKeyUsages, ['serverAuth'])
  t.is(facts.keyType, 'ECDSA-P-384')
  t.is(facts.authorityKeyId, identifier)
  t.true(keyMatches(pem, String(answer['private_key'])))
  writeFileSync(join(folder, 'leaf.crt'), pem)
  t.regex(openssl('verify', '-x509_strict', '-CAfile', 'ca.crt', 'leaf.crt'), /OK/)
})

test('what the role does not allow, and what would end after the CA, is refused', async t => {
  const ask = (data: Record<string, string>, more = {}) =>
    answerFrom(signer(), { ...role, ...more }, 'kubernetes-ca/issue/any', {
      common_name: 'any',
      exclude_cn_from_sans: 'true',
      ...data,
    })
  await t.throwsAsync(ask({ alt_names: 'm2' }), { message: /m2 not allowed/ })
  await t.throwsAsync(ask({ ttl: '900h' }, { max_ttl: '900h' }), { message: /would end after its CA/ })
})
