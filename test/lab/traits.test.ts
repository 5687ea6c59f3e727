// A lab that is unlike the usual one, looked at from outside; and one that is entered otherwise, from the same snapshot, whose CAs are signed anew, and whose certificates end.
import { spawnSync } from 'node:child_process'
import test from 'ava'
import * as lab from '../../lib/lab/index.ts'
import { eventOf, eventsOf, killedAt, rekey, saidBy } from './_lab.ts'
import { assertAsBefore, takeOldCredentials } from './_outside.ts'
import { assertRenewed } from './_renewed.ts'

const name = 'traits'
const size = { name, masters: 1, nodes: 1 }
const without = ['kube-proxy', 'coredns', 'front-proxy', 'load-balancer'] as const
const usually: lab.LabOptions = { ...size, nodeNames: 'other', without }
const otherwise: lab.LabOptions = {
  ...usually,
  ...{ login: 'sudo-password', disks: 'separate', without: [...without, 'etcdctl'] },
}

test.after.always(() => rekey(['lab', 'destroy', '--name', name]))

/** Brings the lab up, and returns what was done. */
async function up(options: lab.LabOptions): Promise<string[]> {
  const done: string[] = []
  await lab.up(options, progress => {
    if (progress.kind === 'finished') done.push(progress.title)
  })
  return done
}

const on = (script: string) => lab.exec(name, 'm1', ['sh', '-c', script])

/** Logs in by ssh itself, and runs a command. */
function login(user: string, command: string, input = '') {
  const options = ['-F', 'none', '-o', 'BatchMode=yes', '-o', 'IdentitiesOnly=yes', '-o', 'LogLevel=ERROR']
  const files = ['-i', lab.privateKeyFile(name), '-o', `UserKnownHostsFile=${lab.knownHostsFile(name)}`]
  const words = [...options, ...files, `${user}@${lab.machineOf(name, 'm1').address}`, command]
  return spawnSync('ssh', words, { encoding: 'utf8', input, timeout: 30_000 })
}

/** The lines of kubectl on the master. */
const objects = async (what: string) =>
  (await on(`KUBECONFIG=/etc/kubernetes/admin.conf kubectl get ${what} -o name`)).split('\n').filter(Boolean)

const link = 'touch /var/lib/etcd/x; ln /var/lib/etcd/x /root/x 2>&1; rm -f /var/lib/etcd/x /root/x'

test.serial('root may not log in, sudo asks for a password, and etcd has a disk and no tools on the host', async t => {
  await rekey(['lab', 'destroy', '--name', name])
  await up(otherwise)
  t.not(login('root', 'true').status, 0)
  t.is(login('ops', 'id -un').stdout, 'ops\n')
  t.regex(login('ops', 'sudo -n true').stderr, /password is required/)
  t.is(login('ops', "sudo -S -p '' id -un", `${lab.loginPassword(name)}\n`).stdout, 'root\n')
  t.regex(await on('df --output=source /var/lib/etcd'), /^\/dev\/loop/m)
  t.regex(await on(link), /Invalid cross-device link/)
  t.is(await on('for one in etcdctl etcdutl; do command -v $one; done; true'), '')
})

test.serial('the cluster has none of what it is without, and its Services are reached all the same', async t => {
  t.deepEqual(await objects('-n kube-system deployments,daemonsets'), ['daemonset.apps/service-routes'])
  t.deepEqual(
    (await objects('nodes')).sort(),
    lab
      .shapeOfLab(name)
      .machines.slice(1)
      .map(({ hostname }) => `node/${hostname}`),
  )
  t.is(await on('ls /etc/kubernetes/pki | grep front-proxy; true'), '')
  t.regex(await on('tr "\\0" "\\n" </proc/$(pgrep -x kube-apiserver)/cmdline'), /^--requestheader-client-ca-file=$/m)
  const counted = () => lab.canaryResultsOf(lab.shapeOfLab(name))
  const before = counted()
  await new Promise(resolve => setTimeout(resolve, 3_000))
  for (const { pod, calls, failures } of counted()) {
    t.true(calls > (before.find(one => one.pod === pod)?.calls ?? 0), pod)
    t.is(failures, before.find(one => one.pod === pod)?.failures ?? 0, pod)
  }
})

test.serial('it is backed up by a user whose sudo asks, with the tools of the etcd that runs', async t => {
  const { code, stdout, stderr } = await rekey(['run', 'backup', '-i', lab.inventoryPath(name), '--output', 'plain'])
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /m1 \| [1-9]\d* keys at revision [1-9]/)
})

