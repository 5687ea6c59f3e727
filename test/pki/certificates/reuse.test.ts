// What is compared before a certificate is left alone, beyond what every issuer offers: mail addresses, URIs.
import 'reflect-metadata'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import test from 'ava'
import { reusingIssued } from '../../../lib/pki/certificates/reuse.ts'
import { issue } from './_certificates.ts'

test.serial(
  'a certificate is left alone until its mail addresses or URIs differ, and where one is asked for that nobody compares',
  async t => {
    const ca = await issue({ name: 'CN=ca', ca: true })
    const names = [
      { type: 'url' as const, value: 'spiffe://example.org/web' },
      { type: 'email' as const, value: 'a@example.org' },
    ]
    const leaf = await issue({ name: 'CN=web', issuer: ca, extensions: [new SubjectAlternativeNameExtension(names)] })
    const role = { server_flag: false, client_flag: false, key_usage: [], key_type: 'any' }
    const answers: Record<string, Record<string, unknown>> = {
      'pki/roles/web': role,
      'pki/issuer/default/json': { certificate: ca.pem },
    }
    const notices: string[] = []
    const source = reusingIssued(async () => ({ data: { certificate: 'a new one' } }), {
      read: async path => ({ data: answers[path]! }),
      texts: async () => [leaf.pem + leaf.keyPem],
      notice: text => void notices.push(text),
    })
    const ask = {
      common_name: 'web',
      alt_names: 'a@example.org',
      uri_sans: 'spiffe://example.org/web',
      exclude_cn_from_sans: 'true',
    }
    const certificate = async (more: Record<string, string>) =>
      (await source('pki/issue/web', { ...ask, ...more }))!.data['certificate']
    t.is(await certificate({}), leaf.pem.trim())
    t.deepEqual(notices, [])
    t.is(await certificate({ uri_sans: 'spiffe://example.org/other' }), 'a new one')
    t.is(await certificate({ alt_names: 'b@example.org' }), 'a new one')
    t.is(await certificate({ other_sans: '1.2.3;UTF8:x' }), 'a new one')
    const reasons = [
      /URIs are \[spiffe:\/\/example\.org\/web\], not/,
      /mail addresses are \[a@example\.org\], not/,
      /it asks for other_sans/,
    ]
    t.is(notices.length, reasons.length)
    for (const [index, reason] of reasons.entries()) t.regex(notices[index]!, reason)
  },
)
