// Builds dist/, which `npm pack` puts into the package: rekey and the libraries that every start needs as JavaScript in one file, since Node strips no types of what is installed and a file
// takes longer to find than to read; beside it its doors, its playbooks, and what is started by its name; the types of its doors; the manual page; and which commit it is of.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type BuildOptions, build } from 'esbuild'
import { rekeyVersion } from '../../lib/version.ts'
import { bundleOf, openerOf, wordsOf } from './bundle.ts'
import { asksByRequire, librariesInside, licencesOf } from './libraries.ts'
import { manualPage } from './manual.ts'

const root = join(import.meta.dirname, '..', '..')
const dist = join(root, 'dist')

/** What the bundle is asked for: the command line, what playbooks import, and what tests of playbooks do. */
const main = 'lib/cli/main.ts'
const doors = ['lib/playbook/zod/index.ts', ...doorsOfPackage()]
/** Modules that begin a process or a thread of their own (`ownModule`). */
const alone = ['lib/connection/openssh/askpass.ts', 'lib/kubernetes/probes/api-prober.ts']
const playbooks = readdirSync(join(root, 'playbooks'))
  .filter(file => file.endsWith('.ts'))
  .map(file => `playbooks/${file}`)

function doorsOfPackage(): string[] {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string | { 'rekey-source': string }>
  }
  return Object.values(exports).flatMap(door => (typeof door === 'string' ? [] : [door['rekey-source']]))
}

/** What git says; nothing where there is none. */
function git(...words: readonly string[]): string {
  try {
    return execFileSync('git', words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return ''
  }
}

/** Writes what is imported by its name, and gives what is in the bundle. */
async function writeDoors(): Promise<void> {
  const { bundled } = (await import(
    pathToFileURL(join(dist, 'lib', 'bundle.cjs')).href
  )) as typeof import('../../lib/packed/bundle.ts')
  for (const door of doors) {
    const names = Object.keys(bundled(door)).filter(name => name !== 'default')
    const file = join(dist, door.replace(/ts$/, 'js'))
    const opener = relative(dirname(file), join(dist, 'lib', 'bundle.cjs'))
    const lines = [
      `import { bundled } from ${JSON.stringify(opener.startsWith('.') ? opener : `./${opener}`)}`,
      `const door = bundled(${JSON.stringify(door)})`,
      // Some are named as words are that no variable may be.
      ...names.map((name, index) => `const _${index} = door.${name}`),
      `export { ${names.map((name, index) => `_${index} as ${name}`).join(', ')} }`,
      'export default door.default',
      '',
    ]
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, lines.join('\n'))
  }
}

/** The day of the commit, so that two builds of it are the same. */
const dated = () => git('log', '-1', '--format=%cs').trim() || new Date().toISOString().slice(0, 10)

const everywhere = {
  absWorkingDir: root,
  bundle: true,
  metafile: true,
  platform: 'node',
  target: 'node22',
  // The sources lie beside it.
  sourcemap: true,
  sourcesContent: false,
  logLevel: 'error',
} as const satisfies BuildOptions
const modules = { ...everywhere, outbase: root, outdir: dist, format: 'esm' } as const satisfies BuildOptions

rmSync(dist, { recursive: true, force: true })
mkdirSync(join(dist, 'lib'), { recursive: true })
const made = [
  await bundleOf([main, ...doors], root, everywhere),
  // Where one asks for no more than that, bin/rekey sees.
  await wordsOf(main, root, everywhere),
  await openerOf(root, everywhere),
]
for (const entry of alone) {
  const options = { entryPoints: [entry], plugins: [librariesInside(root)], banner: { js: asksByRequire } }
  made.push((await build({ ...modules, ...options })).metafile)
}
await build({ ...modules, entryPoints: playbooks, packages: 'external' })
await writeDoors()
writeFileSync(join(dist, 'licences.txt'), licencesOf(root, made))
execFileSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', 'tsconfig.package.json'], {
  cwd: root,
  stdio: 'inherit',
})
writeFileSync(join(dist, 'commit'), git('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'))
mkdirSync(join(dist, 'man'), { recursive: true })
writeFileSync(join(dist, 'man', 'rekey.1'), await manualPage(rekeyVersion(), dated()))
