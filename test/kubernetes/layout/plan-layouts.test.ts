// The plan on layouts other than kubeadm's: from what a script would print there to the certificates that are issued, the files that are
// written, and the ports that are asked.
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import test from 'ava'
import { load } from 'js-yaml'
import { type Secret, secret } from '../../../lib/connection/shell.ts'
import { authorityFilesOf } from '../../../lib/kubernetes/layout/authorities.ts'
import { discoveredFrom } from '../../../lib/kubernetes/layout/discover.ts'
import type { NamedFile } from '../../../lib/kubernetes/layout/host-layout.ts'
import { planOfCluster, unplannedCertificates } from '../../../lib/kubernetes/layout/plan.ts'
import { servedEndpoints } from '../../../lib/kubernetes/layout/served.ts'
import { authorityFiles, serviceAccountFiles } from '../../../lib/kubernetes/trust/certificate-files.ts'
import { kubeconfigsOfOthers, withTheirRest } from '../../../lib/kubernetes/trust/kubeconfig-files.ts'
import { type MachineReading, machineFacts, readingFrom } from '../../../lib/kubernetes/trust/machine.ts'
import { authorityPlans, placePath } from '../../../lib/pki/specs.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import {
  foundText,
  hardWayNode,
  hardWayServer,
  kubeaszMaster,
  kubesprayMaster,
  type Machine,
  running,
  together,
} from './_found.ts'

const both = ['serverAuth', 'clientAuth'] as const
const ca = await issue({ name: 'CN=kubernetes-ca,O=k8s', ca: true })
const etcdCa = await issue({ name: 'CN=etcd-ca', ca: true })
const proxyCa = await issue({ name: 'CN=front-proxy-ca', ca: true })
const foreign = await issue({ name: 'CN=company', ca: true })
const forName = (value: string) => [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value }])]
const leaf = (name: string, issuer = ca) => issue({ name, issuer, extensions: forName('a.example') })

const blob = (text: string) => Buffer.from(text).toString('base64')
const embedded = (pem: string) => `apiVersion: v1
kind: Config
clusters:
- name: c
  cluster:
    certificate-authority-data: ${blob(ca.pem)}
    server: https://10.0.0.1:6443
contexts:
- name: a
  context:
    cluster: c
    user: u
current-context: a
users:
- name: u
  user:
    client-certificate-data: ${blob(pem)}
    client-key-data: ""
`

/** A machine with these certificates in its files, keys beside them. */
function having(machine: Machine, pems: Readonly<Record<string, string>>): Machine {
  const files = Object.fromEntries(
    Object.entries(pems).map(([path, text]) => [
      path,
      { ...machine.files?.[path], ...(text === 'key' ? { key: 'private' as const } : { text }) },
    ]),
  )
  return { ...machine, files: { ...machine.files, ...files } }
}

const readingOf = (machine: Machine, host = 'm1', controlPlane = true): MachineReading =>
  readingFrom(discoveredFrom(foundText(machine), host), controlPlane)

function planned(...readings: readonly MachineReading[]) {
  const machines = readings.map(reading => machineFacts(reading, ['10.0.0.1']))
  const plan = planOfCluster(machines, { componentServing: true })
  return {
    ...plan,
    machines,
    lines: plan.specs.map(
      ({ id, hosts, place, authority }) => `${id} ${hosts.join('+')} ${placePath(place)} ${authority}`,
    ),
  }
}

const made = (readings: MachineReading, plans: ReturnType<typeof authorityPlans>) => {
  const all = Object.fromEntries(
    plans.map(({ mount, keyOnMasters }) => [mount, { certificate: ca.pem, ...(keyOnMasters && { key: ca.keyPem }) }]),
  )
  return authorityFiles({ reading: readings, layout: readings.layout! }, plans, all)
}

const ssl = '/etc/ssl/etcd/ssl'
const pki = '/etc/kubernetes/ssl'

