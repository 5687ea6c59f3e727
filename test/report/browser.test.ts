// The report as Chromium shows it: wide and narrow, by day and by night, on paper, of 500 hosts, and of hosts that would like to be markup.
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { fleetPage } from '../../lib/fleet/told/page.ts'
import { htmlReport } from '../../lib/output/report/index.ts'
import { temporaryFolder } from '../_temporary.ts'
import { noon, sixty } from '../fleet/told/_status.ts'
import { issue } from '../pki/certificates/_certificates.ts'
import { type Browser, chromiumPath, startBrowser } from './_chromium.ts'
import { type Looks, looks, readPicture } from './_looks.ts'
import { began, madeRun } from './_made.ts'

const path = chromiumPath()
if (path === undefined) test.skip('the report was not looked at in a browser: there is no chromium', () => {})
const shown = path === undefined ? test.skip : test.serial
let browser: Browser

test.before(async () => {
  if (path !== undefined) browser = await startBrowser(path)
})
test.after.always(() => browser?.close())

const folder = temporaryFolder('reports')
const written = async (name: string, run: string, against?: string) => {
  const file = join(folder, `${name}.html`)
  writeFileSync(file, await htmlReport({ folder: run, against, now: began }))
  return file
}

const hostsOf = (count: number, name: string) =>
  Array.from({ length: count }, (_, index) => `${name}-${String(index + 1).padStart(3, '0')}.example.com`)
const idsOfStaging = ['read-the-certificates', 'back-up', 'issue', 'verify-what-is-staged', 'swap-certificates']
const few = async () =>
  madeRun({
    registered: await certificates(['m1', 'm2', 'm3', 'n1', 'n2']),
    ...{
      hosts: ['m1', 'm2', 'm3', 'n1', 'n2'],
      steps: 14,
      ids: idsOfStaging,
      failing: ['m3'],
      gaps: [900, 2_500],
      slowness: 2,
    },
    printed: ['starting', `a line that does not end: ${'x'.repeat(400)}`, 'fatal: address already in use'],
  })
const many = () =>
  madeRun({
    hosts: hostsOf(500, 'node'),
    steps: 20,
    failing: ['node-017.example.com', 'node-400.example.com'],
    gaps: [1_200, 3_400],
  })

/** What steps returned of hosts: certificates before and after, and what a gate found. */
async function certificates(hosts: readonly string[]): Promise<object[]> {
  const [old, next] = await Promise.all(
    ['CN=kubernetes', 'CN=kubernetes-ca-20260102'].map(name => issue({ name, ca: true })),
  )
  const of = async (step: string, host: string, ca: typeof old) => {
    const name = `CN=system:node:${host}, O=system:nodes`
    const { pem } = await issue({ name, issuer: ca })
    const certificates = {
      '/etc/kubernetes/pki/ca.crt': ca?.pem,
      '/var/lib/kubelet/pki/kubelet-client-current.pem': pem,
    }
    return { step, host, format: 2, value: { certificates } }
  }
  const both = hosts.flatMap(host => [of(idsOfStaging[0]!, host, old), of(idsOfStaging[3]!, host, next)])
  return (await Promise.all(both)).sort((a, b) => (a.step < b.step ? -1 : 1))
}

/** What must be so of each page, however it is looked at. */
const nothingWrong = { wider: 0, beyond: [], over: [], pale: [], active: [], loaded: [] }
const wrongIn = ({ wider, beyond, over, pale, active, loaded }: Looks) => ({
  wider,
  beyond,
  over,
  pale,
  active,
  loaded,
})
const both = {
  light: { background: '#fbfaf7', bad: '#b0241c', changed: '#1c5cab' },
  dark: { background: '#111418', bad: '#ff8f85', changed: '#7ab2f7' },
}

shown(
  'it fits a desk and a telephone, by day and by night, with nothing over anything else and all of it legible',
  async t => {
    for (const [name, file] of [
      ['few hosts', await written('few', await few())],
      [
        'beside its rehearsal',
        await written('beside', await few(), madeRun({ hosts: ['sm1', 'sn1'], steps: 14, inventory: 'staging' })),
      ],
    ] as const)
      for (const width of [1_280, 400])
        for (const dark of [false, true]) {
          const page = await browser.open(file, { width, dark })
          const found = await page.evaluate<Looks>(looks)
          t.deepEqual(wrongIn(found), nothingWrong, `${name}, ${width}, ${dark ? 'dark' : 'light'}`)
          t.true(found.texts > 100)
          // Folded things fit as well.
          await page.evaluate('document.querySelectorAll("details").forEach(one => (one.open = true))')
          t.deepEqual(wrongIn(await page.evaluate<Looks>(looks)), nothingWrong, `${name} unfolded, ${width}`)
        }
  },
)

