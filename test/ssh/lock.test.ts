// One run a cluster: the lock on the hosts, who may take it, and the line that every run leaves.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { thisProcess } from '../../lib/process-identity.ts'
import { testsOnSshd, type Workbench } from '../cli/_rekey.ts'

const { real } = testsOnSshd('the lock is')

const playbookOf = (run: string) => `
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}),
  plays: [play('Work', { hosts: 'masters' }, [step('Work', { run: ${run} })])] })`

const lockOf = (bench: Workbench) => join(bench.folder, 'on-hosts', 'lock')

/** A lock that somebody on another machine left, heard of so many seconds ago. */
function foreignLock(bench: Workbench, seconds: number, more: { machine?: string; scope?: string } = {}) {
  const folder = lockOf(bench)
  mkdirSync(folder, { recursive: true })
  const process = { machine: 'laptop-of-joe', pid: 4711, started: '1', ...more }
  const holder = {
    run: '20260101-000000-work-beef',
    playbook: 'work',
    operator: 'joe',
    process,
    since: '2026-01-01T00:00:00Z',
  }
  writeFileSync(join(folder, 'holder'), JSON.stringify(holder))
  writeFileSync(join(folder, 'heartbeat'), '')
  const at = Date.now() / 1_000 - seconds
  utimesSync(join(folder, 'heartbeat'), at, at)
}

real('a run that begins while another works is told who that is, changes nothing, and the first goes on', async t => {
  const { bench } = t.context
  const slow = bench.playbook(
    playbookOf(`({ $ }) => $\`echo begun; while [ ! -e ${bench.folder}/go ]; do sleep 0.1; done\``),
  )
  const quick = bench.playbook(playbookOf(`({ $ }) => $\`touch ${bench.folder}/changed\``))
  let second: ReturnType<Workbench['rekey']> | undefined
  const first = await bench.rekey(['run', slow, '-i', bench.inventory, '-l', 'h1', '-v'], {
    onLine: line => {
      if (!line.endsWith('h1 | begun')) return
      second = bench.rekey(['run', quick, '-i', bench.inventory, '--take-lock'])
      void second.then(() => writeFileSync(join(bench.folder, 'go'), ''))
    },
  })
  const refused = await second
  t.is(first.code, 0, first.stdout)
  t.is(refused?.code, 2, refused?.stdout)
  t.regex(
    refused?.stdout ?? '',
    /h1 is locked by run \S+-work-\S+ \(work\) of \S+ on \S+, process \d+, since 20.*: it lives/,
  )
  t.false(existsSync(join(bench.folder, 'changed')))
  t.is((await bench.rekey(['run', quick, '-i', bench.inventory])).code, 0)
  t.true(existsSync(join(bench.folder, 'changed')))
})

real('the lock is given back by a run that failed and by one that was interrupted', async t => {
  const { bench } = t.context
  await bench.rekey(['run', bench.playbook(playbookOf('({ $ }) => $`false`')), '-i', bench.inventory])
  t.false(existsSync(lockOf(bench)))
  const slow = bench.playbook(playbookOf('({ $ }) => $`echo begun; sleep 30`'))
  await bench.rekey(['run', slow, '-i', bench.inventory, '-l', 'h1', '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h1 | begun')) kill('SIGINT')
    },
  })
  t.false(existsSync(lockOf(bench)))
  t.deepEqual(readdirSync(join(bench.folder, 'on-hosts')), ['audit.log'])
})

real('the lock of a process that was killed is taken only when told to, after saying whose it is', async t => {
  const { bench } = t.context
  const slow = bench.playbook(playbookOf('({ $ }) => $`echo begun; sleep 3`'))
  await bench.rekey(['run', slow, '-i', bench.inventory, '-l', 'h1', '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h1 | begun')) kill('SIGKILL')
    },
  })
  t.true(existsSync(lockOf(bench)))
  const quick = bench.playbook(playbookOf('() => {}'))
  const refused = await bench.rekey(['run', quick, '-i', bench.inventory])
  t.is(refused.code, 2)
  t.regex(refused.stdout, /that process is gone[\s\S]*Hint: .*--take-lock/)
  const taken = await bench.rekey(['run', quick, '-i', bench.inventory, '--take-lock'])
  t.is(taken.code, 0, taken.stdout)
  t.regex(taken.stdout, /the lock of run \S+-work-\S+ .* is taken; that process is gone/)
  t.false(existsSync(lockOf(bench)))
})

real('a holder on another machine lives as long as its heartbeat is fresh, whatever the clocks say', async t => {
  const { bench } = t.context
  const quick = bench.playbook(playbookOf('() => {}'))
  foreignLock(bench, 5)
  const refused = await bench.rekey(['run', quick, '-i', bench.inventory, '--take-lock'])
  t.is(refused.code, 2)
  t.regex(
    refused.stdout,
    /of joe on laptop-of-joe, process 4711, since 2026-01-01T00:00:00Z; last heard of \d+\.\d s ago: it lives/,
  )
  foreignLock(bench, 300)
  t.is((await bench.rekey(['run', quick, '-i', bench.inventory])).code, 2)
  t.is((await bench.rekey(['run', quick, '-i', bench.inventory, '--take-lock'])).code, 0)
})

