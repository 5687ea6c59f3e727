// `rekey kubeconfig` where there is no cluster, and the files that it writes.
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { requireFree, writeOwnFile } from '../../../lib/cli/users/own-file.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { workbench } from '../_rekey.ts'

test('a file is its owner’s alone, is never written over unless that is said, and never half written', t => {
  const folder = temporaryFolder('own-file')
  const path = join(folder, 'kubeconfig')
  writeOwnFile(path, 'first', false)
  t.is(statSync(path).mode & 0o777, 0o600)
  for (const free of [() => requireFree(path), () => writeOwnFile(path, 'second', false)])
    t.throws(free, { message: `${path} is there already` })
  t.is(readFileSync(path, 'utf8'), 'first')
  writeFileSync(path, 'of others', { mode: 0o644 })
  const link = join(folder, 'link')
  symlinkSync(path, link)
  t.throws(() => requireFree(link))
  writeOwnFile(link, 'second', true)
  t.is(readFileSync(path, 'utf8'), 'second')
  t.is(statSync(path).mode & 0o777, 0o600)
  mkdirSync(join(folder, 'folder'))
  t.throws(() => writeOwnFile(join(folder, 'folder'), 'third', true), { code: 'cli.file' })
  t.deepEqual(readdirSync(folder).sort(), ['folder', 'kubeconfig', 'link'])
})

test.serial('what does not go together, a file that is there, and machines without a cluster are said', async t => {
  const bench = workbench('local', ['m1'], true)
  const asked = (...words: string[]) => bench.rekey(['kubeconfig', '-i', bench.inventory, ...words])
  t.regex((await asked('--admin', '--user', 'jane')).stderr, /'--admin' cannot be used with option '--user <name>'/)
  t.regex((await asked('--merge', 'a', '--admin')).stderr, /cannot be used with/)
  t.regex((await asked('--group', 'dev')).stderr, /^Error: --group says in which groups a --user is\n/)
  t.regex((await asked('--admin', '--ttl', '5s')).stderr, /a duration such as 8h, and a minute at least/)
  writeFileSync(join(bench.folder, 'kubeconfig'), 'mine')
  t.regex((await asked('--admin')).stderr, /^Error: kubeconfig is there already\nHint: .*--force/)
  const none = await asked('--admin', '-o', '-')
  t.is(none.code, 1)
  t.is(none.stdout, '')
  t.regex(none.stderr, /^Error: no administrator's kubeconfig was found on m1\n/)
  t.is(readFileSync(join(bench.folder, 'kubeconfig'), 'utf8'), 'mine')
})
