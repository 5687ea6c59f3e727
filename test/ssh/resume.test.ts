// `rekey resume` after a run was killed, failed, or lost its inventory: what is done again, and what is not.
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { thisProcess } from '../../lib/process-identity.ts'
import { testsOnSshd, type Workbench } from '../cli/_rekey.ts'

const { test, real } = testsOnSshd('resuming is')

/** Each step writes a line; the third one waits on the hosts that the folder has a file `wait-HOST` for, until it is removed. */
const steps = (folder: string) => `
import { play, playbook, secret, step } from API
import { z } from ZOD
const log = ({ $, host }, what) => $\`echo \${what + ' ' + host.name} >>${folder}/log\`
export default playbook({ name: 'steps', summary: 'Several steps', vars: z.object({ word: z.string().default('x') }), plays: [
  play('All', { hosts: 'masters' }, [
    step('Before', { readOnly: true, remember: true, run: async ctx => { await log(ctx, 'before'); return ctx.host.name + ' was old' } }),
    step('Fact', { readOnly: true, run: async ctx => { await log(ctx, 'fact'); return 'fact of ' + ctx.host.name } }),
    step('Make', { runOnce: true, run: async ctx => { await log(ctx, 'make'); return { key: secret('made-' + ctx.vars.word + '-once') } } }),
    step('Slow', { run: async ctx => {
      await log(ctx, 'slow')
      await ctx.$\`echo begun; for i in $(seq 600); do [ -e ${folder}/wait-\${ctx.host.name} ] || break; sleep 0.1; done; [ ! -e ${folder}/fail-\${ctx.host.name} ]\`
      return 'slow of ' + ctx.host.name
    } }),
    step('Use', { run: ctx => log(ctx, 'use ' + ctx.registered('make').key.reveal().length + ' ' + ctx.registered('before', ctx.host.name) + ' ' + ctx.registered('slow', ctx.host.name)) }),
  ]),
] })`

const logOf = (bench: Workbench) => readFileSync(join(bench.folder, 'log'), 'utf8').trim().split('\n').sort()

/** Runs, and kills rekey once the slow step is done on all hosts but h2. */
async function killed(bench: Workbench, args: readonly string[] = []): Promise<string> {
  const path = bench.playbook(steps(bench.folder))
  writeFileSync(join(bench.folder, 'wait-h2'), '')
  let finished = 0
  await bench.rekey(['run', path, '-i', bench.inventory, '--output', 'plain', ...args], {
    onLine: (line, kill) => {
      if (/changed +Slow \[h[13]\]/.test(line) && ++finished === 2) kill('SIGKILL')
    },
  })
  rmSync(join(bench.folder, 'wait-h2'))
  return path
}

real('what is done stays done, what was begun is done again, facts are looked at again, values are there', async t => {
  const { bench } = t.context
  await killed(bench)
  t.deepEqual(
    logOf(bench).filter(line => line.startsWith('use')),
    [],
  )
  rmSync(join(bench.folder, 'log'))
  const { code, stdout, stderr } = await bench.rekey(['resume', 'last'])
  t.is(code, 0, stdout + stderr)
  t.deepEqual(logOf(bench), [
    'fact h1',
    'fact h2',
    'fact h3',
    'slow h2',
    'use 11 h1 was old slow of h1 h1',
    'use 11 h2 was old slow of h2 h2',
    'use 11 h3 was old slow of h3 h3',
  ])
  t.regex(stdout, /gone on with/)
  t.regex(stdout, /Slow: begun on h2, its end is not known: it is done again/)
  t.is(bench.runs().length, 1)
  t.regex((await bench.rekey(['show', 'last'])).stdout, /ended +done/)
  const again = await bench.rekey(['resume', 'last'])
  t.is(again.code, 1)
  t.regex(again.stderr, /is done: there is nothing to go on with/)
})

real('a run that failed on one host is gone on with there; it may fail again, and be gone on with again', async t => {
  const { bench } = t.context
  const path = bench.playbook(steps(bench.folder))
  writeFileSync(join(bench.folder, 'fail-h3'), '')
  t.is((await bench.rekey(['run', path, '-i', bench.inventory])).code, 2)
  t.is((await bench.rekey(['resume', 'last'])).code, 2)
  rmSync(join(bench.folder, 'fail-h3'))
  t.is((await bench.rekey(['resume', 'last'])).code, 0)
  const log = logOf(bench)
  t.is(log.filter(line => line === 'slow h1').length, 1)
  t.is(log.filter(line => line === 'slow h3').length, 3)
  t.is(log.filter(line => line.startsWith('use')).length, 3)
})

real('a changed inventory is refused with what changed, unless it is accepted', async t => {
  const { bench } = t.context
  await killed(bench)
  writeFileSync(bench.inventory, readFileSync(bench.inventory, 'utf8').replace('h3:', 'h3: { colour: red }'))
  const refused = await bench.rekey(['resume', 'last'])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /the inventory is not what it was in this run: h3 differs\n.*--accept-changed-inventory/)
  t.is((await bench.rekey(['resume', 'last', '--accept-changed-inventory'])).code, 0)
})

