// `rekey --version`, as people ask any program.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'

test('--version prints the version of package.json, and nothing else', t => {
  const root = join(import.meta.dirname, '..', '..')
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const { stdout, status } = spawnSync(join(root, 'bin', 'rekey'), ['--version'], { encoding: 'utf8' })
  t.is(stdout, `${version}\n`)
  t.is(status, 0)
})
