// Blocks: who goes into rescue and always, who goes on after them, and where a resumed run enters them again.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type Work, work } from './_work.ts'

const play = (items: string, more = '') => `play('One', { hosts: 'masters'${more} }, [${items}])`
const tryIt = (more: string, steps = `say('A'), say('B'), say('C')`) => `block('Try it', { ${more} }, [${steps}])`
const rescueAndAlways = tryIt(`rescue: [say('R'), say('S')], always: [say('Z')]`)

/** Runs a playbook, and kills it as soon as a step waits: one whose file `wait-STEP` is there. */
async function killedAt({ bench, playbook, folder }: Work, plays: string, word: string) {
  writeFileSync(join(folder, 'wait'), '')
  const path = playbook(plays)
  await bench.rekey(['run', path, '-i', bench.inventory, '--output', 'plain', '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith(`| waits in ${word}`)) kill('SIGKILL')
    },
  })
}

/** A step that waits, where it is told to. */
const waits = (folder: string, word: string) =>
  `say('${word}', { run: async ctx => { await ctx.$\`[ ! -e ${folder}/wait ] || { rm ${folder}/wait; echo waits in ${word}; sleep 20; }\`; await log(ctx, '${word}') } })`

test.serial(
  'a host on which a step fails goes through the rescue, all go through the always, and then on together',
  async t => {
    const { run, log, failOn, ends, bench } = work()
    failOn('B-h2')
    const { code, stdout } = await run(play(`${rescueAndAlways}, say('D')`))
    t.is(code, 0, stdout)
    const lines = log()
    t.deepEqual(lines.slice(6, 8), ['C h1', 'C h3'])
    t.deepEqual(lines.slice(8, 10), ['R h2', 'S h2'])
    t.deepEqual(lines.slice(10), ['Z h1', 'Z h2', 'Z h3', 'D h1', 'D h2', 'D h3'])
    t.true(ends().includes('b h2 rescued'))
    t.regex(stdout, /rescued +B \[h2\]/)
    t.regex(stdout, /h2 +ok=1 changed=5 rescued=1/)
    const shown = (await bench.rekey(['show', 'last'])).stdout
    t.regex(shown, /B \(Try it\) +changed on h1, h3; rescued on h2/)
    t.regex(shown, /R \(Try it: rescue\) +changed on h2/)
  },
)

test.serial(
  'in a JUnit report, what was rescued or ignored fails nothing; a rescue and a handler have tests only where they came',
  async t => {
    const { run, failOn, folder } = work()
    failOn('B-h2', 'E-h1')
    const steps = `${rescueAndAlways}, say('E', { ignoreErrors: true }), say('F', { notify: 'h', run: async ctx => ctx.host.name === 'h1' ? undefined : unchanged() })`
    const plays = `play('One', { hosts: 'masters', handlers: [say('H'), say('I')] }, [${steps}])`
    t.is((await run(plays, '--junit', 'report.xml')).code, 0)
    const report = readFileSync(join(folder, 'report.xml'), 'utf8')
    t.regex(report, /<testsuite name="One" tests="21" failures="0" errors="0" skipped="1"/)
    const messageOf = (name: string) =>
      new RegExp(`<testcase name="${name}[^>]*>\\s*<system-out>([^<]*)</system-out>`).exec(report)?.[1] ?? ''
    t.regex(
      messageOf('B \\(Try it\\) \\[h2\\]'),
      /^rescued: a command ended with exit status 1, and said nothing\nIt is the one at \S+:\d+\.$/,
    )
    t.regex(messageOf('E \\[h1\\]'), /^ignored: a command ended with exit status 1, and said nothing\nIt is/)
    t.deepEqual(
      [...report.matchAll(/name="(\w+ \((?:handler|Try it: rescue)\) .*?)"/g)].map(([, name]) => name),
      ['R (Try it: rescue) [h2]', 'S (Try it: rescue) [h2]', 'H (handler) [h1]'],
    )
  },
)

test.serial(
  'a rescue that fails fails the host: always runs there and on the others, the run ends, and goes on in the rescue',
  async t => {
    const { run, resume, log, failOn, heal } = work()
    failOn('B-h2', 'S-h2')
    const { code } = await run(play(`${rescueAndAlways}, say('D')`))
    t.is(code, 2)
    t.deepEqual(log().slice(8), ['R h2', 'S h2', 'Z h1', 'Z h2', 'Z h3'])
    heal('B-h2', 'S-h2')
    const resumed = await resume()
    t.is(resumed.code, 0, resumed.stdout)
    // What the rescue undid is not done again, and the always comes after all that was done.
    t.deepEqual(log(), ['S h2', 'Z h2', 'D h1', 'D h2', 'D h3'])
  },
)

test.serial(
  'without a rescue, always comes also after a failure elsewhere; a resumed run does the step and the always again',
  async t => {
    const { run, resume, log, failOn, heal } = work()
    failOn('B-h2')
    t.is((await run(play(`${tryIt(`always: [say('Z')]`)}, say('D')`))).code, 2)
    t.deepEqual(log().slice(6), ['Z h1', 'Z h2', 'Z h3'])
    heal('B-h2')
    t.is((await resume()).code, 0)
    const lines = log()
    t.deepEqual(lines.slice(0, 1), ['B h2'])
    t.deepEqual(lines.slice(1, 4), ['C h1', 'C h2', 'C h3'])
    t.deepEqual(lines.slice(4, 7), ['Z h1', 'Z h2', 'Z h3'])
  },
)

