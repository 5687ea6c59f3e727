// Folders of runs that somebody else made or wrote to: nothing that they name is loaded, run or removed before the operator said so.
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import test from 'ava'
import { openRun, requireWord } from '../../../lib/cli/taking-up/run-folder.ts'
import type { RekeyError } from '../../../lib/errors.ts'
import { readCommand } from '../../../lib/run/folder/command-file.ts'
import { createRunFolder, lastRun, runsDirectory } from '../../../lib/run/folder/folder.ts'
import { findRun, readHistory, runFolders } from '../../../lib/run/journal/history.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { workbench } from '../_rekey.ts'

const bench = workbench('local', ['h1'])
const playbook = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'two', summary: 'Two', vars: z.object({}), plays: [play('P', { hosts: 'masters' }, [
  step('A', { run: ({ log }) => log('x') }), step('B', { run: () => { throw new Error('not yet') } })])] })`)

/** A run that failed. Each test has a copy of its state. */
let made: string
test.before(async () => {
  await bench.rekey(['run', playbook, '-i', bench.inventory])
  made = bench.state
})

/** A state of its own for a test, which are one after the other: that is where this process looks, too. */
function state(): { folder: string; runs: string; journal: string } {
  const own = join(temporaryFolder('state'), 'state')
  cpSync(made, own, { recursive: true })
  process.env['XDG_STATE_HOME'] = own
  const runs = runsDirectory()
  const folder = join(runs, readdirSync(runs)[0]!)
  return { folder, runs, journal: join(folder, 'events.jsonl') }
}

const rewrite = (file: string, from: string | RegExp, to: string) =>
  writeFileSync(file, readFileSync(file, 'utf8').replace(from, to))

/** Files that say, by being run, that they were; and whether one was. */
function traps(folder: string) {
  const sprung = join(bench.folder, 'PWNED')
  rmSync(sprung, { force: true })
  writeFileSync(
    join(folder, 'evil.ts'),
    `import { writeFileSync } from 'node:fs'\nwriteFileSync(${JSON.stringify(sprung)}, '')`,
  )
  for (const name of ['inv.sh', 'vp.sh']) {
    writeFileSync(join(folder, name), `#!/bin/sh\ntouch ${sprung}\n`)
    chmodSync(join(folder, name), 0o755)
  }
  return () => existsSync(sprung)
}

const rekey = (...words: string[]) => bench.rekey(words, { env: { XDG_STATE_HOME: process.env['XDG_STATE_HOME']! } })

const serial = test.serial

serial(
  "a playbook that is not the run's is not loaded to find that out, nor one that lies in the folder itself",
  async t => {
    const { folder, journal } = state()
    const sprung = traps(folder)
    rewrite(journal, JSON.stringify(playbook), JSON.stringify(join(folder, 'evil.ts')))
    for (const words of [
      ['resume', folder],
      ['rollback', folder, '--list-steps'],
    ]) {
      const { code, stderr } = await rekey(...words)
      t.is(code, 1)
      t.regex(
        stderr,
        /names what lies in itself, and what it says is not run without your word: the playbook \S+evil\.ts\nHint: Give what is right \(--playbook\)/,
      )
    }
    const other = join(bench.folder, 'evil.ts')
    cpSync(join(folder, 'evil.ts'), other)
    const given = await rekey('resume', folder, '--playbook', other)
    t.regex(given.stderr, /evil\.ts is not what it was in this run/)
    t.false(sprung())
  },
)

serial('scripts that a folder names as inventory or for passwords are not run', async t => {
  const { folder } = state()
  const sprung = traps(folder)
  const command = join(folder, 'secrets', 'command.json')
  const written = JSON.parse(readFileSync(command, 'utf8')) as object
  const paths = { inventory: [join(folder, 'inv.sh')], vaultPasswordFile: [join(folder, 'vp.sh')] }
  writeFileSync(command, JSON.stringify({ ...written, ...paths }))
  const { code, stderr } = await rekey('resume', folder, '--playbook', playbook)
  t.is(code, 1)
  t.regex(
    stderr,
    /the inventory \S+inv\.sh; the file or script with a vault password \S+vp\.sh\nHint: .*\(-i, --vault-password-file\)/,
  )
  t.false(sprung())
})

