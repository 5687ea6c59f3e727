// A cluster of systemd units as kubeasz makes them, one CA for everything whose key signs tokens, too: rotated, and undone. The inventory has
// kubeasz's groups. What a rotation did is judged from outside.
import test from 'ava'
import * as lab from '../../../lib/lab/index.ts'
import { eventOf, eventsOf, rekey, saidBy, upFresh } from '../_lab.ts'
import { assertReadAsItIs } from '../comparison/_agrees.ts'
import { assertAsBefore, assertRotated, takeOld } from './_units.ts'

const options: lab.LabOptions = { name: 'kubeasz', masters: 1, nodes: 1, layout: 'systemd', unitShape: 'kubeasz' }
const { name } = options

let shape: lab.Shape

test.before(async () => {
  shape = await upFresh(options)
})
test.after.always(() => lab.down(name, () => {}))

test.serial(
  'rekey certs lists what openssl and kubectl find, no more and no less, and a backup holds what lies there',
  t => assertReadAsItIs(t, shape, '/root/.kube/config'),
)

test.serial('the whole of it is rotated, and undone', async t => {
  const old = await takeOld(shape)
  const called = await rekey(['run', 'rotate-ca', '-i', lab.inventoryPath(name), '--output', 'json'])
  t.is(called.code, 0, saidBy(called))
  const events = eventsOf(called)
  const { folder } = eventOf(events, 'run.started')
  t.log(
    ...eventOf(events, 'run.report').sections.flatMap(({ title, rows }) => [
      title,
      ...rows.map(([label, value]) => `  ${label}: ${value}`),
    ]),
  )
  await assertRotated(shape, folder, old)
  const undone = await rekey(['rollback', folder])
  t.is(undone.code, 0, saidBy(undone))
  await assertAsBefore(shape, old)
})
