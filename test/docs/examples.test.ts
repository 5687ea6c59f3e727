// The examples of docs/writing-playbooks.md: what the page shows stands in docs/examples, and runs.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { root, workbench } from '../cli/_rekey.ts'

const docs = join(root, 'docs')
const examples = readdirSync(join(docs, 'examples')).sort()
const withoutIndent = (text: string) =>
  text
    .split('\n')
    .map(line => line.trim())
    .filter(Boolean)
    .join('\n')

test.serial('every piece of TypeScript on the page is a piece of an example', t => {
  const page = [join(docs, 'writing-playbooks.md'), join(root, 'README.md')]
    .map(file => readFileSync(file, 'utf8'))
    .join('\n')
  const sources = examples.map(name => withoutIndent(readFileSync(join(docs, 'examples', name), 'utf8')))
  const pieces = [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, piece]) => withoutIndent(piece!))
  t.true(pieces.length >= 4)
  for (const piece of pieces)
    t.true(
      sources.some(source => source.includes(piece)),
      piece,
    )
})

/** A workbench with masters and nodes, and a way to run an example on it. */
function stage() {
  const bench = workbench('local', undefined, true)
  writeFileSync(bench.inventory, 'masters:\n  hosts:\n    m1:\n    m2:\nnodes:\n  hosts:\n    n1:\n')
  const run = (name: string, ...args: string[]) =>
    bench.rekey(['run', join(docs, 'examples', `${name}.ts`), '-i', bench.inventory, ...args])
  return { bench, run, file: (path: string) => readFileSync(join(bench.folder, path), 'utf8') }
}

test.serial('banner: written, announced where it changed, left alone the second time, undone', async t => {
  const { bench, run, file } = stage()
  const where = ['-e', `banner_directory=${bench.folder}`]
  const checked = await run('banner', ...where, '--check')
  t.is(checked.code, 0, checked.stdout + checked.stderr)
  t.regex(checked.stdout, /would: write \S+banner-m1/)
  t.is((await run('banner', ...where)).code, 0)
  t.is(file('banner-n1'), 'Authorised use only\n')
  t.is(file('banner-n1.log'), 'announced\n')
  const again = await run('banner', ...where)
  t.regex(again.stdout, /n1 +ok=2\n/)
  await run('banner', ...where, '-e', 'banner=Keep-out')
  t.is(file('banner-m2.log'), 'announced\nannounced\n')
  t.is((await bench.rekey(['rollback', 'last'])).code, 0)
  t.false(existsSync(join(bench.folder, 'banner-m1')))
})

test.serial('rollout: a host that does not come up is taken back, the others have it', async t => {
  const { bench, run, file } = stage()
  const ready = 'echo asked >>asked-$1; [ $1 != m2 ] && [ $(wc -l <asked-$1) -gt 1 ]'
  const vars = { directory: bench.folder, ready: `cd ${bench.folder}; ${ready}` }
  const { code, stdout, stderr } = await run('rollout', '-e', JSON.stringify(vars))
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /rescued +Wait until the service took it \[m2\]/)
  t.regex(stdout, /changed +Note it on the first master \[n1 -> m1\]/)
  t.false(existsSync(join(bench.folder, 'm2', 'token')))
  t.regex(file('n1/token'), /^[0-9a-f]{32}$/)
  t.is(statSync(join(bench.folder, 'n1', 'token')).mode & 0o777, 0o600)
  t.is(file('asked-m2').split('\n').length - 1, 4)
  t.deepEqual(file('rolled-out').trim().split('\n').sort(), ['m1', 'm2', 'n1'])
  // Neither shown, nor kept anywhere but with the secrets that steps returned.
  t.notRegex(stdout, new RegExp(file('n1/token')))
  const [folder = ''] = bench.runs()
  const kept = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  t.true(kept.length > 3)
  for (const { parentPath, name } of kept)
    if (!parentPath.endsWith('/secrets'))
      t.false(readFileSync(join(parentPath, name), 'utf8').includes(file('n1/token')), name)
})

test.serial('clocks: the pieces of a procedure, in a playbook of one’s own', async t => {
  const { run } = stage()
  const { code, stdout, stderr } = await run('clocks')
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /ok +Compare the clocks \[m1\]/)
  const strict = await run('clocks', '-e', 'clock_tolerance=-1')
  t.regex(strict.stdout + strict.stderr, /clock_tolerance/)
})
