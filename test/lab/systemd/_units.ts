// A lab of systemd units judged from outside, with openssl, kubectl, curl and etcdctl: what holds after a rotation, and after it was undone.
import { strict as assert } from 'node:assert'
import { X509Certificate } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { tryCommand } from '../../../lib/lab/command.ts'
import * as lab from '../../../lib/lab/index.ts'
import { complaintsOf, scratchFile } from '../_lab.ts'
import { assertNoSecretKept, assertRefused, on, openssl } from '../_outside.ts'

/** Where a shape keeps what a rotation replaces. */
interface Places {
  readonly authority: string
  readonly authorityKey: string
  readonly administrator: string
  /** What members of etcd present, and take from clients. */
  readonly etcdPair: readonly [certificate: string, key: string]
  readonly folders: readonly string[]
}

const placesOf: Readonly<Record<lab.Shape['unitShape'], Places>> = {
  'hard-way': {
    authority: '/var/lib/kubernetes/ca.crt',
    authorityKey: '/var/lib/kubernetes/ca.key',
    administrator: '/root/admin.kubeconfig',
    etcdPair: ['/etc/etcd/kube-api-server.crt', '/etc/etcd/kube-api-server.key'],
    folders: ['/var/lib/kubernetes', '/etc/etcd', '/var/lib/kubelet', '/var/lib/kube-proxy'],
  },
  kubeasz: {
    authority: '/etc/kubernetes/ssl/ca.pem',
    authorityKey: '/etc/kubernetes/ssl/ca-key.pem',
    administrator: '/root/.kube/config',
    etcdPair: ['/etc/kubernetes/ssl/etcd.pem', '/etc/kubernetes/ssl/etcd-key.pem'],
    folders: ['/etc/kubernetes', '/var/lib/kubelet', '/var/lib/kube-proxy'],
  },
}

/** The administrator's kubeconfig, on each master. */
export const administratorOf = ({ unitShape }: lab.Shape): string => placesOf[unitShape].administrator

/** What somebody had in hand before: the CA, the files of every host, a Secret, a token, and the administrator's kubeconfig (on m1). */
export interface Old {
  readonly marker: string
  readonly authority: string
  readonly files: Readonly<Record<string, string>>
}

const membersOf = ({ machines }: lab.Shape) => machines.filter(({ role }) => role === 'master' || role === 'node')
const kubeletsOf = (shape: lab.Shape) => membersOf(shape).filter(({ podSubnet }) => podSubnet)

/**
 * A command that prints the files of a host that a rotation may touch: the units, and what is not a kubelet's own state. What lies in homes
 * is somebody's own, but for the administrator's kubeconfig on masters.
 */
const find = (shape: lab.Shape, { role }: lab.Machine, action: string) =>
  `find $(ls -d ${[...placesOf[shape.unitShape].folders, ...(role === 'master' ? [placesOf[shape.unitShape].administrator] : [])].join(' ')} /etc/systemd/system/*.service /etc/systemd/system/*.service.d 2>/dev/null) -maxdepth 3 \
    -not -path '*/pods/*' -not -path '*/plugins*' -not -path '*/checkpoints/*' -type f \
    \\( -name '*.crt' -o -name '*.pem' -o -name '*.key' -o -name '*config*' -o -name '*.yaml' -o -name '*.service' -o -name '*.conf' -o -name '.rekey*' \\) ${action}`

/** Paths, modes, owners and hashes, by machine. */
export async function filesOf(shape: lab.Shape): Promise<Record<string, string>> {
  const states = membersOf(shape).map(async machine => [
    machine.name,
    await on(shape, machine.name, `${find(shape, machine, "-printf '%p %m %u:%g ' -exec sha256sum {} \\;")} | sort`),
  ])
  return Object.fromEntries(await Promise.all(states)) as Record<string, string>
}

