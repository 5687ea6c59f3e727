// A cluster that rekey did not make, after years: entered by a user with sudo, without etcdctl, kube-proxy, front proxy, cluster-info and
// load balancer, etcd on a disk of its own, nodes with other names than the inventory's hosts, CoreDNS under another name; with pods
// that have been failing, a webhook that is down, bundles of several CAs, certificates and static pods of somebody else. It is rotated, and
// undone, and what has nothing to do with it is neither in the way nor touched.
import { X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import test from 'ava'
import * as lab from '../../lib/lab/index.ts'
import { rekey, told, upFresh } from './_lab.ts'
import { assertAsBefore, assertRotated, filesOf, type Old, takeOldCredentials } from './_outside.ts'

const options: lab.LabOptions = {
  ...{ name: 'found', masters: 3, nodes: 2 },
  ...{ login: 'sudo', disks: 'separate', nodeNames: 'other' },
  without: ['kube-proxy', 'front-proxy', 'load-balancer', 'etcdctl'],
}

let shape: lab.Shape

test.before(async () => {
  shape = await upFresh(options)
  await lab.fill(options.name, [], told)
})
test.after.always(async () => {
  await lab.down(options.name, () => {})
})

/** Runs a script on the first master, with kubectl for the administrator. */
const on = (script: string) =>
  lab.exec(options.name, 'm1', ['sh', '-c', `export KUBECONFIG=/etc/kubernetes/admin.conf\n${script}`])

const pki = '/etc/kubernetes/pki'
/** What the old CA signed and nothing uses, or others signed. */
const foreign = [
  'apiserver.crt.old',
  'apiserver.key.old',
  'backup-2024/apiserver.crt',
  'backup-2024/apiserver.key',
  'oidc-ca.crt',
]

/** Every caBundle that holds the cluster's CA, as it is written. */
async function bundles(): Promise<Record<string, string>> {
  const configurations = lab.bundleNames.map(
    name =>
      [
        name,
        `validatingwebhookconfiguration bundle-${name} -o jsonpath='{.webhooks[0].clientConfig.caBundle}'`,
      ] as const,
  )
  const crd = "crd widgets.found.example -o jsonpath='{.spec.conversion.webhook.clientConfig.caBundle}'"
  const read = [...configurations, ['crd', crd] as const].map(async ([name, what]) => [
    name,
    await on(`kubectl get ${what} | base64 -d`),
  ])
  return Object.fromEntries(await Promise.all(read)) as Record<string, string>
}

/** The certificates of a bundle: `cluster` or `other` where it is one of these, and whatever stands between them. */
function described(bundle: string, authorities: Readonly<Record<string, string>>): string[] {
  const known = Object.entries(authorities).map(
    ([name, pem]) => [name, new X509Certificate(pem).fingerprint256] as const,
  )
  const certificates = bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  const comments = bundle.split(/\r?\n/).filter(line => line.startsWith('#'))
  return [
    ...comments,
    ...certificates.map(pem => {
      const { fingerprint256 } = new X509Certificate(pem)
      return known.find(([, fingerprint]) => fingerprint === fingerprint256)?.[0] ?? fingerprint256
    }),
  ]
}

const wanted: Record<string, string[]> = {
  alone: ['cluster'],
  'first-of-two': ['cluster', 'other'],
  'second-of-two': ['other', 'cluster'],
  'with-a-comment': ['# the CA of the cluster', 'cluster'],
  crlf: ['cluster'],
  'without-a-newline': ['cluster'],
  crd: ['other', 'cluster'],
}

async function describedBundles(): Promise<Record<string, string[]>> {
  const cluster = await on(`cat ${pki}/ca.crt`)
  const other = await on(`cat ${lab.otherAuthority}`)
  return Object.fromEntries(
    Object.entries(await bundles()).map(([name, text]) => [name, described(text, { cluster, other })]),
  )
}

/** What was found in the cluster and has nothing to do with a rotation, in a line each. */
const surroundings = () =>
  on(`kubectl get node -o jsonpath='{range .items[*]}{.metadata.name} {.spec.unschedulable}{"\\n"}{end}'
kubectl get namespace leaving -o jsonpath='{.status.phase}{"\\n"}'
kubectl get validatingwebhookconfiguration guard -o jsonpath='{.metadata.resourceVersion}{"\\n"}'
kubectl get pdb -A -o jsonpath='{range .items[*]}{.metadata.namespace} {.metadata.uid}{"\\n"}{end}'
kubectl -n batch get pods -o jsonpath='{range .items[*]}{.metadata.uid} {.status.phase} {.status.reason}{"\\n"}{end}'
kubectl -n payments get pods -o jsonpath='{range .items[*]}{.metadata.uid} {.status.phase} {.status.containerStatuses[*].restartCount}{"\\n"}{end}'
kubectl -n edge get pods -o jsonpath='{range .items[*]}{.metadata.name} {.status.phase} {.status.containerStatuses[*].restartCount}{"\\n"}{end}'
kubectl -n kube-public get configmap cluster-info -o name 2>&1 | grep -c NotFound
kubectl -n kube-system get deployments,daemonsets -o name`)

/** Hashes of the files of others, by machine. */
const foreignFiles = async () =>
  Object.entries(await filesOf(shape)).map(([machine, files]) => [
    machine,
    files
      .split('\n')
      .filter(line => foreign.some(file => line.startsWith(`${pki}/${file} `)) || line.includes('edge-proxy')),
  ])

/** Whether the operator that writes Secrets can do so. */
async function secretsAreWritten(): Promise<boolean> {
  const version = () => on("kubectl -n operators get secret changing -o jsonpath='{.metadata.resourceVersion}'")
  const before = await version()
  for (let attempt = 0; attempt < 30; attempt++) {
    await new Promise(resolve => setTimeout(resolve, 1_000))
    if ((await version()) !== before) return true
  }
  return false
}

const restarted = [
  { kind: 'Deployment', namespace: 'canary', name: 'web' },
  { kind: 'DaemonSet', namespace: 'canary', name: 'service-caller' },
  { kind: 'Deployment', namespace: 'canary', name: 'token-caller' },
  { kind: 'Deployment', namespace: 'canary-legacy', name: 'legacy-token-caller' },
  { kind: 'Deployment', namespace: 'operators', name: 'secret-writer' },
]

/** What must be said before the first change, of what is not as a tidy cluster has it. */
const unusual = [
  ...['batch/nightly', 'batch/waiting', 'batch/greedy', 'leaving', 'guard'],
  ...['oidc-ca.crt', 'backup-2024/apiserver.crt', 'apiserver.crt.old', 'kube-proxy', 'cluster-info'],
]

let before: { old: Old; bundles: Record<string, string>; surroundings: string; foreign: unknown }
let run = ''

test.serial('the cluster is as it was meant to be found', async t => {
  t.deepEqual(await describedBundles(), wanted)
  t.true(await secretsAreWritten())
  t.is(await on('stat -f -c %T /var/lib/etcd'), 'ext2/ext3\n')
  t.is(
    await on('touch /var/lib/etcd/x && ! ln /var/lib/etcd/x /var/x 2>&1; rm /var/lib/etcd/x'),
    "ln: failed to create hard link '/var/x' => '/var/lib/etcd/x': Invalid cross-device link\n",
  )
  t.is(await on('for one in etcdctl etcdutl crictl; do command -v $one; done; true'), '')
  before = {
    old: await takeOldCredentials(shape),
    ...{ bundles: await bundles(), surroundings: await surroundings(), foreign: await foreignFiles() },
  }
  t.is(before.old.unwell.length, 3, before.old.unwell.join())
})

test.serial('it is rotated: what is not well was told before the first change, and is as it was', async t => {
  const { code, stdout, stderr } = await rekey([
    ...['run', 'rotate-ca', '-i', lab.inventoryPath(options.name), '--output', 'plain'],
    ...['-e', JSON.stringify({ restart_workloads: restarted })],
  ])
  run = /^Run (\S+)$/m.exec(stdout)?.[1] ?? ''
  t.is(code, 0, `${stdout.slice(-6_000)}${stderr}`)
  const [ahead = ''] = stdout.split(/^Swap the certificates/m)
  const last = shape.machines.at(-1)!.hostname
  t.deepEqual(
    [...unusual, last].filter(word => !ahead.includes(word)),
    [],
    'said before the first change',
  )
  const folder = join(
    process.env['XDG_STATE_HOME'] || join(process.env['HOME'] ?? '/root', '.local/state'),
    'rekey/runs',
    run,
  )
  await assertRotated(shape, folder, before.old, [`${pki}/backup-2024/apiserver.crt`])
  t.deepEqual(await describedBundles(), wanted)
  t.is(await surroundings(), before.surroundings)
  t.deepEqual(await foreignFiles(), before.foreign)
  t.true(await secretsAreWritten())
  t.is(await on(`ls ${pki} | grep front-proxy; true`), '')
})

test.serial('it is undone', async t => {
  const { code, stdout, stderr } = await rekey(['rollback', run, '--output', 'plain'])
  t.is(code, 0, `${stdout.slice(-6_000)}${stderr}`)
  await assertAsBefore(shape, before.old)
  t.deepEqual(await bundles(), before.bundles)
  t.is(await surroundings(), before.surroundings)
  t.true(await secretsAreWritten())
})
