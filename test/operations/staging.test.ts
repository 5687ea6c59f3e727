// Files that change together, named by paths that begin where a host's commands do.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { workbench } from '../cli/_rekey.ts'

test('what a swap removes goes from relative folders, too, and nothing is left of what stood there', async t => {
  const bench = workbench('local', ['h1'])
  for (const name of ['one', 'two']) {
    mkdirSync(join(bench.folder, name))
    for (const file of ['changed', 'old']) writeFileSync(join(bench.folder, name, file), 'as it was')
  }
  const playbook = bench.playbook(`
import { play, playbook, stageFiles, step, swapFiles } from API
import { z } from ZOD
const rename = ['one/changed', 'two/changed']
export default playbook({ name: 'swap', summary: 's', vars: z.object({}), plays: [play('P', { hosts: 'all' }, [
  step('Swap', { run: async ctx => {
    await stageFiles(ctx, ctx.run, rename.map(path => ({ path, content: 'new' })))
    await swapFiles(ctx, ctx.run, { rename, link: [], remove: ['one/old', 'two/old', 'three/never-there'] })
  } }),
])] })`)
  const log = join(bench.folder, 'synced')
  mkdirSync(join(bench.folder, 'bin'))
  writeFileSync(
    join(bench.folder, 'bin/sync'),
    `#!/bin/sh\necho "$PWD $*" >>${log}\nPATH=\${PATH#*:} exec sync "$@"\n`,
    {
      mode: 0o755,
    },
  )
  const env = { PATH: `${join(bench.folder, 'bin')}:${process.env['PATH']}` }
  const swapped = await bench.rekey(['run', playbook, '-i', bench.inventory], { env })
  t.is(swapped.code, 0, swapped.stdout + swapped.stderr)
  // Each folder is on the disk, and nobody waits for what else the host writes.
  const synced = readFileSync(log, 'utf8').trim().split('\n')
  for (const name of ['one', 'two']) t.true(synced.includes(`${join(bench.folder, name)} .`), synced.join('\n'))
  t.deepEqual(
    synced.filter(line => line.endsWith(' ')),
    [],
  )
  t.deepEqual(
    ['one', 'two'].map(name => readdirSync(join(bench.folder, name))),
    [['changed'], ['changed']],
  )
  const config = join(bench.folder, 'templates.hcl')
  writeFileSync(config, `template {\n contents = "rendered"\n destination = "one/changed"\n}\n`)
  const rendered = await bench.rekey(['template', 'h1', '-i', bench.inventory, '-c', config])
  t.is(rendered.code, 0, rendered.stdout + rendered.stderr)
  t.is(readFileSync(join(bench.folder, 'one/changed'), 'utf8'), 'rendered')
  writeFileSync(config, `template {\n contents = "again"\n destination = "-o/changed"\n}\n`)
  mkdirSync(join(bench.folder, '-o'))
  writeFileSync(join(bench.folder, '-o/changed'), 'as it was')
  const dashed = await bench.rekey(['template', 'h1', '-i', bench.inventory, '-c', config])
  t.is(dashed.code, 0, dashed.stdout + dashed.stderr)
  t.deepEqual(readdirSync(join(bench.folder, 'one')), ['changed'])
})