serial('a folder from elsewhere runs what it names once that was seen and confirmed, or given', async t => {
  const { folder } = state()
  const copy = join(temporaryFolder('copy'), basename(folder))
  cpSync(folder, copy, { recursive: true })
  rewrite(
    join(copy, 'secrets', 'command.json'),
    '"extraVars":[]',
    '"extraVars":["word=hush","ansible_ssh_common_args=-oProxyCommand=x"]',
  )
  const history = openRun(copy)
  const read = readCommand(copy)
  const command = 'command' in read ? read.command : undefined
  const named = { run: history.run, folder: copy, playbook, inventory: command!.inventory, command }
  const refused = await t.throwsAsync<RekeyError>(requireWord(named, {}), { code: 'run.foreign-folder' })
  t.regex(
    refused!.message,
    /is not among the runs that are kept here.*the playbook \S+; the inventory \S+; variables: word; variables: ansible_ssh_common_args=-oProxyCommand=x/,
  )
  await t.notThrowsAsync(requireWord(named, { playbook, inventory: ['i'], extraVars: ['a=1'] }))
  await t.notThrowsAsync(requireWord(named, { acceptRunFolder: true }))
  // What steps noted goes to hosts, whatever else is given.
  mkdirSync(join(copy, 'before'))
  const given = { playbook, inventory: ['i'], extraVars: ['a=1'] }
  await t.notThrowsAsync(requireWord(named, given))
  const noted = await t.throwsAsync<RekeyError>(requireWord({ ...named, undoes: true }, given))
  t.regex(noted!.message, /not run without your word: what hosts held before, of \S+before$/)
  t.is(noted!.hint, 'Where that is right, say --accept-run-folder.')
  rmSync(join(copy, 'before'), { recursive: true })
  const declined = await bench.onTerminal(['resume', copy], [[/Type 'yes' to go on: $/, 'y']])
  t.is(declined.code, 1, declined.stdout)
  t.regex(declined.stdout, /it has rekey use:\r\n {2}the playbook [\s\S]*nothing was run/)
  // What was only to be seen there would change the inventory.
  rewrite(join(copy, 'secrets', 'command.json'), /"extraVars":\[.*?\]/, '"extraVars":[]')
  const { code, stdout } = await bench.onTerminal(
    ['rollback', copy, '--list-steps', '--accept-changed-inventory'],
    [[/Type 'yes' to go on: $/, 'yes']],
  )
  t.is(code, 0, stdout)
})

serial(
  'an id of a run that is a path is none: it would be removed on hosts; and a folder has the journal of its run',
  t => {
    for (const id of ['../../victim', '..', 'a/b', 'a\\u0000b', '']) {
      const { folder, journal } = state()
      rewrite(journal, `"run":"${basename(folder)}"`, `"run":"${id}"`)
      t.throws(() => openRun(folder), { code: 'run.no-journal' }, id)
    }
    const { folder, journal } = state()
    rewrite(journal, `"run":"${basename(folder)}"`, '"run":"20260101-000000-other-beef"')
    t.throws(() => openRun(folder), { code: 'run.not-one' })
    const twice = state()
    const [first = ''] = readFileSync(twice.journal, 'utf8').split('\n')
    appendFileSync(twice.journal, `${first.replace(`"run":"${basename(twice.folder)}"`, '"run":"another"')}\n`)
    t.throws(() => openRun(twice.folder), { code: 'run.not-one' })
  },
)

serial('what others may write is not gone by, whichever part of the folder or of what holds it', t => {
  const parts = ['.', '..', '../..', 'events.jsonl', 'secrets', 'secrets/command.json', 'claims', 'output']
  for (const part of [...parts, 'before', 'before.jsonl']) {
    const { folder } = state()
    if (part.startsWith('before')) writeFileSync(join(folder, part), '', { mode: 0o600 })
    t.notThrows(() => openRun('last'))
    chmodSync(join(folder, part), 0o777)
    t.throws(
      () => openRun('last'),
      { code: 'run.unsafe-folder', message: /may be written by others \(mode 777\)/ },
      part,
    )
  }
  const { runs } = state()
  chmodSync(runs, 0o777)
  t.throws(() => createRunFolder('x', runs), { code: 'run.unsafe-folder' })
})

