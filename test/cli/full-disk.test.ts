// Disks that are full, at every file that a run writes: real ones (/dev/full, a limit of the shell), nothing of which is made up.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { endingOf, readHistory } from '../../lib/run/journal/history.ts'
import { ownMountsMissing, withOwnMounts } from '../_mounts.ts'
import { root, type Workbench, workbench } from './_rekey.ts'

const source = (run: string) => `
import { play, playbook, secret, step } from API
import { z } from ZOD
export default playbook({ name: 'full', summary: 'Fills disks', vars: z.object({ word: z.string().default('') }), plays: [play('Fill', { hosts: 'masters' }, [
  step('First', { run: () => {} }),
  step('Fill', { run: ${run} }),
  step('Last', { run: ({ registered, log }) => log('had ' + typeof registered('fill')) }),
])] })`

/** Starts rekey where no file may become larger than 32 KB. */
const limited = ['sh', '-c', 'ulimit -f 64; exec "$0" "$@"'] as const
/** What is compiled is kept when Node ends, and by then the signal for a file that is too large ends it: here it was kept before. */
test.before(async () => {
  const bench = workbench('local', ['h1'])
  const path = bench.playbook(source("() => { throw new Error('as asked') }"))
  const failed = await bench.rekey(['run', path, '-i', bench.inventory])
  if (failed.code !== 2) throw new Error(failed.stdout + failed.stderr)
})

const shownNowhere = ['sh', '-c', 'exec "$0" "$@" >/dev/full'] as const

/** What is called where there is room again: nothing of it depends on the process. */
const withRoom = { served: true }

const isLocked = ({ folder }: Workbench) => existsSync(join(folder, 'on-hosts', 'lock'))

for (const [what, run, words, file] of [
  ['the journal', "ctx => { for (let i = 0; i < 1000; i++) ctx.milestone('m' + i) }", [], 'events.jsonl'],
  ['what a step returns', "() => 'x'.repeat(50_000)", [], 'registered.jsonl'],
  ['a secret that a step returns', "() => secret('x'.repeat(50_000))", [], 'secrets/fill.h1.'],
  ['what of the command line is kept', '() => {}', ['-e', `word=${'x'.repeat(50_000)}`], 'secrets/command.json'],
] as const) {
  test(`where ${what} can not be written, the run ends in order, and goes on once there is room`, async t => {
    const bench = workbench('local', ['h1'])
    const path = bench.playbook(source(run))
    const full = await bench.rekey(['run', path, '-i', bench.inventory, ...words], { through: limited })
    t.is(full.code, 2, full.stdout + full.stderr)
    t.regex(full.stdout, new RegExp(`${file.replace('.', '\\.')}.* can't be written: EFBIG`))
    t.regex(full.stdout, /Hint: A file may not become larger there: see 'ulimit -f'/)
    t.notRegex(full.stdout + full.stderr, /\n {4}at /)
    t.false(isLocked(bench))
    t.regex(endingOf(readHistory(bench.runs()[0] ?? '')), /^(failed|killed)$/)
    const goneOn = await bench.rekey(['resume', 'last', ...words], withRoom)
    t.is(goneOn.code, 0, goneOn.stdout + goneOn.stderr)
    t.false(isLocked(bench))
  })
}

test('where what steps print can not be kept the run goes on, and says so: nobody needs it to go on with it', async t => {
  const bench = workbench('local', ['h1'])
  const path = bench.playbook(source('async ({ $ }) => { await $`seq 20000` }'))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory], { through: limited })
  t.is(code, 0, stdout)
  t.is(stdout.match(/from now on what steps print is not kept: EFBIG.*'ulimit -f'/g)?.length, 1)
})

test('where nothing can be shown the run goes on to its end, and says so once', async t => {
  const bench = workbench('local', ['h1'])
  const path = bench.playbook(source('({ $ }) => $`seq 2000`'))
  for (const output of ['plain', 'json']) {
    const words = ['run', path, '-i', bench.inventory, '-v', '--output', output]
    const { code, stderr } = await bench.rekey(words, { through: shownNowhere })
    t.is(code, 0, stderr)
    t.regex(
      stderr,
      /^Its output can't be written \(ENOSPC: .*\): the run goes on unseen, and its folder has everything\.\n$/,
    )
    t.false(isLocked(bench))
    const journal = readFileSync(join(bench.runs().at(-1) ?? '', 'events.jsonl'), 'utf8')
    t.regex(journal, /"kind":"run\.finished","outcome":"done"/)
  }
})

