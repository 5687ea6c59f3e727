// How hosts go through plays: strategies, failures and what they count for, retries, delegation, order.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { work } from './_work.ts'

test.serial('free: no host waits for another; steps that run once are refused there', async t => {
  const { run, rawLog, folder } = work()
  // h1 can only come to its second step once another has been there: in lockstep it never would.
  const steps = `say('A', { run: ({ $, host }) => host.name === 'h1' ? $\`for i in $(seq 300); do [ ! -e ${folder}/seen ] || exit 0; sleep 0.1; done; exit 1\` : undefined }),
    say('B', { run: async ctx => { await log(ctx, 'B'); await ctx.$\`touch ${folder}/seen\` } })`
  const free = await run(`play('Free', { hosts: 'masters', strategy: 'free' }, [${steps}])`)
  t.is(free.code, 0, free.stdout)
  t.is(rawLog().at(-1), 'B h1')
  const once = await run(`play('Free', { hosts: 'masters', strategy: 'free' }, [say('A', { runOnce: true })])`)
  t.is(once.code, 1)
  t.regex(once.stderr, /'Free': 'a' is to run once, and with the strategy 'free'/)
})

test.serial(
  'the first failure ends the run for all, unless the play bears with more: then who failed leaves, and the others go on',
  async t => {
    const { run, resume, log, failOn, heal } = work(['h1', 'h2', 'h3', 'h4'])
    const plays = (more: string) =>
      `play('One', { hosts: 'masters'${more} }, [say('A'), say('B'), say('C')]), play('Two', { hosts: 'masters' }, [say('D')])`
    failOn('B-h2')
    const strict = await run(plays(''))
    t.is(strict.code, 2)
    t.deepEqual(log(), ['A h1', 'A h2', 'A h3', 'A h4', 'B h1', 'B h2', 'B h3', 'B h4'])
    t.regex(strict.stdout, /Finished everywhere, last: A\n +B: failed on h2/)

    const tolerant = await run(plays(', maxFailPercentage: 25'))
    t.is(tolerant.code, 2)
    t.deepEqual(log().slice(8), ['C h1', 'C h3', 'C h4', 'D h1', 'D h3', 'D h4'])
    // Gone on with, the one host does what it has not done, and only that.
    heal('B-h2')
    const resumed = await resume()
    t.is(resumed.code, 0, resumed.stdout)
    t.deepEqual(log(), ['B h2', 'C h2', 'D h2'])

    failOn('B-h2', 'B-h3')
    t.is((await run(plays(', maxFailPercentage: 25'))).code, 2)
    t.false(log().includes('C h1'))
  },
)

test.serial(
  'serial: a number, a percentage rounded down, a list whose last size repeats; what is none is refused',
  async t => {
    const { run, rawLog } = work(Array.from({ length: 10 }, (_, index) => `h${index}`))
    const sizes = async (serial: string) => {
      const { code, stdout } = await run(`play('One', { hosts: 'masters', serial: ${serial} }, [say('A'), say('B')])`)
      t.is(code, 0, stdout)
      // A batch goes through both steps before the next begins.
      const words = rawLog().map(line => line[0])
      return (words.join('').match(/A+B+/g) ?? []).map(batch => batch.length / 2)
    }
    t.deepEqual(await sizes('4'), [4, 4, 2])
    t.deepEqual(await sizes(`'35%'`), [3, 3, 3, 1])
    t.deepEqual(await sizes(`'1%'`), Array(10).fill(1))
    t.deepEqual(await sizes(`['10%', 2, '30%']`), [1, 2, 3, 3, 1])
    t.deepEqual(await sizes('[]'), [10])
    const { code, stdout, stderr } = await run(`play('One', { hosts: 'masters', serial: 0 }, [say('A')])`)
    t.is(code, 1)
    t.regex(stderr, /play 1 'One': serial must be a number of hosts from 1, .*, not 0\nHint: Write 1, '30%', or a list/)
    t.is(stdout, '')
    t.deepEqual(rawLog(), [])
  },
)

