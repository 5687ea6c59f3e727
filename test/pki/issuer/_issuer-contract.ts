// What every issuer must do, run on each of them.
// Over 500 lines: the whole contract in one place, so that no issuer is held to a part of it.
import 'reflect-metadata'
import { execFileSync } from 'node:child_process'
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  webcrypto,
  X509Certificate,
} from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import type { ExecutionContext, TestFn } from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { keyMatches, parseCertificate, verifyChain } from '../../../lib/pki/certificates/certificate.ts'
import { reusingIssued } from '../../../lib/pki/certificates/reuse.ts'
import type { Issuer } from '../../../lib/pki/issuer/issuer.ts'
import type { RoleSettings } from '../../../lib/pki/vault/contract.ts'
import { vaultSecrets } from '../../../lib/pki/vault/secrets.ts'
import { createRenderer } from '../../../lib/template/render.ts'

const kinds = [
  { keyType: 'rsa', keyBits: 2048, name: 'RSA-2048' },
  { keyType: 'ec', keyBits: 256, name: 'ECDSA-P-256' },
  { keyType: 'ed25519', keyBits: 0, name: 'Ed25519' },
] as const

const web: RoleSettings = {
  allowed_domains: ['example.org', 'localhost'],
  allow_bare_domains: true,
  allow_subdomains: true,
  allow_localhost: false,
  cn_validations: ['disabled'],
  max_ttl: '2000h',
}

