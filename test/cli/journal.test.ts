// The journal as the base of everything that comes after a run: what it says of the run, and what steps returned.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { Secret } from '../../lib/connection/shell.ts'
import { redactor } from '../../lib/output/redaction.ts'
import { readHistory } from '../../lib/run/journal/history.ts'
import { openRegistered } from '../../lib/run/registered/registered.ts'
import { type Workbench, workbench } from './_rekey.ts'

const test = anyTest as TestFn<{ bench: Workbench }>
test.beforeEach(t => {
  t.context.bench = workbench('local', undefined, true)
})

const returning = (value: string) => `
import { play, playbook, secret, step } from API
import { z } from ZOD
export default playbook({ name: 'returning', summary: 'Returns things', vars: z.object({ word: z.string().default('x') }),
  plays: [play('Return', { hosts: 'masters' }, [
    step('Give', { run: ${value} }),
    step('Fail', { when: ({ vars }) => vars.word === 'fail', run: () => { throw new Error('as asked') } }),
  ])] })`

test.serial('a run says who began it, from what, and with which options; values of -e are not told', async t => {
  const { bench } = t.context
  const path = bench.playbook(returning('() => {}'))
  await bench.rekey(['run', path, '-i', bench.inventory, '-l', 'h1,h2', '-e', 'word=whisper-it'])
  const [folder = ''] = bench.runs()
  t.notRegex(readFileSync(join(folder, 'events.jsonl'), 'utf8'), /whisper-it/)
  const { first } = readHistory(folder)
  t.deepEqual(first.selection.limit, ['h1,h2'])
  t.deepEqual(first.selection.extraVars, ['word'])
  t.is(first.playbookFile, path)
  t.regex(first.playbookHash, /^[0-9a-f]{64}$/)
  t.deepEqual(Object.keys(first.inventoryHashes), ['h1', 'h2', 'h3'])
  t.truthy(first.commit)
  t.truthy(first.operator)
})

test.serial('what steps return is read back as it was; secrets stand in files of their own', async t => {
  const { bench } = t.context
  const source = returning(
    "({ host, redact }) => { redact('swordfish-swordfish'); return { host: host.name, list: [1, null, true], key: secret('top-' + 'secret-value'), said: 'it is swordfish-swordfish', map: new Map([['a', secret('another-' + 'one-of-them')]]), gone: undefined } }",
  )
  const { code, stdout } = await bench.rekey(['run', bench.playbook(source), '-i', bench.inventory])
  t.is(code, 0, stdout)
  const [folder = ''] = bench.runs()
  const found = openRegistered(folder, { isSecret: () => false }).get('give', 'h2') as {
    key: Secret
    map: Map<string, Secret>
  }
  const { key, map, ...plain } = found
  t.deepEqual(plain as object, { host: 'h2', list: [1, null, true], said: 'it is swordfish-swordfish' })
  t.true(key instanceof Secret)
  t.is(key.reveal(), 'top-secret-value')
  t.is(map.get('a')?.reveal(), 'another-one-of-them')
  t.is(redactor().text('a top-secret-value'), 'a «redacted»')
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }).filter(one => one.isFile())) {
    const path = join(entry.parentPath, entry.name)
    t.is(statSync(path).mode & 0o777, 0o600, path)
    if (!entry.parentPath.endsWith('/secrets'))
      t.notRegex(readFileSync(path, 'utf8'), /top-secret|swordfish|another-one/)
  }
})

test.serial('rekey runs lists the runs with how they ended, rekey show tells one by a part of its id', async t => {
  const { bench } = t.context
  const path = bench.playbook(returning('() => {}'))
  await bench.rekey(['run', path, '-i', bench.inventory])
  await bench.rekey(['run', path, '-i', bench.inventory, '-e', 'word=fail'])
  const listed = (await bench.rekey(['runs'])).stdout.trim().split('\n')
  t.is(listed.length, 3)
  t.regex(listed[0] ?? '', /^RUN +BEGUN \(UTC\) +BY +ENDED$/)
  t.regex(listed.find(line => line.endsWith(' done')) ?? '', /-returning-/)
  const failed = listed.find(line => line.endsWith(' failed'))?.split(' ')[0] ?? ''
  const { code, stdout } = await bench.rekey(['show', failed.slice(-4)])
  t.is(code, 0)
  t.regex(stdout, /returning: Returns things\n +run +\S+-returning-/)
  t.regex(stdout, /options +-e word=…/)
  t.regex(stdout, /Return\n +Give +changed\n +Fail +failed\n/)
  t.regex(stdout, /Error: as asked/)
  const absent = await bench.rekey(['show', 'nothing-like-it'])
  t.is(absent.code, 1)
  t.regex(absent.stderr, /there is no run 'nothing-like-it'/)
})

