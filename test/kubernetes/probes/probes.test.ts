// What probes make of what they saw.
import test from 'ava'
import { canaryReport, gapsOf } from '../../../lib/kubernetes/probes/probes.ts'

const questions = (text: string) => [...text].map((one, index) => ({ at: index * 100, answered: one === '+' }))

test.serial('a gap lasts from the last answer before a failure to the first one after it', t => {
  t.deepEqual(gapsOf(questions('++++')), { calls: 4, failures: 0, longest: 0, total: 0 })
  t.deepEqual(gapsOf(questions('+--+')), { calls: 4, failures: 2, longest: 300, total: 300 })
  t.deepEqual(gapsOf(questions('+-+---+')), { calls: 7, failures: 4, longest: 400, total: 600 })
})

test.serial('a gap that has not ended counts until the last question', t => {
  t.deepEqual(gapsOf(questions('++--')), { calls: 4, failures: 2, longest: 200, total: 200 })
})

test.serial('canaries count from the first reading on, and new pods from zero', t => {
  const one = {
    kind: 'service',
    pod: 'a',
    node: 'n1',
    calls: 10,
    failures: 1,
    refused: 0,
    longestGapMs: 0,
    lastError: 'old',
  }
  const report = canaryReport(
    [one],
    [
      { ...one, calls: 30 },
      { ...one, pod: 'b', calls: 5, failures: 2, lastError: 'new' },
    ],
  )
  t.deepEqual(report.get('service'), { calls: 25, failures: 2, refused: 0, lastError: 'new' })
})
