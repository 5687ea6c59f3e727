// `rekey completion`: what may stand at the end of a line, and that bash asks for it. And `rekey init` where something is there already.
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { commands } from '../../../lib/cli/commands.ts'
import { completions } from '../../../lib/cli/starting/completions.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { root } from '../_rekey.ts'

const folder = temporaryFolder('completion')
const inventory = join(folder, 'hosts')
writeFileSync(inventory, '[web]\nw1\nw2\n[db]\nd1\n')
process.env['XDG_STATE_HOME'] = folder
const run = join(folder, 'rekey/runs/20260102-030405-x-0001')
mkdirSync(run, { recursive: true })
writeFileSync(join(run, 'events.jsonl'), '{}\n')

const after = (line: string) => completions(line.split(' '), commands)

test('commands, options and what they may be, playbooks', async t => {
  t.true((await after('')).includes('rollback'))
  t.deepEqual(await after('pl'), ['playbooks'])
  t.deepEqual(await after('run rotate-c'), ['rotate-ca'])
  t.deepEqual(await after('run rotate-ca --list-h'), ['--list-hosts'])
  t.deepEqual(await after('run rotate-ca --output pl'), ['plain'])
  t.deepEqual(await after('lab inv'), ['inventory'])
  t.deepEqual(await after('lab up --na'), ['--name'])
  // What only Ansible calls so is taken, and not offered.
  t.deepEqual(await after('run rotate-ca --flush-c'), [])
})

test('hosts and groups of the inventory, tags and ids of the playbook, runs', async t => {
  t.deepEqual(await after(`run x -i ${inventory} --limit w`), ['web', 'w1', 'w2'])
  t.deepEqual(await after(`run x --inventory=${inventory} -l d1,w`), ['d1,web', 'd1,w1', 'd1,w2'])
  t.deepEqual(await after(`certs -i ${inventory} d`), ['db', 'd1'])
  t.deepEqual(await after('run rotate-ca -t prefl'), ['preflight'])
  t.deepEqual(await after('run rotate-ca --start-at-step read-the-cl'), ['read-the-clock'])
  t.deepEqual(await after('resume 2026'), ['20260102-030405-x-0001'])
})

test('what can not be read offers nothing, and says nothing: names of files may stand there', async t => {
  t.deepEqual(await after('run x -i /nowhere --limit w'), [])
  t.deepEqual(await after('run nope -t x'), [])
  t.deepEqual(await after('run x -i h'), [])
  t.deepEqual(await after('nope x'), [])
})

test('bash completes by it, and nothing that a name says is run', t => {
  const odd = join(folder, 'odd.json')
  writeFileSync(odd, JSON.stringify({ web: { hosts: { w1: {}, 'w$(touch x)': {} } } }))
  const rekey = join(root, 'bin/rekey')
  const words = `COMP_WORDS=(${rekey} run x -i ${odd} -l ''); COMP_CWORD=6`
  const line = `eval "$(${rekey} completion bash)"; ${words}; _rekey; printf '%s\\n' "\${COMPREPLY[@]}"`
  const { stdout, stderr } = spawnSync('bash', ['-c', line], { encoding: 'utf8' })
  t.is(stderr, '')
  t.deepEqual(
    stdout
      .trim()
      .split('\n')
      .filter(word => word.startsWith('w')),
    ['web', 'w1'],
  )
  t.false(stdout.includes('touch'))
})

test('rekey init does not lie among what is there', async t => {
  const command = await commands['init']!.load()
  const thrown = await t.throwsAsync(command.exitOverride().parseAsync([folder], { from: 'user' }))
  t.regex(thrown!.message, /is not empty: hosts, /)
})
