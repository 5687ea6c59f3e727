// How the Secrets of a lab of systemd units lie in etcd, judged from outside by etcdctl and kubectl.
import { strict as assert } from 'node:assert'
import * as lab from '../../../lib/lab/index.ts'
import { administratorOf } from '../systemd/_units.ts'

const mastersOf = ({ machines }: lab.Shape) => machines.filter(({ role }) => role === 'master')

/** The flags that the API server of a master was started with, as its process has them. */
async function flagsOf({ name }: lab.Shape, machine: string): Promise<Record<string, string>> {
  const words = await lab.exec(name, machine, [
    ...['sh', '-c', "tr '\\0' '\\n' </proc/$(pgrep -xo kube-apiserver || pgrep -fo '(^|/)kube-apiserver ')/cmdline"],
  ])
  return Object.fromEntries([...words.matchAll(/^--([\w-]+)=(.*)$/gm)].map(([, flag, value]) => [flag!, value!]))
}

interface Stored {
  readonly key: string
  /** `k8s:enc:aescbc:v1:KEY:` or the like; `plain`, or what else a value begins with. */
  readonly under: string
}

/** All Secrets in etcd, by etcdctl, with what their values begin with. */
async function storedSecrets(shape: lab.Shape): Promise<Stored[]> {
  const [first] = mastersOf(shape)
  const flags = await flagsOf(shape, first!.name)
  const access = `--endpoints=${flags['etcd-servers']!.split(',')[0]} --cacert=${flags['etcd-cafile']} --cert=${flags['etcd-certfile']} --key=${flags['etcd-keyfile']}`
  const text = await lab.exec(
    shape.name,
    first!.name,
    ['sh', '-c', `etcdctl ${access} get --prefix /registry/secrets/ -w json`],
    { timeout: 120 },
  )
  const { kvs = [] } = JSON.parse(text) as { kvs?: { key: string; value: string }[] }
  return kvs.map(({ key, value }) => ({
    key: Buffer.from(key, 'base64').toString(),
    under: underOf(Buffer.from(value, 'base64')),
  }))
}

function underOf(value: Buffer): string {
  const head = value.subarray(0, 120).toString('latin1')
  return /^k8s:enc:\w+:v\d:[^:]+:/.exec(head)?.[0] ?? (head.startsWith('k8s\0') ? 'plain' : head.slice(0, 8))
}

/** What all Secrets lie under; throws where that is not one thing. */
async function writtenUnder(shape: lab.Shape): Promise<{ under: string; count: number }> {
  const stored = await storedSecrets(shape)
  const groups = Map.groupBy(stored, ({ under }) => under)
  assert.equal(groups.size, 1, [...groups].map(([under, all]) => `${all.length} ${under} (${all[0]!.key})`).join(', '))
  return { under: [...groups.keys()][0]!, count: stored.length }
}

/** Runs kubectl on the first master, which asks the API server of one. */
const kubectl = (shape: lab.Shape, server: lab.Machine, words: string) =>
  lab.exec(
    shape.name,
    'm1',
    ['sh', '-c', `kubectl --kubeconfig=${administratorOf(shape)} --server=https://${server.address}:6443 ${words}`],
    { timeout: 120 },
  )

/** What is in the Secrets, and which objects they are, by namespace and name: what nobody may see a change of. */
async function contents(shape: lab.Shape, server: lab.Machine): Promise<Map<string, string>> {
  const { items } = JSON.parse(await kubectl(shape, server, 'get secrets -A -o json --show-managed-fields')) as {
    items: { metadata: Record<string, unknown> & { namespace: string; name: string }; data?: object }[]
  }
  return new Map(
    items.map(({ metadata: { resourceVersion: _, ...metadata }, ...rest }) => [
      `${metadata.namespace}/${metadata.name}`,
      JSON.stringify({ ...rest, metadata }),
    ]),
  )
}

/** What was before a rotation. */
interface Before {
  readonly under: string
  readonly contents: ReadonlyMap<string, string>
  /** The file of each master. */
  readonly files: readonly string[]
}

const filesOf = (shape: lab.Shape) =>
  Promise.all(
    mastersOf(shape).map(async ({ name }) =>
      lab.exec(shape.name, name, ['cat', (await flagsOf(shape, name))['encryption-provider-config']!]),
    ),
  )

/** Secrets that come and go by themselves. */
const isOwn = (name: string) => !/^kube-system\/bootstrap-token-/.test(name)
const settled = (all: ReadonlyMap<string, string>) => [...all].filter(([name]) => isOwn(name)).sort()

/** Notes what is true before a rotation; makes a Secret that nobody may change. */
export async function takeBefore(shape: lab.Shape): Promise<Before> {
  const [first] = mastersOf(shape)
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'unchangeable' }, stringData: { by: 'test' } }
  const text = JSON.stringify({ ...secret, immutable: true })
  await kubectl(shape, first!, `apply -f - <<'END' >/dev/null\n${text}\nEND\n`)
  const { under } = await writtenUnder(shape)
  return { under, contents: await contents(shape, first!), files: await filesOf(shape) }
}

/** What all lies under that was written anew by keys in the file. */
export const newKey = (provider: string) => new RegExp(`^k8s:enc:${provider}:v1:key-\\d{8}-\\d{6}:$`)

/** Throws unless every Secret lies under one new key, such as is expected, and is what it was, through every API server. Returns how many there are. */
export async function assertKeyRotated(shape: lab.Shape, before: Before, expected: RegExp): Promise<number> {
  const { under, count } = await writtenUnder(shape)
  assert.notEqual(under, before.under)
  assert.match(under, expected)
  const files = await filesOf(shape)
  assert.equal(new Set(files).size, 1, 'the files of the masters')
  const [old, now] = [before.under, under].map(one => one.split(':')[4])
  if (old !== undefined && old !== now) assert.doesNotMatch(files[0]!, new RegExp(`name: ["']?${old}["']?$`, 'm'))
  await assertContents(shape, before)
  return count
}

/** Throws unless all is as it was before, the files of the masters byte for byte. */
export async function assertEncryptionAsBefore(shape: lab.Shape, before: Before): Promise<void> {
  assert.equal((await writtenUnder(shape)).under, before.under)
  assert.deepEqual(await filesOf(shape), before.files)
  await assertContents(shape, before)
}

async function assertContents(shape: lab.Shape, before: Before): Promise<void> {
  for (const server of mastersOf(shape))
    assert.deepEqual(settled(await contents(shape, server)), settled(before.contents), `as ${server.name} reads them`)
}