async function kubespray(): Promise<MachineReading> {
  const [member, admin, node] = await Promise.all(
    ['etcd-member-m1', 'etcd-admin-m1', 'etcd-node-m1'].map(name => leaf(`CN=${name}`, etcdCa)),
  )
  const [apiServer, kubelet, manager, scheduler, own] = await Promise.all(
    [
      'kube-apiserver',
      'kube-apiserver-kubelet-client',
      'system:kube-controller-manager',
      'system:kube-scheduler',
      'system:node:m1',
    ].map(name => leaf(`CN=${name}`)),
  )
  const proxy = await leaf('CN=front-proxy-client', proxyCa)
  return readingOf(
    having(kubesprayMaster, {
      [`${ssl}/ca.pem`]: etcdCa.pem,
      [`${ssl}/ca-key.pem`]: 'key',
      [`${ssl}/member-m1.pem`]: member!.pem,
      [`${ssl}/admin-m1.pem`]: admin!.pem,
      [`${ssl}/node-m1.pem`]: node!.pem,
      [`${ssl}/node-n1.pem`]: node!.pem,
      [`${pki}/ca.crt`]: ca.pem,
      [`${pki}/ca.key`]: 'key',
      '/etc/kubernetes/pki/ca.crt': ca.pem,
      [`${pki}/front-proxy-ca.crt`]: proxyCa.pem + foreign.pem,
      [`${pki}/front-proxy-client.crt`]: proxy.pem,
      [`${pki}/apiserver.crt`]: apiServer!.pem,
      [`${pki}/apiserver-kubelet-client.crt`]: kubelet!.pem,
      '/etc/kubernetes/admin.conf': embedded(kubelet!.pem),
      '/etc/kubernetes/controller-manager.conf': embedded(manager!.pem),
      '/etc/kubernetes/scheduler.conf': embedded(scheduler!.pem),
      '/var/lib/kubelet/pki/kubelet-client-current.pem': own!.pem,
      [`${pki}/apiserver.crt.old`]: apiServer!.pem,
    }),
  )
}

test('Kubespray: members, administrator and clients of etcd by its folder, kubeadm’s by the folder that its link leads to', async t => {
  const reading = await kubespray()
  const { lines, specs, sharing, machines } = planned(reading)
  t.deepEqual(lines, [
    `apiserver m1 ${pki}/apiserver.crt kubernetes`,
    `apiserver-kubelet-client m1 ${pki}/apiserver-kubelet-client.crt kubernetes`,
    `apiserver-etcd-client m1 ${ssl}/node-m1.pem etcd`,
    `front-proxy-client m1 ${pki}/front-proxy-client.crt front-proxy`,
    `etcd-server m1 ${ssl}/member-m1.pem etcd`,
    `etcd-client m1 ${ssl}/admin-m1.pem etcd`,
    'admin m1 /etc/kubernetes/admin.conf kubernetes',
    'controller-manager m1 /etc/kubernetes/controller-manager.conf kubernetes',
    'scheduler m1 /etc/kubernetes/scheduler.conf kubernetes',
    'kubelet-client m1 /var/lib/kubelet/pki/kubelet-client-current.pem kubernetes',
    'kubelet-serving m1 /var/lib/kubelet/pki/kubelet.crt kubernetes',
    `kube-controller-manager-serving m1 ${pki}/kube-controller-manager.crt kubernetes`,
    `kube-scheduler-serving m1 ${pki}/kube-scheduler.crt kubernetes`,
  ])
  t.deepEqual(sharing, [])
  t.deepEqual(reading.files?.[`${pki}/front-proxy-ca.crt`]?.more, ['CN=company'])
  // A unit's certificate is as it is: nothing is added to it.
  const member = specs.find(({ id }) => id === 'etcd-server')
  t.deepEqual([member?.commonName, member?.dnsNames, member?.ipAddresses], ['etcd-member-m1', ['a.example'], []])
  t.deepEqual(unplannedCertificates(machines, specs), [
    { host: 'm1', path: `${ssl}/node-n1.pem` },
    { host: 'm1', path: `${pki}/apiserver.crt.old` },
  ])
  const { files, swap } = made(reading, authorityPlans('three'))
  t.deepEqual(
    files.map(({ path }) => path).sort(),
    [`${ssl}/ca.pem`, `${pki}/ca.crt`, `${pki}/ca.key`, `${pki}/front-proxy-ca.crt`].sort(),
  )
  t.deepEqual(swap.remove, [`${ssl}/ca-key.pem`])
  t.like(
    files.find(({ path }) => path === `${ssl}/ca.pem`),
    { mode: 0o700, owner: 'etcd:root' },
  )
  t.deepEqual(
    servedEndpoints(reading.layout!, specs).map(
      ({ component, port, authority }) => `${component} ${port} ${authority}`,
    ),
    [
      'kube-apiserver 6443 kubernetes',
      'kube-controller-manager 10257 kubernetes',
      'kube-scheduler 10259 kubernetes',
      'etcd (clients) 2379 etcd',
      'etcd (peers) 2380 etcd',
      'kubelet 10250 kubernetes',
    ],
  )
})

