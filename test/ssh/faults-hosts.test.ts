// Hosts that misbehave: an sshd that is restarted, hangs, allows little, is far away, has another key; a disk that is full.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import type { RunEvent } from '../../lib/run/events.ts'
import { type Workbench, workbench } from '../cli/_rekey.ts'
import { until } from './_faults.ts'
import { openLink } from './proxy.ts'
import { sshdMissing, startSshd, type TestSshd } from './sshd.ts'

const missing = sshdMissing()
const test = anyTest as TestFn<{ sshd: TestSshd }>
const real = missing ? test.skip : test.serial

if (missing) test.skip(`faults of hosts are not tested: ${missing}`, () => {})

test.afterEach.always(async t => {
  await t.context.sshd?.stop()
})

const playbookOf = (...runs: string[]) => `
import { copy, play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}), plays: [play('Work', { hosts: 'masters' }, [
  ${runs.map((run, index) => `step('Step ${index + 1}', { run: ${run} }),`).join('\n')}
])] })`

/** An sshd with these settings, and a workbench for it. */
async function benchOf(
  t: { context: { sshd: TestSshd } },
  hosts: readonly string[],
  configuration: readonly string[] = [],
): Promise<Workbench> {
  t.context.sshd = await startSshd(configuration)
  return workbench(t.context.sshd, hosts)
}

real('an sshd that is restarted in mid-command is come back to; the command went on', async t => {
  const bench = await benchOf(t, ['h1'])
  const command = `echo begun; ${until(`${bench.folder}/go`)}; echo ran >>${bench.folder}/log`
  const path = bench.playbook(
    playbookOf(`({ $ }) => $\`${command}\``, `({ $ }) => $\`echo after >>${bench.folder}/log\``),
  )
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (line.endsWith('h1 | begun')) void t.context.sshd.restart()
      if (line.includes('waiting for its end')) bench.touch('go')
    },
  })
  t.is(code, 0, stdout)
  t.is(readFileSync(join(bench.folder, 'log'), 'utf8'), 'ran\nafter\n')
})

real('a host that hangs is noticed by its silence; what it was doing is unknown: exit 4', async t => {
  const bench = await benchOf(t, ['h1'])
  const known = `-o UserKnownHostsFile=${join(t.context.sshd.folder, 'known_hosts')}`
  bench.set({
    ansible_ssh_common_args: `${known} -o ServerAliveInterval=2 -o ServerAliveCountMax=3`,
    ansible_timeout: 6,
    rekey_reconnect_within: '1s',
  })
  const path = bench.playbook(playbookOf('({ $ }) => $`echo begun; sleep 20`', '() => {}'))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (line.endsWith('h1 | begun')) t.context.sshd.hang()
    },
  })
  t.is(code, 4, stdout)
  t.regex(stdout, /h1: the connection was lost \(Keepalive timeout\); connecting again/)
  t.regex(stdout, /unknown +Step 1 \[h1\].*it can't be reached any more \(.*no answer within 6 s\)/)
  t.notRegex(stdout, /Step 2 \[h1\]/)
})

real('a host that allows one channel only works, and what fills it can be ended', async t => {
  const bench = await benchOf(t, ['h1'], ['MaxSessions 1'])
  const three = '({ $ }) => Promise.all([1, 2, 3].map(() => $`sleep 0.1; echo one`)).then(() => {})'
  const path = bench.playbook(
    playbookOf(three, `({ $ }) => $\`echo $$ >${bench.folder}/pid; echo begun; exec sleep 60\``),
  )
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h1 | begun')) kill('SIGINT')
    },
  })
  t.is(code, 130, stdout)
  t.regex(stdout, /changed +Step 1 \[h1\]/)
  t.regex(stdout, /cancelled +Step 2 \[h1\]/)
  t.throws(() => process.kill(Number(readFileSync(join(bench.folder, 'pid'), 'utf8')), 0), { code: 'ESRCH' })
})

real('a host that lets one in at a time is waited for', async t => {
  const bench = await benchOf(t, ['h1', 'h2', 'h3', 'h4', 'h5', 'h6'], ['MaxStartups 1'])
  const path = bench.playbook(playbookOf('({ $ }) => $`true`'))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory])
  t.is(code, 0, stdout)
  t.is([...stdout.matchAll(/changed +Step 1 /g)].length, 6)
})

