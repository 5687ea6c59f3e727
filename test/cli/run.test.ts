// `rekey run` through the front door: the command line, a real sshd, real files.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { RunEvent } from '../../lib/run/events.ts'
import { testsOnSshd, workbench } from './_rekey.ts'

const { test, real } = testsOnSshd('runs are', undefined, true)

const eventsOf = (stdout: string) =>
  stdout
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line) as RunEvent)

/** A playbook of two steps; the first writes a line to a file that all hosts share. */
const twoSteps = (folder: string, more = '') => `
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({
  name: 'two', summary: 'Two steps', vars: z.object({ word: z.string().default('x') }),
  plays: [play('Both', { hosts: 'masters'${more} }, [
    step('First', { run: async ({ $, host, vars }) => { await $\`echo \${'first ' + host.name + ' ' + vars.word} >>${folder}/log\` } }),
    step('Second', { run: async ({ $, host }) => { await $\`echo \${'second ' + host.name} >>${folder}/log\` } }),
  ])],
})`

real('steps run in lockstep: the second begins when the first has ended on every host', async t => {
  const { bench } = t.context
  const { code, stdout, stderr } = await bench.rekey([
    'run',
    bench.playbook(twoSteps(bench.folder)),
    '-i',
    bench.inventory,
  ])
  t.is(code, 0, stdout + stderr)
  const log = readFileSync(join(bench.folder, 'log'), 'utf8').trim().split('\n')
  t.deepEqual(log.slice(0, 3).sort(), ['first h1 x', 'first h2 x', 'first h3 x'])
  t.deepEqual(log.slice(3).sort(), ['second h1', 'second h2', 'second h3'])
  t.regex(stdout, /changed +Second \[h2\]/)
  t.regex(stdout, /h3 +ok=1 changed=2/)
})

real('with serial, a batch goes through all steps before the next begins', async t => {
  const { bench } = t.context
  await bench.rekey(['run', bench.playbook(twoSteps(bench.folder, ', serial: 1')), '-i', bench.inventory])
  const log = readFileSync(join(bench.folder, 'log'), 'utf8').trim().split('\n')
  t.deepEqual(log, ['first h1 x', 'second h1', 'first h2 x', 'second h2', 'first h3 x', 'second h3'])
})

real('--limit leaves the others alone, and one that matches nothing is refused', async t => {
  const { bench } = t.context
  const path = bench.playbook(twoSteps(bench.folder))
  t.is((await bench.rekey(['run', path, '-i', bench.inventory, '-l', 'h2'])).code, 0)
  t.is(readFileSync(join(bench.folder, 'log'), 'utf8'), 'first h2 x\nsecond h2\n')
  const { code, stderr } = await bench.rekey(['run', path, '-i', bench.inventory, '-l', 'mastres'])
  t.is(code, 1)
  t.regex(stderr, /mastres[\s\S]*masters/)
})

real('--check runs nothing but what only looks, and names the rest', async t => {
  const { bench } = t.context
  const { code, stdout } = await bench.rekey([
    'run',
    bench.playbook(twoSteps(bench.folder)),
    '-i',
    bench.inventory,
    '--check',
  ])
  t.is(code, 0)
  t.regex(stdout, /would run +First \[h1\]/)
  t.false(existsSync(join(bench.folder, 'log')))
})

real('a step that fails on one host stops the run there: exit 2, its last words, and where things stand', async t => {
  const { bench } = t.context
  const source = twoSteps(bench.folder).replace(
    "step('First', {",
    () =>
      "step('First', { verify: async ({ $, host }) => { if (host.name === 'h2') await $`echo the disk is on fire >&2; exit 9` },",
  )
  const { code, stdout } = await bench.rekey(['run', bench.playbook(source), '-i', bench.inventory])
  t.is(code, 2)
  t.regex(stdout, /failed +First \[h2\].*exit status 9: the disk is on fire/)
  t.regex(
    stdout,
    /Where things stand\n +No step of the playbook was finished\n +First: failed on h2\n +Go on: rekey resume \S+; or back: rekey rollback \S+\n/,
  )
  t.notRegex(readFileSync(join(bench.folder, 'log'), 'utf8'), /second/)
})

real('a host that is down is known before anything is done anywhere: exit 4', async t => {
  const { bench } = t.context
  const inventory = join(bench.folder, 'down.yml')
  writeFileSync(inventory, 'masters:\n  hosts:\n    h1:\n    h2: { ansible_port: 1 }\n')
  const { code, stdout } = await bench.rekey(['run', bench.playbook(twoSteps(bench.folder)), '-i', inventory])
  t.is(code, 4)
  t.regex(stdout, /h2 can't be reached at \S+: connection refused/)
  t.false(existsSync(join(bench.folder, 'log')))
})

real('Ctrl-C ends what runs on the hosts, says so, and exits 130', async t => {
  const { bench } = t.context
  const source = twoSteps(bench.folder).replace(
    "step('First', {",
    () => `step('First', { verify: ({ $ }) => $\`echo $$ >${bench.folder}/pid; echo begun; exec sleep 1000\`,`,
  )
  const { code, stdout } = await bench.rekey(['run', bench.playbook(source), '-i', bench.inventory, '-l', 'h1', '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h1 | begun')) kill('SIGINT')
    },
  })
  t.is(code, 130, stdout)
  t.regex(stdout, /cancelled +First \[h1\]/)
  t.regex(stdout, /First: was ended in the middle on h1/)
  t.throws(() => process.kill(Number(readFileSync(join(bench.folder, 'pid'), 'utf8')), 0), { code: 'ESRCH' })
})

