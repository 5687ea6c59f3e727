// `rekey validate` from the command line, over this machine, which is none of a cluster: what is told, and its exit codes.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { issue } from '../../pki/certificates/_certificates.ts'
import { workbench } from '../_rekey.ts'

interface Told {
  readonly well: boolean
  readonly findings: { what: string; where: string; state: string; detail: string }[]
  readonly notices: string[]
}

const inDays = (days: number) => new Date(Date.now() + days * 86_400_000)

/** This machine with a folder of a CA and a leaf of it that ends after some days. */
async function scene(days: number) {
  const bench = workbench('local', ['m1'], true)
  const folder = join(bench.folder, 'pki')
  mkdirSync(folder)
  const ca = await issue({ name: 'CN=kubernetes', ca: true, notAfter: inDays(1000) })
  const leaf = await issue({ name: 'CN=leaf', issuer: ca, notBefore: inDays(-10), notAfter: inDays(days) })
  writeFileSync(join(folder, 'ca.pem'), ca.pem)
  writeFileSync(join(folder, 'leaf.pem'), leaf.pem)
  const validate = (...more: string[]) =>
    bench.rekey(['validate', '-i', bench.inventory, '--no-api', '--folder', folder, ...more])
  const json = async (...more: string[]) => {
    const { code, stdout, stderr } = await validate('--json', ...more)
    return { code, stderr, told: JSON.parse(stdout) as Told }
  }
  return { bench, folder, validate, json }
}

test.serial(
  'a certificate that has ended is not well: exit 2, first of all, and told once more with --wait',
  async t => {
    const { folder, json, validate } = await scene(-1)
    const { code, told } = await json()
    t.is(code, 2)
    t.false(told.well)
    const [first] = told.findings
    t.deepEqual([first?.what, first?.where, first?.state], ['certificates', `m1:${folder}/leaf.pem`, 'not well'])
    const waited = await validate('--wait', '1s')
    t.is(waited.code, 2)
    t.regex(waited.stderr, /Not yet: \d+ not well, \w+ \(/)
    t.regex(waited.stdout, /✖ {2}certificates .*ended on[\s\S]*\d+ of \d+ are not well/)
  },
)

test.serial('what has not ended is well, and says what ends first', async t => {
  const { json, validate } = await scene(10)
  const { code, told, stderr } = await json()
  // What of a lab runs on this machine is none of this test's.
  const others = told.findings.filter(({ what, state }) => what !== 'certificates' && state === 'not well')
  t.is(code, others.length === 0 ? 0 : 2, stderr)
  t.is(told.well, others.length === 0)
  t.is(told.findings.find(({ what }) => what === 'certificates')?.state, 'well')
  t.regex(told.findings.find(({ what }) => what === 'certificates')?.detail ?? '', /the first ends on \d{4}-/)
  t.regex((await validate()).stdout, /✔ {2}certificates [\s\S]*(the cluster is well|are not well)/)
})

test.serial('a host that can’t be reached is not well, and no time at all is an error', async t => {
  const { bench, json, validate } = await scene(10)
  const bad = await validate('--wait', 'soon')
  t.is(bad.code, 1)
  t.regex(bad.stderr, /It must be a time like/)
  bench.set({ ansible_connection: 'ssh', ansible_port: 1 })
  const { code, told } = await json()
  t.is(code, 4)
  t.false(told.well)
  t.regex(told.notices.join('\n'), /m1 is left out/)
})
