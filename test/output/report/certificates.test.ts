// Certificates in reports: what files held before and hold after, hosts of which the same is to be told together.
import test from 'ava'
import { htmlReport } from '../../../lib/output/report/index.ts'
import { changesIn, sightingsIn } from '../../../lib/output/report/story/certificates.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { began, madeRun } from '../../report/_made.ts'

const until = (year: number) => new Date(Date.UTC(year, 5, 1))
const ca = async (name: string, year: number) => await issue({ name: `CN=${name}`, ca: true, notAfter: until(year) })

const [reading, verifying, swapping] = ['read-the-certificates', 'verify-what-is-staged', 'swap-certificates']
const isPlaced = () => 'placed' as const

test('files are told with what they held and what they hold, CAs first; those that nothing was told of later apart', async t => {
  const [old, next] = [await ca('old', 2027), await ca('next', 2036)]
  const leaf = async (host: string, issuer: typeof old, year: number) =>
    (await issue({ name: `CN=system:node:${host}, O=system:nodes`, issuer, notAfter: until(year) })).pem
  const hosts = ['n1', 'n2', 'n3']
  const read = async (host: string) => ({
    certificates: { '/pki/ca.crt': old.pem, '/pki/node.crt': await leaf(host, old, 2027), '/other.crt': old.pem },
    bundles: { '/other.crt': [old.pem, next.pem] },
    files: { '/pki/node.crt': { real: '/real/node.crt' } },
  })
  const made = async (host: string) => ({
    certificates: {
      '/pki/ca.crt': old.pem + next.pem,
      // Its CA behind it is none of what was read.
      '/real/node.crt': (await leaf(host, next, 2029)) + next.pem,
      '/pki/new.crt': next.pem,
    },
  })
  const of = async (step: string, value: (host: string) => Promise<unknown>) =>
    (await Promise.all(hosts.map(async host => sightingsIn({ step, host, value: await value(host) })))).flat()
  const sightings = [
    ...(await of(reading, read)),
    ...(await of(verifying, made)),
    ...sightingsIn({ step: reading, host: 'n1', lost: 'it is gone' }),
  ]
  const told = changesIn(sightings, isPlaced).map(({ name, hosts: on, before, after }) => [
    name,
    on,
    before.map(one => one.subject.replace(/n\d/, '*')),
    after.map(one => one.subject.replace(/n\d/, '*')),
  ])
  const node = 'CN=system:node:*, O=system:nodes'
  t.deepEqual(told, [
    ['/other.crt', hosts, ['CN=old', 'CN=next'], []],
    ['/pki/ca.crt', hosts, ['CN=old'], ['CN=old', 'CN=next']],
    ['/pki/new.crt', hosts, [], ['CN=next']],
    ['/pki/node.crt', hosts, [node], [node]],
  ])
})

test('what others believe, and what else steps return, is not what a file of their host holds', async t => {
  const [old, next] = [await ca('old', 2027), await ca('next', 2036)]
  const bundles = { m1: { '/pki/ca.crt': [next.pem, old.pem] }, n1: { '/pki/ca.crt': [old.pem] } }
  const states = [{ name: 'kubernetes', bundles, certificates: { '/pki/ca.crt': old.pem } }]
  const whole = { '/pki/ca.crt': [next.pem, old.pem] }
  const sightings = [
    ...sightingsIn({ step: reading, host: 'm1', value: { certificates: { '/pki/ca.crt': next.pem }, bundles: whole } }),
    ...['look-at-the-keysets', 'plan', 'read-the-certificates-of-others'].flatMap(step =>
      [states, { certificates: { '/pki/ca.crt': old.pem } }, { mount: old.pem }, undefined, null, 7].flatMap(value =>
        sightingsIn({ step, host: 'm1', value }),
      ),
    ),
  ]
  t.deepEqual(
    changesIn(sightings, isPlaced).map(({ name, before, after }) => [name, before.map(one => one.subject), after]),
    [['/pki/ca.crt', ['CN=next', 'CN=old'], []]],
  )
  // A stage within a longer run reads again, and has a way of its own to put things in place.
  const [later] = sightingsIn({ step: `promote-${verifying}`, host: 'm1', value: states[0] })
  t.deepEqual(later?.placedBy, ['promote-swap-certificates', 'promote-put-the-certificates-in-place'])
})

const shownIn = (page: string) => page.replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ')

test('a report shows them beside each other, and no key; what was only staged is told to be that', async t => {
  const [old, next] = [await ca('old', 2027), await ca('next', 2036)]
  const not = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'
  const at = (step: string, text: string) => ({
    ...{ step, host: 'm1', format: 2 },
    value: { certificates: { '/pki/ca.crt': text, '/not': not, '/neither': 7 } },
  })
  const registered = [at(reading, old.pem), at(verifying, `${next.pem}${next.keyPem}`)]
  const row =
    /\/pki\/ca\.crt m1 CN=old CA , until 2027-06-01 SHA-256 [0-9a-f]{16}… CN=next CA , until 2036-06-01 SHA-256 [0-9a-f]{16}… by ‘Put it in place \(4\)’ (.{12})/
  const ids = [reading, 'a', 'b', verifying, swapping]
  for (const [steps, failing, told] of [
    [7, [], /^(?!\? staged)/],
    [5, ['m1'], /\? staged: wh/],
    [4, [], /\? staged, no/],
  ] as const) {
    const folder = madeRun({ hosts: ['m1', 'm2'], steps, failing, ids, registered })
    const page = await htmlReport({ folder, now: began })
    t.regex(row.exec(shownIn(page))?.[1] ?? '', told)
    t.notRegex(page, /PRIVATE KEY|Nothing was changed/)
  }
  const leaf = async (host: string) => (await issue({ name: `CN=node-${host}`, issuer: next })).pem
  const several = ['m2', 'm1'].map(async host => ({
    ...{ step: reading, host, format: 2 },
    value: { certificates: { '/a.crt': await leaf(host) } },
  }))
  const told = await htmlReport({
    folder: madeRun({ hosts: ['m1', 'm2'], steps: 7, registered: await Promise.all(several) }),
    now: began,
  })
  t.true(told.includes('CN=node-HOST'))
})
