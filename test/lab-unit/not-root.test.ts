// Somebody without root gets one message, and nothing is changed.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const main = fileURLToPath(new URL('../../bin/rekey', import.meta.url))
// Whoever runs the tests, the program under test believes to be somebody else.
const notRoot = 'data:text/javascript,process.getuid = () => 1000'

for (const words of [['up'], ['up', '--yes'], ['down'], ['destroy']])
  test.serial(
    `'rekey lab ${words.join(' ')}' without root ends with exit code 1, one message, and nothing changed`,
    t => {
      const home = mkdtempSync(join(tmpdir(), 'rekey-not-root-'))
      try {
        const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', notRoot, main, 'lab', ...words], {
          encoding: 'utf8',
          env: { PATH: process.env.PATH, HOME: home, XDG_CACHE_HOME: home, XDG_STATE_HOME: home },
          timeout: 60_000,
        })
        t.is(status, 1)
        t.is(stdout, '')
        t.regex(stderr, /root/)
        t.regex(stderr, /sudo/)
        t.notRegex(stderr, /\n\s+at /, 'no stack trace')
        t.deepEqual(readdirSync(home), [])
      } finally {
        rmSync(home, { recursive: true, force: true })
      }
    },
  )
