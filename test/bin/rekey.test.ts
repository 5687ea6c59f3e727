// bin/rekey where an older Node starts it: the process of the pinned Node below it hears what its starter is told.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { eventually } from '../_eventually.ts'
import { root, workbench } from '../cli/_rekey.ts'

/** Has this Node say that it is an older one. */
const older = `data:text/javascript,Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.0.0' } })`

/** Begins a run by an older Node; sends a signal in the middle of its first step; and tells how that went. */
async function signalled(send: (pid: number) => void) {
  const bench = workbench('local', ['h1'])
  const path = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'signals', summary: 'Waits', vars: z.object({}), plays: [play('P', { hosts: 'masters' }, [
  step('Wait', { run: ({ $ }) => $\`touch ${bench.folder}/begun; sleep 60\` }), step('Then', { run: ({ $ }) => $\`touch ${bench.folder}/then\` })])] })`)
  const words = ['--import', older, join(root, 'bin', 'rekey'), 'run', path, '-i', bench.inventory]
  const env = { ...process.env, XDG_STATE_HOME: bench.state, NO_COLOR: '1' }
  const child = spawn(process.execPath, words, { env, detached: true, stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.on('data', chunk => (stderr += String(chunk)))
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>
  await bench.written('begun')
  send(child.pid!)
  const [code, signal] = await ended
  const journal = () => readFileSync(join(bench.runs()[0]!, 'events.jsonl'), 'utf8')
  await eventually(() => journal().includes('"kind":"run.finished"'))
  return {
    code,
    signal,
    stderr,
    outcome: /"run\.finished".*?"outcome":"(\w+)"/.exec(journal())?.[1],
    left: readdirSync(join(bench.folder, 'on-hosts')),
  }
}

const inOrder = { outcome: 'interrupted', left: ['audit.log'] }

for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test(`${name} to the one that started it ends the run in order`, async t => {
    t.like(await signalled(pid => process.kill(pid, name)), { code: 130, signal: null, ...inOrder })
  })
}

test('a signal that both are sent, as by systemd or Ctrl-C, counts once: the run ends in order, too', async t => {
  const { stderr, ...ended } = await signalled(pid => process.kill(-pid, 'SIGTERM'))
  t.like(ended, { code: 130, signal: null, ...inOrder })
  t.is(stderr.match(/Stopping/g)?.length, 1)
})

test('when the one that started it is killed, the run ends in order, and does not go on unseen', async t => {
  t.like(await signalled(pid => process.kill(pid, 'SIGKILL')), { code: null, signal: 'SIGKILL', ...inOrder })
})
