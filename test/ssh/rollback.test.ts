// `rekey rollback`: what was done is undone in reverse, wherever the run stopped; what can't be is named first.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { testsOnSshd, type Workbench } from '../cli/_rekey.ts'
import { work } from '../cli/_work.ts'

const { real } = testsOnSshd('undoing is')

/**
 * A file for each step and host, and a log of what was done. `Slow` waits on the hosts for which the folder has a file
 * `wait-HOST`; `undo fails` is what the folder says.
 */
const steps = (folder: string) => `
import { play, playbook, secret, step, unchanged } from API
import { z } from ZOD
const log = ({ $, host }, what) => $\`echo \${what + ' ' + host.name} >>${folder}/log\`
const made = (id, more = {}) => step(id, {
  run: async ctx => { await log(ctx, 'do ' + id); return { key: secret('key-of-' + id + '-' + ctx.host.name) } },
  rollback: async ctx => {
    await log(ctx, 'undo ' + id + ' ' + (ctx.registered(id, ctx.host.name)?.key.reveal().length ?? 'nothing'))
    await ctx.$\`[ ! -e ${folder}/undo-fails ]\`
  },
  ...more,
})
export default playbook({ name: 'steps', summary: 'Several steps', vars: z.object({}), plays: [
  play('First', { hosts: 'masters' }, [
    step('Look', { readOnly: true, run: () => 'seen' }),
    made('one'),
    step('Nothing to do', { run: () => unchanged(), irreversible: 'never told, since it did nothing' }),
    made('two', { runOnce: true }),
    step('Keep', { run: ctx => log(ctx, 'do keep'), irreversible: 'a backup stays' }),
  ]),
  play('Swap', { hosts: 'masters', rollback: [
    step('Put back', { id: 'undo-swap', run: ctx => log(ctx, 'undo swap') }),
    step('Restart', { id: 'undo-restart', runOnce: true, run: ctx => log(ctx, 'undo restart') }),
  ] }, [
    step('swap', { run: ctx => log(ctx, 'do swap') }),
  ]),
  play('After', { hosts: 'masters' }, [
    step('Slow', { undoneWith: 'swap', run: async ctx => {
      await log(ctx, 'do slow')
      await ctx.$\`echo begun; for i in $(seq 600); do [ -e ${folder}/wait-\${ctx.host.name} ] || break; sleep 0.1; done; [ ! -e ${folder}/fail-\${ctx.host.name} ]\`
    } }),
    made('last'),
  ]),
] })`

const logOf = ({ folder }: Workbench) => {
  const path = join(folder, 'log')
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : []
}
const undone = (bench: Workbench) => logOf(bench).filter(line => line.startsWith('undo'))
/** Lines of hosts that work at once come in any order. */
const inAnyOrder = (lines: readonly string[]) => [...lines].sort()

real('a run that is done is undone in reverse, on the hosts where each step was done; it is undone once', async t => {
  const { bench } = t.context
  const path = bench.playbook(steps(bench.folder))
  t.is((await bench.rekey(['run', path, '-i', bench.inventory])).code, 0)
  const listed = await bench.rekey(['rollback', 'last', '--list-steps'])
  t.is(listed.code, 0, listed.stderr)
  t.deepEqual(undone(bench), [])
  t.regex(listed.stdout, /stays done on h1, h2, h3: Keep \(a backup stays\)/)
  t.notRegex(listed.stdout, /Nothing to do/)
  const { code, stdout, stderr } = await bench.rekey(['rollback', 'last', '--output', 'plain'])
  t.is(code, 0, stdout + stderr)
  t.true(stdout.indexOf('Keep (a backup stays)') < stdout.indexOf('Undo: '), stdout)
  const lines = undone(bench)
  const hosts = (what: string) => ['h1', 'h2', 'h3'].map(host => `undo ${what} ${host}`)
  t.deepEqual(inAnyOrder(lines.slice(0, 3)), hosts('last 14'))
  t.deepEqual(inAnyOrder(lines.slice(3, 6)), hosts('swap'))
  t.deepEqual(lines.slice(6, 8), ['undo restart h1', 'undo two 13 h1'])
  t.deepEqual(inAnyOrder(lines.slice(8)), hosts('one 13'))
  t.regex(stdout, /\nsteps undone after/)
  t.regex((await bench.rekey(['show', 'last'])).stdout, /ended +undone, after/)
  const again = await bench.rekey(['rollback', 'last'])
  t.is(again.code, 1)
  t.regex(again.stderr, /is undone already/)
  t.regex((await bench.rekey(['resume', 'last'])).stderr, / is undone\nHint: Begin a new run/)
})

