// How the house is laid out, as docs/architecture.md says: how long files are, how many stand side by side, which doors there are. Circles
// of imports, and the arrows between rooms, are the linter's (biome.json), which runs before the tests.
import { globSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import test from 'ava'
import { shareImports } from '../lib/playbook/imports.ts'

const root = join(import.meta.dirname, '..')
const read = (file: string) => readFileSync(join(root, file), 'utf8')
const files = globSync('{lib,playbooks,scripts,test,docs}/**/*.ts', { cwd: root })
const lines = (text: string) => text.split('\n').length - 1

/** The most files that stand side by side; a door among them is not counted. */
const dozen = 12

/** Folders that hold more, and how many: the numbers go down, and a folder that has come to a dozen leaves the list. */
const crowded: Readonly<Record<string, number>> = {
  'lib/output': 19,
  // A file a phase.
  'lib/rotation': 15,
  'lib/template': 21,
  // A file a procedure.
  playbooks: 24,
  'scripts/bench': 16,
  'test/cli': 18,
  'test/ssh': 27,
}

test('no file is longer than 500 lines without a reason at its head', t => {
  const long = files.filter(file => {
    const text = read(file)
    return lines(text) > 500 && !/^\/\/ Over 500 lines: .{20,}/m.test(text.split('\n').slice(0, 6).join('\n'))
  })
  t.deepEqual(long, [])
})

test('a playbook is read in one go: no more than 200 lines', t => {
  const long = files.filter(file => dirname(file) === 'playbooks' && lines(read(file)) > 200)
  t.deepEqual(long, [])
})

test('a phase of a rotation is a file of no more than 300 lines', t => {
  const long = files.filter(file => file.startsWith('lib/rotation/') && lines(read(file)) > 300)
  t.deepEqual(long, [])
})

test('no more than a dozen files stand side by side, but where there always were, and there no more than there were', t => {
  const folders = Map.groupBy(
    files.filter(file => basename(file) !== 'index.ts' && !/\/(cases|fixtures)\//.test(file)),
    file => dirname(file),
  )
  const found = [...folders].map(([folder, list]) => [folder, list.length] as const)
  const most = (folder: string) => crowded[folder] ?? dozen
  t.deepEqual(
    found.filter(([folder, count]) => count > most(folder)).map(([folder, count]) => `${folder}: ${count} files`),
    [],
  )
  const settled = Object.keys(crowded).filter(folder => (folders.get(folder)?.length ?? 0) <= dozen)
  t.deepEqual(settled, [], 'these have come to a dozen: take them off the list')
})

test('each room has its arrows in the linter, and circles of types are circles', t => {
  const { linter, overrides } = JSON.parse(read('biome.json')) as {
    linter: { rules: { suspicious: Record<string, unknown> } }
    overrides: { includes: string[]; linter: { rules: { style: Record<string, unknown> } } }[]
  }
  const held = overrides.filter(one => 'noRestrictedImports' in one.linter.rules.style).flatMap(one => one.includes)
  const rooms = readdirSync(join(root, 'lib'), { withFileTypes: true }).filter(entry => entry.isDirectory())
  t.deepEqual(
    rooms.map(({ name }) => `lib/${name}/**`).filter(room => !held.includes(room)),
    [],
  )
  t.deepEqual(linter.rules.suspicious['noImportCycles'], { level: 'error', options: { ignoreTypes: false } })
})

test('each folder of lib is named by the page that is its map, among the lines of its room', t => {
  const map = read('docs/architecture.md').split('```')[1] ?? ''
  const roomOf = (line: string) => /^(lib\/[\w-]+)/.exec(line)?.[1]
  const said = new Map<string, string>()
  let room = ''
  for (const line of map.split('\n')) {
    room = roomOf(line) ?? (line.startsWith(' ') ? room : '')
    said.set(room, `${said.get(room) ?? ''}${line}\n`)
  }
  const folders = [...new Set(files.filter(file => file.startsWith('lib/')).map(file => dirname(file)))]
  const unsaid = folders.filter(folder => {
    const lines = said.get(roomOf(folder) ?? '') ?? ''
    return folder !== 'lib' && !new RegExp(`(?<![\\w-])${basename(folder)}(?![\\w-])`).test(lines)
  })
  t.deepEqual(unsaid, [])
})

test('where a cluster keeps its files is said by its layout, and by nobody who issues or rotates', t => {
  const paths = /\/etc\/(kubernetes|ssl|etcd)|\/var\/lib\/(kubelet|etcd|kubernetes)/
  t.deepEqual(
    files.filter(file => /^(lib\/(pki|rotation)|playbooks)\//.test(file) && paths.test(read(file))),
    [],
  )
})

test('every door of package.json opens by its name', async t => {
  const { exports } = JSON.parse(read('package.json')) as { exports: Record<string, string | Record<string, string>> }
  shareImports()
  for (const [name, door] of Object.entries(exports)) {
    if (typeof door === 'string') continue
    const { 'rekey-source': source = '', types, default: compiled } = door
    const opened = (await import(join('rekey', name))) as object
    t.is(opened, await import(join(root, source)))
    t.true(Object.keys(opened).length > 0, name)
    // What the package has for it: scripts/package/build.ts keeps the places.
    t.is(compiled, `./${join('dist', source.replace(/\.ts$/, '.js'))}`)
    t.is(types, `./${join('dist/types', source.replace(/\.ts$/, '.d.ts'))}`)
  }
})
