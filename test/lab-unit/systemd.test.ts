// The layouts of systemd units, as far as they can be judged without machines.
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { loadInventory } from '../../lib/inventory/index.ts'
import { corednsManifest, dnsAddress } from '../../lib/lab/cluster/layouts/systemd/coredns.ts'
import { hardWay } from '../../lib/lab/cluster/layouts/systemd/hard-way.ts'
import { caConf } from '../../lib/lab/cluster/layouts/systemd/hard-way-pki.ts'
import { kubeasz } from '../../lib/lab/cluster/layouts/systemd/kubeasz.ts'
import { kubeaszSteps, signingConfig } from '../../lib/lab/cluster/layouts/systemd/kubeasz-pki.ts'
import { kubeconfig } from '../../lib/lab/cluster/layouts/systemd/kubeconfig.ts'
import { makePki } from '../../lib/lab/cluster/layouts/systemd/openssl.ts'
import { inventoryPath, writeInventory } from '../../lib/lab/inventory.ts'
import { checkOptions, endpointOf, kubeletMachines, members, shapeOf, unusual } from '../../lib/lab/shape.ts'

const hardWayShape = shapeOf({ name: 'sys', masters: 3, nodes: 2, layout: 'systemd' }, '10.201.7.0/24')

const kubeaszShape = shapeOf(
  { name: 'asz', masters: 1, nodes: 1, layout: 'systemd', unitShape: 'kubeasz' },
  '10.201.8.0/24',
)

