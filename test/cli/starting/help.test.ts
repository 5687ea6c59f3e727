// What help and the manual page say of each command: an example that it takes, durations as people write them, a page without a warning.
import { spawnSync } from 'node:child_process'
import test from 'ava'
import type { Command } from 'commander'
import { commands, unloaded } from '../../../lib/cli/commands.ts'
import { strictly } from '../../../lib/cli/options/strict.ts'
import { splitShell } from '../../../lib/shell-words.ts'
import { manualPage } from '../../../scripts/package/manual.ts'

const loaded: readonly [name: string, command: Command][] = await Promise.all(
  Object.entries(commands).map(async ([name, { load }]) => [name, await load()] as const),
)

/** Each command, and those below it, by their names. */
const every = loaded.flatMap(([name, command]) => [
  [name, command] as const,
  ...command.commands.map(sub => [`${name} ${sub.name()}`, sub] as const),
])

function helpOf(command: Command): string {
  let said = ''
  command.configureOutput({ writeOut: text => (said += text) })
  command.outputHelp()
  return said
}

test('each command has an example in its help, which it takes', t => {
  for (const [name, command] of every) {
    const [, line = ''] = /^Example, .*:\n {2}(.*)$/m.exec(helpOf(command)) ?? []
    t.true(line.includes(`rekey ${name}`), `${name}: ${line}`)
    if (!line.startsWith(`rekey ${name} `) || command.commands.length > 0) continue
    strictly(command)
    command.action(() => {}).configureOutput({ writeErr: () => {}, outputError: () => {} })
    const words = splitShell(line).slice(1 + name.split(' ').length)
    t.notThrows(() => command.parse(words, { from: 'user' }), line)
  }
})

test('a line of help fits a terminal, and options that several commands share stand behind its own', t => {
  for (const [name, command] of every) {
    const long = helpOf(command)
      .split('\n')
      // An example is copied: it stays one line. Names of groups and states are what they are.
      .filter(line => line.length > 80 && !line.startsWith('  '))
    t.deepEqual(long, [], name)
  }
  const heads = (name: string) =>
    helpOf(loaded.find(one => one[0] === name)![1])
      .split('\n')
      .filter(line => /^Options/.test(line))
  for (const name of ['run', 'certs', 'template']) t.is(heads(name)[0], 'Options:', name)
  t.is(heads('run').length, 5)
})

test('whatever takes a duration takes 30d and 8h', t => {
  for (const [name, command] of every)
    for (const option of command.options) {
      if (!/<(duration|seconds|time)>/.test(option.flags)) continue
      t.regex(option.flags, /<duration>/, name)
      for (const text of ['30d', '8h', '1h30m'])
        if (option.parseArg && !(option.attributeName() === 'timeout' && text === '30d'))
          t.notThrows(() => option.parseArg!(text, undefined), `${name} ${option.flags} ${text}`)
    }
})

test('the list of commands says of each what the command says of itself', t => {
  for (const [name, command] of loaded) {
    const shown = unloaded(name)
    t.is(shown.description(), command.description(), name)
    t.deepEqual(
      shown.registeredArguments.map(one => [one.name(), one.required, one.variadic]),
      command.registeredArguments.map(one => [one.name(), one.required, one.variadic]),
      name,
    )
  }
})

test('the manual page has every command and every option, and groff has nothing to say of it', async t => {
  const page = await manualPage('1.2.3', '2026-01-31')
  const { stdout, stderr, error } = spawnSync('groff', ['-man', '-Tutf8', '-ww', '-rLL=100n', '-P-cbou'], {
    input: page,
    encoding: 'utf8',
  })
  t.is(error, undefined)
  t.is(stderr, '')
  t.regex(stdout, /^REKEY\(1\).*REKEY\(1\)/)
  const text = stdout.replace(/\s+/g, ' ').replaceAll('−', '-').replaceAll('‐', '-')
  for (const [name, command] of every) {
    t.true(text.includes(`rekey ${name} `), name)
    for (const { flags, hidden } of command.options) if (!hidden) t.true(text.includes(flags), `${name} ${flags}`)
  }
})
