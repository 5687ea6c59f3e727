// A lab's cluster judged from outside, with openssl, curl and kubectl: what holds after a rotation, and after it was undone.
import { strict as assert } from 'node:assert'
import { execFileSync } from 'node:child_process'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { tryCommand } from '../../lib/lab/command.ts'
import * as lab from '../../lib/lab/index.ts'
import { endpointOf, etcdMachines } from '../../lib/lab/shape.ts'
import { connectVault } from '../../lib/pki/vault/vault.ts'
import { temporaryFolder } from '../_temporary.ts'
import { placesOf } from './_places.ts'

/** What somebody had in hand before: the CAs, the files of every host, a Secret, the kubeconfig and a token (on m1). */
export interface Old {
  readonly marker: string
  readonly authority: string
  /** All CAs of the cluster. */
  readonly authorities: string
  /** A CA of somebody else, in bundles with the cluster's. */
  readonly otherAuthority: string
  readonly token: string
  /** Paths, modes and hashes of what a rotation may touch, by machine. */
  readonly files: Readonly<Record<string, string>>
  /** Pods that did not run, and need not run afterwards. */
  readonly unwell: readonly string[]
}

/** Every machine that a rotation has to do with. */
export const machinesOf = ({ machines }: lab.Shape) =>
  machines.filter(({ role }) => role === 'master' || role === 'node' || role === 'etcd')

const membersOf = ({ machines }: lab.Shape) => machines.filter(({ role }) => role === 'master' || role === 'node')

/** Runs a script on the first master, with KUBECONFIG set. */
export const kubectlOnM1 = (shape: lab.Shape) => (script: string) =>
  on(shape, 'm1', `export KUBECONFIG=${placesOf(shape).kubeconfig}\n${script}`)

/** Runs a script on a machine. */
export const on = ({ name }: lab.Shape, machine: string, script: string) =>
  lab.exec(name, machine, ['sh', '-c', script])

/** Notes what is true before a rotation, and writes a Secret that must be read afterwards. */
export async function takeOldCredentials(shape: lab.Shape): Promise<Old> {
  const marker = `written-${Date.now()}`
  const { kubeconfig, authorities, etcdClient, frontProxyClient } = placesOf(shape)
  const pairs = { etcd: etcdClient, ...(frontProxyClient && { 'front-proxy': frontProxyClient }) }
  await on(
    shape,
    'm1',
    `set -e; export KUBECONFIG=${kubeconfig}
cp ${kubeconfig} /root/old-admin.conf
rm -rf /root/old-pki && mkdir -m 700 /root/old-pki
${Object.entries(pairs)
  .map(
    ([name, [certificate, key]]) => `cp ${certificate} /root/old-pki/${name}.crt; cp ${key} /root/old-pki/${name}.key`,
  )
  .join('\n')}
sed -n 's/ *client-certificate-data: //p' /root/old-admin.conf | base64 -d >/root/old-pki/admin.crt
(umask 077 && sed -n 's/ *client-key-data: //p' /root/old-admin.conf | base64 -d >/root/old-pki/admin.key)
kubectl delete secret rekey-test --ignore-not-found >/dev/null
kubectl create secret generic rekey-test --from-literal=marker=${marker} >/dev/null
kubectl -n canary get secret caller-token -o jsonpath='{.data.token}' | base64 -d >/root/old-token`,
  )
  const authority = await on(shape, 'm1', `cat ${authorities.kubernetes}`)
  const every = await on(shape, 'm1', `cat ${Object.values(authorities).join(' ')}`)
  const token = await on(shape, 'm1', 'sha256sum </root/old-token')
  const otherAuthority = await makeBundles(kubectlOnM1(shape), authority)
  const admin = scratch('admin.conf', await on(shape, 'm1', 'cat /root/old-admin.conf'))
  const unwell = await unwellPods(kubectlFor(shape, admin))
  return { marker, authority, authorities: every, otherAuthority, token, files: await filesOf(shape), unwell }
}

/** What lies where a rotation may change something, by machine, without times. */
export async function filesOf(shape: lab.Shape): Promise<Record<string, string>> {
  const states = machinesOf(shape).map(async ({ name: machine }) => [
    machine,
    await on(
      shape,
      machine,
      `find ${placesOf(shape).touched.join(' ')} \\( -type f -printf '%p %m %u:%g ' -exec sha256sum {} \\; \\) -o \\( -type l -printf '%p %l\\n' \\) 2>/dev/null | sort`,
    ),
  ])
  return Object.fromEntries(await Promise.all(states)) as Record<string, string>
}