test.serial('freely, a failure stops the others before their next step', async t => {
  const { run, log, failOn, folder } = work()
  // The others wait in their first step until h2 has failed, and it is in the journal.
  const wait = `say('B', { run: ({ $, host, run }) => host.name === 'h2' ? log({ $, host }, 'B') : $\`for i in $(seq 300); do ! grep -q '"host":"h2","milliseconds.*failed' ${folder}/state/rekey/runs/\${run}/events.jsonl || exit 0; sleep 0.1; done\` })`
  failOn('B-h2')
  const { code, stdout } = await run(`play('Free', { hosts: 'masters', strategy: 'free' }, [${wait}, say('C')])`)
  t.is(code, 2, stdout)
  t.deepEqual(log(), ['B h2'])
})

test.serial(
  'a batch that failed as a whole ends the run, and anyErrorsFatal ends it whatever the percentage',
  async t => {
    const { run, log, failOn, heal } = work()
    failOn('A-h1', 'B-h2')
    await run(`play('One', { hosts: 'masters', serial: 1, maxFailPercentage: 100 }, [say('A')])`)
    t.deepEqual(log(), ['A h1'])
    heal('A-h1')
    const fatal = `say('B', { anyErrorsFatal: true })`
    await run(`play('One', { hosts: 'masters', maxFailPercentage: 100 }, [say('A'), ${fatal}, say('C')])`)
    t.false(log().some(line => line.startsWith('C')))
  },
)

test.serial(
  'ignoreErrors: the failure is told and counts for nothing; a resumed run does not come back to it',
  async t => {
    const { run, resume, log, failOn, heal, finished, bench } = work()
    failOn('A-h2', 'C-h1')
    const not = '{ ignoreErrors: false }'
    const plays = `play('One', { hosts: 'masters', ignoreErrors: true }, [say('A'), say('B', ${not}), say('C', ${not})])`
    const { code, stdout } = await run(plays)
    t.is(code, 2)
    t.regex(stdout, /ignored +A \[h2\]/)
    t.regex(stdout, /h2 +ok=1 changed=2 ignored=1/)
    t.is(finished().find(({ host, step }) => host === 'h2' && step === 'a')?.handled, 'ignored')
    log()
    heal('C-h1')
    t.is((await resume()).code, 0)
    t.deepEqual(log(), ['C h1'])
    t.regex((await bench.rekey(['show', 'last'])).stdout, /A +changed on h1, h3; ignored on h2/)
  },
)

test.serial('ignoreUnreachable: a host that is down is tried at every step, and the others do their work', async t => {
  const { playbook, log, folder, bench } = work()
  const inventory = join(folder, 'down.yml')
  const down = 'h2: { ansible_connection: ssh, ansible_port: 1 }'
  writeFileSync(inventory, `masters:\n  hosts:\n    h1:\nothers:\n  hosts:\n    ${down}\n`)
  const run = (more: string) =>
    bench.rekey(['run', playbook(`play('One', { hosts: 'all'${more} }, [say('A'), say('B')])`), '-i', inventory])
  const { code, stdout } = await run(', ignoreUnreachable: true')
  t.is(code, 0, stdout)
  t.deepEqual(log(), ['A h1', 'B h1'])
  t.regex(stdout, /h2 +ignored=2/)
  // A play that bears with half of its hosts begins without those that are down, and says so at its end.
  const half = await run(', maxFailPercentage: 50')
  t.is(half.code, 4)
  t.deepEqual(log(), ['A h1', 'B h1'])
})

