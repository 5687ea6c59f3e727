// Run folders in which something is broken: what can be gone on with goes on and says what it can't know, the rest is one error.
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readCommand, writeCommand } from '../../lib/run/folder/command-file.ts'
import { temporaryFolder } from '../_temporary.ts'
import { type Workbench, workbench } from './_rekey.ts'

const steps = `
import { play, playbook, step } from API
import { z } from ZOD
import { existsSync } from 'node:fs'
const there = name => existsSync(FOLDER + '/' + name)
export default playbook({ name: 'damaged', summary: 'Is damaged', vars: z.object({ word: z.string().default('none') }), plays: [play('Work', { hosts: 'masters' }, [
  step('Look', { readOnly: true, run: () => ({ seen: 1 }) }),
  step('Make', { run: () => ({ made: 'x' }), rollback: ({ log }) => log('make is undone') }),
  step('Fail', { run: () => { if (!there('go')) throw new Error('as asked') }, rollback: () => {} }),
  step('Use', { run: ({ registered, log, vars }) => log('saw ' + registered('look').seen + ' ' + registered('make').made + ' ' + vars.word) }),
])] })`

/** A run that failed in the middle. */
const failed = (...words: string[]) => failedOn(workbench('local', ['h1'], true), words)
/** The same in a process of its own, which is gone then. */
const killed = () => failedOn(workbench('local', ['h1']), [])
/** What is called when the journal is not cut any more: it may have been done by a process that is still there. */
const byAnother = { served: true }

async function failedOn(bench: Workbench, words: readonly string[]) {
  const path = bench.playbook(steps.replace('FOLDER', JSON.stringify(bench.folder)))
  const { code, stdout, stderr } = await bench.rekey(['run', path, '-i', bench.inventory, ...words])
  if (code !== 2) throw new Error(stdout + stderr)
  bench.touch('go')
  const [folder = ''] = bench.runs()
  return { bench, folder, journal: join(folder, 'events.jsonl'), registered: join(folder, 'registered.jsonl') }
}

test('broken claims, a torn journal and a value that is lost but can be looked up again: resume says so, and comes to its end', async t => {
  const { bench, folder, journal, registered } = await failed()
  writeFileSync(join(folder, 'claims', '0'), '')
  writeFileSync(join(folder, 'claims', '7'), 'null')
  appendFileSync(journal, 'null\n{"kind":"new.event","at":5}\n{"kind":"step.fin')
  writeFileSync(registered, readFileSync(registered, 'utf8').replace(/^.*"look".*$/m, '\0\0\0'))
  const { code, stdout, stderr } = await bench.rekey(['resume', 'last'])
  t.is(code, 0, stdout + stderr)
  for (const said of [
    /claims\/0 can't be read: whether somebody else goes on with this run is not known/,
    /claims\/7 can't be read/,
    /events\.jsonl:\d+ is no event of a run: what it told of the run is not known/,
    /events\.jsonl:\d+ is of a kind that this rekey does not know: "new\.event"/,
    /events\.jsonl:\d+ ends in the middle/,
    /registered\.jsonl:1 can't be read: what a step returned is lost/,
    /saw 1 x none/,
  ])
    t.regex(stdout, said)
  t.notRegex(stdout, / (changed|ok) +Make/)
  t.is((await bench.rekey(['show', 'last'])).code, 0)
})

test('a value that can not be looked up again stops the step that needs it, and not the way back', async t => {
  const { bench, registered } = await failed()
  writeFileSync(registered, readFileSync(registered, 'utf8').replace(/^.*"make".*$/m, 'garbage'))
  const goneOn = await bench.rekey(['resume', 'last'])
  t.is(goneOn.code, 1 + 1, goneOn.stdout)
  t.regex(goneOn.stdout, /Error: .*what 'make' returned on h1 is lost/)
  const back = await bench.rekey(['rollback', 'last'])
  t.is(back.code, 0, back.stdout + back.stderr)
  t.regex(back.stdout, /make is undone/)
})

