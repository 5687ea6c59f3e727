// `rekey certs` on a real cluster, against those who look there too: kubeadm, openssl on each port, kubectl. And certificates made anew under the CAs
// that are there, judged by the same.
import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import * as lab from '../../lib/lab/index.ts'
import { temporaryFolder } from '../_temporary.ts'
import { eventOf, eventsOf, handOn, killedAt, name, rekey, saidBy, upShared } from './_lab.ts'
import { filesOf, openssl, scratch } from './_outside.ts'

interface Row {
  readonly where: string
  readonly kind: string
  readonly host?: string
  readonly place?: string
  readonly component: string
  readonly fingerprint: string
  readonly isAuthority: boolean
  readonly notAfter: string
  readonly issuerFingerprint?: string
  readonly problems: readonly string[]
}

let shape: lab.Shape
const inventory = () => ['-i', lab.inventoryPath(name)]
const on = (machine: string, script: string) => lab.exec(name, machine, ['sh', '-c', script])

test.before(async () => {
  shape = await upShared()
})
handOn(test)

const machines = (...roles: string[]) => shape.machines.filter(({ role }) => roles.includes(role))

async function census(...more: string[]): Promise<{ code: number | null; rows: Row[]; notices: string[] }> {
  const { code, stdout, stderr } = await rekey(['certs', ...inventory(), '--json', ...more])
  if (!stdout) throw new Error(stderr)
  const { certificates, notices } = JSON.parse(stdout)
  return { code, rows: certificates, notices }
}

test.serial('it finds all that kubeadm, openssl on each port and kubectl find, and changes nothing', async t => {
  const state = async () =>
    Promise.all(
      machines('master', 'node').map(one =>
        on(one.name, "find /etc/kubernetes /var/lib/kubelet/pki -type f -printf '%p %m %T@\\n' | sort"),
      ),
    )
  // A CA that lies in a Secret of no particular type, as for Prometheus, and in a file that nobody would look for by its name.
  const kubectlOnM1 = 'kubectl --kubeconfig /etc/kubernetes/admin.conf'
  const secret = 'rekey-test-certificate'
  await on('m1', `${kubectlOnM1} create secret generic ${secret} --from-file=any=/etc/kubernetes/pki/ca.crt >/dev/null`)
  await on('m1', 'cp /etc/kubernetes/pki/ca.crt /etc/kubernetes/a-copy')
  t.teardown(() => on('m1', `rm -f /etc/kubernetes/a-copy; ${kubectlOnM1} delete secret ${secret} >/dev/null`))
  const before = await state()
  const { rows } = await census()
  t.true(rows.some(({ where }) => where === `Secret default/${secret}`))
  t.true(rows.some(({ where }) => where === 'm1:/etc/kubernetes/a-copy'))
  t.deepEqual(await state(), before)

  for (const { name: master } of machines('master')) {
    const listed = JSON.parse(await on(master, 'kubeadm certs check-expiration -o json 2>/dev/null')) as {
      certificates: { name: string; expirationDate: string; missing?: boolean }[]
      certificateAuthorities: { name: string; expirationDate: string; missing?: boolean }[]
    }
    const all = [...listed.certificates, ...listed.certificateAuthorities].filter(({ missing }) => !missing)
    t.true(all.length >= 12)
    for (const { name: called, expirationDate } of all) {
      const path = pathOf(called)
      const row = rows.find(one => one.host === master && one.place === path && isExpected(one, called))
      t.is(row && Date.parse(row.notAfter), Date.parse(expirationDate), `${master}: ${called} (${path})`)
    }
  }

  for (const machine of machines('master', 'node')) {
    const ports = machine.role === 'master' ? [6443, 2379, 2380, 10250, 10257, 10259] : [10250]
    for (const port of ports) {
      const address = port === 2380 ? machine.address : '127.0.0.1'
      const script = `echo | openssl s_client -connect ${address}:${port} 2>/dev/null | openssl x509`
      const { fingerprint256 } = new X509Certificate(await on(machine.name, script))
      const served = rows.filter(one => one.kind === 'served' && one.host === machine.name && one.place === `${port}`)
      t.true(
        served.some(({ fingerprint }) => fingerprint === fingerprint256),
        `${machine.name}:${port}`,
      )
    }
  }

  const kubectl = (what: string) =>
    on('m1', `kubectl --kubeconfig /etc/kubernetes/admin.conf ${what}`).then(text => JSON.parse(text).items)
  const [maps, secrets] = [await kubectl('get configmaps -A -o json'), await kubectl('get secrets -A -o json')]
  for (const { metadata, data = {} } of maps) {
    const blobs: string[] = Object.values(data)
    if (!blobs.some(one => /BEGIN CERTIFICATE|certificate-authority-data/.test(one))) continue
    const where = `ConfigMap ${metadata.namespace}/${metadata.name}`
    t.true(
      rows.some(row => row.where === where),
      where,
    )
  }
  for (const { metadata, data = {} } of secrets) {
    // kubeadm-certs is encrypted: nobody reads a certificate in it without kubeadm's own key.
    const texts = Object.values(data as Record<string, string>).map(one =>
      Buffer.from(one, 'base64').toString('latin1'),
    )
    if (!texts.some(one => one.includes('BEGIN CERTIFICATE'))) continue
    const where = `Secret ${metadata.namespace}/${metadata.name}`
    t.true(
      rows.some(row => row.where === where),
      where,
    )
  }
})

