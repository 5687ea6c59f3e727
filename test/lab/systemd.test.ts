// Clusters of systemd units, made as others make them: well from their snapshot, rotated twice, undone, and undone after a run was killed and
// gone on with. What a rotation did is judged from outside.
import test from 'ava'
import * as lab from '../../lib/lab/index.ts'
import type { RunEvent } from '../../lib/run/events.ts'
import { eventOf, rekey } from './_lab.ts'
import { assertAsBefore, assertRotated, takeOld } from './_units.ts'

const told = (progress: lab.Progress) => {
  if (progress.kind !== 'running') console.log(`    lab: ${JSON.stringify(progress)}`)
}

const name = 'units'
const options: lab.LabOptions = { name, masters: 1, nodes: 1, layout: 'systemd', unitShape: 'hard-way' }

let shape: lab.Shape

test.before(async () => {
  shape = await lab.up({ ...options, fresh: true }, told)
})
test.after.always(() => lab.down(name, () => {}))

const eventsOf = ({ stdout }: { stdout: string }) =>
  stdout
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line) as RunEvent)

const rotate = (opts: Parameters<typeof rekey>[1] = {}) =>
  rekey(['run', 'rotate-ca', '-i', lab.inventoryPath(name), '--output', 'json'], opts)

test.serial('everything of a cluster made the hard way is a unit, and controllers run no pods', async t => {
  const units = (machine: string) =>
    lab
      .exec(name, machine, [
        'sh',
        '-c',
        "systemctl list-units --plain --no-legend 'kube*' etcd.service | cut -d' ' -f1",
      ])
      .then(text => text.trim().split('\n'))
  t.deepEqual(await units('m1'), [
    ...['etcd.service', 'kube-apiserver.service', 'kube-controller-manager.service', 'kube-scheduler.service'],
  ])
  t.deepEqual(await units('n1'), ['kube-proxy.service', 'kubelet.service'])
  t.deepEqual((await lab.status(name)).complaints, [])
})

test.serial('it is rotated twice, and undone: each time the whole of it', async t => {
  for (const round of ['first', 'second']) {
    const old = await takeOld(shape)
    const called = await rotate()
    t.is(
      called.code,
      0,
      `${round}: ${called.stderr}${JSON.stringify(eventsOf(called).findLast(e => e.kind === 'run.finished'))}`,
    )
    const { folder } = eventOf(eventsOf(called), 'run.started')
    await assertRotated(shape, folder, old)
    if (round === 'first') continue
    const undone = await rekey(['rollback', folder])
    t.is(undone.code, 0, undone.stdout + undone.stderr)
    await assertAsBefore(shape, old)
  }
})

test.serial('a run that was killed in the swap is gone on with, and undone', async t => {
  const old = await takeOld(shape)
  let killed = false
  const called = await rotate({
    onLine: (line, kill) => {
      if (killed || !line.includes('"step.started"') || !line.includes('"restart-etcd"')) return
      killed = true
      kill('SIGKILL')
    },
  })
  t.true(killed, called.stderr)
  const { folder } = eventOf(eventsOf(called), 'run.started')
  const resumed = await rekey(['resume', folder])
  t.is(resumed.code, 0, resumed.stdout + resumed.stderr)
  await assertRotated(shape, folder, old)
  const undone = await rekey(['rollback', folder])
  t.is(undone.code, 0, undone.stdout + undone.stderr)
  await assertAsBefore(shape, old)
})