shown(
  'a picture of it is what it should be: ground, what changed, what failed, in the colours of the day and of the night',
  async t => {
    const file = await written('pictures', await few())
    for (const [scheme, { background, bad, changed }] of Object.entries(both))
      for (const width of [1_280, 400]) {
        const page = await browser.open(file, { width, dark: scheme === 'dark' })
        const picture = readPicture(await page.picture())
        const share = picture.count(background) / (picture.width * picture.height)
        t.is(picture.width, width)
        t.true(share > 0.5 && share < 0.98, `${scheme} ${width}: ${share}`)
        for (const colour of [bad, changed])
          t.true(picture.count(colour) > 500, `${scheme} ${width} ${colour}: ${picture.count(colour)}`)
      }
  },
)

shown(
  'the page of a fleet of sixty, of which ten have failed, fits as well, whatever its clusters are called',
  async t => {
    const file = join(folder, 'fleet.html')
    const evil = '"><img src=x onerror="document.title=1"><script>document.title=2</script>'
    const { clusters } = sixty()
    const status = sixty({
      fleet: { state: 'halted', why: `${evil} did not come through` },
      clusters: clusters.map((one, at) => (at % 10 === 5 ? { ...one, error: evil, name: `${one.name}${evil}` } : one)),
      untold: [{ title: 'slack of secrets/slack', why: 'hooks.example.com answers 503', left: 4 }],
    })
    writeFileSync(file, fleetPage(status))
    for (const width of [1_280, 400])
      for (const dark of [false, true]) {
        const page = await browser.open(file, { width, dark })
        const found = await page.evaluate<Looks>(looks)
        t.deepEqual(wrongIn(found), nothingWrong, `${width}, ${dark ? 'dark' : 'light'}`)
        t.true(found.texts > 300)
        t.is(await page.evaluate('document.title'), 'production · fleet')
        const { background, bad } = both[dark ? 'dark' : 'light']
        const picture = readPicture(await page.picture())
        t.true(picture.count(bad) > 500 && picture.count(background) > 0.5 * picture.width * picture.height)
      }
    const running = sixty({ closed: [{ name: 'cluster-40', opens: noon + 3_600_000 }] })
    t.regex(fleetPage(running), /1 cluster waits for a window: cluster-40 may begin at 2026-11-30 13:00:00 UTC\./)
  },
)

shown('of 500 hosts and 20 steps it is under 2 MB, opens within a second, and fits', async t => {
  const file = await written('many', many())
  const { size } = statSync(file)
  t.true(size < 2_000_000, String(size))
  // A machine that is busy with something else says nothing of the page: the best of three counts.
  const opened: number[] = []
  for (const width of [1_280, 400, 1_280]) {
    const page = await browser.open(file, { width, dark: width === 400 })
    const found = await page.evaluate<Looks>(looks)
    t.deepEqual(wrongIn(found), nothingWrong, String(width))
    opened.push(found.opened)
  }
  t.true(Math.min(...opened) <= 1_000, opened.join(', '))
  const page = await browser.open(file, { width: 1_280 })
  t.true(readPicture(await page.picture()).count(both.light.changed) > 2_000)
})

shown('on paper everything that was folded is open, and the contents are left out', async t => {
  const page = await browser.open(await written('paper', await few(), madeRun({ hosts: ['s1'], steps: 14 })), {
    width: 794,
    print: true,
  })
  const found = await page.evaluate<Record<string, unknown>>(`({
    nav: getComputedStyle(document.querySelector('nav')).display,
    folded: [...document.querySelectorAll('details table')].filter(one => one.getBoundingClientRect().height < 10).length,
    ground: getComputedStyle(document.documentElement).backgroundColor,
  })`)
  t.deepEqual(found, { nav: 'none', folded: 0, ground: 'rgb(255, 255, 255)' })
})

shown('a host, a title and output that would like to be markup stay text, and nothing of it runs', async t => {
  const evil = '"><img src=x onerror="document.title=1"><script>document.title=2</script></style><svg onload=alert(1)>'
  const file = await written(
    'evil',
    madeRun({
      hosts: [evil, 'h2'],
      steps: 7,
      failing: [evil],
      printed: [evil, '</pre>\u001b[2J\u202egnp'],
      title: step => `${evil} ${step}`,
    }),
  )
  const page = await browser.open(file, { width: 400 })
  t.deepEqual(wrongIn(await page.evaluate<Looks>(looks)), nothingWrong)
  t.regex(await page.evaluate('document.title'), /^replace · /)
  t.true(await page.evaluate<boolean>(`document.body.textContent.includes('<script>document.title=2</script>')`))
  // Were there one all the same, it would not run.
  await page.evaluate(
    `(() => { const one = document.createElement('script'); one.textContent = 'document.title = 3'; document.body.append(one) })()`,
  )
  t.regex(await page.evaluate('document.title'), /^replace · /)
})