test.serial('the last run is the one that was begun last, also where the clock was set back before it', async t => {
  const { bench } = t.context
  const path = bench.playbook(returning('() => {}'))
  await bench.rekey(['run', path, '-i', bench.inventory])
  const yesterday = join(bench.folder, 'clock.mjs')
  writeFileSync(
    yesterday,
    `const Today = Date
globalThis.Date = class extends Today { constructor(...given) { super(...(given.length > 0 ? given : [Today.now() - 86_400_000])) } }
`,
  )
  const env = { NODE_OPTIONS: `--import ${yesterday}` }
  await bench.rekey(['run', path, '-i', bench.inventory, '-e', 'word=fail'], { env })
  const [, early = '', late = ''] = (await bench.rekey(['runs'])).stdout.split('\n')
  t.true(early.endsWith(' failed') && late.endsWith(' done'), early + late)
  t.regex((await bench.rekey(['show', 'last'])).stdout, /ended +failed/)
})

test.serial('a journal that can not be read hides no other run, and is named where it is asked for', async t => {
  const { bench } = t.context
  await bench.rekey(['run', bench.playbook(returning('() => {}')), '-i', bench.inventory])
  const runs = join(bench.state, 'rekey', 'runs')
  for (const [run, journal] of [
    ['20990101-000000-nothing-0000', ''],
    ['20990101-000000-broken-0000', '{"kind": "run.started"\n'],
  ] as const) {
    mkdirSync(join(runs, run))
    writeFileSync(join(runs, run, 'events.jsonl'), journal)
  }
  const { code, stdout } = await bench.rekey(['runs'])
  t.is(code, 0)
  t.regex(stdout, /-returning-\w+ .* done\n20990101-000000-broken-0000 .*events\.jsonl:1 can't be read\n$/)
  const broken = await bench.rekey(['show', 'broken'])
  t.is(broken.code, 1)
  t.regex(broken.stderr, /Error: .*events\.jsonl:1 can't be read\nHint: Put the journal back/)
  t.regex((await bench.rekey(['show', 'last'])).stdout, /returning: Returns things/)
})

test.serial('a run that was killed is told as killed, with the step that it was at', async t => {
  const { bench } = t.context
  const source = returning('({ $ }) => $`echo begun; sleep 5`')
  await bench.rekey(['run', bench.playbook(source), '-i', bench.inventory, '-l', 'h1', '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h1 | begun')) kill('SIGKILL')
    },
  })
  const { stdout } = await bench.rekey(['show', 'last'])
  t.regex(stdout, /ended +killed/)
  t.regex(stdout, /Give +begun\n/)
  t.regex(stdout, /Where it stopped\n +Give: begun on h1, its end is not known/)
})

test.serial(
  'before a step begins on a host, what it will do and how the ones before it ended is on the disk',
  async t => {
    const { bench } = t.context
    const [watch, synced] = [join(bench.folder, 'watch.mjs'), join(bench.folder, 'synced')]
    // Writes down how much of a file was flushed.
    writeFileSync(
      watch,
      `import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
const { fdatasync } = fs
fs.fdatasync = (file, done) => {
  const { size, ino } = fs.fstatSync(file)
  fdatasync(file, error => {
    if (!error) fs.writeFileSync(${JSON.stringify(synced)} + ino, String(size))
    done(error)
  })
}
syncBuiltinESMExports()`,
    )
    const onDisk = `readFileSync(path).subarray(0, Number(readFileSync(${JSON.stringify(synced)} + statSync(path).ino))).toString()`
    const source = `
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { play, playbook, step } from API
import { z } from ZOD
const journal = path => ${onDisk}
const what = ({ folder, host }) => journal(join(folder, 'events.jsonl')).split('\\n').filter(Boolean).map(line => JSON.parse(line))
  .filter(event => /^step/.test(event.kind) && event.host === host.name && event.play > 0).map(({ kind, step }) => kind + ' ' + step).join(', ')
export default playbook({ name: 'watched', summary: 'Watches its journal', vars: z.object({}), plays: [play('Watch', { hosts: 'masters' }, [
  step('One', { run: ctx => { ctx.log('one sees: ' + what(ctx)) } }),
  step('Two', { run: ctx => { ctx.log('two sees: ' + what(ctx)) } }),
])] })`
    const { code, stdout } = await bench.rekey(['run', bench.playbook(source), '-i', bench.inventory, '-v'], {
      env: { NODE_OPTIONS: `--import ${watch}` },
    })
    t.is(code, 0, stdout)
    for (const host of ['h1', 'h2', 'h3']) {
      t.regex(stdout, new RegExp(`${host} \\| one sees: step\\.started one\\n`))
      t.regex(
        stdout,
        new RegExp(`${host} \\| two sees: step\\.started one, step\\.finished one, step\\.started two\\n`),
      )
    }
  },
)