real(
  'a run that was killed in the middle is undone, also what was only begun; steps that were not reached are not',
  async t => {
    const { bench } = t.context
    writeFileSync(join(bench.folder, 'wait-h2'), '')
    await bench.rekey(['run', bench.playbook(steps(bench.folder)), '-i', bench.inventory, '--output', 'plain', '-v'], {
      onLine: (line, kill) => {
        if (line.endsWith('h2 | begun')) kill('SIGKILL')
      },
    })
    rmSync(join(bench.folder, 'wait-h2'))
    const { code, stdout } = await bench.rekey(['rollback', 'last'])
    t.is(code, 0, stdout)
    t.deepEqual(
      undone(bench).filter(line => /last/.test(line)),
      [],
    )
    t.is(undone(bench).filter(line => /swap/.test(line)).length, 3)
    t.is(undone(bench).filter(line => /one/.test(line)).length, 3)
  },
)

real('a run that was killed before it did anything gives its lock back', async t => {
  const { bench } = t.context
  const path = bench.playbook(
    steps(bench.folder).replace("run: () => 'seen'", () => 'run: ({ $ }) => $`echo begun; sleep 2`'),
  )
  await bench.rekey(['run', path, '-i', bench.inventory, '--output', 'plain', '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h2 | begun')) kill('SIGKILL')
    },
  })
  const { code, stdout, stderr } = await bench.rekey(['rollback', 'last'])
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /it did nothing that can be undone/)
  const next = await bench.rekey(['run', bench.playbook(steps(bench.folder)), '-i', bench.inventory])
  t.is(next.code, 0, next.stdout)
})

real('a rollback that failed is gone on with, and does not undo twice what is undone', async t => {
  const { bench } = t.context
  await bench.rekey(['run', bench.playbook(steps(bench.folder)), '-i', bench.inventory])
  const first = await bench.rekey(['rollback', 'last', '--to', 'slow'])
  t.is(first.code, 0, first.stdout)
  t.regex(first.stdout, /\nsteps undone back to 'slow' after/)
  t.regex((await bench.rekey(['runs'])).stdout, /undone back to slow\n/)
  t.is(undone(bench).length, 3)
  writeFileSync(join(bench.folder, 'undo-fails'), '')
  const failed = await bench.rekey(['rollback', 'last'])
  t.is(failed.code, 2)
  t.regex(failed.stdout, /Undo: First/)
  t.regex(failed.stdout, /\nthe rollback of steps failed after/)
  t.regex(
    failed.stdout,
    /Undone everywhere, last: Restart\n +two: failed on h1\n +Go on with it: rekey rollback \S+-steps-\w+\n/,
  )
  rmSync(join(bench.folder, 'undo-fails'))
  t.is((await bench.rekey(['rollback', 'last'])).code, 0)
  t.is(undone(bench).filter(line => /last/.test(line)).length, 3)
  t.is(undone(bench).filter(line => /swap/.test(line)).length, 3)
  t.is(undone(bench).filter(line => /two/.test(line)).length, 2)
})

