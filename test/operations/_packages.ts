// Packages of the tests' own: the real apt and dpkg, in a root and with an archive of their own. Root alone can have one. `_dnf.ts` has the
// same of dnf and rpm.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A case: what there is, what is asked, and what ansible-core made of it (npm run test:update-ansible writes that). */
export interface PackageCase {
  readonly about: string
  /** What is installed before it, as `name=version`. */
  readonly before: readonly string[]
  /** Files of the root that somebody has changed since. */
  readonly files?: Readonly<Record<string, string>>
  /** How many seconds ago the lists of packages were read; never, where nothing is said. */
  readonly listsRead?: number
  readonly options: Readonly<Record<string, unknown>>
  /** Where Ansible's are others; null takes one away. */
  readonly ansibleOptions?: Readonly<Record<string, unknown>>
  readonly ansible?: PackageAnswer
  /** Where rekey does something else, why, and what. */
  readonly rekey?: Partial<PackageAnswer> & { readonly why: string }
}

export interface PackageAnswer {
  readonly failed?: boolean
  /** What it says of that. */
  readonly error?: string
  readonly check: boolean | 'failed'
  readonly changed: boolean
  readonly again: boolean
  /** What `stateOf` gives. */
  readonly after: readonly string[]
}

/** A program for packages, the real one, in roots of the tests' own. */
export interface Packaging {
  readonly use: 'apt' | 'dnf'
  /** Where its cases are. */
  readonly cases: string
  /** Why there are no such roots here, or `undefined` where there can be. */
  readonly missing: string | undefined
  /** Makes the roots of all cases: a folder each, by their numbers. */
  makeRoots(cases: readonly PackageCase[]): { readonly folders: readonly string[]; close(): void }
  /** What has the programs know the root in a folder. */
  pointTo(folder: string): Readonly<Record<string, string>>
  /** Which folder of a root they find at which of the machine's own. */
  place(folder: string): readonly [there: string, here: string]
  /** What is installed in a root. */
  stateOf(folder: string): string[]
}

export const apt: Packaging = {
  use: 'apt',
  cases: join(import.meta.dirname, 'packages.json'),
  missing: missingOf(['/usr/bin/apt-get', '/usr/bin/dpkg-deb', '/usr/bin/unshare'], 'apt'),
  makeRoots,
  pointTo,
  // What asks for the age of the lists does so by their path.
  place: folder => [join(folder, 'root/var/lib/apt'), '/var/lib/apt'],
  stateOf,
}

/** Why a program can't be had in a root, or `undefined`. */
export function missingOf(programs: readonly string[], packages: string): string | undefined {
  const missing = programs.filter(path => !existsSync(path))
  if (missing.length > 0) return `there is no ${missing.join(', ')} (Debian: apt-get install ${packages})`
  return process.getuid?.() === 0 ? undefined : 'only root can have a root of its own'
}

/** What comes before a command so that it finds a folder's root where the machine's own is. */
export function seeing({ place }: Packaging, folder: string): readonly string[] {
  const [there, here] = place(folder)
  return ['unshare', '-m', 'sh', '-c', `mount --bind ${there} ${here} && exec "$@"`, 'sh']
}

/** What the archive of the cases has: rk-one needs rk-lib, and has a file of configuration. */
export const published: readonly (readonly [name: string, version: string])[] = [
  ['rk-lib', '1.0'],
  ['rk-one', '1.0'],
  ['rk-one', '1.1'],
  ['rk-other', '2.0'],
]

/** What a package needs. */
const needs: Readonly<Record<string, string>> = { 'rk-one': 'rk-lib', 'rk-later': 'rk-lib' }

/** A root, and an archive. */
export interface PackageRoot {
  readonly root: string
  /** What apt and dpkg go by. */
  readonly environment: Readonly<Record<string, string>>
  /** Adds a package to the archive. */
  publish(name: string, version: string): void
  /** Which version of a package is there. */
  version(name: string): string | undefined
}

/** Makes a root that has nothing installed, in a folder; its archive is there, too, where it is not elsewhere. */
export function makeRoot(folder: string, archive: string = join(folder, 'archive')): PackageRoot {
  const root = join(folder, 'root')
  for (const path of [
    'etc/apt/apt.conf.d',
    'etc/apt/preferences.d',
    'etc/apt/sources.list.d',
    'etc/apt/trusted.gpg.d',
    'var/lib/dpkg/info',
    'var/lib/dpkg/updates',
    'var/lib/apt/lists/partial',
    'var/cache/apt/archives/partial',
    'var/log/apt',
  ])
    mkdirSync(join(root, path), { recursive: true })
  writeFileSync(join(root, 'var/lib/dpkg/status'), '')
  writeFileSync(join(root, 'etc/apt/sources.list'), `deb [trusted=yes] file:${archive} ./\n`)
  mkdirSync(archive, { recursive: true })
  return {
    root,
    environment: pointTo(folder),
    publish: (name, version) => {
      publish(archive, name, version)
      writeIndex(archive)
    },
    version: name => {
      const file = join(root, 'usr/share', name, 'version')
      return existsSync(file) ? readFileSync(file, 'utf8') : undefined
    },
  }
}

