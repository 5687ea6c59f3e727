// A CA without Vault, from the command line: made or brought in, given a role, and asked by consul-template's templates.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { keyMatches, parseCertificate, verifyChain } from '../../lib/pki/certificates/certificate.ts'
import { workbench } from './_rekey.ts'

/** A folder with a key for the CA's file, a host on this machine, and a configuration that asks for one certificate. */
function scene(by: 'key' | 'passphrase' = 'key') {
  const bench = workbench(undefined, [], true)
  const file = (name: string, text = '') => {
    const path = join(bench.folder, name)
    if (text) writeFileSync(path, text, { mode: 0o600 })
    return path
  }
  // What is made of a passphrase takes its time, on purpose.
  const key = file(by, `${'of this test '.repeat(4)}\n`)
  const opened = [`--${by}-file`, key]
  const hosts = file('local', `here ansible_connection=local rekey_directory=${join(bench.folder, 'on-host')}\n`)
  const out = join(bench.folder, 'out')
  mkdirSync(out)
  const config = file(
    'config.hcl',
    `template {
      contents = "{{ with secret \\"pki_k8s/issue/kubernetes\\" \\"common_name=a.example.org\\" \\"ttl=100h\\" }}{{ .Data.certificate }}\\n{{ .Data.private_key }}\\n{{ end }}"
      destination = "${out}/tls.pem"
      perms = "0600"
    }
    template {
      contents = "{{ with secret \\"pki_k8s/cert/ca\\" }}{{ .Data.certificate }}\\n{{ end }}"
      destination = "${out}/ca.pem"
    }`,
  )
  const ca = join(bench.folder, 'ca.sealed')
  const run = async (t: ExecutionContext, ...args: string[]) => {
    const called = await bench.rekey([...args, ...opened])
    t.is(called.code, 0, called.stderr + called.stdout)
    return called.stdout
  }
  const render = (t: ExecutionContext) => run(t, 'template', '-i', hosts, '-c', config, '--ca', ca)
  return { bench, file, opened, out, ca, run, render }
}

const role = ['allowed_domains=example.org', 'allow_subdomains=true', 'key_type=ec', 'key_bits=256']

test.serial('a CA is made, and templates get its certificates without any Vault', async t => {
  const { ca, out, run, render } = scene('passphrase')
  const root = await run(t, 'ca', 'create', ca, 'pki_k8s', '--common-name', 'kubernetes', '--key-type', 'ec')
  t.is(parseCertificate(root).commonName, 'kubernetes')
  t.is(statSync(ca).mode & 0o777, 0o600)
  t.is(await run(t, 'ca', 'role', ca, 'pki_k8s', 'kubernetes', ...role), 'pki_k8s/roles/kubernetes: written\n')
  t.is(await run(t, 'ca', 'role', ca, 'pki_k8s', 'kubernetes', ...role), 'pki_k8s/roles/kubernetes: as it was\n')
  await render(t)
  const pair = readFileSync(join(out, 'tls.pem'), 'utf8')
  t.is(readFileSync(join(out, 'ca.pem'), 'utf8'), root)
  verifyChain(pair, root)
  t.true(keyMatches(pair, pair))
  await render(t)
  t.is(readFileSync(join(out, 'tls.pem'), 'utf8'), pair)
  const issued = (await run(t, 'ca', 'list', ca)).trim().split('\n')
  t.is(issued.length, 1)
  t.like(JSON.parse(issued[0]!), { mount: 'pki_k8s', role: 'kubernetes', commonName: 'a.example.org' })
})

test.serial('certificates tell where their CRL, their OCSP server and their CA are, once that is said', async t => {
  const { bench, ca, out, opened, run, render } = scene()
  await run(t, 'ca', 'create', ca, 'pki_k8s', '--common-name', 'kubernetes', '--key-type', 'ec')
  await run(t, 'ca', 'role', ca, 'pki_k8s', 'kubernetes', ...role)
  const at = (name: string) => `http://pki.example.org/${name}`
  const urls = ['ca', 'urls', ca, 'pki_k8s']
  await run(t, ...urls, '--crl', at('crl'), '--ocsp', at('ocsp'), '--issuing', at('ca'))
  await render(t)
  const text = execFileSync('openssl', ['x509', '-in', join(out, 'tls.pem'), '-noout', '-text']).toString()
  for (const place of [
    /CRL Distribution Points:\s+Full Name:\s+URI:\S+\/crl\n/,
    /OCSP - URI:\S+\/ocsp\n/,
    /CA Issuers - URI:\S+\/ca\n/,
  ]) {
    t.regex(text, place)
  }
  const { code, stderr } = await bench.rekey([...urls, '--crl', 'here', ...opened])
  t.is(code, 1)
  t.regex(stderr, /It must be an http/)
})