test('Kubespray: what the first host of etcd keeps of another member is replaced with it', async t => {
  const reading = await kubespray()
  const layout = { ...reading.layout!, host: 'm2' }
  const path = `${ssl}/member-m1.pem`
  const second = { ...reading, host: 'm2', layout: { ...layout, components: { kubelet: layout.components.kubelet! } } }
  const other = {
    ...second,
    host: 'm3',
    certificates: { ...second.certificates, [path]: (await leaf('CN=etcd-member-m1', etcdCa)).pem },
  }
  const member = planned(reading, second, other).specs.find(({ id }) => id === 'etcd-server')
  t.deepEqual([member?.hosts, member?.issue], [['m1', 'm2'], undefined])
})

test('a host with nothing but etcd is no node, and gets what its etcd needs', async t => {
  const whole = await kubespray()
  const { etcd } = whole.layout!.components
  const reading = {
    ...whole,
    host: 'e1',
    controlPlane: false,
    nodeName: undefined,
    layout: { host: 'e1', components: { etcd: etcd! } },
  }
  const { lines } = planned(reading)
  t.deepEqual(lines, [`etcd-server e1 ${ssl}/member-m1.pem etcd`, `etcd-client e1 ${ssl}/admin-m1.pem etcd`])
})

const kubernetes = '/var/lib/kubernetes'

async function hardWay() {
  const [apiServer, manager, scheduler, accounts, admin] = await Promise.all(
    ['kubernetes', 'system:kube-controller-manager', 'system:kube-scheduler', 'service-accounts', 'admin'].map(name =>
      leaf(`CN=${name}`),
    ),
  )
  const server = having(hardWayServer, {
    [`${kubernetes}/ca.crt`]: ca.pem,
    [`${kubernetes}/ca.key`]: 'key',
    [`${kubernetes}/kube-api-server.crt`]: apiServer!.pem,
    [`${kubernetes}/service-accounts.crt`]: accounts!.pem,
    [`${kubernetes}/kube-controller-manager.kubeconfig`]: embedded(manager!.pem),
    [`${kubernetes}/kube-scheduler.kubeconfig`]: embedded(scheduler!.pem),
    '/root/admin.kubeconfig': embedded(admin!.pem),
    '/root/.kube/config': embedded(admin!.pem),
  })
  const own = await issue({ name: 'CN=system:node:node-0,O=system:nodes', issuer: ca, extensions: forName('node-0') })
  const proxy = await leaf('CN=system:kube-proxy')
  const node = having(hardWayNode, {
    '/var/lib/kubelet/ca.crt': ca.pem,
    '/var/lib/kubelet/kubelet.crt': own.pem,
    '/var/lib/kubelet/kubeconfig': embedded(own.pem),
    '/var/lib/kube-proxy/kube-proxy.crt': proxy.pem,
  })
  return { server, node }
}

test('the hard way: one CA for what one file says, one certificate in two roles, in two files, or on two nodes issued once', async t => {
  const { server, node } = await hardWay()
  const readings = [readingOf(server), readingOf(node, 'n1', false), readingOf(node, 'n2', false)]
  const { lines, specs, sharing, oldAuthorities, machines } = planned(...readings)
  t.deepEqual(lines, [
    `apiserver m1 ${kubernetes}/kube-api-server.crt kubernetes`,
    'admin m1 /root/admin.kubeconfig kubernetes',
    `controller-manager m1 ${kubernetes}/kube-controller-manager.kubeconfig kubernetes`,
    `scheduler m1 ${kubernetes}/kube-scheduler.kubeconfig kubernetes`,
    'kubelet-client n1+n2 /var/lib/kubelet/kubeconfig kubernetes',
    'kubelet-serving n1+n2 /var/lib/kubelet/kubelet.crt kubernetes',
    'kube-proxy n1+n2 /var/lib/kube-proxy/kube-proxy.crt kubernetes',
  ])
  t.is(readings[0]?.nodeName, undefined)
  t.is(readings[1]?.nodeName, 'node-0')
  t.deepEqual(Object.keys(oldAuthorities), ['kubernetes'])
  t.deepEqual(sharing, [])
  t.deepEqual(specs[0]?.usages, both)
  const [client, serving] = specs.filter(({ component }) => component === 'kubelet')
  t.truthy(client?.issue)
  t.is(client?.issue, serving?.issue)
  for (const member of ['commonName', 'organizations', 'dnsNames', 'ipAddresses', 'usages'] as const)
    t.deepEqual(client?.[member], serving?.[member])
  // Of the certificate of the service accounts only the key is used, and what people have at home is theirs.
  t.deepEqual(unplannedCertificates(machines, specs), [])
  t.deepEqual(
    made(readings[0]!, authorityPlans('three', { roles: ['kubernetes'] })).files.map(({ path }) => path),
    [`${kubernetes}/ca.crt`, `${kubernetes}/ca.key`],
  )
  t.deepEqual(
    made(readings[1]!, authorityPlans('three', { roles: ['kubernetes'] })).files.map(({ path }) => path),
    ['/var/lib/kubelet/ca.crt'],
  )
})

