// Packages of the tests' own for dnf: the real dnf and rpm, with configuration, repository, caches, history and database of their own, also where
// the machine's packages are Debian's. The packages have no files, so nothing comes anywhere. Root alone can have such a root.
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { missingOf, type PackageCase, type Packaging, seeing } from './_packages.ts'

export const dnf: Packaging = {
  use: 'dnf',
  cases: join(import.meta.dirname, 'dnf.json'),
  missing: missingOf(
    ['/usr/bin/dnf', '/usr/bin/rpm', '/usr/bin/rpmbuild', '/usr/bin/createrepo_c', '/usr/bin/unshare'],
    'dnf rpm createrepo-c',
  ),
  makeRoots,
  pointTo,
  place: folder => [join(folder, 'etc'), '/etc/dnf'],
  stateOf,
}

/** A package: its name and version, and lines of its description. */
type Rpm = readonly [name: string, version: string, ...lines: string[]]

/** What the repository of the cases has. The group rk-group is rk-one. */
const published: readonly Rpm[] = [
  ['rk-lib', '1.0'],
  ['rk-one', '1.0', 'Requires: rk-lib'],
  ['rk-one', '1.1', 'Requires: rk-lib'],
  ['rk-other', '2.0', 'Provides: rk-virtual'],
  ['rk-grown', '1.0'],
  ['rk-grown', '2.0', 'Requires: rk-lib'],
  ['rk-old', '1.0'],
  ['rk-heir', '1.0', 'Obsoletes: rk-old < 2'],
  ['rk-broken', '1.0', 'Requires: rk-nowhere'],
  // Longer than the table in which dnf says what it would do has room for.
  ['rk-of-a-name-that-is-as-long-as-those-of-some-libraries-are', '1.0', 'Epoch: 1'],
]

/** What has come into it since the lists were read. */
const since: readonly Rpm[] = [['rk-new', '1.0']]

/** Makes packages, and the repository's lists anew. */
export function publish(archive: string, packages: readonly Rpm[]): void {
  const work = mkdtempSync(join(tmpdir(), 'rekey-rpm-'))
  try {
    const specs = packages.map(([name, version, ...lines], index) => {
      const path = join(work, `${index}.spec`)
      const head = `Name: ${name}\nVersion: ${version}\nRelease: 1\nSummary: x\nLicense: none\nBuildArch: noarch\n`
      writeFileSync(path, `${head}${lines.map(line => `${line}\n`).join('')}%description\nx\n%files\n`)
      return path
    })
    // Whose database it is that rpmbuild asks, goes by the home.
    const env = { ...process.env, HOME: work }
    const defined = ['--define', `_topdir ${work}`, '--define', `_rpmdir ${archive}`]
    execFileSync('rpmbuild', ['-bb', '--quiet', ...defined, ...specs], { env, stdio: 'ignore' })
    writeFileSync(join(work, 'comps.xml'), groups)
    execFileSync('createrepo_c', ['-q', '-g', join(work, 'comps.xml'), archive], { env, stdio: 'ignore' })
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

const groups = `<?xml version="1.0"?>
<comps><group><id>rk-group</id><name>Group</name><packagelist><packagereq type="mandatory">rk-one</packagereq></packagelist></group></comps>
`

/** Makes a root that has nothing installed, in a folder. */
export function makeRoot(folder: string, archive: string): void {
  mkdirSync(join(folder, 'etc', 'repositories'), { recursive: true })
  writeFileSync(join(folder, 'etc', 'repositories', 'rk.repo'), `[rk]\nname=rk\nbaseurl=file://${archive}\n`)
  pointTo(folder)
}

/** As hosts of Red Hat's have it, but for signatures, and for where everything is. */
function pointTo(folder: string): Readonly<Record<string, string>> {
  const configuration = `[main]
gpgcheck=False
clean_requirements_on_remove=True
best=True
plugins=False
reposdir=/etc/dnf/repositories
cachedir=${folder}/cache
persistdir=${folder}/lib
logdir=${folder}/log
`
  writeFileSync(join(folder, 'etc', 'dnf.conf'), configuration)
  writeFileSync(join(folder, '.rpmmacros'), `%_dbpath ${folder}/rpmdb\n`)
  return { HOME: folder }
}

/** Runs dnf in a root. */
export function runDnf(folder: string, words: readonly string[]): void {
  const [program = '', ...more] = [...seeing(dnf, folder), 'dnf', '-q', '-y', ...words]
  execFileSync(program, more, { env: { ...process.env, ...pointTo(folder) }, stdio: 'ignore' })
}

/** What several cases have before them is installed once. */
function makeRoots(cases: readonly PackageCase[]): ReturnType<Packaging['makeRoots']> {
  const all = mkdtempSync(join(tmpdir(), 'rekey-dnf-'))
  const archive = join(all, 'archive')
  publish(archive, published)
  const patterns = new Map<string, string>()
  for (const { before, listsRead } of cases) {
    const key = JSON.stringify([before, listsRead === undefined])
    if (patterns.has(key)) continue
    const pattern = join(all, `pattern-${patterns.size}`)
    patterns.set(key, pattern)
    makeRoot(pattern, archive)
    if (listsRead !== undefined) runDnf(pattern, ['makecache'])
    if (before.length > 0) runDnf(pattern, ['install', ...before.map(one => one.replace('=', '-'))])
    if (listsRead === undefined) rmSync(join(pattern, 'cache'), { recursive: true, force: true })
  }
  publish(archive, since)
  const folders = cases.map(({ before, listsRead }, index) => {
    const folder = join(all, String(index))
    cpSync(patterns.get(JSON.stringify([before, listsRead === undefined]))!, folder, {
      recursive: true,
      preserveTimestamps: true,
    })
    pointTo(folder)
    return folder
  })
  return { folders, close: () => rmSync(all, { recursive: true, force: true }) }
}

function stateOf(folder: string): string[] {
  if (!existsSync(join(folder, 'rpmdb'))) return []
  const env = { ...process.env, HOME: folder }
  const format = '%{NAME} %{EVR} installed\\n'
  return execFileSync('rpm', ['-qa', '--qf', format], { env, encoding: 'utf8' }).split('\n').filter(Boolean).sort()
}
