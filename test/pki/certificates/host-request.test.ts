// A key that is made on a host, and the certificate that is made for it elsewhere.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { connectLocal } from '../../../lib/connection/local.ts'
import { remoteShell } from '../../../lib/connection/remote.ts'
import { keyMatches, parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { requestFromHost } from '../../../lib/pki/certificates/host-request.ts'
import { openEmbeddedIssuer } from '../../../lib/pki/issuer/embedded-issuer.ts'

test.serial('the key stays on the host, is made once, and belongs to what is signed', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-host-key-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const connection = connectLocal('here', { kind: 'local', address: 'localhost' } as Parameters<typeof connectLocal>[1])
  const $ = remoteShell(connection, { signal: new AbortController().signal, timeout: 60_000 })
  const issuer = await openEmbeddedIssuer(join(folder, 'ca'), { passphrase: 'of this test' })
  t.teardown(() => issuer.close())
  await issuer.ensureMount('pki', { maxLeaseTtl: '43800h' })
  await issuer.generateRoot('pki', { commonName: 'k', type: 'internal', ttl: '43800h', keyType: 'ec' })
  await issuer.ensureRole('pki', 'web', { allow_any_name: true, key_type: 'any' })
  for (const keyType of ['ec', 'ed25519'] as const) {
    const keyPath = join(folder, `${keyType}.key`)
    const ask = {
      keyPath,
      keyType,
      commonName: 'a.example.org',
      dnsNames: ['a.example.org'],
      ipAddresses: ['10.0.0.1'],
    }
    const csr = await requestFromHost({ $ }, ask)
    t.false(csr.includes('PRIVATE'))
    t.is(statSync(keyPath).mode & 0o777, 0o600)
    const { certificate, privateKey } = await issuer.signCsr('pki', 'web', csr, { commonName: 'a.example.org' })
    t.is(privateKey, undefined)
    const key = readFileSync(keyPath, 'utf8')
    t.true(keyMatches(certificate, key))
    const facts = parseCertificate(certificate)
    t.deepEqual([facts.dnsNames, facts.ipAddresses], [['a.example.org'], ['10.0.0.1']])
    await requestFromHost({ $ }, ask)
    t.is(readFileSync(keyPath, 'utf8'), key)
  }
  t.deepEqual(
    readdirSync(folder).filter(name => name.endsWith('rekey-new')),
    [],
  )
  const bad = { keyPath: join(folder, 'x'), keyType: 'ec', commonName: 'a/O=system:masters' } as const
  await t.throwsAsync(requestFromHost({ $ }, bad), { code: 'pki.bad-name' })
})
