// `rekey inventory` as it is typed.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { writeFiles } from './temporary-files.ts'

const rekey = join(import.meta.dirname, '..', '..', 'bin', 'rekey')

async function run(t: ExecutionContext, ...args: string[]) {
  const cwd = writeFiles(t, {
    'hosts.yml': 'masters: {hosts: {m1: {a: 1}, m2: }}\nnodes: {hosts: {n1: }}\n',
    'group_vars/all.yml': 'a: 2\nb: "{{ a }}"\n',
  })
  const { PATH, HOME } = process.env
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [rekey, 'inventory', ...args], {
      cwd,
      env: { PATH, HOME },
    })
    return { code: 0, stdout, stderr }
  } catch (error) {
    return error as { code: number; stdout: string; stderr: string }
  }
}

test.serial('--graph, and from a group on', async t => {
  const { stdout } = await run(t, '-i', 'hosts.yml', '--graph', 'masters')
  t.is(stdout, '@masters:\n  |--m1\n  |--m2\n')
})

test.serial('--list with a limit, and --host', async t => {
  const list = await run(t, '-i', 'hosts.yml', '--list', '-l', 'm1')
  t.deepEqual(Object.keys((JSON.parse(list.stdout) as { _meta: { hostvars: object } })._meta.hostvars), ['m1'])
  const host = await run(t, '-i', 'hosts.yml', '--host', 'm2')
  t.deepEqual(JSON.parse(host.stdout), { a: 2, b: '{{ a }}' })
})

test.serial('--export leaves variables of groups with their groups', async t => {
  const { stdout } = await run(t, '-i', 'hosts.yml', '--list', '--export')
  const listed = JSON.parse(stdout) as { all: { vars: object }; _meta: { hostvars: object } }
  t.deepEqual(listed.all.vars, { a: 2, b: '{{ a }}' })
  t.deepEqual(listed._meta.hostvars, { m1: { a: 1 } })
})

test.serial('--explain, the winner first', async t => {
  const { stdout } = await run(t, '-i', 'hosts.yml', '--explain', 'm1', 'a', '-e', 'a=3')
  t.deepEqual(stdout.split('\n'), [
    'a of m1, the winner first:',
    'won   -e                    "3"  (extra variables (-e))',
    'lost  hosts.yml:1           1  (host m1)',
    'lost  group_vars/all.yml:1  2  (group_vars/all beside the playbook)',
    '',
  ])
})

test.serial('what is wrong goes to stderr with a hint, and the exit code is 1', async t => {
  const cases: [string[], RegExp][] = [
    [['-i', 'hosts.yml', '--graph', 'master'], /^Error: there is no group "master"\nHint: Did you mean "masters"\?\n$/],
    [
      ['-i', 'hosts.yml', '--host', 'm3'],
      /^Error: --host: "m3" matches no host and no group of the inventory\nHint: Did you mean "m\d"\?\n$/,
    ],
    [
      ['-i', 'hosts.yml', '--host', 'masters'],
      /^Error: --host masters is 2 hosts\nHint: Name one of them: m1, m2\.\n$/,
    ],
    [['-i', 'hosts.yml'], /^Error: rekey inventory: nothing was asked for\n/],
    [['-i', 'hosts.yml', '--explain', 'm1'], /^Error: --explain m1: the name of a variable is missing\n/],
    [['-i', 'hosts.yml', '--list', 'm1'], /^Error: "m1" is not expected there\n/],
    [['-i', 'nowhere', '--list'], /^Error: there is no inventory at .*nowhere\nHint: /],
  ]
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await run(t, ...args)
    t.is(code, 1, args.join(' '))
    t.is(stdout, '')
    t.regex(stderr, message)
  }
})
