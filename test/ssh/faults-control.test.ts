// Trouble on the machine that rekey runs on: a full disk, an impatient operator, a clock that is set back.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RunEvent } from '../../lib/run/events.ts'
import { testsOnSshd, type Workbench } from '../cli/_rekey.ts'
import { playbookOf } from './_faults.ts'

const { test, real } = testsOnSshd('faults of the control machine are', ['h1'])

/** A disk for the state of rekey that takes 256 KiB: a real one for root, a limit on the size of files for others. */
function tinyDisk({ state }: Workbench): { through: string[]; makeRoom(): void; remove(): void } {
  if (process.getuid?.() !== 0) {
    const through = ['/bin/sh', '-c', `trap '' XFSZ; ulimit -f 512; exec "$@"`, 'sh']
    return { through, makeRoom: () => through.splice(0), remove: () => {} }
  }
  mkdirSync(state)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', state])
  return {
    through: [],
    makeRoom: () => void execFileSync('mount', ['-o', 'remount,size=16m', state]),
    remove: () => void execFileSync('umount', [state]),
  }
}

real('a full disk under the run’s folder stops the run, and says so; with room again it is gone on with', async t => {
  const { bench } = t.context
  const disk = tinyDisk(bench)
  try {
    const path = bench.playbook(
      playbookOf(
        bench.folder,
        // What steps print is not needed to go on, and what they return is.
        `({ $ }) => $\`echo ran >>${bench.folder}/log; [ -e ${bench.folder}/room ] || yes 'a line that takes its room' | head -n 20000\`.then(({ stdout }) => stdout)`,
      ),
    )
    const { code, stdout, stderr } = await bench.rekey(['run', path, '-i', bench.inventory], { through: disk.through })
    t.is(code, 2, stdout + stderr)
    t.regex(stdout, /work failed/)
    const said = stdout + stderr
    t.regex(said, /^Error: (h1: )?\S+ can't be written: (ENOSPC: no space left on device|EFBIG: file too large)/m)
    t.regex(said, /Hint: Make room in .*'rekey resume' does it once more/)
    t.is(said.match(/^Error: /gm)?.length, 1, said)
    // The step that nobody could write down is not passed for done, and nothing came after it.
    t.is(readFileSync(join(bench.folder, 'log'), 'utf8'), 'ran\n')
    disk.makeRoom()
    writeFileSync(join(bench.folder, 'room'), '')
    t.regex((await bench.rekey(['show', 'last'])).stdout, /Work/)
    const again = await bench.rekey(['resume', 'last'], { through: disk.through })
    t.is(again.code, 0, again.stdout + again.stderr)
    t.is(readFileSync(join(bench.folder, 'log'), 'utf8'), 'ran\nran\nafter\n')
  } finally {
    disk.remove()
  }
})

real(
  'a disk that takes nearly nothing from the start is told as one error before any host is touched, however slow git is',
  async t => {
    const { bench } = t.context
    const programs = join(bench.folder, 'programs')
    mkdirSync(programs)
    writeFileSync(join(programs, 'git'), '#!/bin/sh\nsleep 1\necho slow\n', { mode: 0o755 })
    const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $\`echo ran >>${bench.folder}/log\``))
    // A file takes 512 bytes: enough to name the run, too little for how it was called.
    const through = ['/bin/sh', '-c', `trap '' XFSZ; ulimit -f 1; exec "$@"`, 'sh']
    mkdirSync(join(bench.state, 'rekey', 'runs'), { recursive: true })
    // Node writes its compile cache at its end, whatever signal that gives.
    const env = { PATH: `${programs}:${process.env['PATH']}`, NODE_DISABLE_COMPILE_CACHE: '1' }
    const inventories = Array.from({ length: 20 }, () => ['-i', bench.inventory]).flat()
    const { code, stdout, stderr } = await bench.rekey(['run', path, ...inventories], { through, env })
    t.is(code, 2, stdout + stderr)
    t.regex(stdout, /Error: \S+ can't be written: EFBIG: file too large, write\nHint: /)
    t.is(stderr, '')
    t.false(existsSync(join(bench.folder, 'log')))
  },
)

