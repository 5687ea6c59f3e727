// What an operator sees of a run: on a terminal of 80 × 24, through a pipe that is closed, in a report for the CI.
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { junitProblems } from '../output/_junit.ts'
import { type Screen, screen } from '../output/_screen.ts'
import { root, testsOnSshd, type Workbench, workbench } from './_rekey.ts'

const { test, real } = testsOnSshd('views on hosts are', undefined, true)
/** util-linux's `script` gives a command a terminal: every Linux has it. */
const withTerminal = existsSync('/usr/bin/script') ? real : test.skip

/** A playbook of two plays; `body` is what its second step does. */
const playbook = (body: string) => `
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({
  name: 'two', summary: 'Two plays', vars: z.object({}),
  plays: [
    play('Look', { hosts: 'masters' }, [step('Look around', { readOnly: true, run: ({ $ }) => $\`echo looking\` })]),
    play('Work', { hosts: 'masters' }, [step('Do it', { run: async ({ $, host, redact }) => { ${body} } }), step('Finish', { run: () => {} })]),
  ],
})`

interface Watched {
  readonly code: number | null
  readonly screen: Screen
}

/** Runs rekey on a terminal; `look` sees the screen each time that something was written, and may press keys. */
function onTerminal(
  { folder }: Workbench,
  args: readonly string[],
  look: (screen: Screen, press: (keys: string) => void, goAway: () => void) => void = () => {},
): Promise<Watched> {
  const words = [join(root, 'bin', 'rekey'), ...args].map(word => `'${word}'`).join(' ')
  const env = {
    ...process.env,
    XDG_STATE_HOME: join(folder, 'state'),
    SSH_AUTH_SOCK: '',
    TERM: 'xterm',
    LC_ALL: 'C.UTF-8',
    CI: '',
  }
  const child = spawn('script', ['-qec', `stty cols 80 rows 24 -echo; exec ${words}`, '/dev/null'], {
    cwd: folder,
    env,
  })
  const on = screen(80, 24)
  child.stdout.setEncoding('utf8')
  let rest = ''
  child.stdout.on('data', (text: string) => {
    // A sequence that is cut in two waits for its end.
    const whole = rest + text
    const cut = /\x1b(\[[?0-9;]*)?$/.exec(whole)?.index ?? whole.length
    rest = whole.slice(cut)
    on.write(whole.slice(0, cut))
    look(
      on,
      keys => child.stdin.write(keys),
      () => child.kill('SIGKILL'),
    )
  })
  return new Promise(resolve => {
    const timer = setTimeout(() => child.kill('SIGKILL'), 150_000)
    child.on('close', code => {
      clearTimeout(timer)
      resolve({ code, screen: on })
    })
  })
}

withTerminal(
  'on a terminal a run is a tree, which shows what hosts say while they work, and leaves a line a play',
  async t => {
    const { bench } = t.context
    const path = bench.playbook(
      playbook(`await $\`echo almost there; while [ ! -e ${bench.folder}/go ]; do sleep 0.05; done\``),
    )
    const seen: string[] = []
    const { code, screen: end } = await onTerminal(bench, ['run', path, '-i', bench.inventory], on => {
      const text = on.lines().join('\n')
      if (!/Do it {2}0\/3[\s\S]*h1 +(\d+ s +)?almost there[\s\S]*h3 +(\d+ s +)?almost there/.test(text)) return
      seen.push(text)
      writeFileSync(join(bench.folder, 'go'), '')
    })
    const left = end.everything().join('\n')
    t.is(code, 0, left)
    t.regex(seen[0] ?? left, /✔ Connect.*\n✔ Look {2}3 hosts · .*\n❯ Work {2}3 hosts.*\n {2}\S Do it {2}0\/3/)
    t.regex(seen[0] ?? '', /\n {2}◻ Finish\nPlay 3 of 3/)
    t.regex(
      left,
      /^two: Two plays\nRun \S+\n\n✔ Connect.*\n✔ Look.*\n✔ Work {2}3 hosts · .*\n\ntwo done after .*\n {2}h1 {2}ok=2 changed=2\n/,
    )
    t.true(end.cursorShown())
  },
)

withTerminal('Ctrl-C on a terminal is answered at once; twice, the terminal is left as it was', async t => {
  const { bench } = t.context
  const path = bench.playbook(playbook('await $`echo begun; sleep 60`'))
  const once = await onTerminal(bench, ['run', path, '-i', bench.inventory], pressed(/begun/, '\x03'))
  const text = once.screen.everything().join('\n')
  t.is(once.code, 130, text)
  t.regex(
    text,
    /Stopping: the current commands are being ended\.[\s\S]*◼ Work[\s\S]*◼ Do it +cancelled=3[\s\S]*two was interrupted/,
  )
  t.true(once.screen.cursorShown())
  const twice = await onTerminal(bench, ['run', path, '-i', bench.inventory], pressed(/begun/, '\x03\x03'))
  t.is(twice.code, 130)
  t.true(twice.screen.cursorShown())
  t.notRegex(twice.screen.everything().join('\n'), / at .*\.ts:\d+/)
})

withTerminal('a terminal that goes away, as with a link that is lost, ends the run in good order', async t => {
  const { bench } = t.context
  const path = bench.playbook(playbook(`await $\`echo $$ >>${bench.folder}/pids; echo begun; exec sleep 60\``))
  // Nobody is left who would see the code.
  await onTerminal(bench, ['run', path, '-i', bench.inventory], (on, _press, goAway) => {
    if (/begun/.test(on.lines().join('\n'))) goAway()
  })
  let shown = ''
  for (let tries = 0; tries < 600 && !/ended +interrupted/.test(shown); tries++) {
    await delay(100)
    shown = (await bench.rekey(['show', 'last'])).stdout
  }
  t.regex(shown, /ended +interrupted, after[\s\S]*Do it +cancelled\n[\s\S]*Go on: rekey resume/)
  t.deepEqual(readdirSync(join(bench.folder, 'on-hosts')), ['audit.log'], 'the lock is given back')
  for (const pid of readFileSync(join(bench.folder, 'pids'), 'utf8').trim().split('\n'))
    t.throws(() => process.kill(Number(pid), 0), { code: 'ESRCH' })
})

/** Presses keys the first time that the screen shows something. */
function pressed(when: RegExp, keys: string) {
  let done = false
  return (on: Screen, press: (keys: string) => void) => {
    if (done || !when.test(on.lines().join('\n'))) return
    done = true
    press(keys)
  }
}

withTerminal('-v on a terminal: every line goes by above the tree', async t => {
  const { bench } = t.context
  const path = bench.playbook(playbook('await $`seq 1 200`'))
  const { code, screen: end } = await onTerminal(bench, ['run', path, '-i', bench.inventory, '-l', 'h1', '-v'])
  const lines = end.everything()
  t.is(code, 0)
  t.deepEqual(
    lines.filter(line => /h1 \| \d+$/.test(line)).map(line => line.trim()),
    Array.from({ length: 200 }, (_, index) => `h1 | ${index + 1}`),
  )
  t.is(lines.filter(line => line.includes('✔ Work')).length, 1, lines.join('\n'))
})

withTerminal('what a playbook prints by itself does not tear the tree', async t => {
  const { bench } = t.context
  const path = bench.playbook(
    playbook("console.log('printed by hand'); console.error('and an error'); await $`sleep 0.3`"),
  )
  const { screen: end } = await onTerminal(bench, ['run', path, '-i', bench.inventory, '-l', 'h1'])
  const text = end.everything().join('\n')
  t.regex(text, /printed by hand\nand an error\n/)
  t.is(text.match(/Connect/g)?.length, 1, text)
})

withTerminal(
  'what a playbook writes to stdout past everything, also where nobody knows that it is its, is clean and tears nothing',
  async t => {
    const { bench } = t.context
    const hidden =
      "redact('HiddenOnTheScreen1'); process.stdout.write('\\x1b[2J\\x1b[Hby hand HiddenOnThe'); process.stdout.write('Screen1\\n')"
    const handler =
      "process.once('SIGUSR2', () => process.stdout.write('\\x1b[2Jhandled HiddenOnTheScreen1\\n')); process.kill(process.pid, 'SIGUSR2')"
    const path = bench.playbook(playbook(`${hidden}; ${handler}; await $\`sleep 0.3\``))
    const { screen: end } = await onTerminal(bench, ['run', path, '-i', bench.inventory, '-l', 'h1'])
    const text = end.everything().join('\n')
    t.regex(text, /by hand «redacted»\n/)
    t.regex(text, /handled «redacted»\n/)
    t.notRegex(text, /HiddenOn/)
    t.is(text.match(/Connect/g)?.length, 1, text)
  },
)

/** A shell line with rekey in it. */
function inShell({ folder }: Workbench, line: string): Promise<{ stdout: string; stderr: string }> {
  const env = {
    ...process.env,
    XDG_STATE_HOME: join(folder, 'state'),
    SSH_AUTH_SOCK: '',
    REKEY: join(root, 'bin', 'rekey'),
  }
  const child = spawn('sh', ['-c', line], { cwd: folder, env })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', chunk => {
    stdout += chunk
  })
  child.stderr.on('data', chunk => {
    stderr += chunk
  })
  return new Promise(resolve => child.on('close', () => resolve({ stdout, stderr })))
}

