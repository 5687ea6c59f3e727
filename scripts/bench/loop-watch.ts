// Loaded into a run of rekey before everything else: writes down how much its event loop worked without a pause at most, and how long
// that took, from its first connection on. Until then nothing waits for it: the program is being loaded.
import { subscribe } from 'node:diagnostics_channel'
import { writeFileSync } from 'node:fs'

/** Milliseconds. */
export interface LoopTurn {
  /** Processor time. */
  work: number
  /** With the time in which the processor worked for others: the hosts are on the same machine. */
  passed: number
}

const most: LoopTurn = { work: 0, passed: 0 }
const workNow = () => {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}

let begun = false
subscribe('net.client.socket', () => {
  if (begun) return
  begun = true
  let [work, passed] = [workNow(), performance.now()]
  // A turn of the loop calls it once.
  setInterval(() => {
    const [workThen, passedThen] = [work, passed]
    ;[work, passed] = [workNow(), performance.now()]
    most.work = Math.max(most.work, work - workThen)
    most.passed = Math.max(most.passed, passed - passedThen)
  }, 1).unref()
})
process.on('exit', () => writeFileSync(process.env['REKEY_BENCH_LOOP'] ?? '', JSON.stringify(most)))