real('a changed playbook is refused, unless it is accepted', async t => {
  const { bench } = t.context
  const path = await killed(bench)
  appendFileSync(path, '\n// a remark\n')
  const refused = await bench.rekey(['resume', 'last'])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /is not what it was in this run\n.*--accept-changed-playbook/)
  t.is((await bench.rekey(['resume', 'last', '--accept-changed-playbook'])).code, 0)
})

real('what a playbook imports is part of it, also from another folder', async t => {
  const { bench } = t.context
  const parts = join(bench.folder, 'parts')
  mkdirSync(parts)
  writeFileSync(join(parts, 'word.ts'), `export const word = 'x'\n`)
  writeFileSync(join(bench.folder, 'fail-h1'), '')
  const path = bench.playbook(
    `import { word } from '../${basename(bench.folder)}/parts/word.ts'\n${steps(bench.folder)}`,
  )
  t.is((await bench.rekey(['run', path, '-i', bench.inventory, '-l', 'h1'])).code, 2)
  writeFileSync(join(parts, 'word.ts'), `export const word = 'y'\n`)
  const refused = await bench.rekey(['resume', 'last'])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /is not what it was in this run\n.*--accept-changed-playbook/)
})

real('--limit and -e hold for the resumed run too', async t => {
  const { bench } = t.context
  writeFileSync(join(bench.folder, 'fail-h1'), '')
  const path = bench.playbook(steps(bench.folder))
  await bench.rekey(['run', path, '-i', bench.inventory, '-l', 'h1,h2', '-e', 'word=longer'])
  rmSync(join(bench.folder, 'fail-h1'))
  const { code, stdout } = await bench.rekey(['resume', 'last'])
  t.is(code, 0, stdout)
  t.deepEqual(
    logOf(bench).filter(line => line.startsWith('use')),
    ['use 16 h1 was old slow of h1 h1', 'use 16 h2 was old slow of h2 h2'],
  )
})

real('a copy of the folder is enough to go on, and without its secrets it says which file is missing', async t => {
  const { bench } = t.context
  bench.set({ beside: '{{ inventory_dir }}/beside' })
  const path = await killed(bench)
  const [folder = ''] = bench.runs()
  const copy = join(bench.folder, basename(folder))
  cpSync(folder, copy, { recursive: true })
  rmSync(folder, { recursive: true })
  const broken = join(bench.folder, 'broken')
  cpSync(copy, broken, { recursive: true })
  rmSync(join(broken, 'secrets'), { recursive: true })
  const refused = await bench.rekey(['resume', broken, '-i', bench.inventory, '--accept-run-folder'])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /secrets\/make\.h1\.\w+ can't be read/)
  // On another machine, everything may be elsewhere.
  const [playbook, inventory] = [join(bench.folder, 'elsewhere.ts'), join(bench.folder, 'elsewhere')]
  renameSync(path, playbook)
  mkdirSync(inventory)
  for (const name of [basename(bench.inventory), 'group_vars'])
    renameSync(join(bench.folder, name), join(inventory, name))
  const lost = await bench.rekey(['resume', copy, '-i', inventory])
  t.is(lost.code, 1)
  t.regex(lost.stderr, /the playbook of the run is not at \S+ any more\nHint: .*--playbook FILE/)
  const { code, stdout, stderr } = await bench.rekey(['resume', copy, '-i', inventory, '--playbook', playbook])
  t.is(code, 0, stdout + stderr)
})

