// One process at a time works on a lab.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { lockLab } from '../../lib/lab/lock.ts'

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

test.serial('whoever comes second is told which process is at work, and on what', async t => {
  const lab = `test-${process.pid}-second`
  const first = await holder(lab)
  try {
    const error = await t.throwsAsync<RekeyError>(lockLab(lab, 'up'), { code: 'lab.busy' })
    t.regex(error.message, new RegExp(`process ${first.pid}, 'rekey lab down', since 2`))
  } finally {
    first.kill('SIGKILL')
  }
})

test.serial('the lock of a process that was killed is free at once', async t => {
  const lab = `test-${process.pid}-killed`
  const first = await holder(lab)
  const gone = once(first, 'exit')
  first.kill('SIGKILL')
  await gone
  const unlock = await lockLab(lab, 'up')
  await unlock()
  t.pass()
})

test.serial('a lock that was given back can be taken again, and labs do not wait for each other', async t => {
  const lab = `test-${process.pid}-again`
  const unlock = await lockLab(lab, 'up')
  const other = await lockLab(`${lab}-other`, 'up')
  await t.throwsAsync(lockLab(lab, 'down'), { code: 'lab.busy' })
  await unlock()
  await (await lockLab(lab, 'down'))()
  await other()
})
