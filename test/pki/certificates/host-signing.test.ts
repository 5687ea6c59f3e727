// Certificates that are signed where the key of the CA lies.
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { HostFailedError } from '../../../lib/errors.ts'
import { parseCertificate, verifyChain } from '../../../lib/pki/certificates/certificate.ts'
import { signOnHost } from '../../../lib/pki/certificates/host-signing.ts'
import { makeRequest } from '../../../lib/pki/issuer/signing.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { localSession } from '../../kubernetes/_local.ts'
import { issue, p256, rsa } from './_certificates.ts'

async function scene(algorithm: typeof rsa | typeof p256 = p256) {
  const ca = await issue({ name: 'CN=kubernetes', ca: true, algorithm })
  const keyPath = join(temporaryFolder('host-signing'), 'ca.key')
  writeFileSync(keyPath, ca.keyPem, { mode: 0o600 })
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { ca, keyPath, privateKey, session: await localSession() }
}

for (const [name, algorithm] of Object.entries({ rsa, p256 })) {
  test(`a client’s certificate has its names, its groups in their order, and ends when it was asked to (${name})`, async t => {
    const { ca, keyPath, privateKey, session } = await scene(algorithm)
    const csr = await makeRequest('jane@example.org, x="1"+2', privateKey, ['team:b', 'system:masters', 'Große Köche'])
    const begun = Math.floor(Date.now() / 1_000)
    const pem = await signOnHost(session, { host: 'm1', csr, authority: ca.pem, keyPath, seconds: 120 })
    const facts = parseCertificate(pem)
    t.is(facts.commonName, 'jane@example.org, x="1"+2')
    t.deepEqual(facts.organizations, ['team:b', 'system:masters', 'Große Köche'])
    t.deepEqual(facts.extendedKeyUsages, ['clientAuth'])
    t.deepEqual([facts.isAuthority, facts.authorityKeyId], [false, parseCertificate(ca.pem).subjectKeyId])
    const lasts = facts.notAfter.getTime() / 1_000 - begun
    t.true(lasts >= 120 && lasts < 150, `${lasts} s`)
    t.true(facts.notBefore.getTime() / 1_000 <= begun)
    t.notThrows(() => verifyChain(pem, ca.pem))
  })
}

test('another key than that of the CA, none at all, and a CA that ends before are refused by name', async t => {
  const { ca, keyPath, privateKey, session } = await scene()
  const csr = await makeRequest('jane', privateKey)
  const other = await issue({ name: 'CN=other', ca: true })
  const ask = { host: 'm1', csr, authority: ca.pem, keyPath, seconds: 60 }
  const said = async (more: Partial<typeof ask>) =>
    (await t.throwsAsync(signOnHost(session, { ...ask, ...more }), { instanceOf: HostFailedError }))!.message
  t.regex(await said({ authority: other.pem }), /do not match/)
  t.regex(await said({ keyPath: `${keyPath}.none` }), /^m1: nothing can be signed with .*\.none: /)
  t.regex(await said({ seconds: 7_200 }), /its CA ends on .*, and the certificate on /)
})
