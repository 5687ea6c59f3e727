// One process at a time works on a lab.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { lockLab, madeOnce } from '../../lib/lab/lock.ts'
import type { Progress } from '../../lib/lab/progress.ts'
import { eventually } from '../_eventually.ts'

const real = process.platform === 'linux' ? test.serial : test.skip
if (real === test.skip) test.skip('locks are not tested: a lab is for Linux', () => {})

const lockModule = fileURLToPath(new URL('../../lib/lab/lock.ts', import.meta.url))

/** A process that has taken the lock of a lab, and holds it until it is killed. */
async function holder(lab: string) {
  const script = `const { lockLab } = await import(${JSON.stringify(lockModule)})
    await lockLab(${JSON.stringify(lab)}, 'down')
    console.log('held')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return child
}

real('whoever comes second is told which process is at work, and on what', async t => {
  const lab = `test-${process.pid}-second`
  const first = await holder(lab)
  try {
    const error = await t.throwsAsync<RekeyError>(lockLab(lab, 'up'), { code: 'lab.busy' })
    t.regex(error.message, new RegExp(`process ${first.pid}, 'rekey lab down', since 2`))
  } finally {
    first.kill('SIGKILL')
  }
})

real('the lock of a process that was killed is free at once', async t => {
  const lab = `test-${process.pid}-killed`
  const first = await holder(lab)
  const gone = once(first, 'exit')
  first.kill('SIGKILL')
  await gone
  const unlock = await lockLab(lab, 'up')
  await unlock()
  t.pass()
})

real('a lock that was given back can be taken again, and labs do not wait for each other', async t => {
  const lab = `test-${process.pid}-again`
  const unlock = await lockLab(lab, 'up')
  const other = await lockLab(`${lab}-other`, 'up')
  await t.throwsAsync(lockLab(lab, 'down'), { code: 'lab.busy' })
  await unlock()
  await (await lockLab(lab, 'down'))()
  await other()
})

real('a lock that was given back while a program is being started has no holder, and is waited for', async t => {
  const lab = `test-${process.pid}-copied`
  // As what is forked and does not run its program yet: a lock that nobody answers for, gone after a second.
  const script = `require('node:net').createServer().listen(${JSON.stringify(`\0rekey-lab-${lab}`)}, () => {
    require('node:fs').writeSync(1, 'held')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
    process.exit()
  })`
  const copy = spawn(process.execPath, ['--eval', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(copy.stdout, 'data')
  await (await lockLab(lab, 'up'))()
  t.pass()
})

real('what all labs share is made once: who asks meanwhile waits, says so, and takes what was made', async t => {
  const path = `/nowhere/test-${process.pid}`
  const told: Progress[] = []
  const report = (progress: Progress) => told.push(progress)
  let made: string | undefined
  let makers = 0
  let finish = () => {}
  const make = async () => {
    makers++
    await new Promise<void>(resolve => {
      finish = resolve
    })
    made = path
    return path
  }
  const asked = { path, title: 'Build it' }
  const first = madeOnce(asked, { find: () => made, make, report })
  await eventually(() => makers === 1)
  const second = madeOnce(asked, { find: () => made, make, report })
  await eventually(() => told.length > 0)
  t.deepEqual(told, [{ kind: 'started', title: "Wait for 'Build it' of another rekey" }])
  const holders = () => told.flatMap(one => (one.kind === 'running' && one.detail ? [one.detail] : []))
  await eventually(() => holders().length > 0)
  t.regex(holders()[0]!, new RegExp(`^process ${process.pid}, 'Build it', since 2`))
  finish()
  t.deepEqual(await Promise.all([first, second]), [path, path])
  t.is(makers, 1)
})

real('what was not made by who went first is made by who waited', async t => {
  const asked = { path: `/nowhere/test-${process.pid}-failed`, title: 'Build it' }
  const told: Progress[] = []
  let fail = (_: Error) => {}
  const failing = () =>
    new Promise<string>((_, reject) => {
      fail = reject
    })
  const report = (progress: Progress) => told.push(progress)
  const first = madeOnce(asked, { find: () => undefined, make: failing, report })
  const failed = t.throwsAsync(first, { message: 'no network' })
  const second = madeOnce(asked, { find: () => undefined, make: async () => 'made', report })
  await eventually(() => told.length > 0)
  fail(new Error('no network'))
  await failed
  t.is(await second, 'made')
})
