// Flags in the texts of units, as the projects that write them do.
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { commandOf, editUnit, type FlagChange } from '../../../lib/kubernetes/components/unit-text.ts'

/** As `systemctl cat` prints a unit of the hard way. */
const hardWay = `# /etc/systemd/system/kube-controller-manager.service
[Unit]
Description=Kubernetes Controller Manager

[Service]
ExecStart=/usr/local/bin/kube-controller-manager \\
  --bind-address=0.0.0.0 \\
  # left for later
  --cluster-signing-cert-file=/var/lib/kubernetes/ca.crt \\
  --cluster-signing-key-file /var/lib/kubernetes/ca.key \\
  --feature-gates='A=true B' \\
  --v=2
Restart=on-failure

[Install]
WantedBy=multi-user.target
`
const set = (name: string, ...values: string[]): FlagChange => ({ name, values })
const edit = (definition: string, changes: FlagChange[], environment: Record<string, string> = {}) =>
  editUnit({ definition, environment: new Map(Object.entries(environment)) }, 'm1:x.service', changes)

test('a flag is added at the end of the whole command, in a drop-in', t => {
  const { dropIn, environment } = edit(hardWay, [set('tls-cert-file', '/var/lib/kubernetes/kcm.crt')])
  t.is(environment.size, 0)
  t.is(
    dropIn,
    `# Written by rekey: the command of the unit, with flags changed.
[Service]
ExecStart=
ExecStart=/usr/local/bin/kube-controller-manager \\
  --bind-address=0.0.0.0 \\
  --cluster-signing-cert-file=/var/lib/kubernetes/ca.crt \\
  --cluster-signing-key-file \\
  /var/lib/kubernetes/ca.key \\
  --feature-gates='A=true B' \\
  --v=2 \\
  --tls-cert-file=/var/lib/kubernetes/kcm.crt
`,
  )
})

test('flags are replaced where they stand, and removed with their values', t => {
  const { dropIn = '' } = edit(hardWay, [
    set('cluster-signing-cert-file'),
    set('cluster-signing-key-file'),
    set('bind-address', '::'),
    set('service-account-key-file', '/a', '/b'),
  ])
  t.deepEqual(commandOf(dropIn, 'x').slice(1), [
    '--bind-address=::',
    "--feature-gates='A=true B'",
    '--v=2',
    '--service-account-key-file=/a',
    '--service-account-key-file=/b',
  ])
})

test('what is so already changes nothing', t => {
  t.deepEqual(edit(hardWay, [set('bind-address', '0.0.0.0'), set('tls-cert-file')]), { environment: new Map() })
})

test('what is written is read back as the same command, and changed again', t => {
  const first = edit(hardWay, [set('tls-cert-file', '/with space/100%/$x')]).dropIn ?? ''
  t.deepEqual(edit(hardWay + first, [set('tls-cert-file', '/with space/100%/$x')]), { environment: new Map() })
  const second = edit(hardWay + first, [set('tls-cert-file', '/b')]).dropIn ?? ''
  t.deepEqual(commandOf(hardWay + first + second, 'x').at(-1), '--tls-cert-file=/b')
  t.is(commandOf(second, 'x').length, 8)
})

test('the arguments of a kubelet in a variable are changed there', t => {
  const unit =
    '[Service]\nEnvironmentFile=-/etc/kubernetes/kubelet.env\nExecStart=/usr/local/bin/kubelet $KUBELET_ARGS\n'
  const file = `KUBELET_ADDRESS="--node-ip=10.0.0.1"
KUBELET_ARGS="--config=/etc/kubernetes/kubelet-config.yaml \\
--kubeconfig=/etc/kubernetes/kubelet.conf \\
--v 2"
`
  const { dropIn, environment } = edit(unit, [set('config', '/new.yaml'), set('v'), set('cert-dir', '/x')], {
    '/etc/kubernetes/kubelet.env': file,
  })
  t.is(
    environment.get('/etc/kubernetes/kubelet.env'),
    file.replace('/etc/kubernetes/kubelet-config.yaml', '/new.yaml').replace('--v 2', ''),
  )
  t.deepEqual(commandOf(dropIn ?? '', 'x'), ['/usr/local/bin/kubelet', '$KUBELET_ARGS', '--cert-dir=/x'])
})

test('etcd that is told by its environment alone is told there', t => {
  const unit = '[Service]\nType=notify\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/local/bin/etcd\n'
  const file = 'ETCD_NAME=etcd1\nETCD_CERT_FILE=/etc/ssl/etcd/ssl/member-m1.pem\nETCD_CERT_FILE_X=1'
  const changed = (...changes: FlagChange[]) => edit(unit, changes, { '/etc/etcd.env': file })
  t.deepEqual(changed(set('cert-file', '/new.pem')), {
    environment: new Map([['/etc/etcd.env', file.replace('/etc/ssl/etcd/ssl/member-m1.pem', '/new.pem')]]),
  })
  t.is(changed(set('name')).environment.get('/etc/etcd.env'), file.replace('ETCD_NAME=etcd1\n', ''))
  t.is(changed(set('key-file', '/k')).environment.get('/etc/etcd.env'), `${file}\nETCD_KEY_FILE=/k\n`)
  t.is(changed(set('name', 'etcd1')).environment.size, 0)
  t.throws<RekeyError>(() => changed(set('name', 'a b')), { code: 'unit.environment' })
})

test('etcd refuses to be told twice: what its unit sets by Environment= is not shadowed by a flag', t => {
  const unit = '[Service]\nEnvironment=ETCD_NAME=a ETCD_CERT_FILE=/x\nExecStart=/usr/local/bin/etcd\n'
  const error = t.throws<RekeyError>(() => edit(unit, [set('cert-file', '/y')]))
  t.like(error, { code: 'unit.environment' })
  t.regex(error?.message ?? '', /^m1:x\.service sets ETCD_CERT_FILE/)
})

test('a unit of several commands, or of none, is refused', t => {
  for (const text of [
    '[Service]\nExecStart=/a\nExecStart=/b\n',
    '[Install]\nExecStart=/a\n',
    '[Service]\nExecStart=/a\nExecStart=\n',
  ])
    t.throws<RekeyError>(() => commandOf(text, 'm1:x.service'), { code: 'unit.command' })
})
