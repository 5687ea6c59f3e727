// The words of the command line: those of ansible-playbook among them, and how a mistake in them is told.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { Command } from 'commander'
import { connectionCommand, openConnecting } from '../../lib/cli/options/connection.ts'
import { strictly } from '../../lib/cli/options/strict.ts'
import { resumeCommand } from '../../lib/cli/resume.ts'
import { rollbackCommand } from '../../lib/cli/rollback.ts'
import { runCommand } from '../../lib/cli/run.ts'
import { RekeyError } from '../../lib/errors.ts'
import { loadInventory } from '../../lib/inventory/index.ts'
import { temporaryFolder } from '../_temporary.ts'
import { workbench } from './_rekey.ts'

/** What a command makes of words, or how it refuses them. */
function parsed(command: Command, ...words: string[]): Record<string, unknown> | string {
  command.action(() => {})
  strictly(command)
  let said = ''
  command.configureOutput({ writeErr: () => {}, writeOut: text => (said += text), outputError: text => (said += text) })
  try {
    command.parse(words, { from: 'user' })
  } catch (error) {
    return error instanceof RekeyError ? `${error.message}: ${error.hint}` : said || String(error)
  }
  return command.opts()
}

test('every option of ansible-playbook 2.19 works, or is refused by its name with the reason', t => {
  const same: readonly (readonly [words: string, attribute: string, value: unknown])[] = [
    ...(['--private-key k', '--key-file k'] as const).map(words => [words, 'privateKey', 'k'] as const),
    ...(['-u x', '--user x'] as const).map(words => [words, 'user', 'x'] as const),
    ...(['-c local', '--connection local'] as const).map(words => [words, 'connection', 'local'] as const),
    ...(['-T 5', '--timeout 5s'] as const).map(words => [words, 'timeout', 5] as const),
    ['--ssh-common-args=-C', 'sshCommonArgs', '-C'],
    ['--ssh-extra-args=-C', 'sshExtraArgs', '-C'],
    ...(['-k', '--ask-pass'] as const).map(words => [words, 'askPass', true] as const),
    ...['--connection-password-file f', '--conn-pass-file f'].map(
      words => [words, 'connectionPasswordFile', 'f'] as const,
    ),
    ['--force-handlers', 'forceHandlers', true],
    ['--flush-cache', 'flushCache', true],
    ...(['-b', '--become'] as const).map(words => [words, 'become', true] as const),
    ['--become-method su', 'becomeMethod', 'su'],
    ['--become-user x', 'becomeUser', 'x'],
    ...(['-K', '--ask-become-pass'] as const).map(words => [words, 'askBecomePass', true] as const),
    ...['--become-password-file f', '--become-pass-file f'].map(words => [words, 'becomePasswordFile', 'f'] as const),
    ...(['-t a,b', '--tags a,b', '-t a -t b'] as const).map(words => [words, 'tags', ['a', 'b']] as const),
    ['--skip-tags a', 'skipTags', ['a']],
    ...(['-C', '--check'] as const).map(words => [words, 'check', true] as const),
    ...(['-D', '--diff'] as const).map(words => [words, 'diff', true] as const),
    ...['-i a -i b', '--inventory a --inventory b', '--inventory-file a --inventory b'].map(
      words => [words, 'inventory', ['a', 'b']] as const,
    ),
    ['--list-hosts', 'listHosts', true],
    ['--list-tasks', 'listSteps', true],
    ['--list-tags', 'listTags', true],
    ['--syntax-check', 'syntaxCheck', true],
    ['--start-at-task a', 'startAtStep', 'a'],
    ['--step', 'step', true],
    ...(['-l a', '--limit a'] as const).map(words => [words, 'limit', ['a']] as const),
    ...(['-e a=1', '--extra-vars a=1'] as const).map(words => [words, 'extraVars', ['a=1']] as const),
    ['--vault-id a', 'vaultId', ['a']],
    ...(['-J', '--ask-vault-password', '--ask-vault-pass'] as const).map(
      words => [words, 'askVaultPass', true] as const,
    ),
    ...['--vault-password-file f', '--vault-pass-file f'].map(words => [words, 'vaultPasswordFile', ['f']] as const),
    ...(['-f 5', '--forks 5'] as const).map(words => [words, 'forks', 5] as const),
    ...(['-v', '-vvv', '--verbose'] as const).map(words => [words, 'verbose', true] as const),
  ]
  for (const [words, attribute, value] of same) {
    const options = parsed(runCommand(), 'x', ...words.split(' '))
    t.deepEqual((options as Record<string, unknown>)[attribute], value, `${words}: ${JSON.stringify(options)}`)
  }
  t.regex(String(parsed(runCommand(), '--version')), /^\d+\.\d+\.\d+/)
  for (const words of ['-M x', '--module-path x', '--sftp-extra-args=-l', '--scp-extra-args=-l']) {
    t.regex(
      String(parsed(runCommand(), 'x', ...words.split(' '))),
      /^--[\w-]+ is not for rekey: rekey \w+ no \w+.*: /,
      words,
    )
  }
  for (const command of [resumeCommand(), rollbackCommand()]) {
    t.like(parsed(command, 'x', '--key-file', 'k', '-J'), { privateKey: 'k', askVaultPass: true })
  }
})