/** Ports of a machine with TLS, and which CA must have signed what they present. */
export function portsOf(shape: lab.Shape, machine: lab.Machine): (readonly [number, 'kubernetes' | 'etcd'])[] {
  const etcd = etcdMachines(shape).some(({ name }) => name === machine.name)
  return [
    ...(machine.role === 'master' ? ([[6443, 'kubernetes']] as const) : []),
    ...(etcd
      ? ([
          [2379, 'etcd'],
          [2380, 'etcd'],
        ] as const)
      : []),
    ...(machine.role === 'etcd' ? [] : ([[10250, 'kubernetes']] as const)),
  ]
}

/**
 * Throws unless a rotation is complete: every endpoint and file is under the new CA, the new kubeconfig works and what was
 * good before is refused, every pod runs, nothing is left lying about.
 * @param folder of the run
 * @param leftAlone files with certificates of the old CA that nothing uses, and that stay
 */
export async function assertRotated(
  shape: lab.Shape,
  folder: string,
  old: Old,
  leftAlone: readonly string[] = [],
): Promise<void> {
  const places = placesOf(shape)
  const file = (path: string) => on(shape, 'm1', `cat ${path}`)
  const authorities = {
    kubernetes: scratch('ca.crt', await file(places.authorities.kubernetes)),
    etcd: scratch('etcd-ca.crt', await file(places.authorities.etcd)),
  }
  assert.notEqual(readFileSync(authorities.kubernetes, 'utf8').trim(), old.authority.trim())

  // Every endpoint, by openssl, which must verify it with the new CA and nothing else.
  for (const one of machinesOf(shape)) {
    const { name: machine, address, role } = one
    for (const [port, authority] of portsOf(shape, one)) {
      const said = await openssl(`${address}:${port}`, authorities[authority])
      assert.match(said, /Verification: OK/, `${machine}:${port} ${said}`)
    }
    if (role !== 'master') continue
    for (const port of [10257, 10259]) {
      const said = await on(
        shape,
        machine,
        `openssl s_client -connect 127.0.0.1:${port} -no-CApath -no-CAstore -CAfile ${places.authorities.kubernetes} -verify_return_error -brief </dev/null 2>&1; true`,
      )
      assert.match(said, /Verification: OK/, `${machine}:${port}`)
    }
  }

  // No file under an old CA is left, on any machine, and nothing that a run puts beside them.
  for (const { name: machine } of machinesOf(shape)) {
    const left = await on(
      shape,
      machine,
      `cat >/tmp/old-ca.crt <<'END'
${old.authorities.trim()}
END
old() { openssl verify -partial_chain -no-CApath -no-CAstore -CAfile /tmp/old-ca.crt "$@" >/dev/null 2>&1; }
for f in $(find ${places.touched.join(' ')} -name '*.crt' -o -name '*.pem' | sort); do
  old "$f" && echo "$f"
done
for f in $(find ${places.touched.join(' ')} -type f -name '*.conf' | sort); do
  for data in certificate-authority client-certificate; do
    sed -n "s/ *$data-data: //p" "$f" | base64 -d | old && echo "$f: $data"
  done
done; find ${places.touched.join(' ')} -name '.rekey*'; find /var/lib/rekey -mindepth 1; rm -f /tmp/old-ca.crt; true`,
    )
    assert.deepEqual(
      left.split('\n').filter(path => path !== '' && !places.leftAlone(machine, path) && !leftAlone.includes(path)),
      [],
      machine,
    )
  }

  // The new kubeconfig works, through the load balancer, from here; it is for its owner's eyes only.
  const kubeconfig = join(folder, 'admin.conf')
  assert.equal(statSync(kubeconfig).mode & 0o777, 0o600)
  assert.equal(statSync(folder).mode & 0o777, 0o700)
  await assertWell(shape, kubeconfig, old)
  await assertBundles(kubectlOnM1(shape), readFileSync(authorities.kubernetes, 'utf8'), old.otherAuthority, 'rotated')

  // What was good before is refused now.
  await assertRefused(shape, '/root/old-admin.conf')
  assert.equal(await statusWithOldToken(shape), '401', 'the old token')
  await assertOldClients(shape, { web: '401', etcd: '000' })

  await assertNoRunToken(shape)

  // Nothing that a run keeps in plain text holds a key or a token.
  assertNoSecretKept(folder)
}

