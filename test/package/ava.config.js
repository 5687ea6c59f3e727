// The package as users have it, one file after the other: packed once, and installed by each.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeAvaInOne } from '../_ava-in-one.js'

await makeAvaInOne()

const packed = mkdtempSync(join(tmpdir(), 'rekey-packed-'))
process.on('exit', () => rmSync(packed, { recursive: true, force: true }))
// Whoever installs it may be somebody else.
chmodSync(packed, 0o755)
const root = join(import.meta.dirname, '..', '..')
const made = spawnSync('npm', ['pack', root, '--silent', '--pack-destination', packed], { encoding: 'utf8' })
if (made.status !== 0) throw new Error(`npm pack failed: ${made.stdout}${made.stderr}`)

export default {
  files: ['test/package/*.test.ts'],
  extensions: ['ts'],
  environmentVariables: { REKEY_PACKED: packed },
  nodeArguments: ['--import=./test/_quick-start.js'],
  // dist/ is one for all.
  concurrency: 1,
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '10m',
}
