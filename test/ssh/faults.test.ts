// Links that are cut in the middle of a command: what rekey finds out afterwards, and what it does not pretend to know.
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import anyTest, { type TestFn } from 'ava'
import { eventually } from '../_eventually.ts'
import { type Workbench, workbench } from '../cli/_rekey.ts'
import { playbookOf, until } from './_faults.ts'
import { type Link, openLink } from './proxy.ts'
import { sshdMissing, startSshd, type TestSshd } from './sshd.ts'

const missing = sshdMissing()
const test = anyTest as TestFn<{ sshd: TestSshd; link: Link; bench: Workbench }>
const real = missing ? test.skip : test.serial

if (missing) test.skip(`faults are not tested: ${missing}`, () => {})

test.beforeEach(async t => {
  if (missing) return
  t.context.sshd = await startSshd()
  t.context.link = await openLink(t.context.sshd)
  t.context.bench = workbench(t.context.link.sshd, ['h1'])
})
test.afterEach.always(async t => {
  t.context.link?.stop()
  await t.context.sshd?.stop()
})

/** Once a command says that it has begun, the link is cut, and the process that it wrote down in a file of the workbench is killed. */
const killedWhileNobodyLooks =
  ({ bench, link }: { bench: Workbench; link: Link }, file: string) =>
  (line: string) => {
    if (!line.endsWith('h1 | begun')) return
    const killed = Number(readFileSync(join(bench.folder, file), 'utf8'))
    void link.down().then(() => {
      process.kill(killed, 'SIGKILL')
      return link.up()
    })
  }

/** Cuts a frozen link once something was sent that did not get through it, and a little more has had the time to be. */
async function cutOnceSwallowed(link: Link): Promise<void> {
  await eventually(() => link.swallowed > 0, 'a command on its way')
  await delay(500)
  link.thaw()
  link.cut()
}

const logOf = ({ folder }: Workbench) =>
  existsSync(join(folder, 'log')) ? readFileSync(join(folder, 'log'), 'utf8').trim().split('\n') : []

real(
  'a command that goes on while the link is cut is waited for, its later output shown, its status taken',
  async t => {
    const { bench, link } = t.context
    const command = `echo begun; ${until(`${bench.folder}/go`)}; echo later; echo worse >&2; echo ran >>${bench.folder}/log`
    const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $\`${command}\``))
    const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
      onLine: line => {
        if (line.endsWith('h1 | begun')) link.cut()
        if (/h1: the command still runs there, as process \d+; waiting for its end/.test(line)) bench.touch('go')
      },
    })
    t.is(code, 0, stdout)
    t.regex(stdout, /h1: the connection was lost \(.*\); connecting again\n/)
    t.regex(stdout, /h1: connected again after/)
    t.regex(stdout, /h1 \| later\n/)
    t.regex(stdout, /h1 \| worse\n/)
    t.deepEqual(logOf(bench), ['ran', 'after'])
    t.deepEqual(readdirSync(join(bench.folder, 'on-hosts')), ['audit.log'])
  },
)

real('where somebody took the lock while the host was away, nothing more is done there', async t => {
  const { bench, link } = t.context
  const [go, lock] = [`${bench.folder}/go`, join(bench.folder, 'on-hosts', 'lock', 'holder')]
  const command = `echo begun; ${until(go)}; echo ran >>${bench.folder}/log`
  const path = bench.playbook(
    playbookOf(bench.folder, `async ({ $ }) => { await $\`${command}\`; await $\`echo next >>${bench.folder}/log\` }`),
  )
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (!line.endsWith('h1 | begun')) return
      void link.down().then(() => {
        writeFileSync(lock, readFileSync(lock, 'utf8').replace(/"run":"[^"]*"/, '"run":"another"'))
        bench.touch('go')
        return link.up()
      })
    },
  })
  t.is(code, 2, stdout)
  t.regex(stdout, /failed +Work \[h1\] .*: h1: the lock of this run was taken by somebody else/)
  await bench.written('log')
  t.deepEqual(logOf(bench), ['ran'], 'what was begun has ended, and nothing came after it')
})

for (const [status, code, outcome] of [
  [0, 0, /changed +Work \[h1\]/],
  [3, 2, /failed +Work \[h1\].*ended with exit status 3/],
] as const) {
  real(`a command that ended with ${status} while nobody heard it is taken to have ended so`, async t => {
    const { bench, link } = t.context
    const command = `echo begun; ${until(`${bench.folder}/go`)}; echo ran >>${bench.folder}/log; exit ${status}`
    const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $\`${command}\``))
    const called = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
      onLine: line => {
        if (!line.endsWith('h1 | begun')) return
        link.freeze()
        bench.touch('go')
        void bench.written('log').then(() => {
          link.thaw()
          link.cut()
        })
      },
    })
    t.is(called.code, code, called.stdout)
    t.regex(called.stdout, outcome)
    t.notRegex(called.stdout, /waiting for its end/)
    t.deepEqual(logOf(bench), status === 0 ? ['ran', 'after'] : ['ran'])
  })
}