/** Throws unless an API server answers who comes with a kubeconfig of the first master that it does not know them: no TLS that failed will do. */
export async function assertRefused(shape: lab.Shape, kubeconfig: string): Promise<void> {
  const command = `kubectl --kubeconfig ${kubeconfig} --insecure-skip-tls-verify get nodes 2>&1; true`
  const said = await on(shape, 'm1', command)
  assert.match(said, /^error: You must be logged in to the server \(.*\)$/m, `the old kubeconfig: ${said}`)
}

/** Throws where the journal of a run holds a key or a token. */
export function assertNoSecretKept(folder: string): void {
  const kept = readFileSync(join(folder, 'events.jsonl'), 'utf8')
  assert.doesNotMatch(kept, /PRIVATE KEY|LS0tLS1CRUdJTiB|\beyJhbGci|\bhvs\./)
}

/**
 * Throws unless a rotation was undone, or never began: every file of every host is as it was, every endpoint presents what is
 * under the old CA, the old kubeconfig and the old token work, every pod runs, nothing is left lying about.
 */
export async function assertAsBefore(shape: lab.Shape, old: Old): Promise<void> {
  assert.deepEqual(await filesOf(shape), old.files)
  for (const { name: machine } of machinesOf(shape)) {
    assert.equal(await on(shape, machine, 'find /var/lib/rekey -mindepth 1 2>/dev/null; true'), '', machine)
  }
  const authorities = {
    kubernetes: scratch('ca.crt', old.authority),
    etcd: scratch('etcd-ca.crt', await on(shape, 'm1', `cat ${placesOf(shape).authorities.etcd}`)),
  }
  for (const one of machinesOf(shape)) {
    const { name: machine, address } = one
    // A kubelet that nobody rotated yet presents a certificate that it signed itself.
    for (const [port, authority] of portsOf(shape, one).filter(([one]) => one !== 10250)) {
      const said = await openssl(`${address}:${port}`, authorities[authority])
      assert.match(said, /Verification: OK/, `${machine}:${port} ${said}`)
    }
  }
  await assertWell(shape, scratch('admin.conf', await on(shape, 'm1', 'cat /root/old-admin.conf')), old)
  await assertBundles(kubectlOnM1(shape), old.authority, old.otherAuthority, 'before')
  await assertNoRunToken(shape)
  // It may do little; what counts is that it is known.
  assert.equal(await statusWithOldToken(shape), '403', 'the old token')
  await assertOldClients(shape, { web: '200', etcd: '200' })
}

/** Throws where Vault still knows a token or a policy that a run made for itself. */
export async function assertNoRunToken({ name }: lab.Shape): Promise<void> {
  const folder = join(dirname(dirname(lab.inventoryPath(name))), 'vault')
  const variables = readFileSync(join(dirname(lab.inventoryPath(name)), 'group_vars', 'all.yml'), 'utf8')
  const address = /^vault_addr: (\S+)$/m.exec(variables)?.[1] ?? ''
  const vault = await connectVault({ address, caFile: join(folder, 'ca.crt'), tokenFile: join(folder, 'root-token') })
  try {
    const policy = `rekey-${name}`
    assert.ok(!(await vault.list('sys/policies/acl'))?.includes(policy), `the policy ${policy}`)
    for (const accessor of (await vault.list('auth/token/accessors')) ?? []) {
      // One that has ended meanwhile is not there.
      const token = await vault.write('auth/token/lookup-accessor', { accessor }).catch(() => undefined)
      const policies = (token?.data['policies'] ?? []) as string[]
      assert.ok(!policies.includes(policy), `a token with the policy ${policy}`)
    }
  } finally {
    vault.close()
  }
}

