// `rekey keysets` from the command line, where there is nothing of a cluster: one clear error, and what could not be looked at.
import test from 'ava'
import { workbench } from '../_rekey.ts'

test.serial('a machine without a cluster is one clear error', async t => {
  const bench = workbench('local', ['m1'], true)
  const { code, stdout, stderr } = await bench.rekey(['keysets', '-i', bench.inventory, '--no-api', '--json'])
  t.is(code, 1)
  t.is(stdout, '')
  t.regex(stderr, /^Error: no key of a cluster was found on m1\nHint: /)
})

test.serial('a pattern that no host matches, and a host that can’t be reached, are said', async t => {
  const bench = workbench('local', ['m1'], true)
  const none = await bench.rekey(['keysets', '-i', bench.inventory, 'm1', '--limit', '!m1'])
  t.is(none.code, 1)
  t.regex(none.stderr, /--limit !m1 leaves no host/)
  bench.set({ ansible_connection: 'ssh', ansible_port: 1 })
  const away = await bench.rekey(['keysets', '-i', bench.inventory, '--no-api'])
  t.is(away.code, 1)
  t.regex(away.stderr, /Hint: m1 is left out: /)
})
