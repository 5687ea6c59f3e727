// What is told of a process that did something for a cluster and did not end well.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type Desk, lastLine, notWell } from '../../../lib/fleet/work/child.ts'
import { temporaryFolder } from '../../_temporary.ts'

function deskOf(said: string): Desk {
  const folder = temporaryFolder('desk')
  mkdirSync(join(folder, 'logs'))
  writeFileSync(join(folder, 'logs', 'c1.log'), said)
  return { folder, cluster: 'c1' } as Desk
}

test('of a gate, what is not well and where, on one line that is bounded', t => {
  const said =
    '✔ etcd on m1: healthy\n✖ Pod kube-system/x  on m1: restarted\n  ✖ Node n1: not ready\n2 of 3 are not well\n'
  t.is(notWell(deskOf(said), { code: 2 }), 'Pod kube-system/x on m1: restarted; Node n1: not ready')
  t.true(notWell(deskOf('✖ Pod: away\n'.repeat(1_000)), { code: 2 }).length < 460)
  t.is(notWell(deskOf('Error: no such inventory\n'), { code: 1 }), 'no such inventory')
})

test('of one that could not be started, why', t => {
  t.is(lastLine(deskOf(''), { code: null, error: 'spawn ENOMEM' }), 'spawn ENOMEM')
  t.is(lastLine(deskOf(''), { code: 1 }), 'it said nothing')
})