serial('no link in a folder leads rekey out of it, and last-run is no link', t => {
  for (const part of ['events.jsonl', 'secrets', 'secrets/command.json', 'claims', 'output']) {
    const { folder } = state()
    const elsewhere = join(temporaryFolder('elsewhere'), 'x')
    renameSync(join(folder, part), elsewhere)
    symlinkSync(elsewhere, join(folder, part))
    t.throws(() => openRun('last'), { code: 'run.unsafe-folder', message: /is a link, and rekey makes none/ }, part)
  }
  const { folder, runs } = state()
  t.is(lastRun(runs), basename(folder))
  const [own, other] = [join(dirname(runs), 'last-run'), join(dirname(runs), 'x')]
  renameSync(own, other)
  symlinkSync(other, own)
  t.is(lastRun(runs), undefined)
})

serial('a pipe in a folder is not waited for: not to go on with it, and not to list it among others', t => {
  for (const part of [
    'journal-end.json',
    'events.jsonl',
    'secrets/command.json',
    'claims/0',
    'output/01-p/a/h1.log',
    'backups',
  ]) {
    const { folder, runs } = state()
    rmSync(join(folder, part), { force: true })
    mkdirSync(dirname(join(folder, part)), { recursive: true })
    execFileSync('mkfifo', [join(folder, part)])
    t.throws(() => openRun('last'), { code: 'run.unsafe-folder', message: /is neither a file nor a folder/ }, part)
    if (part === 'events.jsonl') t.throws(() => readHistory(folder), { message: /is no file/ })
    else t.is(readHistory(folder).run, basename(folder))
    t.deepEqual(runFolders(runs), [folder])
  }
  const { folder } = state()
  for (const part of ['backups', 'admin.conf', 'journal-end.json']) {
    rmSync(join(folder, part), { force: true })
    symlinkSync(bench.folder, join(folder, part))
    t.throws(() => openRun('last'), { code: 'run.unsafe-folder', message: /is a link, and rekey makes none/ }, part)
    rmSync(join(folder, part))
  }
  t.is(openRun('last').folder, folder)
})

const isRoot = process.getuid?.() === 0
const asRoot = isRoot ? serial : test.skip
asRoot(`what belongs to another user is not gone by${isRoot ? '' : ' (skipped: only root can give files away)'}`, t => {
  for (const part of ['.', '..', '../..', 'events.jsonl', 'secrets/command.json']) {
    const { folder } = state()
    chownSync(join(folder, part), 65534, 65534)
    t.throws(() => openRun('last'), { code: 'run.unsafe-folder', message: /belongs to another user \(65534\)/ }, part)
  }
  const { runs } = state()
  chownSync(join(dirname(runs), 'last-run'), 65534, 65534)
  t.is(lastRun(runs), undefined)
})

serial('where no folder of a run can be made one error says so, and where else it could be', t => {
  for (const [place, hint] of [
    ['/dev/null', /A part of \/dev\/null\/rekey\/runs is a file, and no folder\. .*XDG_STATE_HOME/],
    ['/proc/nothing', /Look at .*XDG_STATE_HOME/],
  ] as const) {
    const error = t.throws<RekeyError>(() => createRunFolder('x', join(place, 'rekey', 'runs')), { code: 'run.folder' })
    t.regex(error!.hint!, hint)
  }
})

serial('a folder where the operator stands, called like a run, does not win over the run', t => {
  const { folder, runs } = state()
  const here = temporaryFolder('here')
  const before = process.cwd()
  process.chdir(here)
  try {
    for (const name of [basename(folder), 'last', basename(folder).slice(0, -1), 'none'])
      cpSync(folder, join(here, name), { recursive: true })
    for (const name of [basename(folder), 'last', basename(folder).slice(0, -1)]) t.is(findRun(name, runs), folder)
    t.is(findRun('./none', runs), join(here, 'none'))
    const error = t.throws<RekeyError>(() => findRun('none', runs), { code: 'run.not-found' })
    t.regex(error!.hint!, /by its path: \.\/none/)
    mkdirSync(join(here, 'empty'))
    t.throws(() => findRun('./empty', runs), { code: 'run.not-found' })
  } finally {
    process.chdir(before)
  }
})
