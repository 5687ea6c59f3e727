// The shell that commands of a host share, against a real sshd: nothing of one is seen by the next, and what can't share has its own.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from '../../lib/connection/connect.ts'
import type { Connection } from '../../lib/connection/connection.ts'
import { runScript } from '../../lib/connection/files.ts'
import { remoteShell } from '../../lib/connection/remote.ts'
import { CancelledError, UnknownOutcomeError } from '../../lib/errors.ts'
import { eventually } from '../_eventually.ts'
import { forEachKind } from './_each-kind.ts'
import { meeting } from './_faults.ts'
import { startSshd } from './sshd.ts'

const each = forEachKind('the shared shell is')

/** The session that a command belongs to, and so the process id of the shell that waits for it. */
const sessionOf = async (connection: Connection, before = 'true') =>
  (await runScript(connection, `${before}; cut -d ' ' -f 6 /proc/self/stat`)).stdout.toString().trim()

each('commands are given to one shell, one after the other; side by side they have their own', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const one = await sessionOf(connection)
  t.is(await sessionOf(connection), one)
  // Each goes on until all three have begun: on a busy machine, one would be over before the next was begun.
  const file = join(t.context.sshd.folder, `beside-${t.context.sshd.settings.kind}`)
  const beside = await Promise.all([1, 2, 3].map(number => sessionOf(connection, meeting(file, number, 3))))
  t.is(new Set(beside).size, 3)
  t.true(beside.includes(one))
  connection.close()
})

each('nothing that a command does to its shell is seen by the next one', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const state =
    'pwd; umask; set -u; (: $own) 2>/dev/null; echo "$? $# $-"; type own_function >/dev/null 2>&1; echo $?; trap; ulimit -c'
  const before = (await runScript(connection, state)).stdout.toString()
  for (const [script, code] of [
    [
      'cd /; umask 0; own=1; export own; own_function() { :; }; set -- a b; set -euf; trap "echo trapped" TERM; exit 3',
      3,
    ],
    ['if then', 2],
    ["echo 'not closed", 2],
    ['exec 1>&2 2>/dev/null </dev/zero; exec true', 0],
    ['return 4 2>/dev/null', 4],
    [': }; exit 5 #', 5],
  ] as const) {
    const ended = await runScript(connection, script)
    // The status of a syntax error is each shell's own.
    if (code === 2) t.not(ended.code, 0, script)
    else t.is(ended.code, code, script)
    t.is((await runScript(connection, state)).stdout.toString(), before, script)
  }
  connection.close()
})

each(
  'output arrives as it was printed: without an end of line, with zeros, and with what looks like the end',
  async t => {
    const connection = await connect('h1', t.context.sshd.settings)
    for (const text of ['', 'no end of line', 'two\n\n', 'rekey-ends-', 'rekey-ends-rekey-ends-\nrekey-end', 'r']) {
      const { stdout, stderr, code } = await runScript(
        connection,
        `printf %s '${text}'; printf %s '${text}' >&2; exit 9`,
      )
      t.deepEqual([stdout.toString(), stderr, code], [text, text, 9])
    }
    const bytes = await runScript(connection, "printf 'a\\000\\377b'; printf 'only here' >&2")
    t.deepEqual([...bytes.stdout], [97, 0, 255, 98])
    t.is(bytes.stderr, 'only here')
    const many = await runScript(connection, 'seq 1 200000; seq 1 100000 >&2')
    t.is(many.stdout.toString().split('\n')[199_999], '200000')
    t.is(many.stderr.split('\n')[99_999], '100000')
    connection.close()
  },
)

each('what a command leaves running prints into no other command', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const $ = remoteShell(connection)
  const left = $`{ sleep 0.5; echo late; } & echo begun`
  await delay(300)
  const said: string[] = []
  for (let count = 0; count < 10; count++) {
    said.push((await $`echo ${count}`).stdout)
    await delay(50)
  }
  t.deepEqual(
    said,
    said.map((_, count) => `${count}\n`),
  )
  t.is((await left).stdout, 'begun\nlate\n')
  connection.close()
})

each('a command that is ended is ended with all that it forked, and the next one runs', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const file = join(t.context.sshd.folder, `ended-${t.context.sshd.settings.kind}`)
  await runScript(connection, 'true')
  const controller = new AbortController()
  // One of its own: other tests may sleep, too.
  const pause = `62.${process.pid}`
  const running = runScript(
    connection,
    `echo >${file}-begun; ( sleep ${pause}; echo went on >${file} ); echo went on >${file}; sleep ${pause}`,
    { signal: controller.signal },
  )
  await eventually(() => existsSync(`${file}-begun`))
  controller.abort()
  await t.throwsAsync(running, { instanceOf: CancelledError })
  t.is((await runScript(connection, 'echo next')).stdout.toString(), 'next\n')
  await delay(300)
  t.throws(() => readFileSync(file))
  const sleeping = await runScript(connection, `grep -lzx '62[.]${process.pid}' /proc/[0-9]*/cmdline 2>/dev/null; true`)
  t.is(sleeping.stdout.toString(), '')
  connection.close()
})

each('a shell that somebody kills ends its command as it ended itself, and another takes the next one', async t => {
  const connection = await connect('h1', t.context.sshd.settings)
  const pid = Number(await sessionOf(connection))
  const file = join(t.context.sshd.folder, `begun-${t.context.sshd.settings.kind}`)
  const running = runScript(connection, `echo >${file}; sleep 3`)
  await eventually(() => existsSync(file))
  process.kill(pid, 'SIGKILL')
  t.is((await running).signal, 'SIGKILL')
  t.is((await runScript(connection, 'echo next')).stdout.toString(), 'next\n')
  t.is((await runScript(connection, 'echo and next')).stdout.toString(), 'and next\n')
  connection.close()
})

each('a shell whose connection is gone ends, also where what its last command printed fills the pipe', async t => {
  const { folder, settings, cut } = t.context.sshd
  const connection = await connect('h1', settings)
  const pid = await sessionOf(connection)
  const file = join(folder, `cut-${settings.kind}`)
  const running = runScript(
    connection,
    `echo >${file}-begun; while [ ! -e ${file} ]; do sleep 0.05; done; head -c 65536 /dev/zero`,
  )
  running.catch(() => {})
  await eventually(() => existsSync(`${file}-begun`))
  t.true(existsSync(`/proc/${pid}`))
  cut()
  await t.throwsAsync(running, { instanceOf: UnknownOutcomeError })
  connection.close()
  writeFileSync(file, '')
  await eventually(() => !existsSync(`/proc/${pid}`))
  t.false(existsSync(`/proc/${pid}`))
})

each('a host that allows one session gives it to whoever needs it', async t => {
  const sshd = await startSshd(['MaxSessions 1'])
  try {
    const connection = await connect('h1', { ...sshd.settings, kind: t.context.sshd.settings.kind })
    for (let round = 0; round < 3; round++) {
      t.is((await runScript(connection, 'echo shared')).stdout.toString(), 'shared\n')
      t.is((await runScript(connection, 'cat', { input: Buffer.from('fed') })).stdout.toString(), 'fed')
      const both = await Promise.all([runScript(connection, 'sleep 0.1; echo a'), runScript(connection, 'echo b')])
      t.deepEqual(
        both.map(({ stdout }) => stdout.toString()),
        ['a\n', 'b\n'],
      )
    }
    connection.close()
  } finally {
    sshd.stop()
  }
})