real('the folder of a run is its owner’s only, and holds events and output without secrets', async t => {
  const { bench } = t.context
  const source = `
import { play, playbook, secret, step } from API
import { z } from ZOD
const value = 'correct-' + 'horse-battery'
export default playbook({ name: 'quiet', summary: 'Keeps quiet', vars: z.object({}), plays: [play('Talk', { hosts: 'masters' }, [
  step('Say it', { run: async ({ $, redact }) => {
    redact(value)
    await $({ input: secret('the key is ' + value + '\\n') })\`cat; printf -- '-----BEGIN PRIVATE KEY-----\\\\nMIIEvQIBADANBg\\\\n-----END PRIVATE KEY-----\\\\n'; echo done\`
    return { kept: value }
  } }),
])] })`
  const { code, stdout, stderr } = await bench.rekey([
    'run',
    bench.playbook(source),
    '-i',
    bench.inventory,
    '-l',
    'h1',
    '-v',
  ])
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /h1 \| «redacted»/)
  t.notRegex(stdout + stderr, /horse-battery|MIIEvQ/)
  const folder = bench.runs()[0] ?? ''
  t.is(statSync(folder).mode & 0o777, 0o700)
  for (const file of readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())) {
    const path = join(file.parentPath, file.name)
    t.is(statSync(path).mode & 0o777, 0o600, path)
    // What a step returned is kept for a resumed run: a secret in it in a file of its own.
    if (file.parentPath.endsWith('/secrets')) continue
    t.notRegex(readFileSync(path, 'utf8'), /horse-battery|MIIEvQ/, path)
  }
  t.is(statSync(join(folder, 'secrets')).mode & 0o777, 0o700)
  t.true(existsSync(join(folder, 'events.jsonl')))
  t.regex(readFileSync(join(folder, 'output', '01-talk', 'say-it', 'h1.log'), 'utf8'), /done/)
})

real('--output json is one event a line, from the start to the end', async t => {
  const { bench } = t.context
  const { stdout } = await bench.rekey([
    'run',
    bench.playbook(twoSteps(bench.folder)),
    '-i',
    bench.inventory,
    '--output',
    'json',
  ])
  const events = eventsOf(stdout)
  t.is(events[0]?.kind, 'run.started')
  t.is(events.at(-1)?.kind, 'run.finished')
  t.is(events.filter(({ kind }) => kind === 'step.finished').length, 9)
  t.deepEqual(events, eventsOf(readFileSync(join(bench.runs()[0] ?? '', 'events.jsonl'), 'utf8')))
})

test.serial(
  'a misspelt variable, a variable of the wrong kind, and a playbook that is not there are told before anything connects',
  async t => {
    const bench = workbench(undefined, undefined, true)
    const path = bench.playbook(twoSteps(bench.folder))
    const misspelt = await bench.rekey(['run', path, '-i', bench.inventory, '-e', 'wrod=y'])
    t.is(misspelt.code, 1)
    t.regex(misspelt.stderr, /-e wrod: two has no such variable; did you mean 'word'\?/)
    const wrong = await bench.rekey(['run', path, '-i', bench.inventory, '-e', '{"word": 5}'])
    t.is(wrong.code, 1)
    t.regex(wrong.stderr, /the variables of two are not right:\n +word: /)
    const absent = await bench.rekey(['run', 'rotate-cb', '-i', bench.inventory])
    t.is(absent.code, 1)
    t.regex(absent.stderr, /there is no shipped playbook 'rotate-cb'; did you mean 'rotate-ca'\?/)
    // By its name, as if it were a shipped one.
    const mine = await bench.rekey(['run', basename(path, '.ts'), '-i', bench.inventory])
    t.is(mine.code, 1)
    t.true(mine.stderr.endsWith(`Hint: One of yours is run by its path: ${basename(path)}\n`), mine.stderr)
    t.deepEqual(bench.runs(), [])
  },
)

test.serial('a missing inventory and a YAML error in one are told with their place', async t => {
  const bench = workbench(undefined, undefined, true)
  const path = bench.playbook(twoSteps(bench.folder))
  const absent = await bench.rekey(['run', path, '-i', join(bench.folder, 'absent.yml')])
  t.is(absent.code, 1)
  t.regex(absent.stderr, /absent\.yml/)
  const broken = join(bench.folder, 'broken.yml')
  writeFileSync(broken, 'masters:\n  hosts:\n\th1:\n')
  const { code, stderr } = await bench.rekey(['run', path, '-i', broken])
  t.is(code, 1)
  t.regex(stderr, /broken\.yml:3/)
})

test.serial('two steps with one id are refused', async t => {
  const bench = workbench(undefined, undefined, true)
  const path = bench.playbook(twoSteps(bench.folder).replace("'Second'", "'First'"))
  const { code, stderr } = await bench.rekey(['run', path, '-i', bench.inventory])
  t.is(code, 1)
  t.regex(stderr, /two steps have the id 'first'/)
})

test.serial('--list-steps and --list-hosts print what would run, and run nothing', async t => {
  const bench = workbench(undefined, undefined, true)
  const { code, stdout } = await bench.rekey([
    'run',
    bench.playbook(twoSteps(bench.folder)),
    '-i',
    bench.inventory,
    '--list-steps',
    '--list-hosts',
  ])
  t.is(code, 0)
  t.is(
    stdout,
    'Both [masters]\n  h1\n  h2\n  h3\n  first                            First\n  second                           Second\n',
  )
})