real('a command that had not begun when the link was cut is begun once, on the new connection', async t => {
  const { bench, link } = t.context
  const path = bench.playbook(
    playbookOf(
      bench.folder,
      `async ({ $, log }) => { await $\`echo first\`; log('now'); while (!(await import('node:fs')).existsSync('${bench.folder}/go')) await new Promise(r => setTimeout(r, 20)); log('sent'); await $\`echo ran >>${bench.folder}/log\` }`,
    ),
  )
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (line.endsWith('h1 | now')) {
        link.freeze()
        bench.touch('go')
      }
      if (!line.endsWith('h1 | sent')) return
      void cutOnceSwallowed(link)
    },
  })
  t.is(code, 0, stdout)
  t.regex(stdout, /h1: the command had not begun; it is begun now/)
  t.deepEqual(logOf(bench), ['ran', 'after'])
})

real('a command that was killed while nobody looked stays unknown, and stops the run: exit 4', async t => {
  const { bench } = t.context
  const command = `echo $$ >${bench.folder}/pid; echo begun; exec sleep 60`
  const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $({ nothrow: true })\`${command}\``))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: killedWhileNobodyLooks(t.context, 'pid'),
  })
  t.is(code, 4, stdout)
  t.regex(stdout, /unknown +Work \[h1\].*it was begun, and something ended it before its end/)
  t.regex(stdout, /Hint: Look at the host/)
  t.deepEqual(logOf(bench), [])
})

real('a marker says which process waits, and since when: another one that has its number by now is none', async t => {
  const { bench, link } = t.context
  const command = `echo begun; ${until(`${bench.folder}/go`)}`
  const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $\`${command}\``))
  const other = spawn('sleep', ['60'])
  t.teardown(() => other.kill())
  let marker = ''
  let started = ''
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (!line.endsWith('h1 | begun')) return
      const commands = join(bench.folder, 'on-hosts', 'commands')
      const [file = ''] = readdirSync(commands, { recursive: true, encoding: 'utf8' }).filter(name =>
        /-.*\/\w+-/.test(name),
      )
      marker = readFileSync(join(commands, file), 'utf8')
      started = readFileSync(`/proc/${marker.split(' ')[0]}/stat`, 'utf8').split(' ')[21] ?? ''
      void link.down().then(() => {
        // As if its process had ended, and another one had been given the number.
        writeFileSync(join(commands, file), marker.replace(/^\d+/, String(other.pid)))
        return link.up()
      })
    },
  })
  bench.touch('go')
  t.is(code, 4, stdout)
  t.regex(marker, /^\d+ \d+( shell)?\n$/)
  t.is(marker.trim().split(' ')[1], started)
  t.regex(stdout, /unknown +Work \[h1\].*it was begun, and something ended it before its end/)
  t.deepEqual(logOf(bench), [])
})

real('a host that does not come back leaves the command unknown: exit 4', async t => {
  const { bench, link } = t.context
  const path = bench.playbook(playbookOf(bench.folder, '({ $ }) => $`echo begun; sleep 3`'))
  bench.set({ rekey_reconnect_within: '1s' })
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (line.endsWith('h1 | begun')) void link.down()
    },
  })
  t.is(code, 4, stdout)
  t.regex(
    stdout,
    /unknown +Work \[h1\].*it can't be reached any more \(h1 can't be reached at .*: connection refused\)/,
  )
  t.deepEqual(logOf(bench), [])
})

real('what nobody knows the end of is not tried again, not ignored, not rescued: the run ends, exit 4', async t => {
  const { bench } = t.context
  const command = `echo $$ >>${bench.folder}/pids; echo begun; exec sleep 60`
  const path = bench.playbook(`
import { block, play, playbook, step } from API
import { z } from ZOD
const says = word => ({ $ }) => $\`echo \${word} >>${bench.folder}/log\`
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}), plays: [play('Work', { hosts: 'masters', maxFailPercentage: 100 }, [
  block('Try', { rescue: [step('Rescue', { run: says('rescue') })] }, [
    step('Work', { retries: 3, delay: 10, ignoreErrors: true, run: ({ $ }) => $\`${command}\` }),
  ]),
  step('After', { run: says('after') }),
])] })`)
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: killedWhileNobodyLooks(t.context, 'pids'),
  })
  t.is(code, 4, stdout)
  t.regex(stdout, /unknown +Work \[h1\].*it was begun, and something ended it before its end/)
  t.notRegex(stdout, /try 1 of|ignored|rescued/)
  t.is(readFileSync(join(bench.folder, 'pids'), 'utf8').trim().split('\n').length, 1)
  t.deepEqual(logOf(bench), [])
})

