// The twenty tasks of docs/from-ansible.md: the page shows what docs/examples/app-server.ts says, and that runs: asked, done, done again, undone.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import test from 'ava'
import { root, workbench } from '../../cli/_rekey.ts'
import { makeTree, type Tree, treeOf } from '../../operations/_cases.ts'

const example = join(root, 'docs', 'examples', 'app-server.ts')

const before: Tree = {
  'etc/': {},
  'etc/app.conf': { content: 'old\n' },
  'etc/app/': { mode: '0755' },
  'etc/app/database.ini': { content: '[replica]\nhost=db-old.example\n[primary]\nhost=db-old.example\n' },
  'etc/default/': {},
  'etc/hosts': { content: '127.0.0.1 localhost\n' },
  'etc/ssh/': {},
  'etc/ssh/sshd_config': { content: '#PasswordAuthentication yes\nPort 22\n', mode: '0600' },
  'etc/systemd/system/': {},
}

test('the page shows the example, and Ansible has as many tasks as it has steps', t => {
  const page = readFileSync(join(root, 'docs', 'from-ansible.md'), 'utf8')
  const [, shown = ''] = /```ts\n([\s\S]*?)```/.exec(page) ?? []
  t.true(shown.length > 1000)
  t.true(readFileSync(example, 'utf8').includes(shown))
  const [, tasks = ''] = / {2}tasks:\n([\s\S]*?) {2}handlers:/.exec(page) ?? []
  const names = [...tasks.matchAll(/^ {4}- name: (.*)$/gm)].map(([, name]) => name)
  t.is(names.length, 20)
  for (const name of names) t.true(shown.includes(`'${name}'`), name)
})

test.serial('app-server: asked, done, done again and undone', async t => {
  const bench = workbench('local', ['h1'])
  const [host, downloads] = [join(bench.folder, 'host'), join(bench.folder, 'downloads')]
  makeTree(host, before)
  const release = join(bench.folder, 'release')
  makeTree(release, {
    'bin/': {},
    'bin/app': { content: '#!/bin/sh\n[ "$1" = migrate ] && echo tables >"$2"\n', mode: '0755' },
    VERSION: { content: '1.4.2\n' },
  })
  mkdirSync(downloads)
  execFileSync('tar', ['-czf', join(downloads, 'app-1.4.2.tar.gz'), '-C', release, '.'])
  mkdirSync(join(bench.folder, 'units'))
  writeFileSync(join(bench.folder, 'units', 'app.service'), 'load=loaded\nactive=active\nfile=enabled\nstale=no\n')
  const log = join(bench.folder, 'systemctl.log')
  const env = {
    PATH: `${join(root, 'test', 'operations', 'stand-ins')}:${process.env['PATH']}`,
    REKEY_STAND_IN: bench.folder,
    REKEY_STAND_IN_LOG: log,
  }
  const vars = { root: host, downloads, fetched: join(bench.folder, 'fetched') }
  const run = (...words: string[]) =>
    bench.rekey(
      ['run', example, '-i', bench.inventory, '-e', JSON.stringify(vars), '--skip-tags', 'system', ...words],
      { env },
    )
  const untouched = treeOf(host)

  const listed = await bench.rekey(['run', example, '-i', bench.inventory, '--list-steps'])
  t.is(listed.code, 0, listed.stdout + listed.stderr)

  const checked = await run('--check')
  t.is(checked.code, 0, checked.stdout + checked.stderr)
  t.regex(checked.stdout, /would: write \S+\/etc\/hosts/)
  t.deepEqual(treeOf(host), untouched)

  const done = await run()
  t.is(done.code, 0, done.stdout + done.stderr)
  const now = treeOf(host)
  t.is(now['opt/app/current']?.link, '1.4.2')
  t.regex(now['etc/app/app.conf']?.content ?? '', /^# Ansible managed\nport = 8080\nupstream = 10.0.0.11\n/)
  t.is(now['etc/app/app.conf']?.mode, '0640')
  t.is(now['etc/ssh/sshd_config']?.content, 'PasswordAuthentication no\nPort 22\nPermitRootLogin prohibit-password\n')
  t.is(now['etc/ssh/sshd_config']?.mode, '0600')
  t.regex(now['etc/hosts']?.content ?? '', /# BEGIN app\n10.0.0.11 upstream-1\n10.0.0.12 upstream-2\n# END app\n$/)
  t.is(now['etc/app/database.ini']?.content, '[replica]\nhost=db-old.example\n[primary]\nhost=db.example\n')
  t.is(now['etc/default/app']?.content, 'LIMIT_NOFILE=65536\n')
  t.is(now['etc/app.conf'], undefined)
  t.is(now['var/lib/app/schema']?.content, 'tables\n')
  t.is(statSync(join(host, 'var/lib/app/etc.tar.gz')).mode & 0o777, 0o600)
  t.regex(readFileSync(log, 'utf8'), /systemctl restart app/)

  const again = await run()
  t.is(again.code, 0, again.stdout + again.stderr)
  t.notRegex(again.stdout, /^ *changed /m)
  t.deepEqual(treeOf(host), now)

  // The first was the check, the last did nothing.
  const [, first = ''] = bench.runs()
  const undone = await bench.rekey(['rollback', basename(first)], { env })
  t.is(undone.code, 0, undone.stdout + undone.stderr)
  const {
    'var/lib/app/': folder,
    'var/lib/app/schema': schema,
    'var/lib/app/release': note,
    'var/': a,
    'var/lib/': b,
    ...left
  } = treeOf(host)
  t.truthy(folder && schema && note && a && b)
  t.deepEqual(left, untouched)
})