/** Notes what is true before a rotation, and writes a Secret that must be read afterwards. */
export async function takeOld(shape: lab.Shape): Promise<Old> {
  const { administrator, authority, authorityKey, etcdPair } = placesOf[shape.unitShape]
  const marker = `written-${Date.now()}`
  await on(
    shape,
    'm1',
    `set -e; export KUBECONFIG=${administrator}; rm -rf /root/old; mkdir -m 700 /root/old
cp ${administrator} /root/old/admin; cp ${authority} /root/old/ca; cp ${etcdPair[0]} /root/old/etcd.crt; cp ${etcdPair[1]} /root/old/etcd.key
(cd /root/old
openssl req -new -newkey rsa:2048 -nodes -keyout forged.key -subj /O=system:masters/CN=forged -out forged.csr 2>/dev/null
printf 'extendedKeyUsage=clientAuth\n' >extensions
openssl x509 -req -in forged.csr -CA ca -CAkey ${authorityKey} -CAserial serial -CAcreateserial -days 30 -extfile extensions -out forged.crt 2>/dev/null)
kubectl delete secret rekey-test --ignore-not-found >/dev/null
kubectl create secret generic rekey-test --from-literal=marker=${marker} >/dev/null
kubectl -n canary get secret caller-token -o jsonpath='{.data.token}' | base64 -d >/root/old/token`,
  )
  return { marker, authority: await on(shape, 'm1', 'cat /root/old/ca'), files: await filesOf(shape) }
}

/** Throws unless every port of every machine presents what this CA signed. `more` are options of openssl. */
async function assertEndpoints(shape: lab.Shape, authority: string, more: readonly string[] = []): Promise<void> {
  const file = scratchFile('ca.crt', authority)
  for (const { name: machine, address, role, podSubnet } of membersOf(shape)) {
    const ports = [...(role === 'master' ? [6443, 2379, 2380] : []), ...(podSubnet ? [10250] : [])]
    for (const port of ports)
      assert.match(await openssl(`${address}:${port}`, file, more), /Verification: OK/, `${machine}:${port}`)
  }
}

/**
 * Throws unless each certificate in each file is under the new CA and not under the old, each key belongs to what lies beside it, and each
 * kubeconfig trusts the new CA. `keysAlone` is a pattern of certificates of which the keys alone count, whoever signed them.
 */
async function assertFiles(shape: lab.Shape, old: Old, keysAlone = '-'): Promise<void> {
  const { authority } = placesOf[shape.unitShape]
  const ca = await on(shape, 'm1', `cat ${authority}`)
  assert.notEqual(ca.trim(), old.authority.trim())
  for (const machine of membersOf(shape)) {
    const wrong = await on(
      shape,
      machine.name,
      `cd "$(mktemp -d)"
cat >old <<'END'
${old.authority.trim()}
END
cat >new <<'END'
${ca.trim()}
END
print() { openssl x509 -noout -fingerprint -sha256 -in "$1"; }
judge() {
  openssl verify -no-CApath -no-CAstore -CAfile new "$2" >/dev/null 2>&1 || echo "$1 is not under the new CA"
  if openssl verify -no-CApath -no-CAstore -CAfile old "$2" >/dev/null 2>&1; then echo "$1 is under the old CA"; fi
  if [ "$(openssl x509 -noout -pubkey -in "$2")" != "$(openssl pkey -pubout -in "$3" 2>/dev/null)" ]; then echo "$1 has another key"; fi
}
for f in $(${find(shape, machine, '')}); do
  case "$f" in *.rekey*) echo "$f was left"; continue ;; esac
  if grep -q client-certificate-data: "$f"; then
    sed -n 's/ *client-certificate-data: //p' "$f" | base64 -d >leaf
    sed -n 's/ *client-key-data: //p' "$f" | base64 -d >key
    sed -n 's/ *certificate-authority-data: //p' "$f" | base64 -d >trusted
    judge "$f" leaf key
    [ "$(print trusted)" = "$(print new)" ] || echo "$f trusts another CA"
  elif grep -q 'BEGIN CERTIFICATE' "$f"; then
    case "$f" in
      ${keysAlone}) ;;
      */ca.crt|*/ca.pem) cmp -s new "$f" || [ "$(print "$f")" = "$(print new)" ] || echo "$f is another CA" ;;
      *.pem) judge "$f" "$f" "\${f%.pem}-key.pem" ;;
      *) judge "$f" "$f" "\${f%.crt}.key" ;;
    esac
  fi
done
find /var/lib/rekey -mindepth 1 2>/dev/null; true`,
    )
    assert.equal(wrong, '', machine.name)
  }
}