test.serial(
  'a step that fails is tried again, as often and after as long as it says; until says what it waits for',
  async t => {
    const { run, log, failOn, finished, folder } = work(['h1'])
    const lines = `(await ctx.$\`grep -c grow ${folder}/log\`).lines().map(Number)[0]`
    const grow = `step('Grow', { run: async ctx => { await log(ctx, 'grow'); return ${lines} }, until: lines => lines >= 3, delay: 10 })`
    failOn('Fail-h1')
    const { code, stdout } = await run(
      `play('One', { hosts: 'masters' }, [${grow}, say('Fail', { retries: 2, delay: 10 })])`,
    )
    t.is(code, 2)
    t.deepEqual(log(), ['grow h1', 'grow h1', 'grow h1', 'Fail h1', 'Fail h1', 'Fail h1'])
    t.regex(stdout, /h1 \| try 1 of 3 failed: .*; again in 10 ms/)
    t.deepEqual(
      finished().map(({ step, tries, outcome }) => [step, tries, outcome]),
      [
        ['connect', undefined, 'ok'],
        ['grow', 3, 'changed'],
        ['fail', 3, 'failed'],
      ],
    )
    const never = await run(
      `play('One', { hosts: 'masters' }, [say('Never', { until: () => false, retries: 1, delay: 10 })])`,
    )
    t.is(never.code, 2)
    t.regex(never.stdout, /what 'Never' waits for is not so on h1, after 2 tries/)
  },
)

test.serial(
  'who waits for a turn when the run is told to stop was not begun: it is said, undone nowhere, and gone on with',
  async t => {
    const { bench, playbook, log, folder } = work()
    const slow = `say('A', { run: async ctx => { await log(ctx, 'A'); await ctx.$\`[ -e ${folder}/quick ] || { echo waits; sleep 30; }\` }, rollback: ctx => log(ctx, 'undo-A') })`
    const path = playbook(`play('One', { hosts: 'masters' }, [say('Z'), ${slow}])`)
    const stopped = async (signal: NodeJS.Signals) =>
      bench.rekey(['run', path, '-i', bench.inventory, '--forks', '1', '--output', 'plain', '-v'], {
        onLine: (line, kill) => {
          if (line.endsWith('h1 | waits')) kill(signal)
        },
      })
    const { code, stdout } = await stopped('SIGINT')
    t.is(code, 130, stdout)
    t.regex(stdout, /Finished everywhere, last: Z\n +A: was ended in the middle on h1\n +A: not begun on h2, h3\n/)
    t.regex((await bench.rekey(['show', 'last'])).stdout, /\n +A +cancelled on h1\n/)
    t.deepEqual(log(), ['Z h1', 'Z h2', 'Z h3', 'A h1'])
    t.is((await bench.rekey(['rollback', 'last'])).code, 0)
    t.deepEqual(log(), ['undo-A h1'])

    await stopped('SIGKILL')
    t.regex(
      (await bench.rekey(['show', 'last'])).stdout,
      /Where it stopped\n +A: begun on h1, its end is not known\n\nGo on: rekey resume \S+; or back: rekey rollback \S+$/m,
    )
    log()
    bench.touch('quick')
    t.is((await bench.rekey(['resume', 'last', '--take-lock'])).code, 0)
    t.deepEqual(log(), ['A h1', 'A h2', 'A h3'])
    t.regex(
      (await bench.rekey(['show', 'last'])).stdout,
      /\n\nWhat would be undone of it: rekey rollback \S+ --list-steps\n$/,
    )
  },
)

