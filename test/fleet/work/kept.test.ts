// A run whose folder another process keeps: what it does where that one hangs, or says that the hosts are somebody else's.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type KeepAnswer, type KeepRequest, keeperVariable } from '../../../lib/run/folder/keeper.ts'
import { eventually } from '../../_eventually.ts'
import { root, workbench } from '../../cli/_rekey.ts'

const long = 600_000

/** A run in the middle of a step that takes long, and whoever keeps it: each question is answered by `answer`. */
async function begun() {
  const bench = workbench('local', ['h1'])
  const playbook = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'x', summary: 'x', vars: z.object({}), plays: [play('P', { hosts: 'masters' }, [
  step('Take long', { run: ({ $ }) => $\`echo $$ >${bench.folder}/pid; until test -e ${bench.folder}/stop; do sleep 0.1; done\` }),
  step('Go on', { run: ({ $ }) => $\`touch ${bench.folder}/gone-on\` })])] })`)
  const child = spawn(process.execPath, [join(root, 'bin', 'rekey'), 'run', playbook, '-i', bench.inventory], {
    cwd: bench.folder,
    env: {
      ...process.env,
      XDG_STATE_HOME: bench.state,
      NO_COLOR: '1',
      FORCE_COLOR: undefined,
      [keeperVariable]: `${long}`,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream!.setEncoding('utf8').on('data', text => (said += text))
  const run = { answer: (_: KeepRequest): Partial<KeepAnswer> | undefined => ({ lease: long }) }
  child.on('message', message => {
    const request = message as KeepRequest
    const answer = run.answer(request)
    if (answer) child.send({ kept: request.keep, ...answer })
  })
  const ended = once(child, 'close')
  await eventually(
    () => existsSync(join(bench.folder, 'pid')) && readFileSync(join(bench.folder, 'pid'), 'utf8') !== '',
  )
  const pid = Number(readFileSync(join(bench.folder, 'pid'), 'utf8'))
  return {
    ...{ bench, child, run, ended, said: () => said },
    lives: () => lives(pid),
    isLocked: () => existsSync(join(bench.folder, 'on-hosts', 'lock')),
    goneOn: () => existsSync(join(bench.folder, 'gone-on')),
  }
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const end = (child: ChildProcess) => child.kill('SIGKILL')

test('nobody answers for as long as an answer holds: it ends what it does, and gives its lock back', async t => {
  const { run, child, ended, said, lives, isLocked, goneOn } = await begun()
  t.teardown(() => end(child))
  t.true(isLocked())
  let asked = 0
  run.answer = () => (++asked === 1 ? { lease: 1_000 } : undefined)
  await ended
  t.true(asked > 0, 'it asks in the middle of a step, too')
  t.regex(said(), /whoever began this run does not answer any more/)
  t.false(lives())
  t.false(isLocked(), 'another worker need not wait for its lock to be silent')
  t.false(goneOn())
})

test('its hosts are another worker’s: it ends at once with what it does here, and touches nothing more', async t => {
  const { child, ended, lives, isLocked, goneOn } = await begun()
  t.teardown(() => end(child))
  child.send({ kept: 0, refused: 'the cluster is another worker’s' } satisfies KeepAnswer)
  const [code] = await ended
  t.is(code, 75)
  await eventually(() => !lives())
  t.true(isLocked(), 'whoever has it now has taken it')
  t.false(goneOn())
})

test('its folder can not be kept, and that does not go by: it fails before the next step, and gives its lock back', async t => {
  const { bench, run, child, ended, said, isLocked, goneOn } = await begun()
  t.teardown(() => end(child))
  run.answer = () => ({ failed: 'permission denied for table piece' })
  bench.touch('stop')
  const [code] = await ended
  t.is(code, 2)
  t.regex(said(), /the folder of this run can't be kept: permission denied for table piece/)
  t.false(isLocked())
  t.false(goneOn())
})