for (const view of ['--output plain -v', '--output json']) {
  real(`${view}: when the reader of its output leaves, the run goes on to its end`, async t => {
    const { bench } = t.context
    const path = bench.playbook(playbook(`await $\`seq 1 20000; echo done >>${bench.folder}/log\``))
    const { stdout, stderr } = await inShell(
      bench,
      `{ "$REKEY" run ${path} -i ${bench.inventory} ${view}; echo $? >code; } | head -n 1`,
    )
    t.is(stdout.split('\n').length, 2, stdout)
    t.is(stderr, '')
    t.is(readFileSync(join(bench.folder, 'code'), 'utf8'), '0\n')
    t.is(readFileSync(join(bench.folder, 'log'), 'utf8'), 'done\ndone\ndone\n')
  })
}

real('--junit and --metrics write reports beside any view, also of a run that failed', async t => {
  const { bench } = t.context
  const path = bench.playbook(playbook("if (host.name === 'h2') await $`echo 'it is <full> & \"red\"' >&2; exit 3`"))
  const { code, stdout } = await bench.rekey([
    'run',
    path,
    '-i',
    bench.inventory,
    '--junit',
    'report.xml',
    '--metrics',
    'rekey.prom',
  ])
  t.is(code, 2, stdout)
  t.regex(stdout, /failed +Do it \[h2\]/)
  t.regex(
    readFileSync(join(bench.folder, 'rekey.prom'), 'utf8'),
    /^rekey_run_exit_code\{playbook="two",inventory="[^"]+"\} 2$/m,
  )
  const report = readFileSync(join(bench.folder, 'report.xml'), 'utf8')
  t.deepEqual(junitProblems(report), [])
  t.regex(report, /<testsuites name="two" tests="12" failures="1" errors="0" time="[\d.]+">/)
  t.regex(
    report,
    /<testcase name="Do it \[h2\]" classname="two\.Work" time="[\d.]+">\s*<failure [^>]*type="command\.failed">[^<]*it is &lt;full&gt; &amp; &quot;red&quot;/,
  )
  t.regex(report, /<testcase name="Finish \[h1\]"[^>]*>\s*<skipped message="the host did not come to it"\/>/)
})

test.serial('a report that can’t be written is told before anything is done', async t => {
  const bench = workbench(undefined, undefined, true)
  const path = bench.playbook(playbook(''))
  const { code, stderr, stdout } = await bench.rekey([
    'run',
    path,
    '-i',
    bench.inventory,
    '--junit',
    'absent/report.xml',
  ])
  t.is(code, 1)
  t.regex(stderr, /the JUnit report can't be written to absent\/report\.xml: ENOENT/)
  t.is(stdout, '')
})