test('a controller-manager that signs requests of one kind with another file gets the new CA and its key there, too', async t => {
  const reading = readingOf((await hardWay()).server)
  const { 'kube-controller-manager': manager } = reading.layout!.components
  const at = (path: string) => ({ path, real: path })
  const own = { role: 'signing', by: '--cluster-signing-kubelet-serving-cert-file', ...at('/etc/own/ca.crt') } as const
  const files = [...manager!.files, { ...own, key: at('/etc/own/ca.key') }]
  const layout = {
    ...reading.layout!,
    components: { ...reading.layout!.components, 'kube-controller-manager': { ...manager!, files } },
  }
  const { swap } = made({ ...reading, layout }, authorityPlans('one'))
  t.deepEqual(
    swap.rename.filter(path => /ca\.(crt|key)$/.test(path)),
    [`${kubernetes}/ca.crt`, '/etc/own/ca.crt', `${kubernetes}/ca.key`, '/etc/own/ca.key'],
  )
})

test('a new pair for tokens has the owners and modes of the old one: units need not run as root', async t => {
  const reading = readingOf((await hardWay()).server)
  const key = `${kubernetes}/service-accounts.key`
  const files = { ...reading.files, [key]: { real: key, mode: 0o640, owner: 'root:kube' } }
  const pair = { publicKey: 'public', privateKey: secret('private') }
  const staged = serviceAccountFiles({ ...reading, files }, reading.layout!, pair)
  t.deepEqual(
    staged.map(({ path, mode, owner, content }) => [path, mode, owner, typeof content === 'string']),
    [
      [`${kubernetes}/service-accounts.crt`, 0o644, undefined, true],
      [key, 0o640, 'root:kube', false],
    ],
  )
  t.is(staged.filter(({ path }) => path === key).length, 1)
})

test('a component with several kubeconfigs, and an API server with several certificates for names, get each of them anew', async t => {
  const { server } = await hardWay()
  const [asking, shop, bank] = await Promise.all(
    ['system:kube-controller-manager', 'shop', 'bank'].map(name => leaf(`CN=${name}`)),
  )
  const own = `${kubernetes}/asking.kubeconfig`
  const reading = readingOf(
    having(server, {
      [own]: embedded(asking!.pem),
      '/etc/sni/shop.crt': shop!.pem,
      '/etc/sni/bank.crt': bank!.pem,
    }),
  )
  const { components } = reading.layout!
  const at = (path: string) => ({ path, real: path })
  const sni = (name: string) =>
    ({ role: 'sni', by: '--tls-sni-cert-key', ...at(`/etc/sni/${name}.crt`), key: at(`/etc/sni/${name}.key`) }) as const
  const withFiles = (component: 'kube-apiserver' | 'kube-controller-manager', ...more: readonly NamedFile[]) => ({
    [component]: { ...components[component]!, files: [...components[component]!.files, ...more] },
  })
  const layout = {
    ...reading.layout!,
    components: {
      ...components,
      ...withFiles('kube-controller-manager', { role: 'kubeconfig', by: '--authentication-kubeconfig', ...at(own) }),
      ...withFiles('kube-apiserver', sni('shop'), sni('bank')),
    },
  }
  const { lines, specs, machines } = planned({ ...reading, layout })
  t.deepEqual(
    lines.filter(line => /^(controller-manager|apiserver-sni)/.test(line)),
    [
      'apiserver-sni m1 /etc/sni/shop.crt kubernetes',
      'apiserver-sni-2 m1 /etc/sni/bank.crt kubernetes',
      `controller-manager m1 ${kubernetes}/kube-controller-manager.kubeconfig kubernetes`,
      `controller-manager-2 m1 ${own} kubernetes`,
    ],
  )
  t.deepEqual(unplannedCertificates(machines, specs), [])
})