/** Nodes Ready, the Secret readable, every pod running, logs from every node; and Vault's copy of the pods' CA is the file's. */
export async function assertWell(shape: lab.Shape, kubeconfig: string, old: Old): Promise<void> {
  const members = membersOf(shape)
  const kubectl = kubectlFor(shape, kubeconfig)
  const ready = await kubectl(
    'get',
    'nodes',
    '-o',
    'jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}',
  )
  assert.deepEqual(ready.trim().split(' ').sort(), members.map(({ hostname }) => `${hostname}=True`).sort())
  const secret = await kubectl('get', 'secret', 'rekey-test', '-o', 'jsonpath={.data.marker}')
  assert.equal(Buffer.from(secret, 'base64').toString(), old.marker)
  assert.deepEqual(
    (await unwellPods(kubectl)).filter(pod => !old.unwell.includes(pod)),
    [],
  )
  for (const { hostname: node } of members) {
    const pods = await kubectl('-n', 'canary', 'get', 'pods', '-o', 'name', '--field-selector', `spec.nodeName=${node}`)
    const [pod = ''] = pods.split('\n')
    assert.notEqual(pod, '', node)
    await kubectl('-n', 'canary', 'logs', '--tail', '1', pod)
  }
  const { authorities } = placesOf(shape)
  const published = await kubectl(
    '-n',
    'canary',
    'get',
    'configmap',
    'kube-root-ca.crt',
    '-o',
    'jsonpath={.data.ca\\.crt}',
  )
  assert.equal(published.trim(), (await on(shape, 'm1', `cat ${authorities.kubernetes}`)).trim())
  // Whom extension API servers and the scheduler let in is who comes from the CAs of the files, and nobody else.
  for (const [key, file] of [
    ['client-ca-file', authorities.kubernetes],
    ...(authorities.frontProxy ? [['requestheader-client-ca-file', authorities.frontProxy]] : []),
  ]) {
    const words = ['-n', 'kube-system', 'get', 'configmap', 'extension-apiserver-authentication']
    const trusted = await kubectl(...words, '-o', `jsonpath={.data.${key}}`)
    assert.equal(trusted.trim(), (await on(shape, 'm1', `cat ${file}`)).trim(), key)
  }
}

// Webhooks whose caBundle holds more than the cluster's CA, as real clusters have them.

/** What the bundles hold, by the name of their webhook, with a CA of the cluster and one of somebody else. */
const holding = (ca: string, other: string): Record<string, string> => ({
  alone: ca,
  first: ca + other,
  second: other + ca,
  comment: `# the cluster's\n${ca}`,
  foreign: other,
})

/** The same before a rotation, with what does not come back in the CA that is put in place. */
const before = (ca: string, other: string): Record<string, string> => ({
  ...holding(ca, other),
  crlf: ca.replaceAll('\n', '\r\n'),
  unended: ca.trimEnd(),
  twice: ca + other + ca,
})
const after = (ca: string, other: string): Record<string, string> => ({
  ...holding(ca, other),
  ...{ crlf: ca, unended: ca, twice: ca + other },
})

const configuration = 'validatingwebhookconfiguration rekey-test'

/** Runs a script on a master, with KUBECONFIG set. */
type Kubectl = (script: string) => Promise<string>

