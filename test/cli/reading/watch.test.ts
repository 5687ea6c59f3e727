// `--watch`: a run that goes on elsewhere is shown until it ends, whatever becomes of whoever watches.
import test from 'ava'
import { type Workbench, workbench } from '../_rekey.ts'

/** Begins a run whose second step waits for a file. */
async function begun() {
  const bench = workbench('local', ['h1'])
  const playbook = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'x', summary: 'x', vars: z.object({}), plays: [play('P', { hosts: 'masters' }, [
  step('First', { run: ({ $ }) => $\`touch ${bench.folder}/begun\` }),
  step('Second', { run: ({ $ }) => $\`until [ -e ${bench.folder}/go ]; do sleep 0.1; done\` }),
  step('Third', { run: ({ $ }) => $\`exit 1\` })])] })`)
  let kill = (_: NodeJS.Signals) => {}
  const run = bench.rekey(['run', playbook, '-i', bench.inventory], {
    onLine: (_, end) => {
      kill = end
    },
  })
  await bench.written('begun')
  return { bench, run, kill: (signal: NodeJS.Signals) => kill(signal) }
}

/** Watches until a line comes, does something, and waits for the end. */
const watch = (
  bench: Workbench,
  line: RegExp,
  then: (kill: (signal: NodeJS.Signals) => void) => void,
  ...words: string[]
) =>
  bench.rekey(words, {
    onLine: (said, kill) => {
      if (line.test(said)) then(kill)
    },
  })

test('a run that goes on is shown from its beginning to its end, and how it ended is the code', async t => {
  const { bench, run } = await begun()
  const shown = await watch(bench, /changed +First/, () => bench.touch('go'), 'runs', '--watch')
  t.is(shown.code, 2, shown.stderr)
  t.regex(shown.stdout, /changed +First \[h1\][\s\S]*changed +Second \[h1\][\s\S]*failed +Third \[h1\]/)
  t.is((await run).code, 2)
  const again = await bench.rekey(['show', 'last', '--watch'])
  t.is(again.code, 2)
  t.regex(again.stdout, /failed +Third \[h1\]/)
  const none = await bench.rekey(['runs', '--watch'])
  t.is(none.code, 1)
  t.regex(none.stderr, /no run goes on here/)
})

test('Ctrl-C ends the watching, and not the run', async t => {
  const { bench, run } = await begun()
  const shown = await watch(bench, /changed +First/, kill => kill('SIGINT'), 'show', 'last', '--watch')
  t.is(shown.code, 130)
  bench.touch('go')
  t.regex((await run).stdout, /changed +Second/)
})

test('a run that is killed while it is watched is told to be gone', async t => {
  const { bench, run, kill } = await begun()
  const shown = await watch(bench, /changed +First/, () => kill('SIGKILL'), 'show', 'last', '--watch')
  t.is(shown.code, 2)
  t.regex(shown.stderr, /The process of the run is gone, and did not end it\. Go on with it: rekey resume \d/)
  bench.touch('go')
  await run
})