real('Ctrl-C twice ends rekey at once, and the run can be gone on with', async t => {
  const { bench } = t.context
  const command = `trap '' TERM; echo begun; i=0; while [ ! -e ${bench.folder}/go ] && [ $((i += 1)) -lt 1200 ]; do sleep 0.1; done`
  const path = bench.playbook(playbookOf(bench.folder, `({ $ }) => $\`${command}\``))
  let isStopping = false
  const { code, stdout, stderr } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: (line, kill) => {
      if (line.endsWith('h1 | begun')) kill('SIGINT')
    },
    // The command does not end when asked, and rekey gives it three seconds: the second comes long before.
    onError: (said, kill) => {
      if (isStopping || !said.includes('Once more to leave at once.')) return
      isStopping = true
      kill('SIGINT')
    },
  })
  bench.touch('go')
  t.is(code, 130, stdout)
  t.regex(stderr, /Stopping: .* Once more to leave at once\./)
  t.notRegex(stdout, /work interrupted/)
  t.regex((await bench.rekey(['runs'])).stdout, /killed/)
  t.is((await bench.rekey(['resume', 'last', '--output', 'plain'])).code, 0)
  t.is(readFileSync(join(bench.folder, 'log'), 'utf8'), 'after\n')
})

/** Where libfaketime is: it lies to all that is asked of the clock, as a clock does that was set back. */
const faketime = ['x86_64-linux-gnu', 'aarch64-linux-gnu']
  .map(machine => `/usr/lib/${machine}/faketime/libfaketime.so.1`)
  .find(existsSync)

/** What sets the clock of rekey back by two hours once the folder has a file `back`. */
function clocks({ folder }: Workbench): Record<string, { env: Record<string, string>; setBack(): void }> {
  const preload = join(folder, 'clock.mjs')
  writeFileSync(
    preload,
    `import { existsSync } from 'node:fs'
const now = Date.now
let back = 0
Date.now = () => now() - (back ||= existsSync('${folder}/back') ? 7_200_000 : 0)
`,
  )
  const clock = join(folder, 'clock')
  writeFileSync(clock, '+0\n')
  return {
    'the clock of JavaScript': { env: { NODE_OPTIONS: `--import ${preload}` }, setBack: () => {} },
    'the clock of the machine (faketime)': {
      env: {
        LD_PRELOAD: faketime ?? '',
        FAKETIME_TIMESTAMP_FILE: clock,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      },
      setBack: () => writeFileSync(clock, '-7200\n'),
    },
  }
}

for (const whose of ['the clock of JavaScript', 'the clock of the machine (faketime)'] as const) {
  const missing = whose.includes('faketime') && !faketime
  const able = missing ? test.skip : real
  able(`${whose}, set back in mid-run, changes no duration${missing ? ' (skipped: no faketime)' : ''}`, async t => {
    const { bench } = t.context
    const { env, setBack } = clocks(bench)[whose]!
    const command = `echo begun; i=0; while [ ! -e ${bench.folder}/back ] && [ $((i += 1)) -lt 1200 ]; do sleep 0.1; done; sleep 2.6`
    const path = bench.playbook(
      playbookOf(
        bench.folder,
        `async ({ $ }) => { const before = Date.now(); await $\`${command}\`; if (Date.now() > before) throw new Error('it was not set back') }`,
      ),
    )
    const { code, stdout, stderr } = await bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
      env,
      onLine: line => {
        if (!line.endsWith('h1 | begun')) return
        setBack()
        bench.touch('back')
      },
    })
    t.is(code, 0, stdout + stderr)
    // It still says what it waits for, and for how long.
    t.regex(stdout, /… Work \(h1\), \d+\.\d s: begun/)
    t.regex(stdout, /changed +Work \[h1\] \d\d?\.\d s\n/)
    t.regex(stdout, /work done after \d+\.\d s/)
    const journal = readFileSync(join(bench.runs()[0] ?? '', 'events.jsonl'), 'utf8')
      .trim()
      .split('\n')
    const events = journal.map(line => JSON.parse(line) as RunEvent)
    const times = events.map(({ at }) => at)
    t.deepEqual(
      times.toSorted((one, other) => one - other),
      times,
    )
    for (const event of events) {
      if ('milliseconds' in event) t.true(event.milliseconds >= 0 && event.milliseconds < 60_000, JSON.stringify(event))
    }
    const shown = (await bench.rekey(['show', 'last'])).stdout
    t.regex(shown, /after \d+\.\d s/)
    t.true(existsSync(join(bench.folder, 'log')))
    t.deepEqual(readdirSync(join(bench.folder, 'on-hosts')), ['audit.log'], 'the lock was kept, and given back')
  })
}