const isRoot = process.getuid?.() === 0
const onAnotherMachine = isRoot ? real : test.skip
onAnotherMachine(
  `on another machine, whose own lock is the dead one's is known once it was not heard of for a while${isRoot ? '' : ' (skipped: only root can be another machine)'}`,
  async t => {
    const { bench } = t.context
    await killed(bench)
    const [folder = ''] = bench.runs()
    const copy = join(bench.folder, 'copied', basename(folder))
    cpSync(folder, copy, { recursive: true })
    rmSync(join(bench.state), { recursive: true })
    rmSync(join(bench.folder, 'log'))
    // The dead one was of a kernel that is not this one.
    const [boot = ''] = thisProcess().scope!.split(' ')
    for (const file of [join(copy, 'events.jsonl'), join(bench.folder, 'on-hosts', 'lock', 'holder')])
      writeFileSync(file, readFileSync(file, 'utf8').replaceAll(boot, 'another-boot'))
    const through = ['unshare', '--uts', 'sh', '-c', 'hostname laptop-of-ann && exec "$@"', 'sh']
    const early = await bench.rekey(['resume', copy, '--accept-run-folder'], { through })
    t.is(early.code, 2, early.stdout + early.stderr)
    t.regex(
      early.stdout,
      /h1 is locked by run \S+-steps-\w+ \(steps\) of \S+ on \S+, process \d+, since 20\S+; last heard of \S+ m?s ago: it lives\nHint: Wait until it has ended; or, where its machine is gone, until it was not heard of for 1 m/,
    )
    t.regex(early.stdout, new RegExp(`Go on: rekey resume ${copy}; or back: rekey rollback ${copy}\n`))
    t.false(existsSync(join(bench.folder, 'log')))
    const long = Date.now() / 1_000 - 90
    utimesSync(join(bench.folder, 'on-hosts', 'lock', 'heartbeat'), long, long)
    const { code, stdout, stderr } = await bench.rekey(['resume', copy, '--accept-run-folder'], { through })
    t.is(code, 0, stdout + stderr)
    t.deepEqual(
      logOf(bench).filter(line => line.startsWith('use')),
      [1, 2, 3].map(host => `use 11 h${host} was old slow of h${host} h${host}`),
    )
    t.regex((await bench.rekey(['show', copy])).stdout, /gone on with +\S+ \S+ by \S+ on laptop-of-ann, process/)
    t.regex(readFileSync(join(bench.folder, 'on-hosts', 'audit.log'), 'utf8'), / from=laptop-of-ann resume done\n$/)
  },
)

real('of those who go on with a run at the same moment one does, and the others are told', async t => {
  const { bench } = t.context
  await killed(bench)
  const wait = join(bench.folder, 'wait-h2')
  writeFileSync(wait, '')
  let told = 0
  const all = await Promise.all(
    [1, 2, 3].map(async () => {
      const called = await bench.rekey(['resume', 'last'])
      if (called.code === 1 && ++told === 2) rmSync(wait)
      return called
    }),
  )
  const refused = all.filter(({ code }) => code === 1)
  t.is(refused.length, 2, JSON.stringify(all))
  for (const { stderr } of refused) t.regex(stderr, /is still running: process \d+ on \S+/)
  t.is(all.filter(({ code }) => code === 0).length, 1)
  const journal = readFileSync(join(bench.runs()[0] ?? '', 'events.jsonl'), 'utf8')
  t.is(journal.match(/"kind":"run.started"/g)?.length, 2)
})

real(
  'a command that went on when rekey was killed is waited for; what is done again is not done beside it',
  async t => {
    const { bench } = t.context
    const waits = `i=0; while [ ! -e ${bench.folder}/go ] && [ $((i += 1)) -lt 1200 ]; do sleep 0.1; done`
    const command = `echo from >>${bench.folder}/log; echo begun; ${waits}; yes much | head -n 50000; echo to >>${bench.folder}/log`
    const path = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}),
  plays: [play('Work', { hosts: 'h1' }, [step('Work', {
    run: async ({ $ }) => { await $({ quiet: true })\`true\`; await $\`${command}\` },
    rollback: ({ $ }) => $\`echo undone >>${bench.folder}/log\`,
  })])] })`)
    const kill = async (args: readonly string[]) =>
      bench.rekey([...args, '--output', 'plain', '-v'], {
        onLine: (line, kill) => {
          if (line.endsWith('h1 | begun')) kill('SIGKILL')
        },
      })
    const log = () => readFileSync(join(bench.folder, 'log'), 'utf8').trim().split('\n')
    /** Takes the run up; as soon as the command is waited for, that is done. */
    const taken = async (way: string, meanwhile: (line: string, kill: (signal: NodeJS.Signals) => void) => void) => {
      const called = await bench.rekey([way, 'last'], {
        onLine: (line, stop) => {
          if (line.endsWith('; waiting for its end')) meanwhile(line, stop)
        },
      })
      t.regex(
        called.stdout,
        /h1: a command that was begun before the run ended still runs there, as process \d+ \(to end it:/,
      )
      return called
    }
    await kill(['run', path, '-i', bench.inventory])
    const impatient = await taken('resume', (_line, stop) => stop('SIGINT'))
    t.is(impatient.code, 130, impatient.stdout)
    t.deepEqual(log(), ['from'])
    const resumed = await taken('resume', () => bench.touch('go'))
    t.is(resumed.code, 0, resumed.stdout)
    t.regex(resumed.stdout, /h1: that command ended with status 0\n/)
    t.deepEqual(log(), ['from', 'to', 'from', 'to'])

    rmSync(join(bench.folder, 'go'))
    rmSync(join(bench.folder, 'log'))
    await kill(['run', path, '-i', bench.inventory])
    // As it says: on the host, which is this machine.
    const end = (line: string) => execFileSync('sh', ['-c', /to end it: (.*)\);/.exec(line)?.[1] ?? 'false'])
    const undone = await taken('rollback', end)
    t.is(undone.code, 0, undone.stdout)
    t.deepEqual(log(), ['from', 'undone'])
  },
)
