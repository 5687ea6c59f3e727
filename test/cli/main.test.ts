// The command line as a whole: `rekey --version`, and which options belong to whom.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { Command } from 'commander'
import { commands, unloaded } from '../../lib/cli/commands.ts'
import { smallHeap } from '../../lib/process/small-heap.ts'
import { temporaryFolder } from '../_temporary.ts'

const root = join(import.meta.dirname, '..', '..')
const rekey = (...words: string[]) =>
  spawnSync(join(root, 'bin', 'rekey'), words, {
    encoding: 'utf8',
    env: { ...process.env, XDG_STATE_HOME: temporaryFolder('state') },
  })

test('--version prints the version of package.json, and nothing else', t => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const { stdout, status } = rekey('--version')
  t.is(stdout, `${version}\n`)
  t.is(status, 0)
})

test('help tells of each command, without loading it, what the command tells of itself', async t => {
  const lines = (command: Command) => [command.createHelp().subcommandTerm(command), command.description()]
  for (const [name, { load }] of Object.entries(commands)) t.deepEqual(lines(unloaded(name)), lines(await load()))
})

test('the V8 of this Node knows what keeps the heap small: in mid-run it would only complain on stderr, and go on', t => {
  const { status, stderr } = spawnSync(process.execPath, [...smallHeap, '--eval', ''], { encoding: 'utf8' })
  t.is(status, 0, stderr)
})

test("what comes after the host of 'lab ssh' is the command there, options included", t => {
  const { stderr, status } = rekey('lab', 'ssh', 'm1', 'kubectl', 'get', 'pods', '-A', '--watch')
  t.regex(stderr, /there is no lab 'default'/)
  t.is(status, 1)
})

test("a start loads neither Node's HTTP and TLS, nor zod's fifty languages, nor what reads certificates: it has no use for them", t => {
  const folder = temporaryFolder('start')
  const [watch, inventory] = [join(folder, 'watch.mjs'), join(folder, 'hosts.yml')]
  writeFileSync(inventory, 'masters: { hosts: { m1: { ansible_connection: local } } }\n')
  writeFileSync(
    watch,
    `import { registerHooks } from 'node:module'
const loaded = []
registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
process.on('exit', () => {
  const builtins = process.moduleLoadList.filter(name => /^NativeModule (http|https|tls)$/.test(name))
  console.error(JSON.stringify({ modules: loaded.length, languages: loaded.filter(url => url.includes('/locales/')).length, x509: loaded.filter(url => url.includes('/@peculiar/')).length, builtins }))
})`,
  )
  const { stdout, stderr, status } = spawnSync(
    join(root, 'bin', 'rekey'),
    ['run', 'rotate-ca', '-i', inventory, '--list-steps'],
    { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: `--import ${watch}` } },
  )
  t.is(status, 0, stderr)
  t.regex(stdout, /restart-etcd/)
  const told = JSON.parse(/^\{.*\}$/m.exec(stderr)?.[0] ?? '{}') as Record<string, unknown>
  t.true((told['modules'] as number) > 100)
  t.is(told['languages'], 1)
  t.is(told['x509'], 0)
  t.deepEqual(told['builtins'], [])
})