test.serial('delegateTo: the commands run there, the outcome is that of the host', async t => {
  const { playbook, log, folder, bench } = work()
  // One host can't be reached: what works for it works elsewhere.
  const inventory = join(folder, 'down.yml')
  const down = 'down: { ansible_connection: ssh, ansible_port: 1 }'
  writeFileSync(inventory, `masters:\n  hosts:\n    h1:\n    h2:\nothers:\n  hosts:\n    ${down}\n`)
  const run = (plays: string) => bench.rekey(['run', playbook(plays), '-i', inventory])
  const found = `({ hosts }) => hosts('masters').at(-1).name`
  const here = await run(
    `play('One', { hosts: 'down', ignoreUnreachable: true }, [say('A', { delegateTo: 'h2' }), say('B', { delegateTo: ${found} })])`,
  )
  t.regex(here.stdout, /changed +A \[down -> h2\]/)
  t.regex(here.stdout, /ignored +B \[down\]/, 'who is asked for the host is given the one that is not there')
  t.deepEqual(log(), ['A down'])
  const there = await run(`play('One', { hosts: 'h1' }, [say('C', { delegateTo: () => 'down' })])`)
  t.is(there.code, 4, there.stdout)
  t.regex(there.stdout, /unreachable +C \[h1 -> down\]/)
  const before = await run(`play('One', { hosts: 'h1' }, [say('C'), say('D', { delegateTo: 'down' })])`)
  t.is(before.code, 4)
  t.deepEqual(log(), [], 'a host that steps are delegated to by name must be there before anything begins')
  const absent = await run(`play('One', { hosts: 'h1' }, [say('C'), say('D', { delegateTo: 'h3' })])`)
  t.is(absent.code, 1)
  t.regex(
    absent.stderr,
    /One: 'd' is delegated to 'h3', and there is no such host in the inventory; did you mean 'h1'\?/,
  )
  t.deepEqual(log(), [], 'who is named and is not there is told of before anything is done')
  const nobody = await run(`play('One', { hosts: 'h1' }, [say('C', { delegateTo: () => 'h9' })])`)
  t.is(nobody.code, 2)
  t.regex(nobody.stdout, /there is no host 'h9' in the inventory/)
})

test.serial(
  'order says who comes first; runOnce is of the first who is there, and its failure is that of all',
  async t => {
    const { run, log, rawLog, failOn } = work()
    const first = async (order: string) => {
      await run(`play('One', { hosts: 'masters', serial: 1, order: '${order}' }, [say('A')])`)
      return rawLog().map(line => line.slice(2))
    }
    t.deepEqual(await first('reverse_inventory'), ['h3', 'h2', 'h1'])
    t.deepEqual((await first('shuffle')).sort(), ['h1', 'h2', 'h3'])
    failOn('A-h1', 'C-h2')
    const once = (word: string) => `say('${word}', { runOnce: true })`
    const plays = `play('One', { hosts: 'masters', maxFailPercentage: 50 }, [say('A'), ${once('B')}, ${once('C')}, say('D')])`
    t.is((await run(plays)).code, 2)
    t.deepEqual(log().slice(3), ['B h2', 'C h2'])
  },
)

test.serial('--step with resume asks of what is left, and only where it is left', async t => {
  const { bench, playbook, log, failOn, heal } = work()
  failOn('B-h2')
  const path = playbook(`play('One', { hosts: 'masters' }, [say('A'), say('B'), say('C'), say('D')])`)
  t.is((await bench.rekey(['run', path, '-i', bench.inventory])).code, 2)
  log()
  heal('B-h2')
  const answers = ['y', 'n', 'c'].map(answer => [/ontinue: $/, answer] as const)
  const { code, stdout } = await bench.onTerminal(['resume', 'last', '--step'], answers)
  t.is(code, 0, stdout)
  t.regex(stdout, /Perform step: B \[h2\] [\s\S]*Perform step: C \[h1, h2, h3\] [\s\S]*Perform step: D \[h1, h2, h3\] /)
  t.deepEqual(log(), ['B h2', 'D h1', 'D h2', 'D h3'])
})