real('--to refuses to part what is undone together, and a step that is not there', async t => {
  const { bench } = t.context
  await bench.rekey(['run', bench.playbook(steps(bench.folder)), '-i', bench.inventory])
  const parted = await bench.rekey(['rollback', 'last', '--to', 'swap'])
  t.is(parted.code, 1)
  t.regex(parted.stderr, /'slow' can't be undone without undoing 'swap'/)
  const unknown = await bench.rekey(['rollback', 'last', '--to', 'slew'])
  t.is(unknown.code, 1)
  t.regex(unknown.stderr, /has no step 'slew'; did you mean 'slow'\?\nHint: .*--list-steps/)
  t.deepEqual(undone(bench), [])
  writeFileSync(join(bench.folder, 'undo-fails'), '')
  const failed = await bench.rekey(['rollback', 'last', '--to', 'keep'])
  t.is(failed.code, 2)
  t.regex(failed.stdout, /No step of the playbook was undone\n[\s\S]*Go on with it: rekey rollback \S+ --to keep\n/)
  t.regex((await bench.rekey(['resume', 'last'])).stderr, /Hint: Go on with that: rekey rollback \S+ --to keep\n/)
  rmSync(join(bench.folder, 'undo-fails'))
  rmSync(join(bench.folder, 'log'))
  const to = await bench.rekey(['rollback', 'last', '--to', 'keep'])
  t.is(to.code, 0, to.stdout)
  t.is(undone(bench).filter(line => /swap/.test(line)).length, 3)
  t.is(undone(bench).filter(line => /one|two/.test(line)).length, 0)
})

real('a step that is undone with one whose play has no way back is refused when the playbook is read', async t => {
  const { bench } = t.context
  const path = bench.playbook(steps(bench.folder).replace("undoneWith: 'swap'", "undoneWith: 'one'"))
  const { code, stderr } = await bench.rekey(['run', path, '-i', bench.inventory])
  t.is(code, 1)
  t.regex(stderr, /'slow' is undone with 'one', whose play says nothing of how/)
})

real('with --step, what was said no to is not undone, and neither is the run', async t => {
  const { bench } = t.context
  await bench.rekey(['run', bench.playbook(steps(bench.folder)), '-i', bench.inventory, '-l', 'h1'])
  const answers = (...all: string[]) => all.map(answer => [/ontinue: $/, answer] as const)
  const first = await bench.onTerminal(['rollback', 'last', '--step'], answers('no', 'yes', 'continue'))
  t.is(first.code, 0, first.stdout)
  t.false(undone(bench).some(line => line.startsWith('undo last')))
  t.regex((await bench.rekey(['show', 'last'])).stdout, /Rollback: Undo: After\n +last +declined\n/)
  const done = undone(bench).length
  t.is((await bench.rekey(['rollback', 'last'])).code, 0)
  t.deepEqual(undone(bench).slice(done), ['undo last 14 h1'])
  t.regex((await bench.rekey(['rollback', 'last'])).stderr, /is undone already/)
})

test.serial(
  'blocks and handlers are undone in the reverse order of what was done where; what was done on a host that is gone stays, and is named',
  async t => {
    const { bench, run, log, failOn } = work()
    const undoable = (word: string, more = '') =>
      `say('${word}', { rollback: ctx => log(ctx, 'undo-${word}'), ${more} })`
    failOn('B-h2')
    const block = `block('Try it', { rescue: [${undoable('R')}], always: [${undoable('Z')}] }, [${undoable('A')}, ${undoable('B')}, ${undoable('C')}])`
    const plays = `play('One', { hosts: 'masters', handlers: [${undoable('H')}] }, [${undoable('P', `notify: 'h'`)}, ${block}])`
    t.is((await run(plays)).code, 0)
    log()
    writeFileSync(bench.inventory, readFileSync(bench.inventory, 'utf8').replace(/ +h3:\n/, ''))
    const refused = await bench.rekey(['rollback', 'last'])
    t.is(refused.code, 1)
    t.regex(refused.stderr, /the inventory is not what it was in this run: h3 is gone/)
    const { code, stdout } = await bench.rekey(['rollback', 'last', '--accept-changed-inventory'])
    t.is(code, 0, stdout)
    for (const word of ['P', 'A', 'B', 'C', 'Z', 'H'])
      t.true(stdout.includes(`stays done on h3: ${word} (not in the inventory any more)`), word)
    const both = (word: string) => [`undo-${word} h1`, `undo-${word} h2`]
    t.deepEqual(log(), [...both('H'), ...both('Z'), 'undo-R h2', 'undo-C h1', ...both('B'), ...both('A'), ...both('P')])
  },
)

test.serial('a run that was killed in a rescue is undone from there', async t => {
  const { bench, playbook, log, failOn, folder } = work(['h1'])
  const undoable = (word: string, run = '') => `say('${word}', { rollback: ctx => log(ctx, 'undo-${word}'), ${run} })`
  failOn('B-h1')
  const slow = undoable('S', `run: async ctx => { await log(ctx, 'S'); await ctx.$\`echo waits; sleep 20\` }`)
  const block = `block('Try it', { rescue: [${undoable('R')}, ${slow}], always: [${undoable('Z')}] }, [${undoable('A')}, ${undoable('B')}, ${undoable('C')}])`
  const path = playbook(`play('One', { hosts: 'masters' }, [${block}])`)
  await bench.rekey(['run', path, '-i', bench.inventory, '--output', 'plain', '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('| waits')) kill('SIGKILL')
    },
  })
  t.deepEqual(log(), ['A h1', 'B h1', 'R h1', 'S h1'], folder)
  const { code, stdout } = await bench.rekey(['rollback', 'last'])
  t.is(code, 0, stdout)
  t.deepEqual(log(), ['undo-S h1', 'undo-R h1', 'undo-B h1', 'undo-A h1'])
})

real('a run that was killed while it only looked is undone: nothing of it is left on any host', async t => {
  const { bench } = t.context
  const places = ['h1', 'n1'].map(host => join(bench.folder, `at-${host}`))
  const [master, node] = places.map(place => `{ rekey_directory: ${place} }`)
  writeFileSync(
    bench.inventory,
    `all:\n  children:\n    masters: { hosts: { h1: ${master} } }\n    nodes: { hosts: { n1: ${node} } }\n`,
  )
  const look = `step('Look', { readOnly: true, run: ({ $ }) => $\`true\` })`
  const wait = `step('Wait', { readOnly: true, run: ({ $ }) => $\`echo waits; sleep 1\` })`
  const path = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'looks', summary: 'Looks', vars: z.object({}), plays: [
  play('One', { hosts: 'all' }, [${look}, ${wait}]),
] })`)
  await bench.rekey(['run', path, '-i', bench.inventory, '--output', 'plain', '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('| waits')) kill('SIGKILL')
    },
  })
  for (const place of places) t.true(existsSync(join(place, 'commands')), place)
  const { code, stdout, stderr } = await bench.rekey(['rollback', 'last', '--output', 'plain'])
  t.is(code, 0, stdout + stderr)
  for (const place of places) t.false(existsSync(join(place, 'commands')), place)
})