/** Register the contract's tests with `test`, which runs them on what `issuer` gives. */
export function issuerContract(test: TestFn, issuer: () => Issuer): void {
  let mounts = 0
  /** A mount of its own, with a root of the kind asked for and a role `web`. */
  const mountWith = async (role: RoleSettings = {}, kind: (typeof kinds)[number] = kinds[1]) => {
    const mount = `pki_contract_${++mounts}`
    const { keyType, keyBits } = kind
    await issuer().ensureMount(mount, { maxLeaseTtl: '43800h' })
    const ask = { commonName: 'kubernetes', ttl: '43800h', keyType, keyBits } as const
    const root = await issuer().generateRoot(mount, { ...ask, type: 'internal' })
    await issuer().setDefaultIssuer(mount, root.issuerId)
    await issuer().ensureRole(mount, 'web', { ...web, key_type: keyType, key_bits: keyBits, ...role })
    return { mount, root }
  }

  for (const [index, kind] of kinds.entries()) {
    const { keyType, keyBits } = kind
    const keys = { key_type: keyType, key_bits: keyBits }
    const other = kinds[(index + 1) % kinds.length]!

    test(`${kind.name}: root and certificate are what was asked, and openssl -x509_strict takes them`, async t => {
      const { mount, root } = await mountWith({ organization: ['system:masters'], server_flag: false }, kind)
      const authority = parseCertificate(root.certificate)
      t.is(authority.keyType, kind.name)
      t.true(authority.isAuthority)
      t.deepEqual(authority.keyUsages, ['keyCertSign', 'cRLSign'])
      t.is(root.privateKey, undefined)
      const issued = await issuer().issue(mount, 'web', {
        commonName: 'system:node:m1',
        dnsNames: ['a.example.org', 'localhost'],
        ipAddresses: ['10.0.0.1', 'fd00::1'],
        ttl: '1000h',
      })
      const leaf = parseCertificate(issued.certificate)
      t.is(leaf.keyType, kind.name)
      t.is(leaf.commonName, 'system:node:m1')
      t.deepEqual(leaf.organizations, ['system:masters'])
      t.deepEqual(leaf.dnsNames, ['a.example.org', 'localhost'])
      t.deepEqual(leaf.ipAddresses, ['10.0.0.1', 'fd00::1'])
      t.deepEqual(leaf.extendedKeyUsages, ['clientAuth'])
      t.false(leaf.isAuthority)
      t.is(leaf.authorityKeyId, authority.subjectKeyId)
      const hours = (leaf.notAfter.getTime() - Date.now()) / 3_600_000
      t.true(hours > 999.9 && hours <= 1000)
      t.is(issued.serialNumber.replaceAll(':', ''), leaf.serialNumber)
      t.true(keyMatches(issued.certificate, issued.privateKey!))
      t.is(issued.issuingCa, root.certificate)
      t.is(verifyChain(issued.certificate, issued.caChain).length, 2)
      opensslVerify(t, issued.certificate, root.certificate)
    })

    test(`${kind.name}: serial numbers differ, and so do keys`, async t => {
      const { mount } = await mountWith({}, kind)
      const ask = { commonName: 'x', dnsNames: ['a.example.org'] }
      const all = await Promise.all([1, 2, 3].map(() => issuer().issue(mount, 'web', ask)))
      t.is(new Set(all.map(one => one.serialNumber)).size, 3)
      t.is(new Set(all.map(one => one.privateKey)).size, 3)
    })

    test(`${kind.name}: a second root is added, signs once it is the default, and the first can be deleted with its key`, async t => {
      const { mount, root } = await mountWith({}, kind)
      const next = await issuer().generateRoot(mount, {
        commonName: 'kubernetes',
        type: 'exported',
        ttl: '43800h',
        keyType,
        keyBits,
      })
      t.true(keyMatches(next.certificate, next.privateKey!))
      t.is((await issuer().readIssuer(mount, 'default'))?.id, root.issuerId)
      await issuer().setDefaultIssuer(mount, next.issuerId)
      const issued = await issuer().issue(mount, 'web', { commonName: 'x' })
      t.is(issued.issuingCa, next.certificate)
      t.throws(() => verifyChain(issued.certificate, root.certificate), { message: /another key of "CN=kubernetes"/ })
      t.is((await failure(issuer().deleteKey(mount, root.keyId))).code, 'issuer.refused')
      await issuer().deleteIssuer(mount, root.issuerId)
      await issuer().deleteKey(mount, root.keyId)
      t.deepEqual(await issuer().listIssuers(mount), [next.issuerId])
      t.is(await issuer().readIssuer(mount, root.issuerId), undefined)
    })

    test(`${kind.name}: a role may name the issuer that signs`, async t => {
      const { mount, root } = await mountWith({}, kind)
      const ask = {
        commonName: 'kubernetes',
        ttl: '43800h',
        type: 'internal',
        keyType,
        keyBits,
        issuerName: 'next',
      } as const
      const next = await issuer().generateRoot(mount, ask)
      await issuer().ensureRole(mount, 'soon', { ...web, ...keys, issuer_ref: 'next' })
      const [now, soon] = await Promise.all(
        ['web', 'soon'].map(role => issuer().issue(mount, role, { commonName: 'x' })),
      )
      t.is(now!.issuingCa, root.certificate)
      t.is(soon!.issuingCa, next.certificate)
    })

    test(`${kind.name}: a request is signed whose key never left its host, with the role deciding the rest`, async t => {
      const { mount, root } = await mountWith({ organization: ['system:nodes'] }, kind)
      const { csr, keyPem } = await makeRequest(kind, 'CN=a.example.org', ['a.example.org'])
      const signed = await issuer().signCsr(mount, 'web', csr, { commonName: 'a.example.org', ttl: '100h' })
      t.is(signed.privateKey, undefined)
      t.true(keyMatches(signed.certificate, keyPem))
      const facts = parseCertificate(signed.certificate)
      t.is(facts.commonName, 'a.example.org')
      t.deepEqual(facts.organizations, ['system:nodes'])
      opensslVerify(t, signed.certificate, root.certificate)
      const foreign = await makeRequest(kind, 'CN=a.example.com', ['a.example.com'])
      t.is(
        (await failure(issuer().signCsr(mount, 'web', foreign.csr, { commonName: 'x' }))).code,
        'issuer.role-refuses',
      )
    })

    test(`${kind.name}: an intermediate under an offline root: its certificates lead over it to the root, which signs nothing else`, async t => {
      const offline = await mountWith({}, kind)
      const online = `pki_contract_${++mounts}`
      await issuer().ensureMount(online, { maxLeaseTtl: '20000h' })
      const made = await issuer().generateIntermediate(online, {
        ...{ commonName: 'online', type: 'internal', keyType, keyBits },
      })
      t.is(made.privateKey, undefined)
      const ask = { ttl: '10000h', maxPathLength: 0 }
      const { certificate, caChain } = await issuer().signIntermediate(offline.mount, made.csr, ask)
      t.deepEqual(caChain, [offline.root.certificate])
      const facts = parseCertificate(certificate)
      t.true(facts.isAuthority)
      t.is(facts.commonName, 'online')
      const [id, above] = await issuer().importIssuers(online, `${certificate}${offline.root.certificate}`)
      t.is((await issuer().importIssuers(online, certificate))[0], id)
      await issuer().setDefaultIssuer(online, id!)
      await issuer().ensureRole(online, 'web', { ...web, ...keys })
      const issued = await issuer().issue(online, 'web', { commonName: 'x', dnsNames: ['a.example.org'] })
      t.is(issued.issuingCa, certificate)
      t.deepEqual(issued.caChain, [certificate, offline.root.certificate])
      t.is(verifyChain(`${issued.certificate}${certificate}`, offline.root.certificate).length, 3)
      opensslVerify(t, issued.certificate, offline.root.certificate, certificate)
      // The root's key is not here.
      t.not(
        (await failure(issuer().issue(online, 'web', { commonName: 'x', issuer: above! }))).code,
        'nothing was refused',
      )
      const long = failure(issuer().signIntermediate(offline.mount, made.csr, { ttl: '43900h' }))
      t.true(['issuer.ttl-shortened', 'issuer.refused'].includes((await long).code))
    })

    test(`${kind.name}: an authority signed by the one before it is trusted by who trusts either`, async t => {
      const { mount, root: before } = await mountWith({}, kind)
      const ask = {
        commonName: 'kubernetes',
        type: 'internal',
        ttl: '20000h',
        keyType,
        keyBits,
        issuerName: 'after',
      } as const
      const after = await issuer().generateRoot(mount, ask)
      const request = { commonName: 'kubernetes', type: 'internal', existingKey: after.keyId } as const
      const { csr, keyId } = await issuer().generateIntermediate(mount, request)
      t.is(keyId, after.keyId)
      const { certificate: crossed } = await issuer().signIntermediate(mount, csr, {
        ttl: '10000h',
        issuer: before.issuerId,
      })
      t.is(parseCertificate(crossed).subjectKeyId, parseCertificate(after.certificate).subjectKeyId)
      const [id] = await issuer().importIssuers(mount, crossed)
      t.true((await issuer().listIssuers(mount)).includes(id!))
      const issued = await issuer().issue(mount, 'web', { commonName: 'x', issuer: 'after' })
      t.is(issued.issuingCa, after.certificate)
      opensslVerify(t, issued.certificate, after.certificate)
      opensslVerify(t, issued.certificate, before.certificate, crossed)
    })

    test(`${kind.name}: certificates say where their CRL, their OCSP server and their issuer are`, async t => {
      const { mount } = await mountWith({}, kind)
      const urls = {
        issuing: ['http://pki.example.org/ca'],
        crl: ['http://pki.example.org/crl'],
        ocsp: ['http://pki.example.org/ocsp'],
      }
      await issuer().setUrls(mount, urls)
      const { certificate } = await issuer().issue(mount, 'web', { commonName: 'x' })
      const told = new X509Certificate(certificate).infoAccess ?? ''
      t.true(told.includes('OCSP - URI:http://pki.example.org/ocsp'), told)
      t.true(told.includes('CA Issuers - URI:http://pki.example.org/ca'), told)
      const points = new x509.X509Certificate(certificate).getExtension(x509.CRLDistributionPointsExtension)
      t.true(
        points?.distributionPoints[0]?.distributionPoint?.fullName?.some(
          name => name.uniformResourceIdentifier === urls.crl[0],
        ),
      )
    })

    test(`${kind.name}: a certificate is left alone until its issuer, names, usages or kind of key differ, or it is due`, async t => {
      const { mount } = await mountWith({ server_flag: false, organization: ['system:nodes'] }, kind)
      const ask = { common_name: 'system:node:x', alt_names: 'a.example.org', ip_sans: '10.0.0.1', ttl: '1000h' }
      const path = `${mount}/issue/web`
      const fresh = vaultSecrets(issuer())
      const first = (await fresh(path, ask))!.data
      const lying = `${first['certificate']}\n${first['private_key']}\n`
      const notices: string[] = []
      const later = (hours: number) => () => new Date(Date.now() + hours * 3_600_000)
      const again = async (more: Record<string, string> = {}, now = later(0)) => {
        notices.length = 0
        const read = (where: string) => issuer().read(where)
        const settings = { read, texts: async () => [lying], notice: (text: string) => void notices.push(text), now }
        return (await reusingIssued(fresh, settings)(path, { ...ask, ...more }))!.data
      }
      t.deepEqual(await again(), first)
      t.deepEqual(notices, [])
      const differs = async (reason: RegExp, answer: Promise<Record<string, unknown>>) => {
        t.not((await answer)['serial_number'], first['serial_number'])
        t.is(notices.length, 1)
        t.regex(notices[0]!, reason)
      }
      await differs(/DNS names are \[a\.example\.org\], not \[b\.example\.org\]/, again({ alt_names: 'b.example.org' }))
      await differs(/IP addresses are/, again({ ip_sans: '10.0.0.1,10.0.0.2' }))
      await differs(/it ends on/, again({}, later(700)))
      t.deepEqual(await again({}, later(600)), first)
      await differs(/holds longer than asked/, again({ ttl: '10h' }))
      const both = { ...web, server_flag: true, organization: ['system:nodes'] }
      await issuer().ensureRole(mount, 'web', { ...both, ...keys })
      await differs(/usages are \[clientAuth\], not \[serverAuth, clientAuth\]/, again())
      const role = { ...web, server_flag: false, organization: ['system:nodes'] }
      await issuer().ensureRole(mount, 'web', { ...role, key_type: other.keyType, key_bits: other.keyBits })
      await differs(new RegExp(`its key is ${kind.name}, not ${other.name}`), again())
      await issuer().ensureRole(mount, 'web', { ...role, ...keys })
      t.deepEqual(await again(), first)
      const next = await issuer().generateRoot(mount, { commonName: 'kubernetes', type: 'internal', ttl: '43800h' })
      await issuer().setDefaultIssuer(mount, next.issuerId)
      await differs(/its issuer is not "CN=kubernetes"/, again())
    })

    test(`${kind.name}: a signed request is left alone, without its key, until names, issuer or key differ, or it is due`, async t => {
      const { mount } = await mountWith({}, kind)
      const path = `${mount}/sign/web`
      const fresh = vaultSecrets(issuer())
      const dnsNames = ['a.example.org', 'b.example.org']
      const [mine, another] = [
        await makeRequest(kind, 'CN=a.example.org', dnsNames),
        await makeRequest(kind, 'CN=a.example.org', dnsNames),
      ]
      const fewer = await makeRequest(kind, 'CN=a.example.org', ['a.example.org'], {
        privateKey: createPrivateKey(mine.keyPem),
      })
      const first = (await fresh(path, { csr: mine.csr, ttl: '1000h' }))!.data
      t.is(first['private_key'], undefined)
      const notices: string[] = []
      const again = async (csr: string, hours = 0, lying = `${first['certificate']}\n`) => {
        notices.length = 0
        const settings = {
          read: (where: string) => issuer().read(where),
          texts: async () => [lying],
          notice: (text: string) => void notices.push(text),
          now: () => new Date(Date.now() + hours * 3_600_000),
        }
        return (await reusingIssued(fresh, settings)(path, { csr, ttl: '1000h' }))!.data
      }
      t.deepEqual(await again(mine.csr), first)
      t.deepEqual(notices, [])
      // Of another key, so no certificate of this request.
      t.not((await again(another.csr))['serial_number'], first['serial_number'])
      t.deepEqual(await again(mine.csr, 0, `${first['certificate']}\n${mine.keyPem}`), first)
      await again(fewer.csr)
      t.regex(notices[0]!, /DNS names are \[a\.example\.org, b\.example\.org\], not \[a\.example\.org\]/)
      await again(mine.csr, 700)
      t.regex(notices[0]!, /it ends on/)
      const next = await issuer().generateRoot(mount, { commonName: 'kubernetes', type: 'internal', ttl: '43800h' })
      await issuer().setDefaultIssuer(mount, next.issuerId)
      await again(mine.csr)
      t.regex(notices[0]!, /its issuer is not "CN=kubernetes"/)
      const short = await failure(fresh(path, { csr: mine.csr, ttl: '3000h' }))
      t.is(short.code, 'issuer.ttl-shortened')
    })

    test(`${kind.name}: a request that is none, or not signed by its key, is refused`, async t => {
      const { mount } = await mountWith({}, kind)
      const bad = '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n'
      t.not((await failure(issuer().signCsr(mount, 'web', bad, { commonName: 'x' }))).code, 'nothing was refused')
      const { csr } = await makeRequest(kind, 'CN=a.example.org', [])
      const bytes = x509.PemConverter.decodeFirst(csr)
      new Uint8Array(bytes)[bytes.byteLength - 1]! ^= 1
      const forged = x509.PemConverter.encode(bytes, 'CERTIFICATE REQUEST')
      t.not((await failure(issuer().signCsr(mount, 'web', forged, { commonName: 'x' }))).code, 'nothing was refused')
    })

    test(`${kind.name}: a template reads the CA, and gets certificate and key of one issue`, async t => {
      const { mount, root } = await mountWith({}, kind)
      const renderer = createRenderer({ secrets: vaultSecrets(issuer()) })
      const of = async (what: string) => {
        const source = `{{ with secret "${mount}/issue/web" "common_name=x" "alt_names=a.example.org, b.example.org" "ip_sans=10.0.0.1" "exclude_cn_from_sans=true" "ttl=100h" }}{{ .Data.${what} }}{{ end }}`
        return (await renderer.render(source, { name: what })).output
      }
      const [certificate, key] = [await of('certificate'), await of('private_key')]
      t.true(keyMatches(certificate, key))
      t.deepEqual(parseCertificate(certificate).dnsNames, ['a.example.org', 'b.example.org'])
      t.regex(await of('serial_number'), /^([0-9a-f]{2}:)+[0-9a-f]{2}$/)
      const ca = `{{ with secret "${mount}/cert/ca" }}{{ .Data.certificate }}{{ end }}`
      t.is(`${(await renderer.render(ca, { name: 'ca' })).output}\n`, root.certificate)
    })
  }

  test('mounts and roles are made once', async t => {
    const { mount } = await mountWith()
    t.deepEqual(await issuer().ensureMount(mount, { maxLeaseTtl: '43800h' }), { changed: false })
    t.deepEqual(await issuer().ensureMount(mount, { maxLeaseTtl: '40000h' }), { changed: true })
    t.deepEqual(await issuer().ensureRole(mount, 'more', web), { changed: true })
    t.deepEqual(await issuer().ensureRole(mount, 'more', web), { changed: false })
    t.deepEqual(await issuer().ensureRole(mount, 'more', { ...web, allow_subdomains: false }), { changed: true })
    t.is(await issuer().readRole(mount, 'none'), undefined)
    t.deepEqual((await issuer().readRole(mount, 'more'))?.['allowed_domains'], web.allowed_domains)
  })

  const allowed: [title: string, role: RoleSettings, names: string[], taken: boolean][] = [
    ['a domain itself', {}, ['example.org'], true],
    ['a domain itself where only what is below it is allowed', { allow_bare_domains: false }, ['example.org'], false],
    ['a name below', {}, ['a.b.example.org'], true],
    ['a name below where only the domain is allowed', { allow_subdomains: false }, ['a.example.org'], false],
    ['another domain', {}, ['example.com'], false],
    ['a domain that only ends alike', {}, ['badexample.org'], false],
    ['one bad name among good ones', {}, ['a.example.org', 'example.com'], false],
    ['a wildcard', {}, ['*.example.org'], true],
    ['a wildcard where none is allowed', { allow_wildcard_certificates: false }, ['*.example.org'], false],
    ['a wildcard in the middle', {}, ['a.*.example.org'], false],
    ['letters of another case', { allow_subdomains: false }, ['EXAMPLE.org'], true],
    ['localhost where it is allowed', { allowed_domains: [], allow_localhost: true }, ['localhost'], true],
    ['localhost where it is not', { allowed_domains: ['example.org'] }, ['localhost'], false],
    ['a glob', { allowed_domains: ['m*.k8s'], allow_glob_domains: true }, ['m12.k8s'], true],
    ['what a glob does not take', { allowed_domains: ['m*.k8s'], allow_glob_domains: true }, ['n1.k8s'], false],
    ['a name that is no host name', {}, ['a b.example.org'], false],
    ['any name', { allowed_domains: [], allow_any_name: true }, ['what.ever'], true],
    ['any name, and still a host name', { allow_any_name: true }, ['a b'], false],
  ]
  for (const [title, role, names, taken] of allowed) {
    test(`names: ${title}`, async t => {
      const { mount } = await mountWith(role)
      const issue = issuer().issue(mount, 'web', { commonName: 'x', dnsNames: names })
      if (taken) t.deepEqual(parseCertificate((await issue).certificate).dnsNames, names)
      // Vault leaves out what is no host name: then the client refuses what came back.
      else t.true(['issuer.role-refuses', 'issuer.names-left-out'].includes((await failure(issue)).code))
    })
  }

  test('usages, URIs and the parts of the subject are those that the role says', async t => {
    const { mount } = await mountWith({
      ...{ server_flag: false, code_signing_flag: true, email_protection_flag: true },
      ...{ ext_key_usage: ['OCSPSigning', 'TimeStamping'], allowed_uri_sans: ['spiffe://example.org/*'] },
      ...{ organization: ['system:nodes'], ou: ['web'], country: ['FR'], province: ['Bretagne'], locality: ['Brest'] },
    })
    const ask = (uri: string) =>
      vaultSecrets(issuer())(`${mount}/issue/web`, { common_name: 'a.example.org', uri_sans: uri, ttl: '1h' })
    const facts = parseCertificate((await ask('spiffe://example.org/ns/web'))!.data['certificate'] as string)
    t.deepEqual(
      facts.extendedKeyUsages.toSorted(),
      ['clientAuth', 'codeSigning', 'emailProtection', 'ocspSigning', 'timeStamping'].toSorted(),
    )
    t.deepEqual(facts.uris, ['spiffe://example.org/ns/web'])
    const parts = ['C=FR', 'CN=a.example.org', 'L=Brest', 'O=system:nodes', 'OU=web', 'ST=Bretagne']
    t.deepEqual(facts.subject.split(', ').sort(), parts)
    t.is((await failure(ask('spiffe://example.com/ns/web'))).code, 'issuer.role-refuses')
    await issuer().ensureRole(mount, 'none', { ...web, key_type: 'ec', key_bits: 256 })
    const refused = issuer().write(`${mount}/issue/none`, { common_name: 'a.example.org', uri_sans: 'spiffe://a' })
    t.is((await failure(refused)).code, 'issuer.role-refuses')
  })

  test('a role may leave out the names of a request', async t => {
    const { mount } = await mountWith({ use_csr_common_name: false, use_csr_sans: false })
    const { csr } = await makeRequest(kinds[1], 'CN=a.example.com', ['a.example.com'])
    const ask = { commonName: 'b.example.org', dnsNames: ['c.example.org'], ttl: '1h' }
    const facts = parseCertificate((await issuer().signCsr(mount, 'web', csr, ask)).certificate)
    t.is(facts.commonName, 'b.example.org')
    t.deepEqual(facts.dnsNames, ['c.example.org'])
  })

  test('IP addresses are refused where the role says so', async t => {
    const { mount } = await mountWith({ allow_ip_sans: false })
    const error = await failure(issuer().issue(mount, 'web', { commonName: 'x', ipAddresses: ['10.0.0.1'] }))
    t.is(error.code, 'issuer.role-refuses')
    t.regex(error.message, /IP Subject Alternative Names are not allowed in this role/)
  })

  test('a CN must be an allowed host name, unless the role does not check it', async t => {
    const { mount } = await mountWith({ cn_validations: ['email', 'hostname'] })
    const error = await failure(issuer().issue(mount, 'web', { commonName: 'system:node:m1' }))
    t.is(error.code, 'issuer.role-refuses')
    t.regex(error.message, /common name system:node:m1 not allowed by this role/)
    const issued = await issuer().issue(mount, 'web', { commonName: 'a.example.org' })
    t.deepEqual(parseCertificate(issued.certificate).dnsNames, [])
  })

  test('a CN that is a host name is a DNS name too, unless it is kept out', async t => {
    const { mount } = await mountWith()
    const issued = await issuer().issue(mount, 'web', { commonName: 'a.example.org', excludeCommonName: false })
    t.deepEqual(parseCertificate(issued.certificate).dnsNames, ['a.example.org'])
  })

  test('a ttl beyond the role, beyond the mount, or beyond the CA is an error', async t => {
    const { mount } = await mountWith()
    const ask = async (ttl: string) => failure(issuer().issue(mount, 'web', { commonName: 'x', ttl }))
    t.is((await ask('2001h')).code, 'issuer.ttl-shortened')
    // Where the role has no maximum the mount's counts, and only there.
    await issuer().ensureMount(mount, { maxLeaseTtl: '1000h' })
    t.is((await ask('1500h')).code, 'nothing was refused')
    await issuer().ensureRole(mount, 'open', { ...web, key_type: 'ec', key_bits: 256, max_ttl: '0' })
    const above = await failure(issuer().issue(mount, 'open', { commonName: 'x', ttl: '1500h' }))
    t.is(above.code, 'issuer.ttl-shortened')
    await issuer().ensureMount(mount, { maxLeaseTtl: '43800h' })
    await issuer().ensureRole(mount, 'long', { ...web, key_type: 'ec', key_bits: 256, max_ttl: '43800h' })
    const late = await failure(issuer().issue(mount, 'long', { commonName: 'x', ttl: '43800h' }))
    t.true(['issuer.refused', 'nothing was refused'].includes(late.code))
    await issuer().ensureMount(mount, { maxLeaseTtl: '100000h' })
    await issuer().ensureRole(mount, 'longer', { ...web, key_type: 'ec', key_bits: 256, max_ttl: '90000h' })
    t.is((await failure(issuer().issue(mount, 'longer', { commonName: 'x', ttl: '80000h' }))).code, 'issuer.refused')
    const root = { commonName: 'k', type: 'internal', ttl: '100001h' } as const
    t.is((await failure(issuer().generateRoot(mount, root))).code, 'issuer.ttl-shortened')
  })

  test('a certificate is dated back as the role says', async t => {
    const { mount } = await mountWith({ not_before_duration: '300s' })
    const issued = await issuer().issue(mount, 'web', { commonName: 'x' })
    const age = (Date.now() - parseCertificate(issued.certificate).notBefore.getTime()) / 1000
    t.true(age >= 299 && age < 330)
  })

  test('what is not there is named: mount, role, issuer', async t => {
    const { mount } = await mountWith()
    t.is((await failure(issuer().issue(mount, 'none', { commonName: 'x' }))).code, 'issuer.no-such-role')
    t.is((await failure(issuer().issue('nowhere', 'web', { commonName: 'x' }))).code, 'issuer.no-such-mount')
    t.is(await issuer().readIssuer(mount, 'none'), undefined)
    await issuer().ensureMount('pki_contract_empty', { maxLeaseTtl: '1h' })
    await issuer().ensureRole('pki_contract_empty', 'web', web)
    const error = await failure(issuer().issue('pki_contract_empty', 'web', { commonName: 'x' }))
    t.is(error.code, 'issuer.refused')
  })
}