test('a kubeconfig with a token that a component names has the new CA, and is the same in all else', async t => {
  const path = '/var/lib/kube-proxy/kubeconfig'
  const withToken = (pem: string) =>
    `# ours\n${embedded('')
      .replace(/client-certificate-data.*\n.*\n$/, 'token: "of-the-proxy"\n')
      .replace(blob(ca.pem), blob(pem))}`
  const { server, node } = await hardWay()
  const reading = readingOf(having(node, { [path]: withToken(ca.pem) }), 'n1', false)
  const next = etcdCa.pem
  const bought = embedded((await leaf('CN=proxy', foreign)).pem)
  const staged = (text: string, written: readonly string[] = []) =>
    kubeconfigsOfOthers(
      { files: { readText: async () => text } as unknown as HostSession['files'] },
      { reading, layout: reading.layout! },
      { old: ca.pem, next },
      // The kubelet's is written anew.
      [...written, '/var/lib/kubelet/kubeconfig'].map(one => ({ path: one, content: '' })),
    )
  t.deepEqual(
    (await staged(withToken(ca.pem))).map(file => [file.path, file.mode, (file.content as Secret).reveal()]),
    [[path, reading.files?.[path]?.mode, withToken(next)]],
  )
  t.deepEqual(await staged(withToken(foreign.pem)), [])
  // So has one with a certificate of somebody else, which is not issued anew.
  const withBought = readingOf(having(node, { [path]: bought }), 'n1', false)
  t.deepEqual(
    planned(readingOf(server), withBought).lines.filter(line => line.includes(path)),
    [],
  )
  t.is((await staged(bought)).length, 1)
  t.deepEqual(await staged(withToken(ca.pem), [path]), [])
})

test('a kubeconfig that leads to other clusters, too, has another CA and another client where it leads to this one, and all the rest of before', async t => {
  const { server } = await hardWay()
  const [now, next] = await Promise.all(['now', 'next'].map(name => leaf(`CN=${name}`)))
  const theirs = `# mine\n${embedded(now!.pem).replace('client-key-data: ""', 'client-key-data: b2xk')}- name: elsewhere
  user: {token: "not-ours", username: 'x'} # of another cluster
`
  const path = '/root/admin.kubeconfig'
  const reading = readingOf(having(server, { [path]: theirs }))
  t.true(reading.kubeconfigs[path]?.more)
  t.is(reading.kubeconfigs['/root/.kube/config']?.more, undefined)
  const rendered = embedded(next!.pem)
    .replace('client-key-data: ""', 'client-key-data: bmV4dA==')
    .replace(blob(ca.pem), blob(etcdCa.pem))
  const merged = async (text: string, file = path) => {
    const session = { files: { readText: async () => text } as unknown as HostSession['files'] }
    const [one] = await withTheirRest(session, reading, [{ path: file, content: rendered, mode: 0o600 }])
    return typeof one!.content === 'string' ? one!.content : one!.content.reveal()
  }
  const expected = theirs
    .replace(blob(ca.pem), blob(etcdCa.pem))
    .replace(blob(now!.pem), blob(next!.pem))
    .replace('b2xk', 'bmV4dA==')
  t.is(await merged(theirs), expected)
  // Where one text stands for two things, it is written anew.
  const twice = theirs.replace('"not-ours"', '"b2xk"')
  t.deepEqual(load(await merged(twice)), load(expected.replace('"not-ours"', '"b2xk"')))
  t.is(await merged(theirs, '/root/.kube/config'), rendered)
})