real('a host that was restarted meanwhile, and lost what was not on its disk, leaves it unknown: exit 4', async t => {
  const { bench, link } = t.context
  const command = `echo $$ >${bench.folder}/pid; echo begun; exec sleep 60`
  const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $\`${command}\``))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (!line.endsWith('h1 | begun')) return
      const killed = Number(readFileSync(join(bench.folder, 'pid'), 'utf8'))
      void link.down().then(() => {
        process.kill(killed, 'SIGKILL')
        // What commands leave of themselves is not synced to the disk.
        rmSync(join(bench.folder, 'on-hosts', 'commands'), { recursive: true })
        return link.up()
      })
    },
  })
  t.is(code, 4, stdout)
  t.regex(
    stdout,
    /unknown +Work \[h1\].*the connection to h1 was lost while a command ran \(.*\): the host has no record of it/,
  )
  t.regex(stdout, /Work: nobody knows whether it finished on h1\n/)
  t.regex(stdout, /Hint: Look at the host before you run it again\./)
  t.deepEqual(logOf(bench), [])
})

real('a command whose input may have been cut is not said to have finished', async t => {
  const { bench, link } = t.context
  const command = `cat >/dev/null; echo begun; ${until(`${bench.folder}/go`)}`
  const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $({ input: 'all of it' })\`${command}\``))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (line.endsWith('h1 | begun')) link.cut()
      if (line.includes('waiting for its end')) bench.touch('go')
    },
  })
  t.is(code, 4, stdout)
  t.regex(stdout, /unknown +Work \[h1\].*it ended there with status 0, but may not have read all of its input/)
})

real('a step that reads output of which part may be missing is unknown', async t => {
  const { bench, link } = t.context
  const command = `echo begun; ${until(`${bench.folder}/go`)}; echo whole`
  const path = bench.playbook(playbookOf(bench.folder, `async ({ $ }) => (await $\`${command}\`).stdout`))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (line.endsWith('h1 | begun')) link.cut()
      if (line.includes('waiting for its end')) bench.touch('go')
    },
  })
  t.is(code, 4, stdout)
  t.regex(stdout, /unknown +Work \[h1\].*part of its output may be missing/)
})

real('files are read and written again when the link was cut in the middle', async t => {
  const { bench, link } = t.context
  const path = bench.playbook(
    playbookOf(
      bench.folder,
      `async ({ files, log }) => { await files.write('${bench.folder}/a', 'x'.repeat(1e5)); for (let i = 0; i < 2; i++) { log('now'); while (!(await import('node:fs')).existsSync('${bench.folder}/go' + i)) await new Promise(r => setTimeout(r, 20)); log('sent'); if (i === 0) await files.write('${bench.folder}/b', await files.read('${bench.folder}/a')); else await files.write('${bench.folder}/c', await files.read('${bench.folder}/b')) } }`,
    ),
  )
  let cuts = 0
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (line.endsWith('h1 | now')) {
        link.freeze()
        bench.touch(`go${cuts++}`)
      }
      if (!line.endsWith('h1 | sent')) return
      void cutOnceSwallowed(link)
    },
  })
  t.is(code, 0, stdout)
  t.is(readFileSync(join(bench.folder, 'c'), 'utf8').length, 100_000)
})

real('Ctrl-C ends a command that is waited for after the link was cut', async t => {
  const { bench, link } = t.context
  const command = `echo $$ >${bench.folder}/pid; echo begun; exec sleep 60`
  const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $\`${command}\``))
  const { code, stdout } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h1 | begun')) link.cut()
      if (line.includes('waiting for its end')) kill('SIGINT')
    },
  })
  t.is(code, 130, stdout)
  t.throws(() => process.kill(Number(readFileSync(join(bench.folder, 'pid'), 'utf8')), 0), { code: 'ESRCH' })
})

real(
  'a link that is cut while a command from before rekey was killed is waited for does not end the waiting',
  async t => {
    const { bench, link } = t.context
    const command = `echo begun; ${until(`${bench.folder}/go`)}; echo ran >>${bench.folder}/log`
    const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $\`${command}\``))
    await bench.rekey(['run', path, '-i', bench.inventory, '--output', 'plain', '-v'], {
      onLine: (line, kill) => {
        if (line.endsWith('h1 | begun')) kill('SIGKILL')
      },
    })
    const { code, stdout, stderr } = await bench.rekey(['resume', 'last'], {
      onLine: line => {
        if (line.endsWith('; waiting for its end')) link.cut()
        if (line.includes('h1: connected again')) bench.touch('go')
      },
    })
    t.is(code, 0, stdout + stderr)
    t.regex(stdout, /h1: that command ended with status 0\n/)
    t.deepEqual(logOf(bench), ['ran', 'ran', 'after'])
  },
)