test.serial('it says what those can not: who issued what, and what is served that lies on no disk', async t => {
  const { rows } = await census()
  const issued = rows.filter(
    ({ isAuthority, host }) => !isAuthority && machines('master').some(one => one.name === host),
  )
  t.true(issued.length > 0)
  t.true(issued.every(({ issuerFingerprint }) => issuerFingerprint !== undefined))
  // Files of other machines that kubeadm doesn't look at: the kubelets' own.
  for (const { name: node } of machines('node')) {
    t.true(
      rows.some(({ host, place }) => host === node && place?.includes('/var/lib/kubelet/pki/kubelet-client-current')),
    )
  }
  const served = (port: string) => rows.find(({ place, isAuthority }) => place === port && !isAuthority)!
  t.truthy(served('10250').issuerFingerprint)
})

test.serial('users are handed a kubeconfig by which each server knows them, for as long as was asked', async t => {
  const file = join(temporaryFolder('kubeconfig'), 'jane.conf')
  const asked = ['--user', 'jane', '--group', 'dev', '--ttl', '20m', '-o', file]
  const { code, stderr } = await rekey(['kubeconfig', ...inventory(), ...asked])
  t.is(code, 0, stderr)
  t.regex(stderr, /signed by the key of \w+ on m1, which has not left it/)
  t.is(statSync(file).mode & 0o777, 0o600)
  const given = `f=$(mktemp); trap 'rm -f "$f"' EXIT; cat >"$f" <<'END'\n${readFileSync(file, 'utf8')}\nEND\n`
  for (const { address } of machines('master')) {
    const whoami = `kubectl --kubeconfig "$f" --server https://${address}:6443 auth whoami -o jsonpath='{.status.userInfo}'`
    const who = JSON.parse(await on('m1', given + whoami))
    t.like(who, { username: 'jane', groups: ['dev', 'system:authenticated'] }, address)
  }
  const verify = (minutes: number) =>
    `${given}sed -n 's/ *client-certificate-data: //p' "$f" | base64 -d |
      openssl verify -CAfile /etc/kubernetes/pki/ca.crt -attime $(($(date +%s) + ${minutes * 60})) 2>&1; true`
  t.regex(await on('m1', verify(18)), /^stdin: OK$/m)
  t.regex(await on('m1', verify(22)), /certificate has expired/)
})

test.serial('it exits with 2 when something is due within the time that is asked for', async t => {
  t.is((await census('--within', '1h', '--no-api')).code, 0)
  const due = await census('--within', '36500d', '--no-api')
  t.is(due.code, 2)
})

test.serial('a component that still serves what no longer lies on its disk is told', async t => {
  const { name: node } = machines('node')[0]!
  // A kubelet refuses a pair that doesn't match, and goes on serving what it has in memory.
  const [file, other] = ['/var/lib/kubelet/pki/kubelet.crt', '/var/lib/kubelet/pki/kubelet-client-current.pem']
  await on(node, `cp -p ${file} /root/kubelet.crt.before && openssl x509 -in ${other} > ${file}`)
  try {
    const { rows } = await census('--no-api', '--limit', node)
    const [first] = rows.filter(({ place, isAuthority }) => place === '10250' && !isAuthority)
    t.regex(first!.problems.join(), /kubelet\.crt holds: the component has not read that yet/)
    t.true(rows[0]!.problems.length > 0)
  } finally {
    await on(node, `cat /root/kubelet.crt.before > ${file} && rm /root/kubelet.crt.before`)
  }
})