/** Nodes Ready, pods well, the Secret readable, and the pods' CA is the cluster's, by a kubeconfig on m1. */
async function assertWell(shape: lab.Shape, kubeconfig: string, old: Old): Promise<void> {
  const kubectl = (words: string) => on(shape, 'm1', `kubectl --kubeconfig ${kubeconfig} ${words}`)
  const ready = await kubectl(
    `get nodes -o jsonpath='{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}'`,
  )
  const expected = kubeletsOf(shape).map(({ hostname }) => `${hostname}=True`)
  assert.deepEqual(ready.trim().split(' ').sort(), expected.sort())
  assert.equal(await kubectl("get secret rekey-test -o jsonpath='{.data.marker}' | base64 -d"), old.marker)
  assert.equal(await kubectl('get pods -A --field-selector=status.phase!=Running,status.phase!=Succeeded -o name'), '')
  for (const { hostname } of kubeletsOf(shape)) {
    assert.equal((await kubectl(`get --raw /api/v1/nodes/${hostname}/proxy/healthz`)).trim(), 'ok', hostname)
    const pods = await kubectl(`-n canary get pods -o name --field-selector spec.nodeName=${hostname}`)
    await kubectl(`-n canary logs --tail 1 ${pods.split('\n')[0]}`)
  }
  const published = await kubectl("-n canary get configmap kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}'")
  const { authority } = placesOf[shape.unitShape]
  assert.equal(published.trim(), (await on(shape, 'm1', `cat ${authority}`)).trim())
  assert.deepEqual(await complaintsOf(shape.name), [])
}

/** What an API server says to a token of before, and etcd to a client of before, by their words on m1. */
async function saidToOld(shape: lab.Shape): Promise<{ token: string; etcd: string }> {
  const { address } = lab.machineOf(shape.name, 'm1')
  const { authority } = placesOf[shape.unitShape]
  const token = await on(
    shape,
    'm1',
    `{ printf 'Authorization: Bearer '; cat /root/old/token; } | curl -sk -o /dev/null -w '%{http_code}' -H @- https://${address}:6443/api/v1/namespaces`,
  )
  const etcd = await on(
    shape,
    'm1',
    `etcdctl --endpoints https://${address}:2379 --cacert ${authority} --cert /root/old/etcd.crt --key /root/old/etcd.key --dial-timeout=3s --command-timeout=4s endpoint health 2>&1; true`,
  )
  return { token, etcd }
}

/** What each server says to somebody who is forged with the CA's key of before: a status, 000 where it takes nothing from them. */
async function saidToForged(shape: lab.Shape): Promise<(readonly [where: string, status: string])[]> {
  const places = membersOf(shape).flatMap(({ name: machine, address, role, podSubnet }) =>
    [...(role === 'master' ? [6443, 2379, 2380] : []), ...(podSubnet ? [10250] : [])].map(
      port => [`${machine}:${port}`, `https://${address}:${port}/metrics`] as const,
    ),
  )
  const ask = (url: string) =>
    `curl -sk --http1.1 -m 10 -o /dev/null -w '%{http_code} ' --cert /root/old/forged.crt --key /root/old/forged.key ${url}`
  const said = await on(shape, 'm1', `${places.map(([, url]) => ask(url)).join('; ')}; true`)
  const all = said.trim().split(' ')
  return places.map(([where], index) => [where, all[index] ?? ''])
}

/** Throws unless all members of etcd answer who comes with the certificate of now. */
async function assertEtcd(shape: lab.Shape): Promise<void> {
  const { authority, etcdPair } = placesOf[shape.unitShape]
  const masters = shape.machines.filter(({ role }) => role === 'master')
  const endpoints = masters.map(({ address }) => `https://${address}:2379`).join(',')
  const words = `--endpoints ${endpoints} --cacert ${authority} --cert ${etcdPair[0]} --key ${etcdPair[1]}`
  const said = await on(shape, 'm1', `etcdctl ${words} endpoint health 2>&1`)
  assert.equal(said.match(/is healthy/g)?.length, masters.length, said)
}

