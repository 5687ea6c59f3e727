// `packages` with the real apt and dpkg, in a root and with an archive of the test's own: nothing of this machine's packages is touched.
import { execFileSync } from 'node:child_process'
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { Connection } from '../../../lib/connection/connection.ts'
import { connectLocal } from '../../../lib/connection/local.ts'
import { quote } from '../../../lib/connection/shell.ts'
import { packages } from '../../../lib/operations/system/packages.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { standInEnvironment } from '../../operations/_cases.ts'
import { localSettings, trial } from '../../operations/_operation.ts'
import {
  canHavePackages,
  makeRoot,
  makeRoots,
  type PackageCase,
  pointTo,
  seeing,
  stateOf,
} from '../../operations/_packages.ts'

const real = canHavePackages ? test.serial : test.skip
const casesFile = join(import.meta.dirname, '..', '..', 'operations', 'packages.json')

real('apt: what comes of each case is what ansible-core’s module made of it, and is undone', async t => {
  const cases = JSON.parse(readFileSync(casesFile, 'utf8')) as PackageCase[]
  t.true(cases.length >= 10)
  const { folders, close } = makeRoots(cases)
  t.teardown(close)
  const here = connectLocal('h1', localSettings)
  const runCase = async (folder: string, { about, options, ansible, rekey }: PackageCase) => {
    const environment = Object.entries(pointTo(folder)).map(([name, value]) => `${name}=${quote(value)}`)
    const enter = `exec env ${environment.join(' ')} ${seeing(folder).map(quote).join(' ')}`
    const on = trial({
      ...here,
      lost: undefined,
      spawn: (line, more) => here.spawn(`${enter} sh -c ${quote(line)}`, more),
    })
    const untouched = stateOf(folder)
    const expected = { failed: false, ...ansible!, ...rekey }
    const asked = packages(options as never)
    if (expected.failed) {
      await t.throwsAsync(on.run(asked), undefined, about)
      t.deepEqual(stateOf(folder), untouched, about)
      return
    }
    const plan = await on.plan(asked)
    t.is(plan.length > 0, expected.check as boolean, `${about}: its plan, ${plan}`)
    t.deepEqual(stateOf(folder), untouched, `${about}: its plan changes something`)
    t.is((await on.run(asked)).changed, expected.changed, about)
    t.deepEqual(stateOf(folder), expected.after, about)
    t.is((await on.run(packages(options as never))).changed, expected.again, `${about}, again`)
    await on.rollback(asked)
    const installed = (state: readonly string[]) => state.filter(line => line.endsWith(' installed'))
    t.deepEqual(installed(stateOf(folder)), installed(untouched), `${about}: undone`)
  }
  // Most of it is waiting for programs.
  const next = cases.entries()
  const worker = async () => {
    for (const [index, one] of next) await runCase(folders[index]!, one)
  }
  await Promise.all([worker(), worker(), worker()])
})

real('apt: installed, left alone, made the latest, given a version, removed; and each of it undone', async t => {
  const { root, environment, publish, version } = makeRoot(temporaryFolder('packages'))
  Object.assign(process.env, environment)
  const installed = () => [version('rk-one'), version('rk-lib')]
  publish('rk-lib', '1.0')
  publish('rk-one', '1.0')
  const on = trial()
  const install = packages({ name: 'rk-one', updateCache: true })
  t.deepEqual(await on.plan(install), ['read the lists of packages anew', 'install rk-one'])
  t.true((await on.run(install)).changed)
  t.deepEqual(installed(), ['1.0', '1.0'])
  t.deepEqual([await on.plan(install), (await on.run(packages({ name: ['rk-one', 'rk-lib'] }))).changed], [[], false])
  publish('rk-one', '1.1')
  const latest = packages({ name: 'rk-one', state: 'latest', updateCache: true })
  t.deepEqual((await on.run(latest)).value, [{ name: 'rk-one', from: '1.0', to: '1.1' }])
  t.false((await on.run(packages({ name: 'rk-one', state: 'latest' }))).changed)
  t.deepEqual(installed(), ['1.1', '1.0'])
  const old = packages({ name: 'rk-one=1.0*' })
  t.deepEqual(await on.plan(old), ['change rk-one from 1.1 to 1.0'])
  await on.run(old)
  t.deepEqual(installed(), ['1.0', '1.0'])
  t.false((await on.run(packages({ name: 'rk-one=1.0*' }))).changed)
  await on.rollback(old)
  t.deepEqual(installed(), ['1.1', '1.0'])
  await on.rollback(latest)
  t.deepEqual(installed(), ['1.0', '1.0'])
  const gone = packages({ name: 'rk-lib', state: 'absent' })
  t.deepEqual((await on.plan(gone)).sort(), ['remove rk-lib 1.0', 'remove rk-one 1.0'])
  await on.run(gone)
  t.deepEqual(installed(), [undefined, undefined])
  t.deepEqual(await on.plan(packages({ name: 'rk-lib', state: 'absent' })), [])
  await on.rollback(gone)
  t.deepEqual(installed(), ['1.0', '1.0'])
  publish('rk-later', '1.0')
  const later = packages({ name: 'rk-later', updateCache: true })
  await on.run(later)
  await t.throwsAsync(on.rollback(install), { message: /more would go that others have installed since: rk-later$/ })
  t.deepEqual([...installed(), version('rk-later')], ['1.0', '1.0', '1.0'])
  await on.rollback(later)
  writeFileSync(join(root, 'etc/rk-one.conf'), 'somebody’s')
  await on.rollback(install)
  t.deepEqual(installed(), [undefined, undefined])
  t.is(readFileSync(join(root, 'etc/rk-one.conf'), 'utf8'), 'somebody’s', 'configuration stays')
  await t.throwsAsync(on.run(packages({ name: 'rk-nowhere' })), { message: /Unable to locate package rk-nowhere/ })
  await t.throwsAsync(on.run(packages({ name: 'rk-nowhere', updateCache: true })), { message: /Unable to locate/ })
  const lists = packages({ updateCache: true })
  t.deepEqual(await on.plan(lists), ['read the lists of packages anew'])
  t.true((await on.run(lists)).changed)
})

