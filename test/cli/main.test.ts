// The command line as a whole: `rekey --version`, and which options belong to whom.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { temporaryFolder } from '../_temporary.ts'

const root = join(import.meta.dirname, '..', '..')
const rekey = (...words: string[]) =>
  spawnSync(join(root, 'bin', 'rekey'), words, {
    encoding: 'utf8',
    env: { ...process.env, XDG_STATE_HOME: temporaryFolder('state') },
  })

test('--version prints the version of package.json, and nothing else', t => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const { stdout, status } = rekey('--version')
  t.is(stdout, `${version}\n`)
  t.is(status, 0)
})

test("what comes after the host of 'lab ssh' is the command there, options included", t => {
  const { stderr, status } = rekey('lab', 'ssh', 'm1', 'kubectl', 'get', 'pods', '-A', '--watch')
  t.regex(stderr, /there is no lab 'default'/)
  t.is(status, 1)
})
