// Commands on a host that refuses sessions: it may count those that have ended, for as long as it is busy.
import { PassThrough } from 'node:stream'
import test from 'ava'
import { patientStart } from '../../../lib/connection/commands/patient-start.ts'
import type { Started } from '../../../lib/connection/commands/terminal.ts'

/** A host that refuses so many times in a row. */
function refusing(times: number) {
  let asked = 0
  const started = { channel: new PassThrough(), closed: Promise.resolve() } as unknown as Started
  const start = async (): Promise<Started> => {
    if (asked++ < times) throw new Error('open failed')
    return started
  }
  return { start, started, asked: () => asked }
}

test('is asked again where no session of ours is left, for longer than a busy host counts those that have ended', async t => {
  const host = refusing(5)
  t.is(await patientStart(host.start, () => false)('true'), host.started)
  t.is(host.asked(), 6)
})

test('is not asked again once the connection is lost, or more often than is said', async t => {
  const gone = refusing(9)
  await t.throwsAsync(patientStart(gone.start, () => true)('true'), { message: 'open failed' })
  t.is(gone.asked(), 1)
  const host = refusing(9)
  await t.throwsAsync(patientStart(host.start, () => false)('true', { patience: 2 }), { message: 'open failed' })
  t.is(host.asked(), 3)
})