test.serial(
  '--start-at-step leaves out what comes before it, in all plays; that and tags hold for the resumed run too',
  async t => {
    const { bench, run, resume, log, failOn, heal } = work(['h1', 'h2'])
    const plays = `play('One', { hosts: 'masters' }, [say('A'), say('B', { tags: ['b'] })]), play('Two', { hosts: 'masters' }, [say('C'), say('D', { tags: ['b'] }), say('E')])`
    failOn('D-h2')
    const first = await run(plays, '--start-at-step', 'c')
    t.is(first.code, 2, first.stdout)
    t.deepEqual(log(), ['C h1', 'C h2', 'D h1', 'D h2'])
    t.regex((await bench.rekey(['show', 'last'])).stdout, /options +--start-at-step c\n/)
    heal('D-h2')
    t.is((await resume()).code, 0)
    t.deepEqual(log(), ['D h2', 'E h1', 'E h2'])

    failOn('B-h1')
    t.is((await run(plays, '--tags', 'b')).code, 2)
    t.deepEqual(log(), ['B h1', 'B h2'])
    heal('B-h1')
    t.is((await resume()).code, 0)
    t.deepEqual(log(), ['B h1', 'D h1', 'D h2'])
    const absent = await run(plays, '--start-at-step', 'f')
    t.is(absent.code, 1)
    t.regex(absent.stderr, /work has no step 'f' to start at.*\nHint: See the ids of its steps with --list-steps\./)
  },
)

test.serial('--check says what would change, what would be run, and what can not be told before', async t => {
  const { bench, run, log, finished } = work(['h1'])
  const made = `say('Make', { run: () => ({ port: 1 }) })`
  const asks = `ctx => ctx.registered('make', ctx.host.name).port > 0`
  const { code, stdout } = await run(
    `play('One', { hosts: 'masters' }, [say('Planned', { plan: () => 'turn it on' }), ${made}, say('When', { when: ${asks} }), say('Asked', { check: ${asks}, notify: 'h' }), say('Last')])`.replace(
      "'masters' }",
      "'masters', handlers: [say('H')] }",
    ),
    '--check',
  )
  t.is(code, 0, stdout)
  t.regex(stdout, /would change +Planned \[h1\] .*\n +would: turn it on\n/)
  t.regex(stdout, /would run +Make \[h1\] .*\n/)
  t.regex(
    stdout,
    /unknown +When \[h1\] .*\n +can't be told before: Cannot read properties of undefined \(reading 'port'\)\n/,
  )
  t.deepEqual(
    finished().map(({ predicted = '-' }) => predicted),
    ['-', 'change', 'run', 'unknown', 'unknown', 'run', 'run'],
  )
  t.deepEqual(log(), [])
  t.regex(
    (await bench.rekey(['show', 'last'])).stdout,
    /ended +check done, .*[\s\S]* Planned +would change\n +Make +would run\n +When +unknown\n/,
  )
  // Where nothing came before that it could depend on, it is wrong now.
  const wrong = await run(`play('One', { hosts: 'masters' }, [say('When', { when: ${asks} }), say('Last')])`, '--check')
  t.is(wrong.code, 2)
  t.regex(wrong.stdout, /failed +When \[h1\]/)
})

test.serial(
  '--step asks before each step: no leaves it out, continue asks no more; without a terminal it is refused',
  async t => {
    const { bench, playbook, log, ends } = work(['h1', 'h2'])
    const path = playbook(
      `play('One', { hosts: 'masters', handlers: [say('H')] }, [say('A'), say('B', { notify: 'h' }), say('C'), say('D')])`,
    )
    const args = ['run', path, '-i', bench.inventory, '--step']
    const answered = (...answers: string[]) =>
      bench.onTerminal(
        args,
        answers.map(answer => [/ontinue: $/, answer]),
      )
    const { code, stdout } = await answered('no', 'what?', 'y', '', 'c')
    t.is(code, 0, stdout)
    t.deepEqual(log(), ['B h1', 'B h2', 'D h1', 'D h2', 'H h1', 'H h2'])
    t.regex(stdout, /Perform step: A \[h1, h2\] \(N\)o\/\(y\)es\/\(c\)ontinue: /)
    t.is(stdout.match(/Perform step/g)?.length, 5)
    t.true(ends().includes('c h2 skipped'))
    const stopped = await answered('y', '\u0003')
    t.is(stopped.code, 130, stopped.stdout)
    t.deepEqual(log(), ['A h1', 'A h2'])
    const refused = await bench.rekey(args)
    t.is(refused.code, 1)
    t.regex(refused.stderr, /there is no terminal to answer on/)
  },
)
