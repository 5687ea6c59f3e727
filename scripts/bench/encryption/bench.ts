// `npm run bench:encryption`: how fast Secrets of 1.2 kB are written anew under another key, on a real API server and a real etcd on loopback, beside a bare loop of the
// same requests and beside `kubectl get secrets -A -o json | kubectl replace -f -`, all in one run; and how much memory it takes as they become more.
import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { secret } from '../../../lib/connection/shell.ts'
import { addReader, promote } from '../../../lib/encryption/edit.ts'
import { kubernetesApi, mostSockets } from '../../../lib/kubernetes/api/api.ts'
import { ensureBinaries } from '../../../lib/lab/binaries.ts'
import { bulkNamespace, bulkSecret } from '../../../lib/lab/cluster/secrets.ts'
import { table } from '../../../lib/output/words.ts'
import { startServers } from '../../../test/lab/embedded/_servers.ts'
import { counted } from '../../counted.ts'
import type { ReencryptionJob, ReencryptionResult } from './reencryption.ts'

const { values: options } = parseArgs({
  options: {
    /** How many Secrets there are, once after another. */
    secrets: { type: 'string', multiple: true, default: ['1000', '10000'] },
    /** How many kubectl is given: it takes long. */
    kubectl: { type: 'string', default: '500' },
  },
})
const goals = { rate: 250, overKubectl: 20, overBare: 1.2, memory: 200 }
const counts = options.secrets.map(one => counted('secrets', one)).sort((a, b) => a - b)
const ofKubectl = counted('kubectl', options.kubectl)

await ensureBinaries(['kubernetes'], { report: () => {} })
const key = () => randomBytes(32).toString('base64')
const bed = await startServers(
  1,
  `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources: [secrets]
    providers:
      - aescbc:
          keys:
            - name: key0
              secret: ${key()}
`,
)
const { file, port, restart } = bed.servers[0]!
const { ca = '', identities } = bed.etcd
const { certificate, key: keyFile } = identities[0]!

/** Has the API server write with a key that nothing lies under yet. */
let keys = 0
async function newKey(): Promise<void> {
  const next = { kind: 'aescbc', name: `key${++keys}`, secret: secret(key()) } as const
  const text = addReader(readFileSync(file, 'utf8'), file, next, () => true)
  writeFileSync(
    file,
    promote(text, file, next, () => true),
  )
  await restart()
}

/** On connections of its own: the server is another one after each restart. */
async function fill(from: number, to: number): Promise<void> {
  const [authority, own, ownKey] = [ca, certificate, keyFile].map(path => readFileSync(path, 'utf8')) as [
    string,
    string,
    string,
  ]
  const api = kubernetesApi(async () => connect(port, '127.0.0.1'), { ca: authority, certificate: own, key: ownKey })
  let next = from
  const work = async () => {
    while (next < to) await api.post(`/api/v1/namespaces/${bulkNamespace}/secrets`, bulkSecret(++next))
  }
  await Promise.all(Array.from({ length: mostSockets }, work))
  api.close()
}

async function measure(way: ReencryptionJob['way']): Promise<ReencryptionResult> {
  await newKey()
  const job: ReencryptionJob = { way, port, ca, certificate, key: keyFile }
  const program = join(import.meta.dirname, 'reencryption.ts')
  const env = { ...process.env, REKEY_BENCH_JOB: JSON.stringify(job) }
  return JSON.parse((await promisify(execFile)(process.execPath, [program], { env })).stdout) as ReencryptionResult
}

/** As documents have it. */
async function byKubectl(): Promise<{ readonly objects: number; readonly seconds: number }> {
  await newKey()
  const kubeconfig = join(bed.folder, 'kubeconfig')
  const cluster = { server: `https://127.0.0.1:${port}`, 'certificate-authority': ca }
  const config = {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'a' },
    clusters: [{ name: 'a', cluster }],
    users: [{ name: 'a', user: { 'client-certificate': certificate, 'client-key': keyFile } }],
    contexts: [{ name: 'a', context: { cluster: 'a', user: 'a' } }],
  }
  writeFileSync(kubeconfig, JSON.stringify(config), { mode: 0o600 })
  const kubectl = `'${bed.program('kubectl')}' --kubeconfig='${kubeconfig}'`
  const started = performance.now()
  const said = execFileSync('sh', ['-c', `${kubectl} get secrets -A -o json | ${kubectl} replace -f -`], {
    encoding: 'utf8',
    maxBuffer: 1e9,
  })
  return { objects: said.split('\n').filter(Boolean).length, seconds: (performance.now() - started) / 1_000 }
}

const rate = ({ objects, seconds }: { objects: number; seconds: number }) => objects / seconds
const rows: string[][] = [['', 'Secrets', 'seconds', 'a second', 'memory']]
const row = (name: string, one: { objects: number; seconds: number; memory?: number }) => {
  const memory = one.memory === undefined ? '' : `${(one.memory / 1e6).toFixed(0)} MB`
  rows.push([name, `${one.objects}`, one.seconds.toFixed(1), rate(one).toFixed(0), memory])
  console.log(rows.at(-1)!.join('  '))
}
const judged: [string, number, boolean][] = []
try {
  await bed.servers[0]!.api.post('/api/v1/namespaces', { metadata: { name: bulkNamespace } })
  await fill(0, ofKubectl)
  const kubectl = await byKubectl()
  row('kubectl get | kubectl replace', kubectl)
  let there = ofKubectl
  let last: ReencryptionResult | undefined
  for (const count of counts) {
    await fill(there, Math.max(there, count))
    there = Math.max(there, count)
    // Twice each, in turn, and the better of the two: what else goes on on this machine comes and goes.
    const all: Record<ReencryptionJob['way'], ReencryptionResult[]> = { rekey: [], bare: [] }
    for (const way of ['bare', 'rekey', 'rekey', 'bare'] as const) {
      all[way].push(await measure(way))
      row(way === 'rekey' ? 'rekey' : 'bare loop', all[way].at(-1)!)
    }
    const best = (ones: ReencryptionResult[]) => ones.toSorted((a, b) => rate(b) - rate(a))[0]!
    last = best(all.rekey)
    const overBare = rate(best(all.bare)) / rate(last)
    judged.push([`${count}: times the bare loop`, overBare, overBare <= goals.overBare])
    const memory = Math.max(...all.rekey.map(one => one.memory)) / 1e6
    judged.push([`${count}: MB of memory`, memory, memory <= goals.memory])
  }
  judged.push(['a second', rate(last!), rate(last!) >= goals.rate])
  judged.push(['times kubectl', rate(last!) / rate(kubectl), rate(last!) / rate(kubectl) >= goals.overKubectl])
} finally {
  await bed.stop()
}
console.log(`\n${table(rows).join('\n')}\n`)
for (const [what, value, reached] of judged)
  console.log(`${reached ? 'reached' : 'MISSED '}  ${value.toFixed(2)} ${what}`)
process.exit(judged.every(([, , reached]) => reached) ? 0 : 1)
