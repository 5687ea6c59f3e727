// Builds dist/, which `npm pack` puts into the package: rekey and its playbooks as JavaScript in few files, since Node strips no types of what is
// installed and a file takes longer to find than to read; the types of its doors; and which commit it is of.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'

const root = join(import.meta.dirname, '..', '..')
const dist = join(root, 'dist')

/** What Node, a playbook or rekey itself starts by name (`ownModule`): each stays a file of its own. */
const entries = [
  'lib/cli/lean-start.ts',
  'lib/cli/main.ts',
  'lib/connection/openssh/askpass.ts',
  'lib/kubernetes/probes/api-prober.ts',
  'lib/playbook/zod-locales.ts',
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

function commit(): string {
  try {
    const words = ['describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    return execFileSync('git', words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return ''
  }
}

rmSync(dist, { recursive: true, force: true })
await build({
  absWorkingDir: root,
  entryPoints: entries,
  outbase: root,
  outdir: dist,
  chunkNames: 'lib/shared/[name]-[hash]',
  bundle: true,
  splitting: true,
  packages: 'external',
  format: 'esm',
  platform: 'node',
  target: 'node22',
  // The sources lie beside it.
  sourcemap: true,
  sourcesContent: false,
  logLevel: 'warning',
})
execFileSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', 'tsconfig.package.json'], {
  cwd: root,
  stdio: 'inherit',
})
writeFileSync(join(dist, 'commit'), commit())
