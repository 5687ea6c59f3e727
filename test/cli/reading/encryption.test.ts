// `rekey encryption` from the command line, where there is nothing of a cluster: one clear error, and what could not be looked at.
import test from 'ava'
import { workbench } from '../_rekey.ts'

test.serial('a machine without an API server is one clear error', async t => {
  const bench = workbench('local', ['m1'], true)
  const { code, stdout, stderr } = await bench.rekey(['encryption', '-i', bench.inventory, '--no-api', '--json'])
  t.is(code, 1)
  t.is(stdout, '')
  t.regex(stderr, /^Error: no API server was found on m1\nHint: /)
})