/** Of each master: what its API server presents, whose the scheduler's kubeconfig is, and since when that runs. */
const leavesOf = () =>
  Promise.all(
    machines('master').map(({ name: master }) =>
      on(
        master,
        `openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null | openssl x509 -noout -serial
openssl x509 -in /etc/kubernetes/pki/apiserver.crt -noout -serial
kubectl --kubeconfig /etc/kubernetes/scheduler.conf auth whoami -o jsonpath='{.status.userInfo.username}{"\\n"}'
sed -n 's/ *client-certificate-data: //p' /etc/kubernetes/scheduler.conf | base64 -d | openssl x509 -noout -serial
for f in $(grep -lzxE "(/[^ ]*/)?kube-scheduler" /proc/[0-9]*/cmdline); do cut -d' ' -f22 "\${f%cmdline}stat"; done`,
      ),
    ),
  ).then(said => said.map(text => text.trim().split('\n')))

test.serial(
  'made anew under the CA that is there, killed and gone on with, they are presented and used; a second run changes nothing; undone, every file is what it was',
  async t => {
    const [files, before] = [await filesOf(shape), await leavesOf()]
    // Longer than whatever made those that are there.
    const variables = { components: 'apiserver,kube-scheduler', certificate_ttl: '20000h' }
    const words = ['run', 'renew-certificates', ...inventory(), '-e', JSON.stringify(variables)]
    const killed = await killedAt(
      words,
      event => event.kind === 'step.started' && event.step === 'restart-controller-managers-and-schedulers',
    )
    t.is(killed.code, null, saidBy(killed))
    const { folder } = eventOf(eventsOf(killed), 'run.started')
    const resumed = await rekey(['resume', folder, '--output', 'json'])
    t.is(resumed.code, 0, saidBy(resumed))
    const workloads = eventOf(eventsOf(resumed), 'run.report').sections.find(({ title }) => title === 'Workloads')
    t.true((workloads?.rows.length ?? 0) > 0)
    for (const [, said] of workloads?.rows ?? []) t.regex(said, /, 0 of them refused/)

    const authority = scratch('ca.crt', await on('m1', 'cat /etc/kubernetes/pki/ca.crt'))
    for (const { address } of machines('master'))
      t.regex(await openssl(`${address}:6443`, authority), /Verification: OK/, address)
    for (const [index, [presented, lies, who, serial, since]] of (await leavesOf()).entries()) {
      const [, old, , oldSerial, oldSince] = before[index]!
      t.is(presented, lies)
      t.not(presented, old)
      t.is(who, 'system:kube-scheduler')
      t.not(serial, oldSerial)
      t.not(since, oldSince)
    }
    const renewed = await filesOf(shape)
    const again = await rekey([...words, '--output', 'json'])
    t.is(again.code, 0, saidBy(again))
    t.regex(JSON.stringify(eventOf(eventsOf(again), 'run.report').sections), /none of \d+: nothing was changed/)
    t.deepEqual(await filesOf(shape), renewed)

    const undone = await rekey(['rollback', folder, '--output', 'json'])
    t.is(undone.code, 0, saidBy(undone))
    t.deepEqual(await filesOf(shape), files)
    t.deepEqual(
      (await leavesOf()).map(one => one.slice(0, 4)),
      before.map(one => one.slice(0, 4)),
    )
  },
)

/** Where kubeadm's names lie. */
function pathOf(called: string): string {
  if (called.endsWith('.conf')) return `/etc/kubernetes/${called}`
  return `/etc/kubernetes/pki/${called.replace(/^etcd-/, 'etcd/').replace(/^apiserver-etcd\//, 'apiserver-etcd-')}.crt`
}

const isExpected = ({ isAuthority }: Row, called: string) => isAuthority === /(^|-)ca$/.test(called)