test.serial(
  'the same cluster, entered as root and with all on one disk, is put back from the same snapshot',
  async t => {
    const refused = await t.throwsAsync(() => up(usually), { code: 'lab.shape' })
    t.regex(
      refused?.message ?? '',
      /--login sudo-password, not --login root; --disks separate, not --disks one; --without .*etcdctl, not --without /,
    )
    await rekey(['lab', 'destroy', '--name', name])
    const started = performance.now()
    const done = await up(usually)
    t.true(
      done.includes('Restore the snapshot') && !done.some(title => title.startsWith('Make a cluster')),
      done.join(),
    )
    const took = (performance.now() - started) / 1_000
    t.log(`${took.toFixed(1)} s`)
    t.true(took <= 180, `${took.toFixed(1)} s`)
    t.is(login('root', 'id -un').stdout, 'root\n')
    t.not(login('ops', 'true').status, 0)
    t.is(await on('getent passwd ops; ls /home /etc/sudoers.d | grep ops; true'), '')
    t.notRegex(await on('df --output=source /var/lib/etcd'), /^\/dev\/loop/m)
    t.regex(await on('command -v etcdctl; command -v etcdutl'), /etcdctl\n.*etcdutl/)
  },
)

test.serial(
  'its CAs get a longer time with the keys of its master, are the same to everybody, and are what they were after a way back',
  async t => {
    const shape = lab.shapeOfLab(name)
    const old = await takeOldCredentials(shape)
    const words = ['run', 'renew-ca', '-i', lab.inventoryPath(name), '-e', 'ca_ttl=87600h']
    const refused = await rekey(words)
    t.not(refused.code, 0)
    t.regex(saidBy(refused), /has the only API server/)
    const killed = await killedAt(
      [...words, '-e', 'accept_gap=true'],
      ({ kind, ...event }) =>
        kind === 'step.started' && 'step' in event && event.step === 'restart-etcd-and-the-api-servers',
    )
    t.is(killed.code, null, saidBy(killed))
    const { folder } = eventOf(eventsOf(killed), 'run.started')
    const called = await rekey(['resume', folder])
    t.is(called.code, 0, saidBy(called))
    await assertRenewed(shape, folder, old)
    const undone = await rekey(['rollback', folder])
    t.is(undone.code, 0, saidBy(undone))
    await assertAsBefore(shape, old)
  },
)

test.serial(
  'once its certificates have ended and its API is gone, a rescue says so, is killed and gone on with, and brings it back',
  async t => {
    const shape = lab.shapeOfLab(name)
    const marker = `written-${Date.now()}`
    const kubectl = (words: string) => on(`KUBECONFIG=/etc/kubernetes/admin.conf kubectl ${words}`)
    await kubectl(`create configmap before-rescue --from-literal=marker=${marker}`)
    await lab.expire(name, 'leaves', 10, () => {})
    t.regex((await lab.status(name)).complaints.join(), /the API does not answer/)
    const killed = await killedAt(
      ['run', 'rescue', '-i', lab.inventoryPath(name)],
      event => event.kind === 'step.started' && event.step === 'start-etcd-where-it-does-not-answer',
    )
    t.is(killed.code, null, saidBy(killed))
    t.regex(killed.stdout, /m1: kube-apiserver is down .*it goes by what has ended: .*apiserver/)
    const called = await rekey(['resume', eventOf(eventsOf(killed), 'run.started').folder])
    t.is(called.code, 0, saidBy(called))
    t.is(await kubectl("get configmap before-rescue -o jsonpath='{.data.marker}'"), marker)
    t.regex(await kubectl('get nodes --no-headers'), /^(\S+ +Ready .*\n){2}$/)
    const month = 30 * 86_400
    for (const { name: machine } of shape.machines.filter(({ role }) => role === 'master' || role === 'node')) {
      const held = 'find /etc/kubernetes /var/lib/kubelet/pki -name "*.crt" -o -name "*-current.pem"'
      const ended = `for f in $(${held}); do openssl x509 -in "$f" -noout -checkend ${month} >/dev/null || echo "$f"; done`
      t.is(await lab.exec(name, machine, ['sh', '-c', ended]), '', machine)
    }
    for (const [port, ca] of [
      [6443, 'ca.crt'],
      [2379, 'etcd/ca.crt'],
    ])
      t.regex(
        await on(
          `echo | openssl s_client -connect 127.0.0.1:${port} -no-CApath -no-CAstore -CAfile /etc/kubernetes/pki/${ca} -brief 2>&1; true`,
        ),
        /Verification: OK/,
      )
  },
)
