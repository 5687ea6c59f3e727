// What is checked among files that were rendered together.
import { createPrivateKey } from 'node:crypto'
import test from 'ava'
import { verifySet } from '../../../lib/pki/certificates/certificate-set.ts'
import { issue } from './_certificates.ts'

test.serial('a key, its certificate and its CA pass, whatever the files are called', async t => {
  const ca = await issue({ name: 'CN=ca', ca: true })
  const leaf = await issue({ name: 'CN=leaf', issuer: ca })
  const found = verifySet([
    { path: '/a', text: leaf.pem },
    { path: '/b', text: leaf.keyPem },
    { path: '/c', text: ca.pem },
    { path: '/d', text: 'apiVersion: v1\n' },
  ])
  t.deepEqual([...found.keys()], ['/a', '/c'])
  t.is(found.get('/a')![0]!.commonName, 'leaf')
  verifySet([{ path: '/both', text: leaf.pem + leaf.keyPem + ca.pem }])
})

test.serial('a set is checked in YAML, in JSON and on one line as well', async t => {
  const ca = await issue({ name: 'CN=ca', ca: true })
  const [leaf, other] = [await issue({ name: 'CN=leaf', issuer: ca }), await issue({ name: 'CN=other' })]
  const forms: ((pem: string) => string)[] = [
    pem => `tls: |\n${pem.replaceAll(/^/gm, '    ')}\n`,
    pem => JSON.stringify({ pem }),
    pem => JSON.stringify({ inner: JSON.stringify({ pem }) }),
    pem => JSON.stringify({ pem }).replaceAll('/', '\\/').replaceAll('=', '\\u003d').replaceAll('+', '\\u002B'),
    pem => `PEM="${pem.replaceAll('\n', '\\n')}"\n`,
    pem => `PEM="${pem.replaceAll('\n', ' ')}"\n`,
    pem => pem.replaceAll('\n', '\r\n'),
    pem => `${pem.trim()}ec`,
  ]
  for (const form of forms) {
    const files = [
      { path: '/leaf', text: form(leaf.pem) },
      { path: '/ca', text: form(ca.pem) },
    ]
    const found = verifySet([...files, { path: '/key', text: form(leaf.keyPem) }])
    t.is(found.get('/leaf')![0]!.pem, leaf.pem)
    t.throws(() => verifySet([...files, { path: '/key', text: form(other.keyPem) }]), {
      message: /^\/key: the private/,
    })
  }
})

test.serial('a key that belongs to none of the certificates is named by its file', async t => {
  const [one, other] = [await issue({ name: 'CN=a' }), await issue({ name: 'CN=b' })]
  t.throws(
    () =>
      verifySet([
        { path: '/a', text: one.pem },
        { path: '/key', text: other.keyPem },
      ]),
    {
      message: '/key: the private key in it belongs to none of the certificates that were rendered with it',
    },
  )
  t.notThrows(() => verifySet([{ path: '/key', text: other.keyPem }]))
})

test.serial(
  'a key that was never one of a certificate is none of its business: of service accounts, of ssh, encrypted',
  async t => {
    const [leaf, accounts] = [await issue({ name: 'CN=a' }), await issue({ name: 'CN=b' })]
    const passphrase = { cipher: 'aes-256-cbc', passphrase: 'x' }
    const encrypted = createPrivateKey(leaf.keyPem).export({ type: 'pkcs8', format: 'pem', ...passphrase }) as string
    t.notThrows(() =>
      verifySet([
        { path: '/apiserver.crt', text: leaf.pem },
        { path: '/apiserver.key', text: leaf.keyPem },
        { path: '/sa.key', text: accounts.keyPem },
        { path: '/encrypted.key', text: encrypted },
        { path: '/ssh', text: encrypted.replaceAll('ENCRYPTED', 'OPENSSH') },
      ]),
    )
  },
)

test.serial('a certificate of another CA than the one beside it is refused, both CAs side by side are not', async t => {
  const [old, next] = [await issue({ name: 'CN=ca', ca: true }), await issue({ name: 'CN=ca', ca: true })]
  const leaf = await issue({ name: 'CN=leaf', issuer: old })
  t.throws(
    () =>
      verifySet([
        { path: '/leaf', text: leaf.pem },
        { path: '/ca', text: next.pem },
      ]),
    {
      message: /^\/leaf: .*issued by another key/,
    },
  )
  t.notThrows(() =>
    verifySet([
      { path: '/leaf', text: leaf.pem },
      { path: '/ca', text: next.pem + old.pem },
    ]),
  )
})

test.serial('a certificate that does not hold now is refused', async t => {
  const future = { notBefore: new Date('2090-01-01'), notAfter: new Date('2091-01-01') }
  const early = await issue({ name: 'CN=early', ...future })
  t.throws(() => verifySet([{ path: '/a', text: early.pem }]), { message: /^\/a: .*holds from 2090-01-01.* not now/ })
  t.notThrows(() => verifySet([{ path: '/a', text: early.pem }], new Date('2090-06-01')))
})
