// What is counted of a worker: its own clusters alone, by how they left it.
import test from 'ava'
import { readPlace } from '../../../lib/cli/fleet/listening.ts'
import type { EventRow } from '../../../lib/fleet/store/fleets.ts'
import { workerTally } from '../../../lib/fleet/told/worker-metrics.ts'

test('clusters it has, those that left it and how, and how long it had them', t => {
  const tally = workerTally('production')
  t.notRegex(tally.text(), /worker="/, 'nobody knows it yet')
  tally.seen('w1')
  const happens = (at: number, kind: EventRow['kind'], cluster: string, worker = 'w1') =>
    tally.event({ id: at, at: at * 1_000, kind, cluster, worker, text: '' })
  happens(1, 'started', 'a')
  happens(2, 'started', 'b')
  happens(2, 'started', 'c', 'w2')
  happens(3, 'taken-over', 'd')
  happens(11, 'done', 'a')
  happens(12, 'failed', 'c', 'w2')
  happens(14, 'unknown', 'd')
  happens(15, 'started', 'a')
  happens(20, 'done', 'a')
  tally.databaseError()
  const text = tally.text()
  const own = 'fleet="production",worker="w1"'
  for (const line of [
    `rekey_fleet_worker_clusters{${own}} 1`,
    `rekey_fleet_worker_clusters_total{${own},outcome="done"} 2`,
    `rekey_fleet_worker_clusters_total{${own},outcome="failed"} 0`,
    `rekey_fleet_worker_clusters_total{${own},outcome="lost"} 1`,
    `rekey_fleet_worker_seconds_total{${own},outcome="done"} 15`,
    `rekey_fleet_worker_seconds_total{${own},outcome="lost"} 11`,
    `rekey_fleet_worker_taken_over_total{${own}} 1`,
    `rekey_fleet_worker_database_errors_total{${own}} 1`,
    '# TYPE rekey_fleet_worker_clusters_total counter',
    '# TYPE rekey_fleet_worker_clusters gauge',
  ])
    t.true(text.includes(`${line}\n`), `${line} in\n${text}`)
  t.regex(text, /^rekey_fleet_worker_seen_timestamp_seconds\{.*\} \d{10}/m)
})

test('where it is listened: this machine alone, unless a host is said', t => {
  t.deepEqual(readPlace('9100'), { host: '127.0.0.1', port: 9100 })
  t.deepEqual(readPlace('0.0.0.0:9100'), { host: '0.0.0.0', port: 9100 })
  t.deepEqual(readPlace('[::1]:9100'), { host: '::1', port: 9100 })
  for (const wrong of ['', 'host', '0', '70000', 'host:', '::1:9100', '9100 '])
    t.throws(() => readPlace(wrong), undefined, wrong)
})
