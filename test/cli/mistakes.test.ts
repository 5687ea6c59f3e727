// Playbooks whose code does what it must not: the run ends as failed, with exit code 2, in good order, and can be gone on with.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { RunEvent } from '../../lib/run/events.ts'
import { type Called, workbench } from './_rekey.ts'

/**
 * Runs a playbook of these steps on h1, and sees that it ended in order.
 * @param served by a process that does others, too: for what has nothing to do with the process, and is no secret
 */
async function runs(steps: string, more = '', served = false) {
  const bench = workbench('local', ['h1'], served)
  const source = `
import { play, playbook, step } from 'rekey'
import { z } from 'zod'
const flag = ${JSON.stringify(join(bench.folder, 'flag'))}
let waits = false
const untilSomethingFailed = ({ $ }) => (waits = true, $\`for i in $(seq 600); do ! grep -q '"outcome":"failed"' ${bench.state}/rekey/runs/*/events.jsonl || break; sleep 0.1; done\`)
const onceItWaits = fail => { const timer = setInterval(() => { if (waits) { clearInterval(timer); fail() } }, 20) }
const S = (title, run, more = {}) => step(title, { run, ...more })
export default playbook({ name: 'mistakes', summary: 's', vars: z.object({}), plays: [play('P', { hosts: 'all' }, [${steps}])], ${more} })`
  const file = bench.playbook(source)
  const called = await bench.rekey(['run', file, '-i', bench.inventory, '--output', 'plain'])
  const [folder = ''] = bench.runs()
  const events = existsSync(join(folder, 'events.jsonl'))
    ? readFileSync(join(folder, 'events.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map(line => JSON.parse(line) as RunEvent)
    : []
  const ends = events.flatMap(event => (event.kind === 'step.finished' ? [`${event.step} ${event.outcome}`] : []))
  const isLocked = existsSync(join(bench.folder, 'on-hosts', 'lock'))
  return { bench, called, events, ends, isLocked, resume: () => bench.rekey(['resume', 'last', '--output', 'plain']) }
}

/** Nothing raw on the screen, the run told as ended, the lock given back. */
function assertInOrder(
  t: { true(value: boolean, message?: string): void; is(a: unknown, b: unknown, message?: string): void },
  { called, events, isLocked }: Awaited<ReturnType<typeof runs>>,
  code = 2,
) {
  const said = called.stdout + called.stderr
  t.is(called.code, code, said)
  t.true(!/^ +at /m.test(said), said)
  t.is(events.at(-1)?.kind, 'run.finished', said)
  t.true(!isLocked, 'the lock is given back')
}

const errorsOf = ({ stdout }: Called) =>
  stdout
    .split('\n')
    .filter(line => /^(Error|Hint):/.test(line))
    .join('\n')

test('a promise without await that fails after its step fails that step, and the resumed run does it again', async t => {
  const ran = await runs(
    `S('a', ({ redact }) => { redact('SUPERSECRETTOKEN0123456789'); if (!process.getBuiltinModule('fs').existsSync(flag)) new Promise((_, no) => onceItWaits(() => no(new Error('login failed for SUPERSECRETTOKEN0123456789')))) }),
     S('b', untilSomethingFailed), S('c', () => {})`,
  )
  assertInOrder(t, ran)
  t.regex(
    errorsOf(ran.called),
    /^Error: h1: 'a': a promise that nobody waited for failed: login failed for «redacted»\nHint: Write an await before it: it comes from /,
  )
  t.false((ran.called.stdout + ran.called.stderr + JSON.stringify(ran.events)).includes('SUPERSECRETTOKEN'))
  t.deepEqual(ran.ends, ['connect ok', 'a changed', 'a failed', 'b changed'])
  writeFileSync(join(ran.bench.folder, 'flag'), '')
  const resumed = await ran.resume()
  t.is(resumed.code, 0, resumed.stdout)
  t.regex(resumed.stdout, / changed +a \[h1\].*\n.* changed +c \[h1\]/)
})

test('a command without await that outlives its step is part of it: it ends before the next one begins, and its failure is the step’s', async t => {
  const ran = await runs(
    `S('a', ({ $ }) => { $\`sleep 3; touch \${flag}-made\` }),
     S('b', ({ $ }) => $\`test -e \${flag}-made\`),
     S('c', async ({ $, on, host }) => { (await on(host)).$\`sleep 0.3; echo that is too late >&2; exit 4\` })`,
    '',
    true,
  )
  assertInOrder(t, ran)
  t.deepEqual(ran.ends.slice(-3), ['a changed', 'b changed', 'c failed'], ran.called.stdout)
  t.regex(ran.called.stdout, /\| a command that nobody waits for goes on: write an await before it\n/)
  t.regex(
    errorsOf(ran.called),
    /^Error: h1: 'c': a promise that nobody waited for failed: a command ended with exit status 4: that is too late\nHint: Write an await before it\./,
  )
})

test('a command whose lines are left ends with that; one beside a command that failed is waited for, before a try and before what follows', async t => {
  // Both commands of C begin at the same moment, in either order: one looks before the other has its file there, unless that is of the try before.
  const until = (file: string) => `for i in $(seq 600); do test ! -e \${flag}-${file} || break; sleep 0.1; done`
  const ran = await runs(
    `S('a', async ({ $ }) => { for await (const line of $\`echo $$ >\${flag}-pid; yes\`) if (line === 'y') break }),
     S('b', ({ $ }) => $\`for i in $(seq 600); do kill -0 $(cat \${flag}-pid) 2>/dev/null || exit 0; sleep 0.1; done; exit 1\`),
     step('C', { id: 'c', retries: 1, delay: 10, ignoreErrors: true, run: ({ $ }) => Promise.all([
       $\`test ! -e \${flag}-at || touch \${flag}-twice; touch \${flag}-looked; ${until('at')}; touch \${flag}-seen; exit 3\`,
       $\`${until('looked')}; rm \${flag}-looked; touch \${flag}-at; ${until('seen')}; rm \${flag}-seen; sleep 0.5; rm \${flag}-at\`,
     ]) }),
     S('d', ({ $ }) => $\`test ! -e \${flag}-at && test ! -e \${flag}-twice\`)`,
    '',
    true,
  )
  assertInOrder(t, ran, 0)
  t.deepEqual(ran.ends, ['connect ok', 'a changed', 'b changed', 'c failed', 'd changed'], ran.called.stdout)
})

test('what fails in a timer, and a promise that is rejected while its own step goes on, fail their steps', async t => {
  const late = await runs(
    `S('a', () => onceItWaits(() => { throw new Error('late') })), S('b', untilSomethingFailed), S('c', () => {})`,
  )
  assertInOrder(t, late)
  t.regex(
    errorsOf(late.called),
    /^Error: h1: 'a': something failed in a timer or a callback: late\nHint: Catch it there: it comes from .*playbook-1\.ts:9\./,
  )
  const own = await runs(
    `S('a', async ({ $ }) => { Promise.reject(new Error('lost')); await $\`sleep 0.3\` }), S('b', () => {})`,
  )
  assertInOrder(t, own)
  t.deepEqual(own.ends, ['connect ok', 'a failed'])
})

test('process.exit fails the step that calls it', async t => {
  const ran = await runs(`S('a', async ({ $ }) => { await $\`true\`; process.exit(0) }), S('b', () => {})`)
  assertInOrder(t, ran)
  t.regex(errorsOf(ran.called), /^Error: h1: process\.exit\(0\) was called/)
  const services = await runs(`S('a', () => {})`, `services: () => { process.exit(0) }`)
  assertInOrder(t, services)
})

test('a step that waits for what never comes fails, also in services and in a file that is loaded', async t => {
  const ran = await runs(`S('a', () => {}), S('b', () => new Promise(() => {})), S('c', () => {})`)
  assertInOrder(t, ran)
  t.regex(errorsOf(ran.called), /^Error: h1: 'b': waits for what never comes/)
  t.deepEqual(ran.ends, ['connect ok', 'a changed', 'b failed'])
  const services = await runs(`S('a', () => {})`, 'services: () => new Promise(() => {})')
  assertInOrder(t, services)
  t.regex(errorsOf(services.called), /^Error: the services of the playbook: waits for what never comes/)
  const schema = await runs(`S('a', () => {})`, 'vars: z.object({}).refine(() => new Promise(() => {}))')
  t.is(schema.called.code, 1)
  t.regex(schema.called.stderr, /^Error: the variables of mistakes can't be checked: .*: waits for what never comes/)
  const file = await runs(`S('a', () => {})`, '...(await new Promise(() => {}))')
  t.is(file.called.code, 1)
  t.regex(file.called.stderr, /can't be loaded: its top level: waits for what never comes/)
})

test('a command that fails is told with its place in the playbook', async t => {
  const ran = await runs(`S('a', async ({ $ }) => {\nawait $({ quiet: true })\`exit 7\` })`, '', true)
  assertInOrder(t, ran)
  t.regex(
    errorsOf(ran.called),
    /^Error: h1: a command ended with exit status 7, and said nothing\nHint: It is the one at \/.*\.ts:10\.$/,
  )
})

test('services and the report may be asynchronous, and fail in order; a timer that was left keeps nobody waiting', async t => {
  const failed = await runs(
    `S('a', () => {})`,
    `services: async () => { throw new Error('no service') }, report: () => []`,
    true,
  )
  assertInOrder(t, failed)
  t.regex(errorsOf(failed.called), /^Error: no service\nHint: It comes from .*playbook-1\.ts:\d+\./)
  // The timer never ends: what waited for it would be killed, and have no code.
  const ran = await runs(
    `S('a', ({ word, log }) => { log(word); log(undefined); setInterval(() => {}, 1000) })`,
    `services: async () => ({ word: 'a word', close: () => { throw null } }), report: () => [{ title: 'x', rows: [['a', 5]] }, { title: 'y' }]`,
  )
  assertInOrder(t, ran, 0)
  t.regex(ran.called.stdout, / \| a word\n.* \| undefined\n/)
  t.regex(ran.called.stdout, /the report could not be made: the rows of section 2 'y' must be a list, not undefined/)
  t.regex(ran.called.stdout, /not everything of the playbook could be closed: what was thrown is no error: null/)
})

test('a timer that was left does not change how a run that failed ended', async t => {
  const ran = await runs(`S('a', () => { setInterval(() => {}, 1000); throw new Error('x') })`)
  assertInOrder(t, ran)
})

test('a secret that is no text fails the step: it could not be kept from being shown', async t => {
  const ran = await runs(`S('a', ({ redact }) => { redact(undefined) })`, '', true)
  assertInOrder(t, ran)
  t.regex(errorsOf(ran.called), /^Error: h1: a secret must be a text, not undefined/)
})

test('an error with a message that is no text ends neither the view nor the run', async t => {
  const ran = await runs(`S('a', () => { throw Object.assign(new Error('x'), { message: 5 }) })`, '', true)
  assertInOrder(t, ran)
  t.regex(errorsOf(ran.called), /^Error: h1: 5$/m)
})

test('an error whose code and hint are no texts ends neither the view nor the run, and its hint is bounded', async t => {
  const thrown = "throw new RekeyError('x', { code: 5, hint: {}, host: 7 })"
  const long = "throw new HostFailedError('y', { code: 'a\\nb', hint: 'h'.repeat(1e6) })"
  const ran = await runs(
    `S('a', async () => { const { RekeyError } = await import('rekey'); ${thrown} }, { ignoreErrors: true }),
     S('b', async () => { const { HostFailedError } = await import('rekey'); ${long} })`,
    '',
    true,
  )
  assertInOrder(t, ran)
  t.regex(errorsOf(ran.called), /^Error: h1: y\nHint: h{100}/)
  t.true(JSON.stringify(ran.events).length < 100_000)
})

test('what a playbook writes to the console, and what Node warns of, comes without secrets, and nothing in it that a terminal obeys', async t => {
  const said = `console.log('one ' + word + '\\x1b]0;PWNED\\x07\\ntwo'); console.error({ word }); process.emitWarning('w ' + word)`
  const ran = await runs(
    `S('a', ({ redact }) => { const word = 'ConsoleSecret0123456789'; redact(word); ${said} })`,
    "summary: (console.log('at load\\x1b[31m'), 's')",
  )
  assertInOrder(t, ran, 0)
  t.notRegex(ran.called.stdout + ran.called.stderr + JSON.stringify(ran.events), /ConsoleSecret|\x1b|\x07/)
  t.regex(ran.called.stderr, /^at load\none «redacted».*\ntwo\n\{ word: '«redacted»' \}\nWarning: w «redacted»\n$/)
})

test('what a playbook writes to stdout and stderr by itself is shown on stderr, in whole lines, without secrets and signs alone', async t => {
  const out =
    "process.stdout.write('one ' + word.slice(0, 12)); process.stdout.write(word.slice(12) + '\\x1b]0;PWNED\\x07\\ntwo\\n')"
  const err = "process.stderr.write('err ' + word + '\\n'); setTimeout(() => process.stdout.write(word + '\\n'), 10)"
  const ran = await runs(
    `S('a', ({ redact }) => { const word = 'WrittenSecret0123456789'; redact(word); ${out}; ${err}; return new Promise(r => setTimeout(r, 50)) })`,
    "summary: (process.stdout.write('at load\\x1b[31m\\n'), 's')",
  )
  assertInOrder(t, ran, 0)
  t.notRegex(ran.called.stdout + ran.called.stderr + JSON.stringify(ran.events), /WrittenSecret|\x1b|\x07/)
  t.regex(ran.called.stderr, /^at load.*\none «redacted».*\ntwo\nerr «redacted»\n«redacted»\n$/)
})

test('a step that leaves no file to be opened fails, and the run ends as failed', async t => {
  const bench = workbench('local', ['h1'])
  const playbook = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
import { openSync } from 'node:fs'
export default playbook({ name: 'files', summary: 's', vars: z.object({}), plays: [play('P', { hosts: 'all' }, [
  step('a', { ignoreErrors: true, run: () => { for (;;) openSync('/dev/null') } }),
  step('b', { run: ({ $ }) => $\`true\` }) ])] })`)
  const called = await bench.rekey(['run', playbook, '-i', bench.inventory, '--output', 'plain'], {
    through: ['sh', '-c', 'ulimit -n 256; exec "$@"', 'sh'],
  })
  t.is(called.code, 2, called.stdout + called.stderr)
  t.regex(called.stdout, /failed +b \[h1\].*: no command can be started for h1: this process has too many files open/)
  t.regex(called.stdout, /the lock is left behind: h1: no command can be started for h1/)
  t.notRegex(called.stdout + called.stderr, /undefined|^ +at /m)
})
