// Run folders in which something is broken: what can be gone on with goes on and says what it can't know, the rest is one error.
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readCommand, writeCommand } from '../../lib/run/folder/command-file.ts'
import { temporaryFolder } from '../_temporary.ts'
import { workbench } from './_rekey.ts'

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
async function failed(...words: string[]) {
  const bench = workbench('local', ['h1'], true)
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
  t.is(stdout.trim().split('\n').length, 5)
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