/** The same for dnf: by the real one in a root (`REKEY_DNF_ROOT`, with the archive of `docs/testing.md`), else by stand-ins. */
const dnfRoot = process.env['REKEY_DNF_ROOT']

function dnfStage() {
  const here = connectLocal('h1', localSettings)
  if (dnfRoot !== undefined) {
    const there: Connection = {
      ...here,
      lost: undefined,
      spawn: (line, options) => here.spawn(`exec chroot ${quote(dnfRoot)} sh -c ${quote(line)}`, options),
    }
    const inRoot = (line: string) => execFileSync('chroot', [dnfRoot, 'sh', '-c', line], { encoding: 'utf8' })
    const version = (name: string) => inRoot(`cat /usr/share/${name}/version 2>/dev/null; :`)
    return {
      on: trial(there),
      installed: () => [version('rk-one'), version('rk-lib')],
      later: () => inRoot('sh /root/later.sh'),
    }
  }
  const folder = temporaryFolder('dnf')
  const place = (name: string) => join(folder, name)
  writeFileSync(place('installed'), '')
  writeFileSync(place('archive'), 'rk-lib 1.0-1\nrk-one 1.0-1 rk-lib\n')
  Object.assign(process.env, standInEnvironment({ standIns: true, cases: [] }, folder))
  const version = (name: string) =>
    new RegExp(`^${name} (.*)-1$`, 'm').exec(readFileSync(place('installed'), 'utf8'))?.[1] ?? ''
  return {
    on: trial(here),
    installed: () => [version('rk-one'), version('rk-lib')],
    later: () => appendFileSync(place('archive'), 'rk-one 1.1-1 rk-lib\n'),
    /** Something that needs rk-one comes, or goes. */
    needed: (is: boolean) => {
      if (is) appendFileSync(place('archive'), 'rk-later 1.0-1 rk-one\n')
      const others = readFileSync(place('installed'), 'utf8').replace(/^rk-later .*\n/m, '')
      writeFileSync(place('installed'), is ? `${others}rk-later 1.0-1\n` : others)
    },
  }
}

test.serial('dnf: installed, left alone, made the latest, given a version, removed; and each of it undone', async t => {
  const { on, installed, later, needed } = dnfStage()
  const use = 'dnf' as const
  const install = packages({ name: 'rk-one', use, updateCache: true })
  t.deepEqual(await on.plan(install), ['read the lists of packages anew', 'install rk-one'])
  t.true((await on.run(install)).changed)
  t.deepEqual(installed(), ['1.0', '1.0'])
  t.deepEqual(
    [await on.plan(install), (await on.run(packages({ use, name: ['rk-one', 'rk-lib'] }))).changed],
    [[], false],
  )
  t.false((await on.run(packages({ use, name: 'rk-one', state: 'latest' }))).changed)
  later()
  const latest = packages({ use, name: 'rk-one', state: 'latest', updateCache: true })
  t.deepEqual((await on.run(latest)).value, [{ name: 'rk-one', from: '1.0-1', to: '' }])
  t.deepEqual(installed(), ['1.1', '1.0'])
  t.false((await on.run(packages({ use, name: 'rk-one', state: 'latest' }))).changed)
  const old = packages({ use, name: 'rk-one-1.0' })
  t.deepEqual(await on.plan(old), ['change rk-one from 1.1-1 to another one'])
  await on.run(old)
  t.deepEqual(installed(), ['1.0', '1.0'])
  t.false((await on.run(packages({ use, name: 'rk-one-1.0' }))).changed)
  await on.rollback(old)
  t.deepEqual(installed(), ['1.1', '1.0'])
  await on.rollback(latest)
  t.deepEqual(installed(), ['1.0', '1.0'])
  const gone = packages({ use, name: 'rk-one', state: 'absent' })
  t.deepEqual(await on.plan(gone), ['remove rk-one 1.0-1'])
  await on.run(gone)
  t.deepEqual(installed(), ['', ''])
  t.deepEqual(await on.plan(packages({ use, name: 'rk-one', state: 'absent' })), [])
  await on.rollback(gone)
  t.deepEqual(installed(), ['1.0', '1.0'])
  if (needed) {
    needed(true)
    await t.throwsAsync(on.rollback(install), { message: /more would go that others have installed since: rk-later-1/ })
    t.deepEqual(installed(), ['1.0', '1.0'])
    needed(false)
  }
  await on.rollback(install)
  t.deepEqual(installed(), ['', ''])
  const forged = [{ manager: 'apt', changes: [{ name: 'x', from: '1; touch /tmp/x' }] }]
  for (const kept of [forged, [{ manager: 'sh', changes: [] }], [{ manager: 'apt', changes: [{ name: '$(x)' }] }], {}])
    await t.throwsAsync(on.rollbackBy(install, 'packages', kept), { message: /is not what it notes/ })
  await t.throwsAsync(on.run(packages({ use, name: 'rk-nowhere' })), { message: /rk-nowhere/ })
})
