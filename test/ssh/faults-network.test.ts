// A network that loses packets, in a namespace of its own: one in twenty, as iptables throws them away.
import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import test from 'ava'
import type { ConnectionSettings } from '../../lib/connection/settings.ts'
import { workbench } from '../cli/_rekey.ts'
import { sshdMissing, type TestSshd } from './sshd.ts'

const lossy = 'ip link set lo up && iptables -A INPUT -i lo -m statistic --mode random --probability 0.05 -j DROP'

function lossMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can make a network'
  const { status, stderr } = spawnSync('unshare', ['--net', 'sh', '-c', lossy], { encoding: 'utf8' })
  return status === 0 ? undefined : `no network that loses packets can be made: ${stderr?.trim()}`
}

const missing = sshdMissing() ?? lossMissing()
const real = missing ? test.skip : test.serial

if (missing) test.skip(`packets are not lost: ${missing}`, () => {})

/** Every step leaves a line; the last one writes a file and reads it back. */
const steps = (folder: string) => `
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}), plays: [play('Work', { hosts: 'masters' }, [
  ...Array.from({ length: 10 }, (_, index) => step('Step ' + index, {
    run: ({ $, host }) => $\`echo \${host.name + ' ' + index} >>${folder}/log; head -c 20000 /dev/zero | tr '\\\\0' x\`.then(({ stdout }) => {
      if (stdout.length !== 20000) throw new Error('only ' + stdout.length + ' bytes came')
    }),
  })),
  step('File', { runOnce: true, run: async ({ files }) => {
    await files.write('${folder}/file', 'y'.repeat(1_000_000))
    await files.write('${folder}/copy', await files.read('${folder}/file'))
  } }),
])] })`

for (const kind of ['ssh', 'openssh'] as const) {
  real(`${kind}: with one packet in twenty lost, everything is done once, whole, and only takes longer`, async t => {
    const words = ['--net', 'sh', '-c', `${lossy} && exec "$@"`, 'sh', process.execPath]
    const there = spawn('unshare', [...words, join(import.meta.dirname, '_lossy-link.ts')])
    const lines = createInterface({ input: there.stdout })[Symbol.asyncIterator]()
    const settings = JSON.parse((await lines.next()).value ?? '') as ConnectionSettings
    const bench = workbench({ settings } as TestSshd)
    bench.set({ ansible_connection: kind })
    const { code, stdout } = await bench.rekey(['run', bench.playbook(steps(bench.folder)), '-i', bench.inventory], {
      through: ['nsenter', '--net', '--target', String(there.pid)],
    })
    there.stdin.end()
    const dropped = Number((await lines.next()).value)
    t.is(code, 0, stdout)
    t.regex(stdout, /h1 +ok=1 changed=11\n +h2 +ok=1 changed=10\n +h3 +ok=1 changed=10\n/)
    t.notRegex(stdout, /unknown|unreachable|failed/)
    const log = readFileSync(join(bench.folder, 'log'), 'utf8').trim().split('\n')
    const expected = ['h1', 'h2', 'h3'].flatMap(host => Array.from({ length: 10 }, (_, index) => `${host} ${index}`))
    t.deepEqual(log.toSorted(), expected)
    t.is(readFileSync(join(bench.folder, 'copy'), 'utf8'), 'y'.repeat(1_000_000))
    t.true(dropped > 10, `${dropped} packets were lost`)
  })
}