/** What openssl says of the request for a section of a ca.conf. */
function requestOf(section: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-ca-conf-'))
  try {
    writeFileSync(join(folder, 'ca.conf'), caConf(hardWayShape))
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-keyout', 'key']
    return execFileSync('openssl', ['req', '-new', ...key, '-config', 'ca.conf', '-section', section, '-text'], {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

test('the hard way, controllers run no pods, and every machine knows the API by a name', t => {
  t.deepEqual(
    kubeletMachines(hardWayShape).map(({ name }) => name),
    ['n1', 'n2'],
  )
  t.is(members(hardWayShape).length, 5)
  t.deepEqual(endpointOf(hardWayShape), {
    host: 'server.kubernetes.local',
    name: 'server.kubernetes.local',
    address: '10.201.7.10',
  })
  t.true(unusual(hardWayShape).includes('--layout systemd --shape hard-way'))
})

test('the API server of the hard way is known by the addresses of all controllers and of the load balancer', t => {
  const request = requestOf('kube-api-server')
  for (const address of ['127.0.0.1', '10.96.0.1', '10.201.7.101', '10.201.7.102', '10.201.7.103', '10.201.7.10'])
    t.regex(request, new RegExp(`IP Address:${address.replaceAll('.', '\\.')}(,|\n)`))
  t.regex(request, /Subject: CN = kubernetes, C = US, ST = Washington, L = Seattle/)
  t.regex(request, /DNS:server\.kubernetes\.local/)
  t.regex(request, /TLS Web Client Authentication, TLS Web Server Authentication/)
})

test('a kubelet of the hard way is a node to the API, and its certificate lacks its address', t => {
  const request = requestOf('n2')
  t.regex(request, /Subject: CN = system:node:n2, O = system:nodes/)
  t.regex(request, /DNS:n2, IP Address:127\.0\.0\.1\n/)
})

test('one CA of kubeasz signs everything, and a key goes with each certificate', async t => {
  const { files, script } = kubeaszSteps(kubeaszShape)
  // Keys that are made sooner than its own.
  const quickly = script.replaceAll(/openssl genrsa -out (\S+) 2048/g, 'openssl genpkey -algorithm ED25519 -out $1')
  const pki = await makePki(files, quickly.replaceAll(' -sha256', ''))
  const ca = new X509Certificate(pki('ca.pem'))
  t.true(ca.ca)
  for (const name of ['etcd', 'kubernetes', 'aggregator-proxy', 'admin', 'm1-kubelet', 'n1-kubelet', 'kube-proxy']) {
    const certificate = new X509Certificate(pki(`${name}.pem`))
    t.true(certificate.checkIssued(ca), name)
    t.true(certificate.verify(ca.publicKey), name)
    t.regex(pki(`${name}-key.pem`), /PRIVATE KEY/)
  }
  const server = new X509Certificate(pki('kubernetes.pem'))
  t.is(server.subject, 'C=CN\nST=HangZhou\nL=XS\nO=k8s\nOU=System\nCN=kubernetes')
  for (const address of ['127.0.0.1', '10.201.8.101', '10.201.8.10', '10.96.0.1'])
    t.is(server.checkIP(address), address)
  t.regex(new X509Certificate(pki('n1-kubelet.pem')).subject, /O=system:nodes\nOU=System\nCN=system:node:n1$/)
  t.is(new X509Certificate(pki('admin.pem')).subjectAltName, undefined)
  t.notRegex(signingConfig({ hosts: [] }), /subjectAltName/)
})

test('all machines of kubeasz run pods, and ask at an address', t => {
  t.is(kubeletMachines(kubeaszShape).length, 2)
  t.is(endpointOf(kubeaszShape).name, undefined)
})

test('what openssl leaves is read, a file that is missing is named, and nothing stays', async t => {
  const pki = await makePki({ 'in.txt': 'in' }, 'cp in.txt out.txt; pwd > where')
  t.is(pki('out.txt'), 'in')
  t.throws(() => pki('other.txt'), { message: /other\.txt/ })
  t.throws(() => readFileSync(join(pki('where').trim(), 'out.txt')), { code: 'ENOENT' })
  await t.throwsAsync(makePki({}, 'openssl req -config nowhere.cnf'), { code: 'lab.command-failed' })
})

test('a kubeconfig holds its certificates as data', t => {
  const text = kubeconfig({
    cluster: 'a',
    server: 'https://b:6443',
    user: 'system:node:n1',
    context: 'default',
    authority: 'CA',
    certificate: 'CERT',
    key: 'KEY',
  })
  t.regex(text, /certificate-authority-data: Q0E=\n/)
  t.regex(text, /client-key-data: S0VZ\n/)
  t.regex(text, /current-context: default\n/)
})

test('CoreDNS is asked at the tenth address of the Services', t => {
  t.is(dnsAddress(hardWayShape), '10.96.0.10')
  t.notRegex(corednsManifest(hardWayShape), /\$[A-Z]/)
})

test('a shape of another layout is refused', t => {
  const error = t.throws(
    () => checkOptions({ name: 'a', masters: 1, nodes: 1, layout: 'kubeadm', unitShape: 'kubeasz' }),
    { message: /the layout kubeadm has no shape 'kubeasz'/ },
  ) as RekeyError
  t.is(error.code, 'lab.options')
})

test('a snapshot is made anew when any file of the layout changes: each is there', t => {
  const folder = fileURLToPath(new URL('../../lib/lab/cluster/layouts/', import.meta.url))
  for (const source of [...hardWay.sources, ...kubeasz.sources])
    t.notThrows(() => readFileSync(join(folder, source)), source)
})

test.serial('the inventory has the groups of its documents', async t => {
  const state = mkdtempSync(join(tmpdir(), 'rekey-lab-systemd-'))
  const before = process.env.XDG_STATE_HOME
  process.env.XDG_STATE_HOME = state
  try {
    writeInventory(hardWayShape)
    const file = inventoryPath('sys')
    t.true(dirname(file).startsWith(state))
    const inventory = await loadInventory({ sources: [file], environment: {} })
    const names = (pattern: string) => inventory.select(pattern).map(({ name }) => name)
    t.deepEqual(names('controllers'), ['m1', 'm2', 'm3'])
    t.deepEqual(names('workers'), ['n1', 'n2'])
    t.deepEqual(names('masters:nodes'), names('cluster'))
  } finally {
    if (before === undefined) delete process.env.XDG_STATE_HOME
    else process.env.XDG_STATE_HOME = before
    rmSync(state, { recursive: true, force: true })
  }
})
