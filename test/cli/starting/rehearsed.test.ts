// `rekey_require_rehearsal`: a playbook runs on hosts that ask for it only where the very same was seen to end well elsewhere.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { workbench } from '../_rekey.ts'

/** A playbook, staging, and production, which asks for a rehearsal. */
function stage(asked: unknown) {
  const bench = workbench('local', ['s1'], true)
  const text = `
import { play, playbook, step } from API
import { z } from ZOD
export const template = new URL('./x.tpl', import.meta.url)
export default playbook({ name: 'x', summary: 'x', vars: z.object({ fails: z.string().default('true') }), plays: [play('P', { hosts: 'masters' }, [
  step('Do it', { tags: ['do'], run: ({ $, vars }) => $\`sh -c \${vars.fails}\`, rollback: () => {} })])] })`
  const playbook = bench.playbook(text)
  writeFileSync(join(bench.folder, 'x.tpl'), 'one')
  const production = join(bench.folder, 'production.json')
  const vars = { rekey_require_rehearsal: asked, rekey_directory: join(bench.folder, 'on-production') }
  writeFileSync(production, JSON.stringify({ masters: { hosts: { p1: { ansible_connection: 'local', ...vars } } } }))
  const run = (inventory: string, ...words: string[]) => bench.rekey(['run', playbook, '-i', inventory, ...words])
  return {
    bench,
    playbook,
    rehearse: (...words: string[]) => run(bench.inventory, ...words),
    produce: (...words: string[]) => run(production, ...words),
    audit: () => readFileSync(join(bench.folder, 'on-production', 'audit.log'), 'utf8'),
  }
}

test('what was not seen to end well elsewhere is refused, before anything is connected to; --check is not', async t => {
  const { bench, playbook, rehearse, produce } = stage('7d')
  const refused = async (why: RegExp) => {
    const { code, stderr } = await produce()
    t.is(code, 1)
    t.regex(stderr, why)
  }
  await refused(
    /ask for a rehearsal within 7 d 00 h .*was not seen to end well on another inventory\nHint: .*--unrehearsed "why"/,
  )
  t.is((await produce('--check')).code, 0)
  // Neither a check, nor what failed, nor a part of it is one.
  for (const words of [['--check'], ['-e', 'fails=false'], ['--tags', 'do']]) await rehearse(...words)
  await refused(/was not seen to end well/)
  t.is((await produce('--tags', 'do')).code, 0)
  t.is((await rehearse()).code, 0)
  t.is((await produce()).code, 0)
  // Another template is another playbook, and so is another text.
  writeFileSync(join(bench.folder, 'x.tpl'), 'two')
  await refused(/was not seen to end well/)
  writeFileSync(join(bench.folder, 'x.tpl'), 'one')
  writeFileSync(playbook, `${readFileSync(playbook, 'utf8')}\n// changed`)
  await refused(/was not seen to end well/)
  t.is(bench.runs().length, 7)
})

test('where it is to be undone as well, it is; where it was too long ago, it is done again', async t => {
  const undone = stage({ within: '7d', rollback: true })
  await undone.rehearse()
  const { code, stderr } = await undone.produce()
  t.is(code, 1)
  t.regex(stderr, /it was rehearsed in \S+-x-\w+, but not undone\nHint: .* and undo it there/)
  t.is((await undone.bench.rekey(['rollback', 'last'])).code, 0)
  t.is((await undone.produce()).code, 0)

  const late = stage('1ms')
  await late.rehearse()
  t.regex((await late.produce()).stderr, /it was rehearsed last in \S+, .* ago/)
})

test('who runs it all the same says why, in one line, and the audit log of the host keeps it', async t => {
  const { produce, audit, bench } = stage(7)
  t.is((await produce('--unrehearsed', 'the staging cluster is gone')).code, 0)
  t.regex(audit(), / unrehearsed="the staging cluster is gone"\n/)
  // Production is no rehearsal of itself.
  t.is((await produce()).code, 1)
  t.regex((await bench.rekey(['show', 'last'])).stdout, /--unrehearsed "the staging cluster is gone"/)
  t.regex((await produce('--unrehearsed', 'a\nb')).stderr, /It must be one line of text/)
  const wrong = await stage('soon').produce()
  t.is(wrong.code, 1)
  t.regex(
    wrong.stderr,
    /rekey_require_rehearsal of p1 is 'soon', which says no time\nHint: Write rekey_require_rehearsal: 7d/,
  )
})
