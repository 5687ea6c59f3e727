// Certificates in reports: what files held before and hold after, hosts of which the same is to be told together.
import test from 'ava'
import { htmlReport } from '../../../lib/output/report/index.ts'
import { changesIn, sightingsIn } from '../../../lib/output/report/story/certificates.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { began, madeRun } from '../../report/_made.ts'

const until = (year: number) => new Date(Date.UTC(year, 5, 1))
const ca = async (name: string, year: number) => await issue({ name: `CN=${name}`, ca: true, notAfter: until(year) })

test('files are told with what they held and what they hold, CAs first; those that nothing was told of later apart', async t => {
  const [old, next] = [await ca('old', 2027), await ca('next', 2036)]
  const leaf = async (host: string, issuer: typeof old, year: number) =>
    (await issue({ name: `CN=system:node:${host}, O=system:nodes`, issuer, notAfter: until(year) })).pem
  const hosts = ['n1', 'n2', 'n3']
  const read = async (host: string) => ({
    certificates: { '/pki/ca.crt': old.pem, '/pki/node.crt': await leaf(host, old, 2027), '/other.crt': old.pem },
    told: ['no certificate'],
  })
  const made = async (host: string) => ({
    certificates: {
      '/pki/ca.crt': old.pem + next.pem,
      '/pki/node.crt': await leaf(host, next, 2029),
      '/pki/new.crt': next.pem,
    },
  })
  const sightings = [
    ...(
      await Promise.all(hosts.map(async host => sightingsIn({ step: 'read', host, value: await read(host) })))
    ).flat(),
    ...(
      await Promise.all(hosts.map(async host => sightingsIn({ step: 'verify', host, value: await made(host) })))
    ).flat(),
    ...sightingsIn({ step: 'generate', host: 'n1', value: { mount: { certificate: next.pem } } }),
    ...sightingsIn({ step: 'read', host: 'n1', lost: 'it is gone' }),
  ]
  const told = changesIn(sightings).map(({ name, hosts: of, before, after }) => [
    name,
    of,
    before.map(one => one.subject),
    after.map(one => one.subject),
  ])
  t.deepEqual(told.slice(0, 2), [
    ['/other.crt', hosts, ['CN=old'], []],
    ['/pki/ca.crt', hosts, ['CN=old'], ['CN=old', 'CN=next']],
  ])
  t.deepEqual(
    told.slice(2).map(([name, of]) => [name, of]),
    [
      ['/pki/new.crt', hosts],
      ['/pki/node.crt', hosts],
    ],
  )
  t.deepEqual(told[2]?.slice(2), [[], ['CN=next']])
})

test('a report shows them beside each other, and no key', async t => {
  const [old, next] = [await ca('old', 2027), await ca('next', 2036)]
  const at = (step: string, text: string) => ({
    step,
    host: 'm1',
    format: 2,
    value: { '/pki/ca.crt': text, not: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' },
  })
  const folder = madeRun({
    hosts: ['m1', 'm2'],
    steps: 7,
    registered: [at('step-0', old.pem), at('step-3', `${next.pem}${next.keyPem}`)],
  })
  const page = await htmlReport({ folder, now: began })
  t.regex(
    page.replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' '),
    /\/pki\/ca\.crt m1 CN=old CA , until 2027-06-01 SHA-256 [0-9a-f]{16}… CN=next CA , until 2036-06-01 .* by ‘Put it in place \(4\)’/,
  )
  t.notRegex(page, /PRIVATE KEY/)
  const leaf = async (host: string) => (await issue({ name: `CN=node-${host}`, issuer: next })).pem
  const several = ['m2', 'm1'].map(async host => ({
    step: 'step-0',
    host,
    format: 2,
    value: { '/a.crt': await leaf(host) },
  }))
  const told = await htmlReport({
    folder: madeRun({ hosts: ['m1', 'm2'], steps: 7, registered: await Promise.all(several) }),
    now: began,
  })
  t.true(told.includes('CN=node-HOST'))
})