test('a word that is empty is refused: it stands for a variable that nobody set', t => {
  for (const words of [
    ['--tags', ''],
    ['--tags', ','],
    ['-t', 'a,'],
    ['--skip-tags', ''],
    ['--start-at-step', ''],
    ['-u', ''],
    ['-i', ''],
  ]) {
    t.regex(String(parsed(runCommand(), 'x', ...words)), /is invalid\. (It is|A tag is) empty\./, words.join(' '))
  }
  for (const command of [runCommand(), resumeCommand(), rollbackCommand()]) {
    t.regex(String(parsed(command, '')), /It is empty/)
  }
  t.like(parsed(runCommand(), 'x', '-e', '', '-t', ' a , b'), { extraVars: [''], tags: ['a', 'b'] })
  t.regex(String(parsed(runCommand(), 'x', '-T', '0')), /It must be a duration such as 10s or 1m/)
  t.regex(String(parsed(runCommand(), 'x', '-k', '--connection-password-file', 'f')), /cannot be used with/)
})

test('what stands behind a carriage return in a name does not take the place of what is said of it', async t => {
  const bench = workbench('local', ['h1'], true)
  const { stderr } = await bench.rekey(['show', 'x\r\r\x1b[2Kall is well\r'])
  t.regex(stderr, /^Error: there is no run 'x all is well ?'\nHint: /)
  const path = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'cr', summary: 's', vars: z.object({}), plays: [play('P', { hosts: 'all' }, [
  step('Fail', { run: () => { throw new Error('it failed\\rcr done after 1 s') } }),
])] })`)
  t.is((await bench.rekey(['run', path, '-i', bench.inventory])).code, 2)
  t.regex((await bench.rekey(['show', 'last'])).stdout, /^Error: .*it failed cr done after 1 s$/m)
})

test('passwords come from a file or a program, and a folder of a run keeps neither them nor where they are', async t => {
  const folder = temporaryFolder('passwords')
  const [file, program, empty] = [join(folder, 'file'), join(folder, 'program'), join(folder, 'empty')]
  writeFileSync(file, 'from-the-file\n')
  writeFileSync(program, '#!/bin/sh\necho from-the-program\n')
  chmodSync(program, 0o700)
  writeFileSync(empty, '')
  const { defaults } = await openConnecting({
    connectionPasswordFile: file,
    becomePasswordFile: program,
    askPass: true,
  })
  t.is(defaults.password, 'from-the-file')
  t.is(defaults.becomePassword, 'from-the-program')
  await t.throwsAsync(openConnecting({ becomePasswordFile: empty }), {
    message: /^no BECOME password from .*empty: it gives an empty/,
  })
  await t.throwsAsync(openConnecting({ connectionPasswordFile: join(folder, 'absent') }), {
    message: /there is no such file/,
  })
  const kept = connectionCommand({ connectionPasswordFile: file, becomePasswordFile: program, user: 'u', timeout: 5 })
  t.like(kept, { askPass: true, askBecomePass: true, user: 'u', timeout: 5 })
  t.false(JSON.stringify(kept).includes(folder))
})

test('what the command line says of connections counts where the inventory says nothing', async t => {
  const folder = temporaryFolder('connections')
  writeFileSync(
    join(folder, 'hosts'),
    'h1\nh2 ansible_connection=openssh ansible_timeout=7 ansible_ssh_common_args="-o Port=5" ansible_ssh_extra_args="-o User=x"\n',
  )
  const notices: string[] = []
  const inventory = await loadInventory({
    ...{ sources: [join(folder, 'hosts')], cwd: folder, notice: line => notices.push(line) },
    connection: {
      ...{ kind: 'ssh', connectTimeout: 3, sshCommonArgs: '-o Port=2200', sshExtraArgs: '-o User=op' },
      unlockedKeys: new Map(),
    },
  })
  t.like(inventory.host('h1').connection, { kind: 'ssh', connectTimeout: 3, port: 2200, user: 'op' })
  t.like(inventory.host('h2').connection, { kind: 'openssh', connectTimeout: 7, port: 5, user: 'x' })
  t.deepEqual(notices.map(line => line.split(' ')[0]).sort(), ['--ssh-common-args', '--ssh-extra-args', '-T', '-c'])
  const far = await loadInventory({ sources: ['h1,'], cwd: folder, extraVars: ['ansible_timeout=99999999'] })
  t.throws(() => far.host('h1').connection, { message: /ansible_timeout must be a number of seconds/ })
})

test('a mistake stands last, after a short usage', async t => {
  const bench = workbench('local', ['h1'], true)
  const { code, stderr, stdout } = await bench.rekey(['run', 'rotate-ca', '--taggs', 'x'])
  t.is(code, 1)
  t.is(stdout, '')
  t.is(
    stderr,
    "Usage: rekey run [options] <playbook>\n'rekey run --help' lists what there is.\nError: unknown option '--taggs'; did you mean --tags?\n",
  )
})

const steps = `
import { block, play, playbook, step } from 'rekey'
import { z } from 'zod'
const say = (title, more = {}) => step(title, { run: ({ log, vars }) => log('did ' + title + ' ' + vars.word), ...more })
export default playbook({ name: 'words', summary: 's', vars: z.object({ word: z.string().default('-') }), plays: [
  play('One', { hosts: HOSTS, tags: ['p'], handlers: [say('Handle')] }, [
    say('First', { tags: ['a'], notify: 'handle' }),
    block('B', { tags: ['b'] }, [say('Second it', { delegateTo: 'localhost' }), say('Third', { run: () => { throw new Error('x') }, tags: ['c'] })]),
  ])] })`

test('the lists, the check alone, a start by a title, handlers after a failure; -c local; a step for this machine', async t => {
  const bench = workbench('local', ['h1'], true)
  const path = bench.playbook(steps.replace('HOSTS', "'all'"))
  const run = (...args: string[]) =>
    bench.rekey([
      'run',
      path,
      '-i',
      'other,',
      '-c',
      'local',
      '-e',
      `rekey_directory=${bench.folder}/on`,
      '--output',
      'plain',
      ...args,
    ])
  const checked = await bench.rekey(['run', path, '--syntax-check'])
  t.is(checked.stdout, `${path}: no mistakes in 1 play and 4 steps\n`)
  t.is((await run('--list-tags')).stdout, 'One [all]\n  tags: a, b, c, p\n')
  t.regex((await run('--list-tasks')).stdout, /^One \[all\]\n {2}first +First\n {2}second-it +Second it \(B\)\n/)
  t.deepEqual(bench.runs(), [])
  const started = await run('--start-at-task', 'Second it', '--skip-tags', 'c')
  t.is(started.code, 0, started.stdout)
  t.regex(started.stdout, /changed +Second it \[other -> localhost\]/)
  t.notRegex(started.stdout, /did First/)
  const failed = await run()
  t.is(failed.code, 2)
  t.notRegex(failed.stdout, /did Handle/)
  const forced = await run('--force-handlers')
  t.is(forced.code, 2)
  t.regex(forced.stdout, /did Handle/)
  t.regex((await bench.rekey(['show', 'last'])).stdout, /options +--force-handlers/)
})

test('a play for this machine takes variables of -e, and last names no run of a template', async t => {
  const bench = workbench('local', ['h1'], true)
  const path = bench.playbook(steps.replace('HOSTS', "'localhost'"))
  const args = ['-e', 'word=given', '-e', `rekey_directory=${bench.folder}/on`, '--output', 'plain', '-t', 'a']
  const run = await bench.rekey(['run', path, '-i', bench.inventory, ...args])
  t.is(run.code, 0, run.stdout + run.stderr)
  t.regex(run.stdout, /localhost \| did First given/)
  mkdirSync(join(bench.folder, 'out'))
  writeFileSync(join(bench.folder, 'c.hcl'), `template {\n contents = "x"\n destination = "${bench.folder}/out/x"\n}\n`)
  const template = await bench.rekey(['template', 'h1', '-i', bench.inventory, '-c', 'c.hcl', '--output', 'plain'])
  t.is(template.code, 0, template.stdout + template.stderr)
  t.is(bench.runs().length, 2)
  t.regex((await bench.rekey(['show', 'last'])).stdout, /^words: s\n/)
})

test('a playbook for this machine alone needs no inventory, neither to be run nor to be undone', async t => {
  const bench = workbench('local', ['h1'], true)
  const source = (hosts: string) => `
