// Builds dist/, which `npm pack` puts into the package: rekey, its playbooks and the libraries that every start needs as JavaScript in few files, since Node strips no types of what is
// installed and a file takes longer to find than to read; the types of its doors; the manual page; and which commit it is of.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { rekeyVersion } from '../../lib/version.ts'
import { asksByRequire, librariesInside, licencesOf } from './libraries.ts'
import { manualPage } from './manual.ts'

const root = join(import.meta.dirname, '..', '..')
const dist = join(root, 'dist')

/** What Node, a playbook or rekey itself starts by name (`ownModule`): each stays a file of its own. */
const entries = [
  'lib/cli/main.ts',
  'lib/connection/openssh/askpass.ts',
  'lib/kubernetes/probes/api-prober.ts',
  'lib/playbook/zod/index.ts',
  ...doors(),
  ...readdirSync(join(root, 'playbooks'))
    .filter(file => file.endsWith('.ts'))
    .map(file => `playbooks/${file}`),
]

function doors(): string[] {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string | { 'rekey-source': string }>
  }
  return Object.values(exports).flatMap(door => (typeof door === 'string' ? [] : door['rekey-source']))
}

/** What git says; nothing where there is none. */
function git(...words: readonly string[]): string {
  try {
    return execFileSync('git', words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return ''
  }
}

/** The day of the commit, so that two builds of it are the same. */
const dated = () => git('log', '-1', '--format=%cs').trim() || new Date().toISOString().slice(0, 10)

rmSync(dist, { recursive: true, force: true })
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: entries,
  outbase: root,
  outdir: dist,
  chunkNames: 'lib/shared/[name]-[hash]',
  bundle: true,
  splitting: true,
  plugins: [librariesInside(root)],
  banner: { js: asksByRequire },
  metafile: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  // The sources lie beside it.
  sourcemap: true,
  sourcesContent: false,
  logLevel: 'error',
})
writeFileSync(join(dist, 'licences.txt'), licencesOf(root, metafile))
execFileSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', 'tsconfig.package.json'], {
  cwd: root,
  stdio: 'inherit',
})
writeFileSync(join(dist, 'commit'), git('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'))
mkdirSync(join(dist, 'man'), { recursive: true })
writeFileSync(join(dist, 'man', 'rekey.1'), await manualPage(rekeyVersion(), dated()))