async function failure(work: Promise<unknown>): Promise<RekeyError> {
  return work.then(
    () => ({ code: 'nothing was refused', message: '' }) as RekeyError,
    (error: RekeyError) => error,
  )
}

function freshKeys({ keyType }: (typeof kinds)[number]): { privateKey: KeyObject } {
  if (keyType === 'rsa') return generateKeyPairSync('rsa', { modulusLength: 2048 })
  return keyType === 'ec' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519')
}

/** A certificate request and the key that it is for. */
async function makeRequest(
  kind: (typeof kinds)[number],
  name: string,
  dnsNames: string[],
  { privateKey }: { privateKey: KeyObject } = freshKeys(kind),
): Promise<{ csr: string; keyPem: string }> {
  const publicKey = createPublicKey(privateKey)
  const algorithm = {
    rsa: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    ec: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
    ed25519: { name: 'Ed25519' },
  }[kind.keyType] as unknown as webcrypto.EcKeyImportParams
  const keys = {
    privateKey: await webcrypto.subtle.importKey('jwk', privateKey.export({ format: 'jwk' }), algorithm, true, [
      'sign',
    ]),
    publicKey: await webcrypto.subtle.importKey('jwk', publicKey.export({ format: 'jwk' }), algorithm, true, [
      'verify',
    ]),
  }
  const names = dnsNames.map(value => ({ type: 'dns' as const, value }))
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name,
    keys,
    signingAlgorithm: algorithm,
    extensions: names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : [],
  })
  return { csr: request.toString('pem'), keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
}

function opensslVerify(t: ExecutionContext, leaf: string, root: string, between?: string): void {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-contract-'))
  try {
    writeFileSync(join(folder, 'leaf.pem'), leaf)
    writeFileSync(join(folder, 'root.pem'), root)
    if (between) writeFileSync(join(folder, 'between.pem'), between)
    const untrusted = between ? ['-untrusted', join(folder, 'between.pem')] : []
    const files = ['-CAfile', join(folder, 'root.pem'), ...untrusted, join(folder, 'leaf.pem')]
    t.regex(execFileSync('openssl', ['verify', '-x509_strict', ...files]).toString(), /: OK/)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
