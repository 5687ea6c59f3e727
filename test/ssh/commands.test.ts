// Commands as an operator meets them: how one ended, in words; that one which is ended leaves nothing behind; how many go on at once.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { testsOnSshd } from '../cli/_rekey.ts'

const { real } = testsOnSshd('commands are', ['h1'])

const playbookOf = (...steps: string[]) => `
import { play, playbook, secret, step } from API
import { z } from ZOD
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}), plays: [play('Work', { hosts: 'masters' }, [
  ${steps.map((run, index) => `step('S${index + 1}', { ignoreErrors: true, run: ${run} }),`).join('\n')}
])] })`

/** Whether a core that is dumped here stays in the folder of who dumps it. */
function dumpsCores(): boolean {
  const pattern = '/proc/sys/kernel/core_pattern'
  if (!existsSync(pattern) || readFileSync(pattern, 'utf8') !== 'core\n') return false
  return execFileSync('sh', ['-c', 'ulimit -H -c'], { encoding: 'utf8' }) !== '0\n'
}

real('how a command ended is told in words: its status, 126, 127, what killed it, and its core', async t => {
  const { bench } = t.context
  const { folder } = bench
  const path = bench.playbook(
    playbookOf(
      '({ $ }) => $`echo the last words >&2; exit 3`',
      '({ $ }) => $`/etc/passwd`',
      '({ $ }) => $`no-such-program`',
      `({ $ }) => $\`sh -c 'kill -KILL $$'\``,
      `({ $ }) => $\`exec sh -c 'kill -TERM $$'\``,
      `({ $ }) => $\`cd ${folder}; ulimit -c $(ulimit -H -c); sh -c 'kill -SEGV $$'\``,
      `({ $ }) => $\`echo \${secret('swordfish-swordfish')}\``,
    ),
  )
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory])
  t.is(code, 0, stdout)
  const said = (step: string) => new RegExp(`ignored +${step} \\[h1\\] [^:]*: (.*)`).exec(stdout)?.[1] ?? ''
  t.is(said('S1'), 'a command ended with exit status 3: the last words')
  t.regex(said('S2'), /^a command ended with exit status 126 \(found, but not allowed to run\): .*Permission denied/)
  t.regex(said('S3'), /^a command ended with exit status 127 \(command not found\): .*no-such-program: .*not found/)
  t.regex(said('S4'), /^a command ended with exit status 137 \(128 \+ 9: killed by SIGKILL\)/)
  t.regex(said('S5'), /^a command (was ended by SIGTERM|ended with exit status 143 \(128 \+ 15: killed by SIGTERM\))/)
  t.regex(said('S6'), /^a command ended with exit status 139 \(128 \+ 11: killed by SIGSEGV\): Segmentation fault/)
  if (dumpsCores()) t.regex(said('S6'), /\(core dumped\)/)
  t.regex(said('S7'), /^a secret can’t be part of a command line/)
  t.notRegex(stdout, /swordfish/)
})

real(
  'what a command prints stays neither in memory nor in the journal, be it 300 MB without a line break or short lines',
  async t => {
    const { bench } = t.context
    const path = bench.playbook(
      playbookOf(
        "({ $ }) => $`head -c 300000000 /dev/zero | tr '\\0' x`",
        '({ $ }) => $`yes | head -c 5000000; echo the last words >&2; exit 3`',
        "({ log }) => log(process.resourceUsage().maxRSS + ' KB at most')",
      ),
    )
    const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory])
    t.is(code, 0, stdout.slice(-2_000))
    t.true(Number(/(\d+) KB at most/.exec(stdout)?.[1]) < 300_000, stdout.slice(-2_000))
    t.regex(stdout, /ignored +S2 \[h1\] .*the last words/)
    t.true(statSync(join(bench.runs()[0] ?? '', 'events.jsonl')).size < 100_000)
  },
)

/** A command that does not mind TERM, and has children that don't: one of its own group, and one that left it. */
const stubborn = (folder: string) =>
  `trap '' TERM; sleep 71 & echo $$ $! >${folder}/pids; setsid sh -c 'echo $$ >>${folder}/pids; exec sleep 72' & while [ $(wc -w <${folder}/pids) -lt 3 ]; do sleep 0.05; done; echo begun; sleep 73 & wait; sleep 74`

/** Those of the processes that the command named which still run. */
async function leftOf(folder: string): Promise<string[]> {
  const pids = readFileSync(join(folder, 'pids'), 'utf8').trim().split(/\s+/)
  const running = () => pids.filter(pid => existsSync(`/proc/${pid}`))
  for (let tries = 0; tries < 300 && running().length > 0; tries++) await delay(100)
  return pids.length === 3 ? running() : [`only ${pids.length} are known`]
}