import { play, playbook, step } from 'rekey'
import { z } from 'zod'
export default playbook({ name: 'here', summary: 'x', vars: z.object({ word: z.string() }), plays: [play('P', { hosts: '${hosts}' }, [
  step('Write it', { run: ctx => ctx.log(ctx.vars.word), rollback: ctx => ctx.log('not ' + ctx.vars.word) }),
  step('Fail', { readOnly: true, run: ({ $ }) => $\`false\` }),
])] })
`
  const args = ['-e', 'word=given', '-e', `rekey_directory=${bench.folder}/on`, '--output', 'plain']
  const run = await bench.rekey(['run', bench.playbook(source('localhost')), ...args])
  t.is(run.code, 2, run.stdout + run.stderr)
  t.regex(run.stdout, /localhost \| given/)
  t.regex(run.stdout, /Fail: failed on localhost/)
  const undone = await bench.rekey(['rollback', 'last', '--output', 'plain'])
  t.is(undone.code, 0, undone.stdout + undone.stderr)
  t.regex(undone.stdout, /localhost \| not given/)
  const other = await bench.rekey(['run', bench.playbook(source('all')), ...args])
  t.regex(other.stderr, /no inventory given/)
})

test('a check tells what only looks as unknown where an earlier step would make what it looks at', async t => {
  const bench = workbench('local', ['h1'], true)
  const path = bench.playbook(`
import { play, playbook, step } from 'rekey'
import { z } from 'zod'
export default playbook({ name: 'x', summary: 'x', vars: z.object({}), plays: [play('P', { hosts: 'all' }, [
  step('Look before', { readOnly: true, tags: ['before'], run: ({ $ }) => $\`cat ${bench.folder}/made\` }),
  step('Write', { run: ({ $ }) => $\`echo x >${bench.folder}/made\` }),
  step('Read', { readOnly: true, run: ({ $ }) => $\`cat ${bench.folder}/made\` }),
])] })`)
  const args = ['run', path, '-i', bench.inventory, '--check', '--output', 'plain']
  const after = await bench.rekey([...args, '--skip-tags', 'before'])
  t.is(after.code, 0, after.stdout)
  t.regex(after.stdout, /unknown +Read \[h1\].*\n +can't be told before: .*No such file/)
  const before = await bench.rekey(args)
  t.is(before.code, 2)
  t.regex(before.stdout, /failed +Look before \[h1\]/)
})