real('a link with 200 ms of delay makes steps slow, and nothing else', async t => {
  t.context.sshd = await startSshd()
  const link = await openLink(t.context.sshd, 100)
  const bench = workbench(link.sshd, ['h1', 'h2'])
  // h2 is reached without the link: how long steps take on this machine at this moment.
  const { port, settings } = t.context.sshd
  const direct = `ansible_port: ${port}, ansible_ssh_common_args: '-o UserKnownHostsFile=${settings.knownHostsFiles?.[0]}'`
  writeFileSync(bench.inventory, readFileSync(bench.inventory, 'utf8').replace('h2:', `h2: { ${direct} }`))
  const path = bench.playbook(playbookOf(...Array.from({ length: 5 }, () => 'async ({ $ }) => { await $`true` }')))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '--output', 'json'])
  link.stop()
  t.is(code, 0, stdout)
  const events = stdout
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line) as RunEvent)
  const tookOn = (host: string) =>
    events.flatMap(event =>
      event.kind === 'step.finished' && event.play > 0 && event.host === host ? event.milliseconds : [],
    )
  const [far, near] = [tookOn('h1'), tookOn('h2')]
  t.deepEqual([far.length, near.length], [5, 5])
  // A channel and its command are asked for one after the other. Of five steps, one was not kept waiting by anything else.
  const quickest = Math.min(...far)
  t.true(quickest >= 200 && quickest < 600 + Math.max(...near), `${far} and ${near}`)
})

real('a host key that changed between two runs is refused before anything is done: exit 4', async t => {
  const bench = await benchOf(t, ['h1'])
  const path = bench.playbook(playbookOf(`({ $ }) => $\`echo ran >>${bench.folder}/log\``))
  t.is((await bench.rekey(['run', path, '-i', bench.inventory])).code, 0)
  const { folder } = t.context.sshd
  for (const name of ['host', 'host.pub']) rmSync(join(folder, name))
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'host')])
  await t.context.sshd.restart()
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory])
  t.is(code, 4, stdout)
  t.regex(stdout, /the host key of h1 is not the one at .*known_hosts:1: it presented ssh-ed25519 SHA256:/)
  t.regex(stdout, /Hint: Somebody may be in between/)
  t.is(readFileSync(join(bench.folder, 'log'), 'utf8'), 'ran\n')
})

const isRoot = process.getuid?.() === 0
const asRoot = isRoot ? real : test.skip

for (const [how, run, says] of [
  [
    'written',
    (path: string) => `({ files }) => files.write('${path}', 'x'.repeat(200_000))`,
    /failed +Step 1 \[h1\].*: h1: could not write \S+tls\.crt: .*No space left on device/,
  ],
  [
    'copied',
    (path: string) => `ctx => copy(ctx, [{ path: '${path}', content: 'x'.repeat(200_000) }])`,
    /failed +Step 1 \[h1\].*: h1: files could not be copied, and are as they were: .*tls\.crt[\s\S]*No space left on device/,
  ],
] as const)
  asRoot(
    `a disk that is full while a certificate is ${how} leaves the old one${isRoot ? '' : ' (skipped: needs root for a disk)'}`,
    async t => {
      const bench = await benchOf(t, ['h1'])
      const disk = join(bench.folder, 'disk')
      mkdirSync(disk)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk])
      try {
        writeFileSync(join(disk, 'tls.crt'), 'the old one')
        const path = bench.playbook(playbookOf(run(join(disk, 'tls.crt')), '() => {}'))
        const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory])
        t.is(code, 2, stdout)
        t.regex(stdout, says)
        t.notRegex(stdout, /Step 2 \[h1\]/)
        t.is(readFileSync(join(disk, 'tls.crt'), 'utf8'), 'the old one')
        t.deepEqual(readdirSync(disk), ['tls.crt'])
      } finally {
        execFileSync('umount', [disk])
      }
      t.false(existsSync(join(disk, 'tls.crt')))
    },
  )