real('a time-out ends all that a command started, also what minds no TERM and what left its group', async t => {
  const { bench } = t.context
  const path = bench.playbook(playbookOf(`({ $ }) => $({ timeout: 5_000 })\`${stubborn(bench.folder)}\``))
  const { stdout } = await bench.rekey(['run', path, '-i', bench.inventory])
  t.regex(stdout, /ignored +S1 \[h1\].*: h1: the command did not finish within 5 s and was ended/)
  t.deepEqual(await leftOf(bench.folder), [])
})

real('so does leaving the loop over its lines, and its step ends then', async t => {
  const { bench } = t.context
  const path = bench.playbook(
    playbookOf(
      `async ({ $ }) => { for await (const line of $\`${stubborn(bench.folder)}\`) if (line === 'begun') break }`,
    ),
  )
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory])
  t.is(code, 0, stdout)
  t.regex(stdout, /changed +S1 \[h1\]/)
  t.deepEqual(await leftOf(bench.folder), [])
})

real('and Ctrl-C: exit 130 comes when nothing of it runs any more', async t => {
  const { bench } = t.context
  const path = bench.playbook(playbookOf(`({ $ }) => $\`${stubborn(bench.folder)}\``))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h1 | begun')) kill('SIGINT')
    },
  })
  t.is(code, 130, stdout)
  t.regex(stdout, /cancelled +S1 \[h1\]/)
  t.deepEqual(await leftOf(bench.folder), [])
})

real('at most eight commands of a host go on at once, over its one connection; the others have their turn', async t => {
  const { bench, sshd } = t.context
  const counted = `echo + >>${bench.folder}/log; sleep 0.3; echo - >>${bench.folder}/log`
  const path = bench.playbook(
    playbookOf(`({ $ }) => Promise.all(Array.from({ length: 24 }, () => $\`${counted}\`)).then(() => {})`),
  )
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory])
  t.is(code, 0, stdout)
  let [running, most] = [0, 0]
  const signs = readFileSync(join(bench.folder, 'log'), 'utf8').trim().split('\n')
  for (const sign of signs) {
    running += sign === '+' ? 1 : -1
    most = Math.max(most, running)
  }
  t.is(signs.length, 48)
  t.true(most > 1 && most <= 8, `${most} at once`)
  t.is(sshd.said().match(/Accepted publickey/g)?.length, 1)
})

real('what commands leave on a host while they run is in a folder that is for its owner only', async t => {
  const { bench } = t.context
  const path = bench.playbook(
    playbookOf(`({ $ }) => $\`find ${bench.folder}/on-hosts -type d -printf '%m %f\\\\n'; umask\``),
  )
  const { stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'])
  const folders = [...stdout.matchAll(/h1 \| (\d{3}) (\S+)$/gm)].map(([, mode, name]) => `${mode} ${name}`)
  t.true(folders.includes('700 on-hosts') && folders.includes('700 commands'), stdout)
  t.deepEqual(
    folders.filter(one => !one.startsWith('700 ')),
    [],
  )
  t.notRegex(stdout, /h1 \| 0?077$/m, 'the command has the umask of its user')
})

for (const [options, most] of [
  [[], 32],
  [['--forks', '3'], 3],
] as const) {
  real(`${options.join(' ') || 'without --forks'}: ${most} hosts are connected to at the same time`, async t => {
    const { bench } = t.context
    let taken = 0
    let settled: number | undefined
    let stopped = false
    // Takes connections, and says nothing: each attempt lasts. Once there are so many, no other comes for a while.
    const silent = createServer(socket => {
      socket.on('error', () => {})
      if (++taken === most) {
        setTimeout(() => {
          settled = taken
        }, 1_000)
      }
    }).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    bench.set({ ansible_port: (silent.address() as AddressInfo).port, ansible_timeout: 120 })
    const hosts = Array.from({ length: most + 5 }, (_, index) => `    h${index}:\n`).join('')
    writeFileSync(bench.inventory, `masters:\n  hosts:\n${hosts}`)
    const path = bench.playbook(playbookOf('() => {}'))
    const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, ...options], {
      onLine: (line, kill) => {
        if (stopped || settled === undefined || !line.includes('… Connect (')) return
        stopped = true
        kill('SIGINT')
      },
    })
    silent.close()
    t.is(code, 130, stdout)
    t.is(settled, most)
    t.is(stdout.match(/cancelled +Connect \[/g)?.length, most)
    t.regex(stdout, /Connect: not begun on h\d+, h\d+, h\d+, h\d+, h\d+\n/)
  })
}
