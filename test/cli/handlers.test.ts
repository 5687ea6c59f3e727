// Handlers: run once where something changed, at the end of the play, and not lost when a later step fails or rekey is killed.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { work } from './_work.ts'

const play = (steps: string, more = '') =>
  `play('One', { hosts: 'masters'${more}, handlers: [say('H', { notify: 'i' }), say('I'), say('J')] }, [${steps}]), play('Two', { hosts: 'masters' }, [say('D')])`
const notifying = `say('A', { notify: ['h'], run: async ctx => { await log(ctx, 'A'); return ctx.host.name === 'h3' ? unchanged() : undefined } })`

test.serial(
  'a handler runs once on the hosts where something changed, after the steps and before the next play',
  async t => {
    const { run, log, bench } = work()
    const { code, stdout } = await run(play(`${notifying}, say('B', { notify: 'h' })`))
    t.is(code, 0, stdout)
    const lines = log().map(line => line[0])
    t.is(lines.join(''), 'AAABBBHHHIIIDDD')
    await run(play(notifying))
    t.deepEqual(log().slice(3, 7), ['H h1', 'H h2', 'I h1', 'I h2'])
    t.regex((await bench.rekey(['show', 'last'])).stdout, /H \(handler\) +changed on h1, h2\n/)
  },
)

test.serial('with serial, handlers run at the end of each batch; one that runs once runs once for it', async t => {
  const { run, log } = work()
  await run(play(notifying, ', serial: [1, 2]'))
  const lines = log()
  t.deepEqual(lines.slice(0, 3), ['A h1', 'H h1', 'I h1'])
  t.deepEqual(lines.slice(3, 7), [...lines.slice(3, 5), 'H h2', 'I h2'])
  await run(`play('One', { hosts: 'masters', handlers: [say('H', { runOnce: true })] }, [say('A', { notify: 'h' })])`)
  t.deepEqual(log().slice(3), ['H h1'])
})

test.serial(
  'when a later step fails the handlers wait, it is said, and the resumed run runs them at the end of their play',
  async t => {
    const { run, resume, log, failOn, heal, bench } = work()
    failOn('B-h2')
    const { code, stdout } = await run(play(`${notifying}, say('B')`))
    t.is(code, 2)
    t.deepEqual(log().length, 6)
    t.regex(stdout, /Notified, and not run yet: H on h1, h2\. 'rekey resume' runs them/)
    t.regex((await bench.rekey(['show', 'last'])).stdout, /H \(handler\) +waiting on h1, h2/)
    heal('B-h2')
    const resumed = await resume()
    t.is(resumed.code, 0, resumed.stdout)
    t.regex(resumed.stdout, /H: notified on h1, h2, not run yet: it runs at the end of its play/)
    t.deepEqual(
      log()
        .map(line => line[0])
        .join(''),
      'BHHIIDDD',
    )
  },
)

test.serial('forceHandlers: they run also after a failure, and where it was', async t => {
  const { run, log, failOn } = work()
  failOn('B-h2')
  t.is((await run(play(`${notifying}, say('B')`, ', forceHandlers: true'))).code, 2)
  t.deepEqual(log().slice(6), ['H h1', 'H h2', 'I h1', 'I h2'])
})

test.serial('where the others go on without a host, their handlers run, and that of the host waits', async t => {
  const { run, resume, log, failOn, heal } = work()
  failOn('B-h2')
  t.is((await run(play(`${notifying}, say('B')`, ', maxFailPercentage: 40'))).code, 2)
  t.deepEqual(log().slice(6), ['H h1', 'I h1', 'D h1', 'D h3'])
  heal('B-h2')
  t.is((await resume()).code, 0)
  t.deepEqual(log(), ['B h2', 'H h2', 'I h2', 'D h2'])
})

test.serial(
  'a handler that was killed is run again; a step that was killed calls its handler, whatever it finds later',
  async t => {
    const { bench, playbook, log, folder, resume } = work(['h1'])
    const slow = (word: string, more: string) =>
      `say('${word}', { ${more} run: async ctx => { await log(ctx, '${word}'); await ctx.$\`[ -e ${folder}/quick ] || { touch ${folder}/quick; echo waits; sleep 20; }\` } })`
    const killed = async (plays: string) => {
      await bench.rekey(['run', playbook(plays), '-i', bench.inventory, '--output', 'plain', '-v'], {
        onLine: (line, kill) => {
          if (line.endsWith('| waits')) kill('SIGKILL')
        },
      })
      return log()
    }
    const handler = `play('One', { hosts: 'masters', handlers: [${slow('H', '')}] }, [say('A', { notify: 'h' })])`
    t.deepEqual(await killed(handler), ['A h1', 'H h1'])
    t.is((await resume('--take-lock')).code, 0)
    t.deepEqual(log(), ['H h1'])

    rmSync(join(folder, 'quick'))
    // It is found done when it is looked at again: who had changed it was killed before it could say so.
    const step = slow(
      'A',
      `notify: 'h', check: async ({ $ }) => (await $({ nothrow: true })\`[ -e ${folder}/quick ]\`).exitCode === 0,`,
    )
    t.deepEqual(await killed(`play('One', { hosts: 'masters', handlers: [say('H')] }, [${step}])`), ['A h1'])
    t.is((await resume('--take-lock')).code, 0)
    t.deepEqual(log(), ['H h1'])
  },
)

test.serial('a notification for nobody is refused when the playbook is loaded', async t => {
  const { run } = work(['h1'])
  const unknown = await run(play(`say('A', { notify: 'hh' })`))
  t.is(unknown.code, 1)
  t.regex(
    unknown.stderr,
    /'One': 'a' notifies 'hh', which is no handler of the play; did you mean 'h'\?\nHint: Its handlers are: h, i, j\./,
  )
  const back = await run(
    `play('One', { hosts: 'masters', handlers: [say('H'), say('I', { notify: 'h' })] }, [say('A', { notify: 'h' })])`,
  )
  t.regex(back.stderr, /'i' notifies 'h', which had its turn before/)
})
