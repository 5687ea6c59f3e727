// A cluster of systemd units, made as others make them the hard way: well from its snapshot, rotated by a run that is killed in each play and gone on with,
// rotated again, and that undone; then gracefully, and that undone. The inventory has the groups of its documents. What a rotation did is judged from outside.
import test from 'ava'
import * as lab from '../../../lib/lab/index.ts'
import { complaintsOf, eventOf, eventsOf, killedAt, killedInEachPlay, rekey, saidBy, upFresh } from '../_lab.ts'
import { assertReadAsItIs } from '../comparison/_agrees.ts'
import { assertEncryptionAsBefore, assertKeyRotated, newKey, takeBefore } from '../encryption/_encrypted.ts'
import { stagesOf } from '../graceful/_stages.ts'
import { assertAsBefore, assertDistrusted, assertRenewed, assertRotated, takeOld } from './_units.ts'

const options: lab.LabOptions = { name: 'units', masters: 1, nodes: 1, layout: 'systemd', unitShape: 'hard-way' }
const { name } = options

let shape: lab.Shape

test.before(async () => {
  shape = await upFresh(options)
})
test.after.always(() => lab.down(name, () => {}))

const rotation = () => ['run', 'rotate-ca', '-i', lab.inventoryPath(name)]

test.serial('everything of a cluster made the hard way is a unit, and controllers run no pods', async t => {
  const units = async (machine: string) => {
    const words = ['systemctl', 'list-units', '--plain', '--no-legend', 'kube*.service', 'etcd.service']
    return (await lab.exec(name, machine, words)).match(/^[\w-]+(?=\.service)/gm)
  }
  t.deepEqual(await units('m1'), ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'])
  t.deepEqual(await units('n1'), ['kube-proxy', 'kubelet'])
  t.deepEqual(await complaintsOf(name), [])
})

test.serial(
  'rekey certs lists what openssl and kubectl find, no more and no less, and a backup holds what lies there',
  t => assertReadAsItIs(t, shape, '/root/admin.kubeconfig'),
)

const kubeconfig = '/root/admin.kubeconfig'
const onM1 = (...words: string[]) => lab.exec(name, 'm1', words)

test.serial(
  'killed once in each play, a run is gone on with each time; it is rotated again, the whole of it, and undone: all is as it was',
  async t => {
    // The administrator has another cluster in the same kubeconfig.
    const config = (...words: string[]) => onM1('kubectl', '--kubeconfig', kubeconfig, 'config', ...words)
    await config('set-cluster', 'far', '--server=https://far.example:6443')
    await config('set-credentials', 'me', '--token=of-the-far-one')
    await config('set-context', 'far', '--cluster=far', '--user=me', '--namespace=mine')
    const withoutData = async () => (await onM1('cat', kubeconfig)).replaceAll(/(-data: )\S+/g, '$1')
    const before = await withoutData()

    const first = await takeOld(shape)
    const { called, folder, killed, plays } = await killedInEachPlay(rotation())
    t.is(called.code, 0, saidBy(called))
    t.true(killed.length >= plays - 2, `killed in the plays ${killed.join(', ')} of ${plays}`)
    await assertRotated(shape, folder, first)
    t.is(await withoutData(), before, 'what is not of this cluster')

    const old = await takeOld(shape)
    const again = await rekey([...rotation(), '--output', 'json'])
    t.is(again.code, 0, saidBy(again))
    // Units of kube-proxy are in no list of the API, and are restarted like any.
    t.notRegex(again.stdout, /There is no kube-proxy/)
    const { folder: second } = eventOf(eventsOf(again), 'run.started')
    await assertRotated(shape, second, old)
    t.is(await withoutData(), before, 'what is not of this cluster')
    const undone = await rekey(['rollback', second])
    t.is(undone.code, 0, saidBy(undone))
    await assertAsBefore(shape, old)
  },
)

test.serial(
  'its one CA is rotated gracefully for all that it serves, by a run that is killed and gone on with: nobody is let in any more whom it has signed, or signs now; undone, all is as it was',
  async t => {
    const { killedOnce, undone } = stagesOf(name, 'kubernetes-ca,etcd-ca', { gap: true })
    const old = await takeOld(shape)
    const folder = await killedOnce('rotate', 'distrust-restart-etcd-and-the-api-servers')
    await assertDistrusted(shape, old)
    await undone(folder)
    await assertAsBefore(shape, old)
    t.pass()
  },
)

test.serial(
  'killed while everything is written anew, a rotation of the key of Secrets is gone on with, counted as etcdctl does, and undone',
  async t => {
    await lab.fill(name, [], () => {}, 100)
    const before = await takeBefore(shape)
    t.is(before.under, 'k8s:enc:aescbc:v1:key1:')
    const words = ['run', 'rotate-encryption-key', '-i', lab.inventoryPath(name), '-e', 'accept_gap=true']
    const killed = await killedAt(
      [...words, '-e', 'encryption_provider=secretbox'],
      event => event.kind === 'step.started' && event.step === 'write-everything-anew',
    )
    t.is(killed.code, null, saidBy(killed))
    const { folder } = eventOf(eventsOf(killed), 'run.started')
    const called = await rekey(['resume', folder])
    t.is(called.code, 0, saidBy(called))
    const count = await assertKeyRotated(shape, before, newKey('secretbox'))
    t.true(count > 100, `${count}`)
    const census = await rekey(['encryption', '-i', lab.inventoryPath(name), '--json'])
    t.is(census.code, 0, saidBy(census))
    t.deepEqual(secretsIn(census.stdout), { 'secretbox current': count })
    const undone = await rekey(['rollback', folder])
    t.is(undone.code, 0, saidBy(undone))
    await assertEncryptionAsBefore(shape, before)
  },
)

/** How many Secrets `rekey encryption --json` counted, by how they lie there. */
function secretsIn(text: string): Record<string, number> {
  const { census } = JSON.parse(text) as {
    census: { rows: { resource: string; stored: { provider?: string }; standing: string; count: number }[] }
  }
  const counts: Record<string, number> = {}
  for (const { resource, stored, standing, count } of census.rows) {
    const how = `${stored.provider} ${standing}`
    if (resource === 'secrets') counts[how] = (counts[how] ?? 0) + count
  }
  return counts
}

test.serial(
  'its CA gets a longer time from Vault, is the same to everybody, and is what it was after a way back',
  async t => {
    const old = await takeOld(shape)
    const words = ['run', 'renew-ca', '-i', lab.inventoryPath(name), '-e', 'ca_ttl=87600h', '-e', 'accept_gap=true']
    const killed = await killedAt(
      words,
      ({ kind, ...event }) =>
        kind === 'step.started' && 'step' in event && event.step === 'restart-etcd-and-the-api-servers',
    )
    t.is(killed.code, null, saidBy(killed))
    const { folder } = eventOf(eventsOf(killed), 'run.started')
    const called = await rekey(['resume', folder])
    t.is(called.code, 0, saidBy(called))
    t.regex(killed.stdout, /its key is in Vault, pki_k8s\/issuer\//)
    await assertRenewed(shape, old)
    const undone = await rekey(['rollback', folder])
    t.is(undone.code, 0, saidBy(undone))
    await assertAsBefore(shape, old)
  },
)
