// Files that change together, named by paths that begin where a host's commands do.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { workbench } from '../cli/_rekey.ts'

/**
 * Has hosts note what they have on the disk: the folder in which `sync` is called, and what it is given; and what they label, as hosts with
 * SELinux do.
 */
function watchSyncs(folder: string) {
  const [log, labels] = [join(folder, 'synced'), join(folder, 'labelled')]
  mkdirSync(join(folder, 'bin'))
  const programs = {
    sync: `echo "$PWD $*" >>${log}\nPATH=\${PATH#*:} exec sync "$@"`,
    selinuxenabled: 'exit 0',
    // One file system has one label for all, and lets nobody set another.
    chcon: `echo "$(cd .. && pwd) $*" >>${labels}; case $(cd .. && pwd) in */two) echo 'not supported' >&2; exit 1;; esac`,
  }
  for (const [name, script] of Object.entries(programs))
    writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  const linesOf = (file: string) => readFileSync(file, 'utf8').trim().split('\n')
  return {
    env: { PATH: `${join(folder, 'bin')}:${process.env['PATH']}` },
    all: () => linesOf(log),
    labels: () => linesOf(labels),
  }
}

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
  const syncs = watchSyncs(bench.folder)
  const swapped = await bench.rekey(['run', playbook, '-i', bench.inventory], { env: syncs.env })
  t.is(swapped.code, 0, swapped.stdout + swapped.stderr)
  // Each folder is on the disk, and nobody waits for what else the host writes.
  const synced = syncs.all()
  for (const name of ['one', 'two']) t.true(synced.includes(`${join(bench.folder, name)} .`), synced.join('\n'))
  t.deepEqual(
    synced.filter(line => line.endsWith(' ')),
    [],
  )
  t.deepEqual(
    ['one', 'two'].map(name => readdirSync(join(bench.folder, name))),
    [['changed'], ['changed']],
  )
  // What takes the place of a file has its label.
  const like = ['one', 'two'].map(name => `${join(bench.folder, name)} -Rh --reference=../changed -- f`)
  t.deepEqual(syncs.labels(), like)
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

test('what is put back from an archive is on the disk before it takes its place, and nobody waits for what else the host writes', async t => {
  const bench = workbench('local', ['h1'])
  const [there, away] = ['there', 'away'].map(name => join(bench.folder, name))
  for (const folder of [there!, away!]) mkdirSync(folder)
  writeFileSync(join(there!, 'changed'), 'as it was')
  symlinkSync('nowhere', join(there!, 'link'))
  const archive = join(bench.folder, 'before.tgz')
  execFileSync('tar', ['-C', '/', '-czf', archive, `.${there}`])
  writeFileSync(join(there!, 'changed'), 'new')
  writeFileSync(join(away!, 'made'), 'new')
  const paths = [join(there!, 'changed'), join(there!, 'link'), join(away!, 'made')]
  const playbook = bench.playbook(`
import { play, playbook, restoreFiles, step } from API
import { z } from ZOD
export default playbook({ name: 'back', summary: 's', vars: z.object({}), plays: [play('P', { hosts: 'all' }, [
  step('Back', { run: ctx => restoreFiles(ctx, ctx.run, ${JSON.stringify(archive)}, ${JSON.stringify(paths)}) }),
])] })`)
  const syncs = watchSyncs(bench.folder)
  const called = await bench.rekey(['run', playbook, '-i', bench.inventory], { env: syncs.env })
  t.is(called.code, 0, called.stdout + called.stderr)
  t.is(readFileSync(join(there!, 'changed'), 'utf8'), 'as it was')
  t.deepEqual(readdirSync(away!), [])
  t.deepEqual(syncs.labels(), [`${there} -Rh --reference=../changed -- 0`, `${there} -Rh --reference=.. -- 0`])
  const synced = syncs.all()
  t.is(synced.filter(line => line.startsWith(`${there}/`) && line.endsWith(' 0')).length, 1, synced.join('\n'))
  for (const folder of [there, away]) t.true(synced.includes(`${folder} .`), synced.join('\n'))
  t.deepEqual(
    synced.filter(line => line.endsWith(' ')),
    [],
  )
})
