// `packages` with the real apt and dpkg, in a root and with an archive of the test's own: nothing of this machine's packages is touched.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { Connection } from '../../../lib/connection/connection.ts'
import { connectLocal } from '../../../lib/connection/local.ts'
import { quote } from '../../../lib/connection/shell.ts'
import { packages } from '../../../lib/operations/system/packages.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { standInEnvironment } from '../../operations/_cases.ts'
import { localSettings, trial } from '../../operations/_operation.ts'

const hasApt = process.getuid?.() === 0 && existsSync('/usr/bin/apt-get') && existsSync('/usr/bin/dpkg-deb')
const real = hasApt ? test.serial : test.skip

/** An archive, and a root that has nothing installed. */
function stage() {
  const folder = temporaryFolder('packages')
  const [root, archive] = [join(folder, 'root'), join(folder, 'archive')]
  for (const path of ['etc/apt/apt.conf.d', 'etc/apt/preferences.d', 'etc/apt/sources.list.d', 'etc/apt/trusted.gpg.d'])
    mkdirSync(join(root, path), { recursive: true })
  for (const path of [
    'var/lib/dpkg/info',
    'var/lib/dpkg/updates',
    'var/lib/apt/lists/partial',
    'var/cache/apt/archives/partial',
    'var/log/apt',
  ])
    mkdirSync(join(root, path), { recursive: true })
  writeFileSync(join(root, 'var/lib/dpkg/status'), '')
  mkdirSync(archive)
  writeFileSync(join(root, 'etc/apt/sources.list'), `deb [trusted=yes] file:${archive} ./\n`)
  const configuration = `Dir "${root}"; Dir::State::status "${root}/var/lib/dpkg/status"; DPkg::Options { "--root=${root}"; };
APT::Sandbox::User "root"; Dir::Log "${root}/var/log/apt"; APT::Install-Recommends "false";\n`
  writeFileSync(join(folder, 'apt.conf'), configuration)
  const publish = (name: string, version: string, depends = '') => {
    const tree = join(folder, `${name}-${version}`)
    mkdirSync(join(tree, 'DEBIAN'), { recursive: true })
    mkdirSync(join(tree, 'usr/share', name), { recursive: true })
    writeFileSync(join(tree, 'usr/share', name, 'version'), version)
    const control = `Package: ${name}\nVersion: ${version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: x\n${depends}`
    writeFileSync(join(tree, 'DEBIAN/control'), control)
    mkdirSync(join(tree, 'etc'))
    writeFileSync(join(tree, 'etc', `${name}.conf`), '')
    writeFileSync(join(tree, 'DEBIAN/conffiles'), `/etc/${name}.conf\n`)
    execFileSync('dpkg-deb', ['-b', '-Znone', tree, archive], { stdio: 'ignore' })
    const index = readdirSync(archive)
      .filter(file => file.endsWith('.deb'))
      .map(file => {
        const bytes = readFileSync(join(archive, file))
        const [own, number] = file.split('_')
        const needs = ['rk-one', 'rk-later'].includes(own!) ? 'Depends: rk-lib\n' : ''
        return `Package: ${own}\nVersion: ${number}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: x\n${needs}Filename: ./${file}\nSize: ${bytes.length}\nSHA256: ${createHash('sha256').update(bytes).digest('hex')}\n`
      })
    writeFileSync(join(archive, 'Packages'), index.join('\n'))
  }
  Object.assign(process.env, { APT_CONFIG: join(folder, 'apt.conf'), DPKG_ADMINDIR: join(root, 'var/lib/dpkg') })
  const version = (name: string) => {
    const file = join(root, 'usr/share', name, 'version')
    return existsSync(file) ? readFileSync(file, 'utf8') : undefined
  }
  return { root, publish, version, installed: () => [version('rk-one'), version('rk-lib')] }
}

real('apt: installed, left alone, made the latest, given a version, removed; and each of it undone', async t => {
  const { root, publish, installed, version } = stage()
  publish('rk-lib', '1.0')
  publish('rk-one', '1.0', 'Depends: rk-lib\n')
  const on = trial()
  const install = packages({ name: 'rk-one', updateCache: true })
  t.deepEqual(await on.plan(install), ['read the lists of packages anew', 'install rk-one'])
  t.true((await on.run(install)).changed)
  t.deepEqual(installed(), ['1.0', '1.0'])
  t.deepEqual([await on.plan(install), (await on.run(packages({ name: ['rk-one', 'rk-lib'] }))).changed], [[], false])
  publish('rk-one', '1.1', 'Depends: rk-lib\n')
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
  publish('rk-later', '1.0', 'Depends: rk-lib\n')
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