test('without what is kept of the command line a run goes on where it was given nothing, and else asks for it', async t => {
  const { bench, folder } = await failed('-e', 'word=whisper')
  const path = join(folder, 'secrets', 'command.json')
  for (const damage of ['', '{', '[]', '{"inventory": 5}']) {
    writeFileSync(path, damage)
    t.regex(JSON.stringify(readCommand(folder)), /command\.json can't be read \(it is damaged\)/)
  }
  const refused = await bench.rekey(['resume', 'last'])
  t.is(refused.code, 1)
  t.regex(
    refused.stderr,
    /^Error: .*command\.json can't be read \(it is damaged\), and .* stands nowhere else: word\nHint: .*-e word=…\n$/,
  )
  const { code, stdout, stderr } = await bench.rekey(['resume', 'last', '-e', 'word=whisper'])
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /command\.json can't be read \(it is damaged\): how to connect/)
  t.regex(stdout, /saw 1 x whisper/)
  t.like(readCommand(folder), { command: { extraVars: ['word=whisper'] } })
})

test('a folder that holds anything hides no other run', async t => {
  const { bench, folder } = await failed()
  const parent = join(folder, '..')
  mkdirSync(join(parent, '20990101-000000-a-0000', 'events.jsonl'), { recursive: true })
  for (const [name, text] of [
    ['b', 'null\n'],
    ['c', '{"kind":"run.started"}\n'],
    ['d', 'x'],
  ] as const) {
    mkdirSync(join(parent, `20990101-000000-${name}-0000`))
    writeFileSync(join(parent, `20990101-000000-${name}-0000`, 'events.jsonl'), text)
  }
  const { code, stdout } = await bench.rekey(['runs'])
  t.is(code, 0)
  t.is(stdout.trim().split('\n').length, 6)
  t.regex(stdout, /-damaged-\w+ .* failed\n/)
  for (const name of ['a', 'b', 'c', 'd']) t.regex(stdout, new RegExp(`20990101-000000-${name}-0000 .*events\\.jsonl`))
})

test('what of a command line was kept is read back as it was', async t => {
  const folder = temporaryFolder('command')
  t.regex(JSON.stringify(readCommand(folder)), /ENOENT/)
  const command = {
    ...{ inventory: ['/a'], extraVars: ['b=c'], vaultId: [], vaultPasswordFile: ['/d'], askVaultPass: true },
    connection: { user: 'e', become: true, becomeMethod: 'su' as const },
  }
  await writeCommand(folder, command)
  t.deepEqual(readCommand(folder), { command })
})

/** Takes everything from the journal that comes after the last line of which this is true, that line not. */
function cutAfter(journal: string, isLast: (event: Record<string, unknown>) => boolean): void {
  const lines = readFileSync(journal, 'utf8').split('\n')
  const last = lines.findLastIndex(line => line !== '' && isLast(JSON.parse(line)))
  writeFileSync(
    journal,
    lines
      .slice(0, last + 1)
      .map(line => `${line}\n`)
      .join(''),
  )
}
const lookEnded = ({ kind, step }: Record<string, unknown>) => kind === 'step.finished' && step === 'look'

test('a journal that was cut where a line ends: what was lost is done again and said, and nothing is undone in part in silence', async t => {
  for (const isMarked of [true, false]) {
    const { bench, folder, journal } = await killed()
    // Without the file it is what 'Make' returned that tells.
    if (!isMarked) rmSync(join(folder, 'journal-end.json'))
    cutAfter(journal, lookEnded)
    const shown = await bench.rekey(['show', 'last'], byAnother)
    t.regex(
      shown.stdout,
      isMarked ? /events\.jsonl ends before \d+ bytes that are lost/ : /ends before something that is lost/,
    )
    const back = await bench.rekey(['rollback', 'last'], byAnother)
    t.is(back.code, 1, back.stdout)
    t.regex(back.stderr, /^Error: .* did more than its journal says: .*\nHint: .*rekey resume /)
    rmSync(join(bench.folder, 'go'))
    const failedAgain = await bench.rekey(['resume', 'last'], byAnother)
    t.is(failedAgain.code, 2, failedAgain.stdout + failedAgain.stderr)
    for (const said of [
      /events\.jsonl ends before .* lost: what it told of the run is not known/,
      / Make: begun on h1, its end is not known: it is done again/,
      /changed +Make/,
    ])
      t.regex(failedAgain.stdout, said)
    // From now on it can be undone, and still says what it does not know.
    const undone = await bench.rekey(['rollback', 'last'], byAnother)
    t.is(undone.code, 0, undone.stdout + undone.stderr)
    t.regex(undone.stdout, /events\.jsonl:\d+ comes after .* lost/)
    t.regex(undone.stdout, /make is undone/)
  }
})

test('a journal that has lost that its run was being undone: nobody goes on with the run as if it stood', async t => {
  const { bench, journal } = await killed()
  const back = await bench.rekey(['rollback', 'last'])
  t.is(back.code, 0, back.stdout + back.stderr)
  cutAfter(journal, ({ kind }) => kind === 'run.finished')
  cutAfter(journal, ({ kind, step }) => kind === 'step.finished' && step === 'fail')
  const { code, stderr } = await bench.rekey(['resume', 'last'], byAnother)
  t.is(code, 1)
  t.regex(stderr, /^Error: .* may have been undone in part: .*events\.jsonl ends before \d+ bytes/)
  const again = await bench.rekey(['rollback', 'last'], byAnother)
  t.is(again.code, 0, again.stdout + again.stderr)
  t.regex(again.stdout, /make is undone/)
})

test('what was printed tells of a step, too; a journal of which nothing is left hides no run', async t => {
  const { bench, folder, journal } = await killed()
  t.is((await bench.rekey(['resume', 'last'])).code, 0)
  rmSync(join(folder, 'journal-end.json'))
  const isUse = ({ step }: Record<string, unknown>) => step === 'use'
  const lines = readFileSync(journal, 'utf8')
    .trimEnd()
    .split('\n')
    .filter(line => !isUse(JSON.parse(line)))
  writeFileSync(
    journal,
    lines
      .slice(0, -1)
      .map(line => `${line}\n`)
      .join(''),
  )
  const { code, stdout } = await bench.rekey(['resume', 'last'])
  t.is(code, 0, stdout)
  t.regex(stdout, / Use: begun on h1, its end is not known: it is done again/)
  writeFileSync(journal, '')
  t.regex(
    (await bench.rekey(['runs'], byAnother)).stdout,
    /-damaged-\w+ .*events\.jsonl ends before \d+ bytes that are lost/,
  )
})
