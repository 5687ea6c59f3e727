// `packages` with the real apt and dnf, in roots and with archives of the test's own: nothing of this machine's packages is touched.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { Connection } from '../../../lib/connection/connection.ts'
import { connectLocal } from '../../../lib/connection/local.ts'
import { quote } from '../../../lib/connection/shell.ts'
import { packages } from '../../../lib/operations/system/packages.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { dnf, makeRoot, publish } from '../../operations/_dnf.ts'
import { localSettings, trial } from '../../operations/_operation.ts'
import { apt, makeRoot as makeAptRoot, type PackageCase, type Packaging, seeing } from '../../operations/_packages.ts'

/** Tests by a real program, where it is to be had. */
const where = (missing: string | undefined) => (title: string, run: (t: ExecutionContext) => Promise<void>) =>
  missing === undefined ? test.serial(title, run) : test.skip(`${title} (${missing})`, run)

const byApt = where(apt.missing)
const byDnf = where(dnf.missing)

for (const [packaging, byIt] of [
  [apt, byApt],
  [dnf, byDnf],
] as const) {
  const { use, cases: file, makeRoots, stateOf } = packaging
  byIt(`${use}: what comes of each case is what ansible-core’s module made of it, and is undone`, async t => {
    const cases = JSON.parse(readFileSync(file, 'utf8')) as PackageCase[]
    t.true(cases.length >= 10)
    const { folders, close } = makeRoots(cases)
    t.teardown(close)
    const runCase = async (folder: string, { about, options, ansible, rekey }: PackageCase) => {
      const on = trial(inRoot(packaging, folder))
      const untouched = stateOf(folder)
      const expected = { failed: false, ...ansible!, ...rekey }
      const asked = packages({ ...options, use } as never)
      if (expected.failed) {
        const error = await t.throwsAsync(on.run(asked), undefined, about)
        // It names what Ansible names.
        for (const name of expected.error?.match(/\brk-[\w.-]*\w/g) ?? []) t.true(error?.message.includes(name), about)
        if (expected.check === 'failed') await t.throwsAsync(on.plan(asked), undefined, `${about}: its plan`)
        t.deepEqual(stateOf(folder), untouched, about)
        return
      }
      const plan = await on.plan(asked)
      t.is(plan.length > 0, expected.check as boolean, `${about}: its plan, ${plan}`)
      t.deepEqual(stateOf(folder), untouched, `${about}: its plan changes something`)
      t.is((await on.run(asked)).changed, expected.changed, about)
      t.deepEqual(stateOf(folder), expected.after, about)
      t.is((await on.run(packages({ ...options, use } as never))).changed, expected.again, `${about}, again`)
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
}

byApt('apt: installed, left alone, made the latest, given a version, removed; and each of it undone', async t => {
  const { root, environment, publish, version } = makeAptRoot(temporaryFolder('packages'))
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

byDnf('dnf: installed, made the latest, given a version, removed, each by what its plan says, and undone', async t => {
  const folder = temporaryFolder('dnf')
  const archive = join(folder, 'archive')
  publish(archive, [
    ['rk-lib', '1.0'],
    ['rk-one', '1.0', 'Requires: rk-lib'],
  ])
  makeRoot(join(folder, 'h1'), archive)
  const on = trial(inRoot(dnf, join(folder, 'h1')))
  const installed = () => dnf.stateOf(join(folder, 'h1')).map(line => line.replace(/-1 installed$/, ''))
  const use = 'dnf' as const
  const install = packages({ name: 'rk-one', use, updateCache: true })
  const both = ['install rk-one 1.0-1.noarch', 'install rk-lib 1.0-1.noarch']
  t.deepEqual(await on.plan(install), ['read the lists of packages anew', ...both])
  t.true((await on.run(install)).changed)
  t.deepEqual(installed(), ['rk-lib 1.0', 'rk-one 1.0'])
  publish(archive, [['rk-one', '1.1', 'Requires: rk-lib']])
  const latest = packages({ use, name: 'rk-one', state: 'latest', updateCache: true })
  t.deepEqual((await on.run(latest)).value, [{ name: 'rk-one', from: '1.0-1.noarch', to: '1.1-1.noarch' }])
  t.deepEqual(installed(), ['rk-lib 1.0', 'rk-one 1.1'])
  const old = packages({ use, name: 'rk-one-1.0' })
  t.deepEqual(await on.plan(old), ['change rk-one from 1.1-1.noarch to 1.0-1.noarch'])
  await on.run(old)
  t.deepEqual(installed(), ['rk-lib 1.0', 'rk-one 1.0'])
  await on.rollback(old)
  t.deepEqual(installed(), ['rk-lib 1.0', 'rk-one 1.1'])
  await on.rollback(latest)
  t.deepEqual(installed(), ['rk-lib 1.0', 'rk-one 1.0'])
  const gone = packages({ use, name: 'rk-lib', state: 'absent' })
  t.deepEqual(await on.plan(gone), ['remove rk-lib 1.0-1.noarch', 'remove rk-one 1.0-1.noarch'])
  await on.run(gone)
  t.deepEqual(installed(), [])
  await on.rollback(gone)
  t.deepEqual(installed(), ['rk-lib 1.0', 'rk-one 1.0'])
  publish(archive, [['rk-later', '1.0', 'Requires: rk-one']])
  const later = packages({ use, name: 'rk-later', updateCache: true })
  await on.run(later)
  await t.throwsAsync(on.rollback(install), { message: /more would go that others have installed since: rk-later-1/ })
  t.deepEqual(installed(), ['rk-later 1.0', 'rk-lib 1.0', 'rk-one 1.0'])
  await on.rollback(later)
  await on.rollback(install)
  t.deepEqual(installed(), [])
  await on.rollback(install)
})

test('packages are not put back by a note that is not one', async t => {
  const on = trial()
  const one = packages({ name: 'rk-one' })
  const forged = [{ manager: 'apt', changes: [{ name: 'x', from: '1; touch /tmp/x' }] }]
  for (const kept of [
    forged,
    [{ manager: 'sh', changes: [] }],
    [{ manager: 'apt', changes: [{ name: '$(x)' }] }],
    [{ manager: 'dnf', changes: [{ name: 'x', to: '$(x)' }] }],
    {},
  ])
    await t.throwsAsync(on.rollbackBy(one, 'packages', kept), { message: /is not what it notes/ })
})

/** A host whose packages are those of a root. */
function inRoot(packaging: Packaging, folder: string): Connection {
  const here = connectLocal('h1', localSettings)
  const environment = Object.entries(packaging.pointTo(folder)).map(([name, value]) => `${name}=${quote(value)}`)
  const enter = `exec env ${environment.join(' ')} ${seeing(packaging, folder).map(quote).join(' ')}`
  return { ...here, lost: undefined, spawn: (line, more) => here.spawn(`${enter} sh -c ${quote(line)}`, more) }
}
