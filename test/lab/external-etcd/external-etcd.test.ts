// Clusters as Kubespray makes them, with etcd as a unit of the hosts: well from their snapshot, rotated by a run that is killed in each play and gone on
// with, rotated again undisturbed, and that undone. The inventory is used as it lies. What a rotation did is judged from outside.
import test, { type ExecutionContext } from 'ava'
import * as lab from '../../../lib/lab/index.ts'
import { complaintsOf, eventOf, eventsOf, killedInEachPlay, rekey, saidBy, upFresh } from '../_lab.ts'
import { assertAsBefore, assertRotated, takeOldCredentials } from '../_outside.ts'
import { assertReadAsItIs } from '../comparison/_agrees.ts'

const options: lab.LabOptions = { name: 'layouts', masters: 3, nodes: 1, layout: 'external-etcd' }
const { name } = options

let shape: lab.Shape

test.before(async () => {
  shape = await upFresh(options)
})
test.after.always(() => lab.down(name, () => {}))

const on = (machine: string, script: string) => lab.exec(name, machine, ['sh', '-c', script])
/** What the inventory names beside what a cluster is known to have. */
const ofNodes = {
  extra_certificates: ['n1'].map(node => ({
    path: `/etc/ssl/etcd/ssl/node-${node}.pem`,
    key: `/etc/ssl/etcd/ssl/node-${node}-key.pem`,
  })),
}
const rotation = () => ['run', 'rotate-ca', '-i', lab.inventoryPath(name), '-e', JSON.stringify(ofNodes)]

test.serial('etcd and the kubelets run as Kubespray has them, and a member of etcd that is down is told', async t => {
  const argv = (machine: string, program: string) =>
    on(machine, `tr '\\0' ' ' </proc/$(systemctl show -p MainPID --value ${program})/cmdline`)
  t.is(await argv('m1', 'etcd'), '/usr/local/bin/etcd ')
  t.regex(await argv('n1', 'kubelet'), /--config=\/etc\/kubernetes\/kubelet-config\.yaml /)
  t.is(await on('m1', 'readlink /etc/kubernetes/pki'), '/etc/kubernetes/ssl\n')
  t.is(await on('m1', 'ls /etc/kubernetes/manifests | grep etcd; true'), '')
  t.is(await on('n1', 'ls /etc/ssl/etcd/ssl'), 'ca.pem\nnode-n1-key.pem\nnode-n1.pem\n')
  t.is(
    await on(
      'm2',
      "openssl x509 -noout -subject -in /etc/ssl/etcd/ssl/member-m2.pem; stat -c '%U %a' /etc/ssl/etcd/ssl/member-m2-key.pem",
    ),
    'subject=CN = etcd-member-m2\netcd 640\n',
  )
  const missed = ['etcd not healthy on m2']
  await on('m2', 'systemctl stop etcd')
  try {
    t.deepEqual(await complaintsOf(name, missed), missed)
  } finally {
    // Whatever this test finds, the next ones are not to find a member down.
    await on('m2', 'systemctl start etcd')
  }
  t.deepEqual(await complaintsOf(name), [])
})

test.serial(
  'rekey certs lists what openssl and kubectl find, no more and no less, and a backup holds what lies there',
  t => assertReadAsItIs(t, shape, '/etc/kubernetes/admin.conf'),
)

/** Whether etcd answers who comes from a node with the client certificate that lies there for a pod network. */
async function etcdAnswersNode(): Promise<boolean> {
  const { address } = lab.machineOf(name, 'm1')
  const own = ['ca.pem', 'node-n1.pem', 'node-n1-key.pem'].map(file => `/etc/ssl/etcd/ssl/${file}`)
  const said = await on(
    'n1',
    `curl -s --cacert ${own[0]} --cert ${own[1]} --key ${own[2]} https://${address}:2379/health; true`,
  )
  return said.includes('"health":"true"')
}

/** Whether each machine trusts this CA of etcd in all it does, by what curl and others read, and by the names in Debian's folder. */
async function trustedByMachines(ca: string): Promise<boolean[]> {
  const hosts = shape.machines.filter(({ role }) => role === 'master' || role === 'node')
  const said = await Promise.all(
    hosts.map(one =>
      on(
        one.name,
        `cat >/tmp/asked.crt <<'END'
${ca.trim()}
END
for where in '-CAfile /etc/ssl/certs/ca-certificates.crt -no-CApath -no-CAstore' '-CApath /etc/ssl/certs -no-CAfile -no-CAstore'; do
  if openssl verify $where /tmp/asked.crt >/dev/null 2>&1; then echo yes; else echo no; fi
done; rm /tmp/asked.crt`,
      ),
    ),
  )
  return [...new Set(said.join('').trim().split('\n'))].map(one => one === 'yes')
}

test.serial(
  'killed once in each play, a run is gone on with each time, and ends as one that nobody disturbed; it is rotated again, the whole of it, and undone',
  async t => {
    for (const round of ['killed', 'undisturbed']) {
      t.true(await etcdAnswersNode())
      const old = await takeOldCredentials(shape)
      const trusted = await on('m1', 'cat /usr/local/share/ca-certificates/etcd-ca.crt')
      t.deepEqual(await trustedByMachines(trusted), [true])
      const folder = await (round === 'killed' ? throughKills : undisturbed)(t)
      await assertRotated(shape, folder, old)
      t.true(await etcdAnswersNode(), 'what the inventory names was made anew')
      t.deepEqual(await trustedByMachines(trusted), [false], 'machines still trust the old CA of etcd')
      t.deepEqual(await trustedByMachines(await on('m1', 'cat /etc/ssl/etcd/ssl/ca.pem')), [true])
      if (round === 'killed') continue
      const undone = await rekey(['rollback', folder])
      t.is(undone.code, 0, saidBy(undone))
      await assertAsBefore(shape, old)
      t.deepEqual(await trustedByMachines(trusted), [true])
    }
  },
)

/** A rotation that is killed once in each play, and gone on with. Returns its folder. */
async function throughKills(t: ExecutionContext): Promise<string> {
  const { called, folder, killed, plays } = await killedInEachPlay(rotation())
  t.is(called.code, 0, saidBy(called))
  t.true(killed.length >= plays - 2, `killed in the plays ${killed.join(', ')} of ${plays}`)
  return folder
}

/** A rotation, with its report. Returns its folder. */
async function undisturbed(t: ExecutionContext): Promise<string> {
  const called = await rekey([...rotation(), '--output', 'json'])
  t.is(called.code, 0, saidBy(called))
  const events = eventsOf(called)
  t.log(
    ...eventOf(events, 'run.report').sections.flatMap(({ title, rows }) => [
      title,
      ...rows.map(([label, value]) => `  ${label}: ${value}`),
    ]),
  )
  return eventOf(events, 'run.started').folder
}