/** Has apt and dpkg know the root in a folder. */
function pointTo(folder: string): Readonly<Record<string, string>> {
  const root = join(folder, 'root')
  const configuration = `Dir "${root}"; Dir::State::status "${root}/var/lib/dpkg/status"; DPkg::Options { "--root=${root}"; "--force-unsafe-io"; };
APT::Sandbox::User "root"; Dir::Log "${root}/var/log/apt"; APT::Install-Recommends "false";\n`
  writeFileSync(join(folder, 'apt.conf'), configuration)
  return { APT_CONFIG: join(folder, 'apt.conf'), DPKG_ADMINDIR: join(root, 'var/lib/dpkg') }
}

const control = (name: string, version: string) =>
  `Package: ${name}\nVersion: ${version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: x\n${name in needs ? `Depends: ${needs[name]}\n` : ''}`

function publish(archive: string, name: string, version: string): void {
  const tree = join(archive, '..', `${name}-${version}`)
  for (const path of ['DEBIAN', 'etc', `usr/share/${name}`]) mkdirSync(join(tree, path), { recursive: true })
  writeFileSync(join(tree, 'usr/share', name, 'version'), version)
  writeFileSync(join(tree, 'DEBIAN/control'), control(name, version))
  writeFileSync(join(tree, 'etc', `${name}.conf`), '')
  writeFileSync(join(tree, 'DEBIAN/conffiles'), `/etc/${name}.conf\n`)
  execFileSync('dpkg-deb', ['-b', '-Znone', tree, archive], { stdio: 'ignore' })
}

function writeIndex(archive: string): void {
  const index = readdirSync(archive)
    .filter(file => file.endsWith('.deb'))
    .map(file => {
      const bytes = readFileSync(join(archive, file))
      const [name = '', version = ''] = file.split('_')
      const hash = createHash('sha256').update(bytes).digest('hex')
      return `${control(name, version)}Filename: ./${file}\nSize: ${bytes.length}\nSHA256: ${hash}\n`
    })
  writeFileSync(join(archive, 'Packages'), index.join('\n'))
}

/** What several cases have before them is installed once. */
function makeRoots(cases: readonly PackageCase[]): ReturnType<Packaging['makeRoots']> {
  const all = mkdtempSync(join(tmpdir(), 'rekey-packages-'))
  // One archive: lists go by its path.
  const archive = join(all, 'archive')
  mkdirSync(archive)
  for (const [name, version] of published) publish(archive, name, version)
  writeIndex(archive)
  const patterns = new Map<string, string>()
  const folders = cases.map(({ before, files = {}, listsRead }, index) => {
    const key = JSON.stringify([before, listsRead === undefined])
    const pattern = patterns.get(key) ?? join(all, `pattern-${patterns.size}`)
    if (!patterns.has(key)) makePattern(pattern, archive, { before, lists: listsRead !== undefined })
    patterns.set(key, pattern)
    const folder = join(all, String(index))
    cpSync(pattern, folder, { recursive: true, preserveTimestamps: true })
    pointTo(folder)
    for (const [path, text] of Object.entries(files)) writeFileSync(join(folder, 'root', path), text)
    if (listsRead !== undefined) {
      const when = `@${Math.floor(Date.now() / 1_000) - listsRead}`
      execFileSync('touch', ['-d', when, join(folder, 'root/var/lib/apt/lists')])
    }
    return folder
  })
  return { folders, close: () => rmSync(all, { recursive: true, force: true }) }
}

interface Pattern {
  readonly before: readonly string[]
  readonly lists: boolean
}

function makePattern(folder: string, archive: string, { before, lists }: Pattern): void {
  mkdirSync(folder)
  const { environment, root } = makeRoot(folder, archive)
  const files = before.map(one => join(archive, `${one.replace('=', '_')}_all.deb`))
  const env = { ...process.env, ...environment }
  if (files.length > 0)
    execFileSync('dpkg', [`--root=${root}`, '--force-unsafe-io', '-i', ...files], { env, stdio: 'ignore' })
  if (lists) execFileSync('apt-get', ['-q', 'update'], { env, stdio: 'ignore' })
}

/** What is installed, or has left its configuration; and which files of it are there. */
function stateOf(folder: string): string[] {
  const root = join(folder, 'root')
  const text = readFileSync(join(root, 'var/lib/dpkg/status'), 'utf8')
  const packages = text.split('\n\n').flatMap(part => {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(part)?.[1]
    const state = field('Status')?.split(' ').at(-1)
    return state === undefined || state === 'not-installed' ? [] : [`${field('Package')} ${field('Version')} ${state}`]
  })
  const etc = readdirSync(join(root, 'etc')).filter(name => name.startsWith('rk-'))
  return [...packages.sort(), ...etc.map(name => `${name}: ${readFileSync(join(root, 'etc', name), 'utf8')}`).sort()]
}