test('the hard way with TLS for etcd: one certificate, copied for etcd, has one CA with the API', async t => {
  const { server } = await hardWay()
  const copy = '/etc/etcd/kube-api-server.crt'
  const { process, unit } = running(1, 'etcd.service', '/usr/local/bin/etcd', [
    ...[`--cert-file=${copy}`, `--key-file=${copy.replace('crt', 'key')}`, '--trusted-ca-file=/etc/etcd/ca.crt'],
    ...[
      `--peer-cert-file=${copy}`,
      `--peer-key-file=${copy.replace('crt', 'key')}`,
      '--peer-trusted-ca-file=/etc/etcd/ca.crt',
    ],
    '--listen-client-urls=https://127.0.0.1:2379',
  ])
  const machine = together(
    { ...server, processes: server.processes!.slice(1), units: server.units!.slice(1) },
    { processes: [process], units: [unit] },
  )
  const pem = server.files?.[`${kubernetes}/kube-api-server.crt`]?.text ?? ''
  const { lines, specs, sharing } = planned(readingOf(having(machine, { [copy]: pem, '/etc/etcd/ca.crt': ca.pem })))
  t.deepEqual(lines.slice(0, 2), [
    `apiserver m1 ${kubernetes}/kube-api-server.crt kubernetes`,
    `etcd-server m1 ${copy} kubernetes`,
  ])
  t.is(specs[0]?.issue, specs[1]?.issue)
  t.deepEqual(sharing, [['kubernetes', 'etcd']])
  t.deepEqual(
    authorityPlans('three', { roles: ['kubernetes', 'etcd'], sharing }).map(({ mount, authorities }) => [
      mount,
      authorities,
    ]),
    [['pki_k8s', ['kubernetes', 'etcd']]],
  )
})

test('kubeasz: one CA in one file has all roles, and is written once; what signs tokens is not taken away', async t => {
  const [apiServer, proxy, etcd] = await Promise.all(
    ['kubernetes', 'aggregator', 'etcd'].map(name => leaf(`CN=${name}`)),
  )
  const reading = readingOf(
    having(kubeaszMaster, {
      [`${pki}/ca.pem`]: ca.pem,
      [`${pki}/kubernetes.pem`]: apiServer!.pem,
      [`${pki}/aggregator-proxy.pem`]: proxy!.pem,
      [`${pki}/etcd.pem`]: etcd!.pem,
    }),
  )
  const { lines, sharing, specs } = planned(reading)
  t.deepEqual(lines, [
    `apiserver m1 ${pki}/kubernetes.pem kubernetes`,
    `front-proxy-client m1 ${pki}/aggregator-proxy.pem front-proxy`,
    `etcd-server m1 ${pki}/etcd.pem etcd`,
  ])
  t.deepEqual(specs[0]?.usages, both)
  t.deepEqual(sharing, [['kubernetes', 'etcd', 'front-proxy']])
  t.deepEqual(authorityFilesOf(reading.layout!), [
    { real: `${pki}/ca.pem`, authorities: ['kubernetes', 'etcd', 'front-proxy'] },
  ])
  const { files, swap } = made(reading, authorityPlans('three', { sharing, controllerManagerSigns: false }))
  t.deepEqual([files.map(({ path }) => path), swap.remove], [[`${pki}/ca.pem`], []])
})

test('the administrator’s kubeconfig is copied to nodes that have the same; another one in a home is left alone', async t => {
  const { server, node } = await hardWay()
  const text = server.files?.['/root/admin.kubeconfig']?.text ?? ''
  const copied = having(node, { '/root/admin.kubeconfig': text })
  const own = having(node, { '/root/admin.kubeconfig': embedded((await leaf('CN=somebody')).pem) })
  const { lines, machines, specs } = planned(
    readingOf(server),
    readingOf(copied, 'n1', false),
    readingOf(own, 'n2', false),
  )
  t.true(lines.includes('admin m1+n1 /root/admin.kubeconfig kubernetes'))
  t.deepEqual(unplannedCertificates(machines, specs), [])
})

test('an API that is served with a certificate of somebody else keeps it', async t => {
  const { server } = await hardWay()
  const bought = await issue({ name: 'CN=kubernetes', issuer: foreign })
  const machine = having(server, { [`${kubernetes}/kube-api-server.crt`]: bought.pem })
  const { lines, specs, machines } = planned(readingOf(machine))
  t.false(lines.some(line => line.includes('kube-api-server')))
  t.deepEqual(unplannedCertificates(machines, specs), [{ host: 'm1', path: `${kubernetes}/kube-api-server.crt` }])
})

test('a machine on which nothing of a cluster runs is none of it', t => {
  t.throws(() => readingOf({}), { message: /^m1 runs neither a kubelet nor etcd/ })
})