test('a command whose answer can not be written says so, and is not done', async t => {
  const bench = workbench('local', ['h1'])
  const path = bench.playbook(source('() => {}'))
  await bench.rekey(['run', path, '-i', bench.inventory], withRoom)
  writeFileSync(join(bench.folder, 'dry.hcl'), 'template {\n contents = "x"\n destination = "/nowhere/x"\n}\n')
  for (const words of [
    ['runs'],
    ['inventory', '-i', bench.inventory, '--list'],
    ['certs', '-i', bench.inventory, '--no-api', '--within', '1s', '--json'],
    ['template', 'h1', '-i', bench.inventory, '-c', 'dry.hcl', '--dry'],
  ]) {
    const { code, stderr } = await bench.rekey(words, { through: shownNowhere })
    t.is(code, 1, words.join(' '))
    t.regex(stderr, /^(?:template: Render [\s\S]*\n)?Error: what was to be shown can't be written: ENOSPC: [^\n]*\n$/)
  }
})

test('a JUnit report that can not be written is told before anything is done', async t => {
  const bench = workbench('local', ['h1'])
  const path = bench.playbook(source('({ $ }) => $`touch was-here`'))
  const { code, stdout, stderr } = await bench.rekey(
    ['run', path, '-i', bench.inventory, '--junit', '/dev/full'],
    withRoom,
  )
  t.is(code, 1)
  t.is(stdout, '')
  t.regex(stderr, /^Error: the JUnit report can't be written to \/dev\/full: ENOSPC: .*\nHint: .*\n$/)
  t.false(readdirSync(bench.folder).includes('was-here'))
})

const withMounts = ownMountsMissing() ? test.skip : test
withMounts('a JUnit report that can not be written in the end is told, and the exit code says so', async t => {
  const bench = workbench(
    'local',
    Array.from({ length: 15 }, (_, index) => `h${index}`),
  )
  const disk = join(bench.folder, 'disk')
  mkdirSync(disk)
  const fill = `({ $ }) => $\`head -c 100000 /dev/zero >${join(disk, 'ballast')} 2>/dev/null || true\``
  const onSmallDisk = [...withOwnMounts, 'sh', '-ec', `mount -t tmpfs -o size=16k tmpfs ${disk}; exec "$@"`, 'sh']
  const words = ['run', bench.playbook(source(fill)), '-i', bench.inventory, '--junit', join(disk, 'report.xml')]
  const { code, stderr } = await bench.rekey(words, { through: onSmallDisk })
  t.is(code, 2)
  t.regex(
    stderr,
    /^Error: not all of the run could be shown: the JUnit report can't be written to \S+report\.xml: ENOSPC/,
  )
  t.regex(readFileSync(join(bench.runs()[0] ?? '', 'events.jsonl'), 'utf8'), /"kind":"run\.finished","outcome":"done"/)
})

withMounts('a template whose destination has no room is told with its file, and is what it was', async t => {
  const bench = workbench('local', ['h1'])
  const disk = join(bench.folder, 'disk')
  mkdirSync(disk)
  const config = join(bench.folder, 'one.hcl')
  writeFileSync(config, `template {\n contents = "${'x'.repeat(9_000)}"\n destination = "${disk}/out"\n}\n`)
  const script = `mount -t tmpfs -o size=16k tmpfs ${disk}; echo before >${disk}/out
    head -c 100000 /dev/zero >${disk}/ballast 2>/dev/null || true
    "$@" && exit 9; echo "$?" >code; cmp ${disk}/out - <<'.' && ls -A ${disk} >left
before
.`
  const words = ['template', 'h1', '-i', bench.inventory, '-c', config, '--output', 'plain']
  const { stdout } = await bench.rekey(words, { through: [...withOwnMounts, 'sh', '-ec', script, 'sh'] })
  const read = (name: string) => readFileSync(join(bench.folder, name), 'utf8')
  t.is(read('code'), '2\n', stdout)
  t.regex(stdout, /h1: the files could not be staged: .*No space left on device.*\/disk\/out can't be written/)
  t.is(read('left'), 'ballast\nout\n')
})

withMounts('a CA whose file can not be written is told with its file, and is what it was', async t => {
  const bench = workbench('local', ['h1'])
  const disk = join(bench.folder, 'disk')
  mkdirSync(disk)
  writeFileSync(join(bench.folder, 'pass'), 'for this test only')
  const ca = `${join(root, 'bin', 'rekey')} ca`
  const words = '--passphrase-file pass'
  const script = `mount -t tmpfs -o size=24k tmpfs ${disk}; ${ca} create ${disk}/ca pki --common-name ca --key-type ec ${words} >/dev/null
    head -c 100000 /dev/zero >${disk}/ballast 2>/dev/null || true
    cp ${disk}/ca before; ${ca} role ${disk}/ca pki web allow_any_name=true ${words} 2>said && exit 9; echo "$?" >code; cmp before ${disk}/ca; ls -A ${disk} >left`
  const { code } = await bench.rekey([], { through: [...withOwnMounts, 'sh', '-ec', script] })
  const read = (name: string) => readFileSync(join(bench.folder, name), 'utf8')
  t.is(code, 0, read('said'))
  t.is(read('code'), '1\n')
  t.regex(read('said'), /^Error: \S+\/disk\/ca(\.lock)?: can't be written: ENOSPC: .*\nHint: .*\n$/)
  t.is(read('left'), 'ballast\nca\n')
})

test('a state folder that can not be made is told with what to do, and nothing is tried', async t => {
  const bench = workbench('local', ['h1'])
  const path = bench.playbook(source('() => {}'))
  const env = { XDG_STATE_HOME: '/dev/null' }
  const { code, stdout, stderr } = await bench.rekey(['run', path, '-i', bench.inventory], { env })
  t.is(code, 1, stdout)
  t.regex(stderr, /^Error: \/dev\/null\/rekey\/runs\/\S+ can't be made: ENOTDIR.*\nHint: .*XDG_STATE_HOME/)
})
