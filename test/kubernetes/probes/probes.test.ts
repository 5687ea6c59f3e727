// What probes make of what they saw.
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import test from 'ava'
import { canaryReport, gapsOf, probeApis, probeReport, type ServerGaps } from '../../../lib/kubernetes/probes/probes.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

const questions = (text: string) => [...text].map((one, index) => ({ at: index * 100, answered: one === '+' }))

test.serial('a gap lasts from the last answer before a failure to the first one after it', t => {
  t.deepEqual(gapsOf(questions('++++')), { calls: 4, failures: 0, longest: 0, total: 0, reasons: [] })
  t.deepEqual(gapsOf(questions('+--+')), {
    calls: 4,
    failures: 2,
    longest: 300,
    total: 300,
    reasons: [['no answer', 2]],
  })
  t.deepEqual(gapsOf(questions('+-+---+')), {
    calls: 7,
    failures: 4,
    longest: 400,
    total: 600,
    reasons: [['no answer', 4]],
  })
})

test.serial('a gap that has not ended counts until the last question', t => {
  t.deepEqual(gapsOf(questions('++--')), {
    calls: 4,
    failures: 2,
    longest: 200,
    total: 200,
    reasons: [['no answer', 2]],
  })
})

test.serial('what failed before the first change is told apart, and is no part of the gap', t => {
  const asked = questions('+--+-+')
  t.deepEqual(gapsOf(asked, 300), {
    ...{ calls: 3, failures: 1, longest: 200, total: 200, reasons: [['no answer', 1]] },
    earlier: { calls: 3, failures: 2 },
  })
  t.is(gapsOf(asked, 0).earlier, undefined)
  const report = probeReport(new Map([['a', asked.map(one => ({ ...one, kind: 'read' as const }))]]), { since: 300 })
  t.is(report.servers.get('a')?.read.failures, 1)
  t.is(report.anyOf(['a']).read.failures, 1)
})

test.serial('what this machine was too busy to hear of is no failure, and no answer either', t => {
  const [first, second, ...others] = questions('+--+')
  t.deepEqual(gapsOf([first, { ...second, unheard: true }, ...others] as ReturnType<typeof questions>), {
    ...{ calls: 3, failures: 1, longest: 300, total: 300, reasons: [['no answer', 1]], unheard: 1 },
  })
  t.is(gapsOf(questions('++').map(one => ({ ...one, unheard: true }))).calls, 2, 'what was answered all the same')
})

test.serial('two failures with a long time of which nothing is known between them are no gap of that length', t => {
  const unheard = (from: number, to: number) =>
    questions(`+-${'-'.repeat(20)}-+`).map((one, index) =>
      index > from && index < to ? { ...one, unheard: true } : one,
    )
  t.deepEqual(gapsOf(unheard(1, 22)), {
    ...{ calls: 4, failures: 2, longest: 200, total: 300, reasons: [['no answer', 2]], unheard: 20 },
  })
  t.is(gapsOf(unheard(1, 12)).longest, 2_300, 'a second of it is bridged')
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

test.serial('whoever asks several servers is answered by any', t => {
  const of = (text: string) => questions(text).map(one => ({ ...one, kind: 'read' as const }))
  const report = probeReport(
    new Map([
      ['a', of('+--++')],
      ['b', of('++--+')],
    ]),
  )
  t.is(report.servers.get('a')?.read.failures, 2)
  const { reasons, ...any } = report.anyOf(['a', 'b']).read
  t.deepEqual(any, { calls: 5, failures: 1, longest: 200, total: 200 })
  t.deepEqual(reasons, [['no answer', 1]])
})

test.serial(
  'probes read and write an object over new connections, by whichever credentials are not refused',
  async t => {
    const ca = await issue({ name: 'CN=ca', ca: true })
    const [serving, before, after] = await Promise.all(
      ['kubernetes', 'before', 'after'].map(name => issue({ name: `CN=${name}`, issuer: ca })),
    )
    const state = { trusted: 'before', well: true }
    const seen = { connections: 0, answers: 0, GET: 0, PATCH: 0, POST: 0, paths: new Set<string>() }
    const server = createServer(
      { cert: serving?.pem, key: serving?.keyPem, ca: ca.pem, requestCert: true, rejectUnauthorized: false },
      (asked, answer) => {
        seen[asked.method as 'GET' | 'PATCH' | 'POST']++
        seen.paths.add(asked.url ?? '')
        // On a busy machine whoever asked may have given up before: that is no answer.
        answer.once('finish', () => asked.method === 'GET' && !asked.socket.destroyed && seen.answers++)
        const from = (asked.socket as TLSSocket).getPeerCertificate().subject?.CN
        const answers = { GET: 200, PATCH: seen.POST === 0 ? 404 : 409, POST: 201 }
        answer.statusCode = from !== state.trusted ? 401 : !state.well ? 500 : answers[asked.method as 'GET']
        answer.end()
      },
    )
    server.on('secureConnection', () => seen.connections++)
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const there = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    const nowhere = 'https://127.0.0.1:1'
    const identity = (one: typeof before) => ({ certificate: one?.pem ?? '', key: one?.keyPem ?? '' })
    const probes = probeApis([there, nowhere], [identity(before)])
    const more = async (count: number) => {
      for (const until = seen.answers + count; seen.answers < until; ) await delay(20)
      // The last of them are still to be answered.
      await delay(300)
    }
    await more(6)
    state.well = false
    await more(3)
    Object.assign(state, { well: true, trusted: 'after' })
    await more(3)
    probes.also(identity(after))
    await more(8)
    const { servers: gaps } = await probes.stop()
    server.close()
    const { read, write } = gaps.get(there) as ServerGaps
    t.true(read.failures >= 3, 'neither a server in trouble nor one that refuses is one that answers')
    t.true(read.longest >= 500, `${read.longest} ms`)
    // On a busy machine some wait too long, and the last may still be under way.
    const reasonsOf = (one: typeof read) =>
      one.reasons.map(([reason]) => reason).filter(reason => !/^no answer\b/.test(reason))
    t.deepEqual(reasonsOf(read).sort(), ['401', '500'])
    t.true(write.calls >= 3 && write.failures < write.calls, 'whoever lost a race has written all the same')
    t.true(seen.PATCH > 0 && seen.GET > seen.PATCH)
    t.true(seen.POST > 0 && seen.POST < seen.PATCH, 'what is not there is made')
    t.true(seen.connections >= read.calls, 'a new connection each time')
    t.deepEqual(
      [...seen.paths],
      ['/api/v1/namespaces/kube-system/configmaps/rekey-probe', '/api/v1/namespaces/kube-system/configmaps'],
    )
    const { read: none } = gaps.get(nowhere) as ServerGaps
    t.is(none.failures, none.calls)
    t.deepEqual(reasonsOf(none), ['ECONNREFUSED'])
  },
)