/** Throws unless a rotation is complete: nothing is under the old CA, nobody of before is let in, and all is well. */
export async function assertRotated(shape: lab.Shape, folder: string, old: Old): Promise<void> {
  const { administrator, authority } = placesOf[shape.unitShape]
  await assertFiles(shape, old)
  await assertEndpoints(shape, await on(shape, 'm1', `cat ${authority}`))
  await assertEtcd(shape)
  await assertWell(shape, administrator, old)
  assert.equal(statSync(join(folder, 'admin.conf')).mode & 0o777, 0o600)
  await assertRefused(shape, '/root/old/admin')
  const { token, etcd } = await saidToOld(shape)
  assert.equal(token, '401', 'the old token')
  assert.doesNotMatch(etcd, /is healthy/)
  assertNoSecretKept(folder)
}

/**
 * Throws unless a graceful rotation of the CA is complete: nothing is under the old one, neither who has a certificate of it nor who forges one with its
 * key is let in, and all is well. Tokens have a key of their own, and hold.
 */
export async function assertDistrusted(shape: lab.Shape, old: Old): Promise<void> {
  const { administrator, authority } = placesOf[shape.unitShape]
  await assertFiles(shape, old, '*/service-accounts.crt')
  await assertEndpoints(shape, await on(shape, 'm1', `cat ${authority}`))
  await assertEtcd(shape)
  await assertWell(shape, administrator, old)
  await assertRefused(shape, '/root/old/admin')
  for (const [where, said] of await saidToForged(shape))
    assert.equal(said, /:23(79|80)$/.test(where) ? '000' : '401', `${where}, forged`)
  const { token, etcd } = await saidToOld(shape)
  assert.equal(token, '403', 'the token')
  assert.doesNotMatch(etcd, /is healthy/)
}

/**
 * Throws unless the CA has a certificate for a longer time and is the same to everybody: its key identifier, every leaf, and whoever was let in.
 * No file is another one but those that hold the CA.
 */
export async function assertRenewed(shape: lab.Shape, old: Old): Promise<void> {
  const { administrator, authority } = placesOf[shape.unitShape]
  const ca = await on(shape, 'm1', `cat ${authority}`)
  const told = async (pem: string) => {
    const words = ['x509', '-noout', '-subject', '-ext', 'subjectKeyIdentifier', '-in', scratchFile('told.crt', pem)]
    return (await tryCommand('openssl', words)).stdout
  }
  assert.equal(await told(ca), await told(old.authority))
  assert.ok(new Date(new X509Certificate(ca).validTo) > new Date(new X509Certificate(old.authority).validTo))
  const now = await filesOf(shape)
  for (const { name: machine } of membersOf(shape)) {
    const before = new Set(old.files[machine]?.split('\n'))
    const changed = (now[machine] ?? '')
      .split('\n')
      .flatMap(line => (before.has(line) ? [] : [line.split(' ')[0] ?? '']))
    const others = changed.filter(path => !/\/ca\.(crt|pem)$|kubeconfig|\.kube\/config$|\.conf$/.test(path))
    assert.deepEqual(others, [], machine)
    assert.notEqual(changed.length, 0, machine)
  }
  await assertEndpoints(shape, ca)
  await assertEtcd(shape)
  // The administrator of before trusts the old certificate, which holds until it ends.
  for (const kubeconfig of [administrator, '/root/old/admin']) await assertWell(shape, kubeconfig, old)
  const { token, etcd } = await saidToOld(shape)
  assert.equal(token, '403', 'the token')
  assert.match(etcd, /is healthy/)
}

/** Throws unless a rotation was undone: every file is as it was, every endpoint is under the old CA, who was let in is let in again. */
export async function assertAsBefore(shape: lab.Shape, old: Old): Promise<void> {
  assert.deepEqual(await filesOf(shape), old.files)
  for (const { name: machine } of membersOf(shape))
    assert.equal(await on(shape, machine, 'find /var/lib/rekey -mindepth 1 2>/dev/null; true'), '', machine)
  // Those who make clusters the hard way have kubelets serve with a certificate whose nsCertType is a client's: of all, openssl alone minds.
  await assertEndpoints(shape, old.authority, ['-purpose', 'any'])
  await assertEtcd(shape)
  await assertWell(shape, '/root/old/admin', old)
  const { token, etcd } = await saidToOld(shape)
  // It may do little; what counts is that it is known.
  assert.equal(token, '403', 'the old token')
  assert.match(etcd, /is healthy/)
  for (const [where, status] of await saidToForged(shape)) assert.match(status, /^(200|404)$/, `${where}, forged`)
}