for (const [title, kind, more] of [
  ['RSA, as openssl writes it now', ['-newkey', 'rsa:2048'], []],
  ['ECDSA', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], []],
  ['RSA, as it was written before', ['-newkey', 'rsa:2048'], ['-legacy']],
] as const) {
  test.serial(`a CA is brought in from PKCS#12: ${title}`, async t => {
    const { ca, file, out, run, render, bench, opened } = scene()
    const [key, certificate, bundle] = ['old.key', 'old.crt', 'old.p12'].map(name => file(name)) as [
      string,
      string,
      string,
    ]
    const password = file('bundle-password', 'of the bundle\n')
    const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' })
    openssl('req', '-x509', ...kind, '-nodes', '-keyout', key, '-out', certificate, '-subj', '/CN=old', '-days', '3650')
    openssl(
      'pkcs12',
      '-export',
      ...more,
      '-inkey',
      key,
      '-in',
      certificate,
      '-out',
      bundle,
      '-passout',
      `file:${password}`,
    )
    const told = await run(t, 'ca', 'import', ca, 'pki_k8s', bundle, '--bundle-passphrase-file', password)
    t.is(told, 'pki_k8s: CN=old\n')
    await run(t, 'ca', 'role', ca, 'pki_k8s', 'kubernetes', ...role)
    await render(t)
    verifyChain(readFileSync(join(out, 'tls.pem'), 'utf8'), readFileSync(certificate, 'utf8'))
    const wrong = ['ca', 'import', ca, 'pki_k8s', bundle, ...opened]
    const { code, stderr } = await bench.rekey(wrong)
    t.is(code, 1)
    t.true(stderr.includes(`${bundle}: is no PKCS#12 file, or its password is another one`), stderr)
  })
}

test.serial('what is wrong is said, and nothing is made', async t => {
  const { bench, ca, file, opened } = scene()
  const refused = async (message: string, ...args: string[]) => {
    const { code, stderr } = await bench.rekey(['ca', ...args])
    t.is(code, 1, stderr)
    t.true(stderr.includes(message), stderr)
  }
  await refused('nothing opens the CA file', 'list', ca)
  await refused('There is no mount for pki_k8s/roles/web', 'role', ca, 'pki_k8s', 'web', ...opened)
  await refused('"colour" is no setting of a role', 'role', ca, 'pki_k8s', 'web', 'colour=red', ...opened)
  await refused('"allow_any_name" must be true or false', 'role', ca, 'pki_k8s', 'web', 'allow_any_name=1', ...opened)
  await refused('"web" is no key=value', 'role', ca, 'pki_k8s', 'web', 'web', ...opened)
  const text = file('text.p12', 'no PKCS#12')
  await refused(`${text}: is no PKCS#12 file`, 'import', ca, 'pki_k8s', text, ...opened)
  const [key, leaf, bundle] = ['leaf.key', 'leaf.crt', 'leaf.p12'].map(name => file(name)) as [string, string, string]
  const made = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-addext',
    'basicConstraints=CA:FALSE',
  ]
  execFileSync('openssl', ['req', '-x509', ...made, '-keyout', key, '-out', leaf, '-subj', '/CN=leaf'], {
    stdio: 'pipe',
  })
  execFileSync('openssl', ['pkcs12', '-export', '-inkey', key, '-in', leaf, '-out', bundle, '-passout', 'pass:'])
  await refused('the key belongs to no CA certificate', 'import', ca, 'pki_k8s', bundle, ...opened)
  t.throws(() => statSync(ca), { code: 'ENOENT' })
})