real('a holder in another container of this name is judged by its heartbeat: its number says nothing here', async t => {
  const { bench } = t.context
  const quick = bench.playbook(playbookOf('() => {}'))
  const container = { machine: hostname(), scope: thisProcess().scope!.replace(/pid:\S+/, 'pid:[1]') }
  foreignLock(bench, 5, container)
  const refused = await bench.rekey(['run', quick, '-i', bench.inventory, '--take-lock'])
  t.is(refused.code, 2)
  t.regex(refused.stdout, /process 4711, since .*; last heard of \d+\.\d s ago: it lives/)
  foreignLock(bench, 300, container)
  const silent = await bench.rekey(['run', quick, '-i', bench.inventory])
  t.regex(silent.stdout, /last heard of 5 m \d\d s ago; whether it lives can't be told from here\n[\s\S]*--take-lock/)
})

real('a holder whose heartbeat is from the future is dead too: the clock of the host was set back', async t => {
  const { bench } = t.context
  const quick = bench.playbook(playbookOf('() => {}'))
  foreignLock(bench, -86_400)
  const refused = await bench.rekey(['run', quick, '-i', bench.inventory])
  t.is(refused.code, 2)
  t.regex(refused.stdout, /not heard of since the clock of the host was set back\n[\s\S]*Hint: .*--take-lock/)
  t.is((await bench.rekey(['run', quick, '-i', bench.inventory, '--take-lock'])).code, 0)
})

real('the lock is given back also where the playbook can not close what it opened', async t => {
  const { bench } = t.context
  const source = playbookOf('() => {}').replace(
    'plays:',
    "services: () => ({ close: () => { throw new Error('it hangs') } }), plays:",
  )
  const { code, stdout, stderr } = await bench.rekey(['run', bench.playbook(source), '-i', bench.inventory])
  t.is(code, 0, stderr)
  t.regex(stdout, /not everything of the playbook could be closed: it hangs/)
  t.false(existsSync(lockOf(bench)))
})

real('of several runs that begin at the same moment one has the lock, and the others are told whose it is', async t => {
  const { bench } = t.context
  const path = bench.playbook(
    playbookOf(`({ $ }) => $\`echo ran >>${bench.folder}/log; while [ ! -e ${bench.folder}/go ]; do sleep 0.1; done\``),
  )
  let ended = 0
  const all = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const called = await bench.rekey(['run', path, '-i', bench.inventory, '--take-lock'])
      if (++ended === 4) bench.touch('go')
      return called
    }),
  )
  const refused = all.filter(({ code }) => code === 2)
  t.is(refused.length, 4, JSON.stringify(all))
  for (const { stdout } of refused)
    t.regex(stdout, /h1 is locked by run \S+-work-\S+ .*, since 20.*: it lives\nHint: Wait/)
  // Each name of the inventory is this one host.
  t.is(readFileSync(join(bench.folder, 'log'), 'utf8'), 'ran\n'.repeat(3))
  t.deepEqual(readdirSync(join(bench.folder, 'on-hosts')), ['audit.log'])
})

real(
  'a holder says every few seconds that it lives; where its lock was taken, it begins no further step: exit 2',
  async t => {
    const { bench } = t.context
    const wait = `({ $ }) => $\`echo begun; while [ ! -e ${bench.folder}/go ]; do sleep 0.1; done\``
    const path = bench.playbook(
      playbookOf(`({ $ }) => $\`touch ${bench.folder}/went-on\``).replace(
        '[step(',
        () => `[step('Wait', { run: ${wait} }), step(`,
      ),
    )
    const heard = () => statSync(join(lockOf(bench), 'heartbeat')).mtimeMs
    let lives: Promise<void> | undefined
    const isAliveThenRobbed = async () => {
      const first = heard()
      while (heard() === first) await delay(100)
      // Somebody takes it, as --take-lock does. By the next beat that is known: it is in ten seconds, and may take a while.
      foreignLock(bench, 0)
      await delay(22_000)
      bench.touch('go')
    }
    const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-l', 'h1', '-v'], {
      onLine: line => {
        if (line.endsWith('h1 | begun')) lives = isAliveThenRobbed()
      },
    })
    await lives
    t.is(code, 2, stdout)
    t.regex(
      stdout,
      /Error: h1: the lock of this run was taken by somebody else\nHint: Find out who, and look at the cluster/,
    )
    t.regex(stdout, /changed +Wait \[h1\]/)
    t.false(existsSync(join(bench.folder, 'went-on')))
    t.regex(
      readFileSync(join(lockOf(bench), 'holder'), 'utf8'),
      /laptop-of-joe/,
      'what is another one’s is left to them',
    )
  },
)

real('--check neither asks for the lock nor leaves a line', async t => {
  const { bench } = t.context
  foreignLock(bench, 1)
  const { code } = await bench.rekey(['run', bench.playbook(playbookOf('() => {}')), '-i', bench.inventory, '--check'])
  t.is(code, 0)
  t.deepEqual(readdirSync(join(bench.folder, 'on-hosts')), ['lock'])
})

real('every run leaves a line on its hosts when it begins and when it ends', async t => {
  const { bench } = t.context
  await bench.rekey(['run', bench.playbook(playbookOf('({ $ }) => $`false`')), '-i', bench.inventory, '-l', 'h1'])
  const lines = readFileSync(join(bench.folder, 'on-hosts', 'audit.log'), 'utf8')
    .trim()
    .split('\n')
  t.is(lines.length, 2)
  t.regex(
    lines[0] ?? '',
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ run=\S+-work-\S+ playbook=work operator=\S+ from=\S+ run started$/,
  )
  t.regex(lines[1] ?? '', /run failed$/)
  // One that is connected to later has the line of the end.
  const own = join(bench.folder, 'on-n1')
  writeFileSync(bench.inventory, `masters:\n  hosts:\n    h1:\nnodes:\n  hosts:\n    n1: { rekey_directory: ${own} }\n`)
  const late = playbookOf('({ $ }) => $`true`').replace("hosts: 'masters'", "hosts: 'nodes', ignoreUnreachable: true")
  t.is((await bench.rekey(['run', bench.playbook(late), '-i', bench.inventory])).code, 0)
  t.regex(readFileSync(join(own, 'audit.log'), 'utf8'), /^\S+ run=.* run done\n$/)
})