test.serial(
  'nested: a failure goes to the nearest rescue, after the always on its way; conditions and tags are handed down',
  async t => {
    const { run, log, failOn } = work()
    failOn('A-h1', 'R-h1', 'E-h2')
    const inner = `block('Inner', { rescue: [say('R')], always: [say('Y')] }, [say('A')])`
    const other = `block('Other', { always: [say('X')], when: ({ host }) => host.name !== 'h3', tags: ['other'] }, [say('E')])`
    const why = `say('Q', { run: async ctx => { await log(ctx, 'Q-' + ctx.failure.step + '-' + (ctx.failure.code ?? '')) } })`
    const plays = play(`block('Outer', { rescue: [${why}], always: [say('Z')] }, [${inner}, ${other}]), say('D')`)
    const { code, stdout } = await run(plays)
    t.is(code, 0, stdout)
    const lines = log()
    const of = (host: string) => lines.filter(line => line.endsWith(host)).map(line => line.slice(0, -3))
    t.deepEqual(of('h1'), ['A', 'R', 'Y', 'Q-r-command.failed', 'Z', 'D'])
    t.deepEqual(of('h2'), ['A', 'Y', 'E', 'X', 'Q-e-command.failed', 'Z', 'D'])
    t.deepEqual(of('h3'), ['A', 'Y', 'Z', 'D'])
    await run(plays, '--tags', 'other')
    t.deepEqual([...new Set(log().map(line => line[0]))], ['E', 'X'])
  },
)

test.serial('freely, each host has its own way through a block', async t => {
  const { run, log, failOn } = work()
  failOn('B-h2')
  const { code } = await run(play(`${rescueAndAlways}, say('D')`, `, strategy: 'free'`))
  t.is(code, 0)
  const lines = log()
  const of = (host: string) => lines.filter(line => line.endsWith(host)).map(line => line[0])
  t.deepEqual(of('h1'), ['A', 'B', 'C', 'Z', 'D'])
  t.deepEqual(of('h2'), ['A', 'B', 'R', 'S', 'Z', 'D'])
})

test.serial('a run that was killed in a rescue goes on in it; killed in an always, it goes on there', async t => {
  const one = work(['h1'])
  one.failOn('B-h1')
  const block = (folder: string) =>
    tryIt(`rescue: [say('R'), ${waits(folder, 'S')}], always: [say('Y'), ${waits(folder, 'Z')}]`)
  await killedAt(one, play(`${block(one.folder)}, say('D')`), 'S')
  t.deepEqual(one.log(), ['A h1', 'B h1', 'R h1'])
  t.false(existsSync(join(one.folder, 'wait')))
  const resumed = await one.resume('--take-lock')
  t.is(resumed.code, 0, resumed.stdout)
  t.deepEqual(one.log(), ['S h1', 'Y h1', 'Z h1', 'D h1'])

  const other = work(['h1'])
  await killedAt(other, play(`${tryIt(`always: [say('Y'), ${waits(other.folder, 'Z')}]`)}, say('D')`), 'Z')
  t.deepEqual(other.log(), ['A h1', 'B h1', 'C h1', 'Y h1'])
  t.is((await other.resume('--take-lock')).code, 0)
  t.deepEqual(other.log(), ['Z h1', 'D h1'])
})

test.serial(
  'a rescue is not for hosts that are unreachable, and --check goes through blocks without doing anything',
  async t => {
    const { bench, playbook, log, folder, run } = work()
    const inventory = join(folder, 'down.yml')
    writeFileSync(
      inventory,
      'masters:\n  hosts:\n    h1:\nothers:\n  hosts:\n    h2: { ansible_connection: ssh, ansible_port: 1 }\n',
    )
    const away = tryIt(`rescue: [say('R')], always: [say('Z')]`, `say('A', { delegateTo: () => 'h2' })`)
    const { code } = await bench.rekey(['run', playbook(play(away)), '-i', inventory])
    t.is(code, 4)
    t.deepEqual(log(), [])
    const looks = `step('Look', { readOnly: true, run: () => { throw new Error('not as it should be') } })`
    const checked = await run(play(tryIt(`rescue: [say('R')]`, `say('A'), ${looks}`)), '--check')
    t.is(checked.code, 0, checked.stdout)
    t.regex(checked.stdout, /rescued +Look \[h1\].*not as it should be[\s\S]*would run +R \[h1\]/)
    t.deepEqual(log(), [])
  },
)

test.serial('--start-at-step may be within a block, and not in a rescue; --list-steps says what is where', async t => {
  const { run, log, playbook, bench } = work(['h1'])
  t.is((await run(play(`${rescueAndAlways}, say('D')`), '--start-at-step', 'c')).code, 0)
  t.deepEqual(log(), ['C h1', 'Z h1', 'D h1'])
  const refused = await run(play(rescueAndAlways), '--start-at-step', 'r')
  t.is(refused.code, 1)
  t.regex(refused.stderr, /has no step 'r' to start at/)
  const { stdout } = await bench.rekey(['run', playbook(play(rescueAndAlways)), '-i', bench.inventory, '--list-steps'])
  t.regex(stdout, /^ {2}s +S \(Try it: rescue\)$/m)
})
