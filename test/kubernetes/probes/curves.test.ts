// Curves of what probes saw: pieces of time, the slowest answer of each, every gap where it was.
import test from 'ava'
import type { Question } from '../../../lib/kubernetes/probes/api-prober.ts'
import { curveOf } from '../../../lib/kubernetes/probes/curves.ts'
import { probeReport } from '../../../lib/kubernetes/probes/probes.ts'

const origin = Date.UTC(2026, 0, 2)
const asked = (text: string, every = 250) =>
  [...text].map((one, index) => ({
    ...{ at: 5_000 + index * every, answered: one === '+', took: one === '+' ? 10 + index : undefined },
    ...(one === 'x' && { reason: 'ECONNREFUSED' }),
    ...(one === '?' && { unheard: true }),
  }))

test('a curve has a piece a second, what failed in it, its slowest answer, and gaps from answer to answer', t => {
  t.deepEqual(curveOf('m1: reads', asked('+++++-x++++'), origin), {
    ...{ label: 'm1: reads', from: origin + 5_000, every: 1_000 },
    ...{ asked: [4, 4, 3], failed: [0, 2, 0], slowest: [13, 17, 20] },
    gaps: [{ from: origin + 6_000, to: origin + 6_750, failed: 2, reason: '1 no answer, 1 ECONNREFUSED' }],
  })
})

test('a gap that does not end, or that nobody knows the beginning of, lasts as long as was asked; what was not heard is none', t => {
  t.deepEqual(curveOf('x', asked('++--'), 0)?.gaps, [{ from: 5_250, to: 5_750, failed: 2, reason: '2 no answer' }])
  t.deepEqual(curveOf('x', asked('----'), 0)?.gaps, [{ from: 5_000, to: 5_750, failed: 4, reason: '4 no answer' }])
  t.deepEqual(curveOf('x', asked('+??+'), 0)?.gaps, [])
  t.is(curveOf('x', asked('??'), 0), undefined)
})

test('of hours of questions and thousands of gaps it stays small, and keeps the longest', t => {
  const text = `${'+-'.repeat(20_000)}+-----+`
  const curve = curveOf('x', asked(text), 0)!
  t.true(curve.asked.length <= 301)
  t.is(curve.gaps.length, 100)
  t.is(Math.max(...curve.gaps.map(({ failed }) => failed)), 5)
  t.is(
    curve.asked.reduce((sum, one) => sum + one, 0),
    text.length,
  )
})

test('a report has a curve for reads and one for writes of an address, and none of what was not asked', t => {
  const of = (kind: Question['kind']) => asked('+-+').map((one): Question => ({ ...one, kind }))
  const report = probeReport(new Map([['https://a:6443', [...of('read'), ...of('write')]]]), { origin })
  t.deepEqual(
    report.curvesOf('m1', 'https://a:6443').map(({ label, from, failed }) => [label, from, failed]),
    [
      ['m1: reads', origin + 5_000, [1]],
      ['m1: writes', origin + 5_000, [1]],
    ],
  )
  t.deepEqual(report.curvesOf('m2', 'https://b:6443'), [])
})
