// Whether a real kops answers as answers.json has it, and the stand-in with it: the same calls to both, in the same order.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { Ended } from '../../_process.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { cluster, openCluster } from '../_cluster.ts'
import { answer } from '../stand-in/call.ts'
import { openRealCluster, cluster as realCluster } from './_real.ts'

interface Answer {
  readonly text: string
  readonly exit?: number
  readonly stream?: 'stdout' | 'stderr'
  /** Whether it is a line of its log: with the time, the process and the place before it. */
  readonly log?: string
}
const { answers, kops: recorded } = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', 'answers.json'), 'utf8'),
) as { answers: Record<string, Answer>; kops: string }

type Kops = (...words: string[]) => Promise<Pick<Ended, 'code' | 'stdout' | 'stderr'>>

const ofLog = /^[IWEF]\d{4} [\d:.]+ +\d+ [\w.-]+:\d+\] /

/** Holds what a call said to one answer, or to none: to the lines of it, where they are said, and the exit code. */
function holds(
  t: ExecutionContext,
  { code, stdout, stderr }: Awaited<ReturnType<Kops>>,
  id: string | undefined,
  values: Record<string, string>,
) {
  const { text = '', stream = 'stdout', exit = 0, log } = (id === undefined ? {} : answers[id]) as Partial<Answer>
  const said = { stdout, stderr }
  const about = `${id}: ${JSON.stringify({ code, ...said })}`
  t.is(code, exit, about)
  const lines = said[stream].split('\n').filter(line => ofLog.test(line) === (log !== undefined))
  const bare = lines.map(line => line.replace(ofLog, '').trimEnd())
  const filled = text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '')
  for (const line of filled.split('\n').filter(Boolean)) t.true(bare.includes(line), about)
  if (id === undefined) t.deepEqual(bare.filter(Boolean), [], about)
}

/** Goes through the calls: each verb, where it does nothing, and where it is refused. */
async function through(t: ExecutionContext, kops: Kops, cluster: string, groups: string): Promise<void> {
  const version = recorded
  const keyset = 'kubernetes-ca'
  const call = async (line: string, id: string | undefined, values: Record<string, string> = {}) =>
    holds(t, await kops(...line.split(' ')), id, { cluster, keyset, version, ...values })
  const ids = async () => {
    const { stdout } = await kops('get', 'keypairs', '--distrusted', '-o', 'json')
    const all = JSON.parse(stdout) as { name: string; id: string; isPrimary?: boolean }[]
    const own = all.filter(({ name }) => name === keyset)
    return { primary: own.find(one => one.isPrimary)?.id ?? '', other: own.find(one => !one.isPrimary)?.id ?? '' }
  }
  const folder = temporaryFolder('kops-answers')
  const configuration = join(folder, 'encryption.yaml')
  writeFileSync(configuration, 'kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: []\n')
  const kubeconfig = join(folder, 'kubeconfig')
  await call('version', 'version')
  await call('update cluster', 'no-changes')
  await call('rolling-update cluster --cloudonly --yes', 'no-rolling-update')
  const { primary: old } = await ids()
  await call(`promote keypair ${keyset}`, 'nothing-to-promote', { id: old })
  await call(`promote keypair ${keyset} 42`, 'keypair-not-found')
  await call('promote keypair no-such-ca', 'keyset-not-there')
  await call('distrust keypair no-such-ca', 'keyset-not-there')
  await call(`distrust keypair ${keyset}`, 'nothing-to-distrust')
  await call(`distrust keypair ${keyset} 42`, 'keypair-not-found')
  await call(`distrust keypair ${keyset} ${old}`, 'primary-not-distrusted')
  await call(`trust keypair ${keyset} 42`, 'keypair-not-found')
  await call(`trust keypair ${keyset} ${old}`, undefined)
  await call(`trust keypair no-such-ca ${old}`, 'keyset-not-found', { keyset: 'no-such-ca' })
  await call('create keypair kubelet', 'keypair-not-supported', { keyset: 'kubelet' })
  const created = await kops('create', 'keypair', keyset)
  const { other: made } = await ids()
  holds(t, created, 'created', { keyset, id: made })
  await call('update cluster', 'must-say-yes')
  await call('update cluster --create-kube-config=false --yes', 'updated')
  await call('update cluster', 'no-changes')
  await call(`promote keypair ${keyset} ${made}`, 'promoted', { id: made })
  // Nobody has told the API: it does not know whom the new one signs for.
  await call('rolling-update cluster --force --yes', 'unauthorized')
  await call('validate cluster', 'not-valid')
  await call(`promote keypair ${keyset} ${made}`, 'promoted', { id: made })
  await call(`distrust keypair ${keyset} ${old}`, 'distrusted', { id: old })
  await call(`distrust keypair ${keyset} ${old}`, undefined)
  await call(`promote keypair ${keyset} ${old}`, 'keypair-distrusted')
  await call(`trust keypair ${keyset} ${old}`, 'trusted', { id: old })
  await call(`export kubecfg --admin=7200s --kubeconfig ${kubeconfig}`, 'context-set')
  await call('create secret encryptionconfig', 'filename-required')
  await call(`create secret encryptionconfig -f ${configuration}`, undefined)
  await call(`create secret encryptionconfig -f ${configuration}`, 'secret-exists', { keyset: 'encryptionconfig' })
  await call(`create secret encryptionconfig -f ${configuration} --force`, undefined)
  await call('rolling-update cluster --cloudonly --yes --control-plane-interval 1s --node-interval 1s', 'rolled', {
    groups,
  })
}

/** What kops lists, by the names of its fields and what kind of value each has. */
async function shapes(kops: Kops, line: string): Promise<Record<string, string>> {
  const answer = JSON.parse((await kops(...line.split(' '), '-o', 'json')).stdout) as object | object[]
  const all = Array.isArray(answer) ? answer : [answer]
  return Object.fromEntries(all.flatMap(one => Object.entries(one).map(([name, value]) => [name, typeof value])))
}

test('a real kops and the stand-in answer as it was recorded, and list what rekey reads by the same names', async t => {
  const bench = await openCluster(t)
  const real = await openRealCluster(t)
  const ofStandIn: Kops = (...words) =>
    answer({
      args: [...words, '--name', cluster, '--state', `file://${bench.folder}`],
      ...{ kubeconfig: '', input: Buffer.alloc(0), isGone: () => false },
    })
  const { stdout } = await real.kops('version')
  t.regex(stdout, new RegExp(`\\b${recorded.replaceAll('.', '\\.')}\\b`), 'it was recorded from this version')
  for (const line of ['get keypairs --distrusted', 'get instances', 'get cluster', 'get instancegroups']) {
    const [own, kops] = [await shapes(ofStandIn, line), await shapes(real.kops, line)]
    for (const [name, kind] of Object.entries(own)) t.is(kops[name], kind, `${line}: ${name}`)
  }
  const ready = await real.kops('validate', 'cluster')
  holds(t, ready, 'valid', { cluster: realCluster })
  await through(t, ofStandIn, cluster, 'control-plane-test nodes-test')
  await through(t, real.kops, realCluster, 'control-plane-us-east-1a nodes-us-east-1a')
})