/** Makes a configuration with these webhooks, which nothing calls. Returns the other CA. */
async function makeBundles(kubectl: Kubectl, ca: string): Promise<string> {
  const other = await kubectl(
    `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -subj /CN=other -days 30 2>/dev/null`,
  )
  const webhooks = Object.entries(before(withNewline(ca), withNewline(other))).map(([name, bundle]) => ({
    name: `${name}.rekey.example.org`,
    clientConfig: { url: 'https://127.0.0.1:9', caBundle: Buffer.from(bundle).toString('base64') },
    rules: [{ apiGroups: ['rekey.example.org'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['things'] }],
    ...{ admissionReviewVersions: ['v1'], sideEffects: 'None', failurePolicy: 'Ignore' },
  }))
  const object = {
    ...{ apiVersion: 'admissionregistration.k8s.io/v1', kind: 'ValidatingWebhookConfiguration' },
    ...{ metadata: { name: 'rekey-test' }, webhooks },
  }
  await kubectl(`kubectl delete ${configuration} --ignore-not-found >/dev/null
kubectl create -f - >/dev/null <<'END'
${JSON.stringify(object)}
END`)
  return other
}

/** Throws unless each bundle holds what it must, with the CA of now: as a rotation leaves them, or byte for byte as they were. */
export async function assertBundles(
  kubectl: Kubectl,
  ca: string,
  other: string,
  as: 'rotated' | 'before',
): Promise<void> {
  const { webhooks } = JSON.parse(await kubectl(`kubectl get ${configuration} -o json`)) as {
    webhooks: { name: string; clientConfig: { caBundle: string } }[]
  }
  const found = webhooks.map(({ name, clientConfig }) => [
    name.split('.')[0],
    Buffer.from(clientConfig.caBundle, 'base64').toString(),
  ])
  assert.deepEqual(Object.fromEntries(found), (as === 'rotated' ? after : before)(withNewline(ca), withNewline(other)))
}

const withNewline = (pem: string) => `${pem.trim()}\n`

/** What `openssl s_client` says of an endpoint, judged by this file of a CA and no other that the machine trusts. `more` are options of its. */
export async function openssl(endpoint: string, authority: string, more: readonly string[] = []): Promise<string> {
  const judged = ['-no-CApath', '-no-CAstore', '-CAfile', authority, '-verify_return_error', '-brief', ...more]
  // etcd's peers and a kubelet may be asked just as they open their port again.
  for (let attempt = 0; ; attempt++) {
    const { stdout, stderr } = await tryCommand('openssl', ['s_client', '-connect', endpoint, ...judged], {
      timeout: 10,
    })
    if (attempt === 3 || !/connect:errno|Connection refused/.test(stderr)) return stderr + stdout
    await delay(500)
  }
}

/** What an API server says to the token of before. */
export function statusWithOldToken(shape: lab.Shape): Promise<string> {
  return on(
    shape,
    'm1',
    `{ printf 'Authorization: Bearer '; cat /root/old-token; } | curl -sk -o /dev/null -w '%{http_code}' -H @- https://127.0.0.1:6443/api/v1/namespaces`,
  )
}

/**
 * Throws unless each port of m1 answers with these statuses to the administrator of before, to an API server of before that speaks for
 * one, and to its client of etcd. `000` is no handshake.
 */
export async function assertOldClients(shape: lab.Shape, wanted: { web: string; etcd: string }): Promise<void> {
  const [etcd = lab.machineOf(shape.name, 'm1')] = etcdMachines(shape)
  const ask = async (who: string, port: number, path: string, headers = '') => {
    const pair = `--cert /root/old-pki/${who}.crt --key /root/old-pki/${who}.key`
    // A kubelet may listen at the machine's address alone, and where etcd is, is the layout's.
    const where = port === 10250 ? lab.machineOf(shape.name, 'm1').address : port === 2379 ? etcd.address : '127.0.0.1'
    const request = `curl -sk -o /dev/null -w '%{http_code}' ${pair} ${headers} https://${where}:${port}${path}; true`
    const status = await on(shape, 'm1', request)
    assert.equal(status, port === 2379 ? wanted.etcd : wanted.web, `the old ${who}, port ${port}`)
  }
  // The API server, the kubelet, the controller-manager, the scheduler; the kubelet knows no front proxy.
  for (const port of [6443, 10250, 10257, 10259]) await ask('admin', port, '/metrics')
  const speaksFor = "-H 'X-Remote-User: somebody' -H 'X-Remote-Group: system:masters'"
  if (placesOf(shape).frontProxyClient)
    for (const port of [6443, 10257, 10259]) await ask('front-proxy', port, '/metrics', speaksFor)
  await ask('etcd', 2379, '/version')
}

/** Runs kubectl with these words. */
type KubectlHere = (...words: string[]) => Promise<string>

/** kubectl on this machine, which knows no names of the cluster's. */
function kubectlFor(shape: lab.Shape, kubeconfig: string): KubectlHere {
  const { host, address } = endpointOf(shape)
  const reached = host === address ? [] : ['--server', `https://${address}:6443`, '--tls-server-name', host]
  return async (...words) => {
    const asKubectl = ['-c', 'exec -a kubectl "$0" "$@"', kubectlProgram(), '--kubeconfig', kubeconfig, ...reached]
    const { code, stdout, stderr } = await tryCommand('bash', [...asKubectl, ...words])
    if (code !== 0) throw new Error(`kubectl ${words.join(' ')}: ${stderr}`)
    return stdout
  }
}

/** The pods that neither run nor have done their work, as `batch/nightly-x is Failed`. */
async function unwellPods(kubectl: KubectlHere): Promise<string[]> {
  const selector = 'status.phase!=Running,status.phase!=Succeeded'
  const format = '{range .items[*]}{.metadata.namespace}/{.metadata.name} is {.status.phase}{"\\n"}{end}'
  const pods = await kubectl('get', 'pods', '-A', '--field-selector', selector, '-o', `jsonpath=${format}`)
  return pods.split('\n').filter(Boolean)
}

function kubectlProgram(): string {
  const folder = join(process.env['XDG_CACHE_HOME'] || join(process.env['HOME'] ?? '/root', '.cache'), 'rekey', 'bin')
  const [program] = execFileSync('sh', ['-c', 'ls -td "$0"/kubernetes-*/kubernetes', folder], {
    encoding: 'utf8',
  }).split('\n')
  return program ?? ''
}

/** Writes a file for one test, for its owner's eyes only. */
export function scratch(file: string, content: string): string {
  const path = join(temporaryFolder('test'), file)
  writeFileSync(path, content, { mode: 0o600 })
  return path
}
