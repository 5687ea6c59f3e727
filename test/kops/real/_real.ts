// A cluster of a real kops, without network: its cloud and its state store are moto's (moto-shim.py), what it would download are files of which it
// asks for hashes alone, and its API is one that goes by what the instance of the control plane was told (_machines.ts).
import { spawn } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { ExecutionContext } from 'ava'
import { s3Store } from '../../../lib/kops/store/s3-store.ts'
import { kubeconfigFields } from '../../../lib/kubernetes/api/kubeconfig.ts'
import { type Ended, start } from '../../_process.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { type Machine, startMachinesApi } from './_machines.ts'

const root = join(import.meta.dirname, '..', '..', '..')
const moto = process.env['REKEY_MOTO']
const kubernetes = '1.35.3'
const state = 's3://kops-state'

/** So that a rolling update waits for nothing that takes its time on machines. */
export const quickly = [
  '--control-plane-interval=1s',
  '--node-interval=1s',
  '--post-drain-delay=0s',
  '--validate-count=1',
]

/** The real kops. Without one there is none of these tests (ava.config.js). */
export const binary = process.env['REKEY_KOPS'] ?? ''
/** AWS refuses names with two hyphens in a row, which kops makes of the 25th letter of `kops-controller-NAME` where that is a dot. */
export const cluster = 'rotated.k8s.local'

/** A cluster of a real kops. */
export interface RealCluster {
  /** Calls kops on it. */
  kops(...words: string[]): Promise<Ended>
  rekey(...words: string[]): Promise<Ended>
  /** Runs rotate-kops, or another playbook, on it. */
  run(playbook: string, ...words: string[]): Promise<Ended>
  /** The runs of this cluster, the last one last. */
  runs(): string[]
  /** The ids of each keyset that can be rotated and are trusted, oldest first, the primary marked by a star. */
  trusted(): Promise<Record<string, string[]>>
  /** The ids of its instances, as its cloud has them. */
  instances(): Promise<string[]>
  /** What its API was asked so far, with the status of each answer. */
  readonly asked: readonly string[]
  /** The ids of the CAs of a kubeconfig, oldest first. */
  authoritiesIn(file: string): string[]
}

/** Makes a cluster of one control plane and two nodes, and applies it. */
export async function openRealCluster(t: ExecutionContext): Promise<RealCluster> {
  const folder = temporaryFolder('kops-real')
  const api = await startMachinesApi(t)
  const moto = await startMoto(t, `127.0.0.1:${api.port}`)
  const { endpoint } = moto
  const downloads = await startDownloads(t)
  const { PATH } = process.env
  const version = /\d+\.\d+\.\d+[\w.-]*/.exec((await start(binary, ['version'], { PATH, HOME: folder })).stdout)?.[0]
  const env = {
    ...{ PATH, HOME: folder, XDG_STATE_HOME: join(folder, 'state'), NO_COLOR: '1', TZ: 'UTC' },
    ...{ AWS_ENDPOINT_URL: endpoint, AWS_EC2_METADATA_DISABLED: 'true', AWS_REGION: 'us-east-1' },
    ...{ AWS_ACCESS_KEY_ID: 'made-up', AWS_SECRET_ACCESS_KEY: 'made-up-too' },
    ...{ S3_ENDPOINT: endpoint, S3_REGION: 'us-east-1' },
    ...{ S3_ACCESS_KEY_ID: 'made-up', S3_SECRET_ACCESS_KEY: 'made-up-too' },
    ...{ KOPS_BASE_URL: `http://127.0.0.1:${downloads}/kops/${version}/` },
  }
  const store = s3Store('kops-state', '', env)
  moto.follow(machines => api.follow(machines, store, cluster))
  const kops = (...words: string[]) => start(binary, [...words, '--name', cluster, '--state', state], env)
  const rekey = (...words: string[]) =>
    start(process.execPath, [join(root, 'bin', 'rekey'), ...words, '--output', 'plain'], env)
  const done = async (...words: string[]) => {
    const ended = await kops(...words)
    if (ended.code !== 0) throw new Error(`kops ${words.join(' ')} ended with ${ended.code}: ${ended.all}`)
    return ended.stdout
  }
  const bucket = await fetch(`${endpoint}/kops-state`, { method: 'PUT' })
  if (!bucket.ok) throw new Error(`moto made no bucket: ${bucket.status}`)
  const channel = join(folder, 'channels', 'stable')
  mkdirSync(dirname(channel), { recursive: true })
  writeFileSync(channel, `spec:\n  cluster:\n    kubernetesVersion: v${kubernetes}\n  images: []\n`)
  await done(
    ...['create', 'cluster', '--cloud=aws', '--dns=none', '--networking=cni', '--zones=us-east-1a', '--node-count=2'],
    // Which types there are in a zone moto does not say as kops asks.
    ...['--control-plane-size=t3.medium', '--node-size=t3.medium'],
    ...['--image=ami-785db401', `--kubernetes-version=${kubernetes}`, `--channel=file://${channel}`],
  )
  await done('update', 'cluster', '--yes', '--admin')
  return {
    ...{ kops, rekey, asked: api.asked },
    run: (playbook, ...words) =>
      rekey(
        ...['run', playbook, '-e', `cluster=${cluster}`, '-e', `state=${state}`, '-e', `kops_binary=${binary}`],
        ...['-e', JSON.stringify({ rolling_flags: quickly.join(' ') }), ...words],
      ),
    runs: () =>
      readdirSync(join(folder, 'state', 'rekey', 'runs'))
        .filter(name => /^\d{8}-/.test(name))
        .sort()
        .map(name => join(folder, 'state', 'rekey', 'runs', name)),
    trusted: async () => {
      const all = JSON.parse(await done('get', 'keypairs', '-o', 'json')) as {
        name: string
        id: string
        isPrimary?: boolean
      }[]
      const rotated = all.filter(one => one.name === 'service-account' || one.name.includes('-ca'))
      return Object.fromEntries(
        [...Map.groupBy(rotated, one => one.name)].map(([keyset, items]) => [
          keyset,
          items
            .toSorted((one, other) => (BigInt(one.id) < BigInt(other.id) ? -1 : 1))
            .map(({ id, isPrimary }) => `${id}${isPrimary ? '*' : ''}`),
        ]),
      )
    },
    instances: async () =>
      (JSON.parse(await done('get', 'instances', '-o', 'json')) as { id: string }[]).map(({ id }) => id).sort(),
    authoritiesIn: file =>
      (
        kubeconfigFields(readFileSync(file, 'utf8'), file).ca?.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g) ??
        []
      )
        .map(pem => BigInt(`0x${new X509Certificate(pem).serialNumber}`))
        .sort((one, other) => (one < other ? -1 : 1))
        .map(String),
  }
}

/**
 * Starts moto on a port that is free, and waits until it says which.
 * @param api where its load balancers lead
 */
async function startMoto(t: ExecutionContext, api: string) {
  const python = moto ? join(dirname(moto), 'python') : 'python3'
  const shim = join(import.meta.dirname, 'moto-shim.py')
  const server = spawn(python, [shim, '0', api], { stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => server.kill())
  let said = ''
  const endpoint = await new Promise<string>((resolve, reject) => {
    // It says a line for each request: all of them are read.
    createInterface({ input: server.stderr }).on('line', line => {
      const [address] = /http:\/\/127\.0\.0\.1:\d+/.exec(line) ?? []
      if (address) resolve(address)
      else said += `${line}\n`
    })
    server.once('close', code => reject(new Error(`moto ended with ${code}: ${said}`)))
  })
  return {
    endpoint,
    /** Has somebody told which instances run, each time that others do. */
    follow: (tell: (machines: readonly Machine[]) => Promise<void>) => {
      let last: Promise<unknown> = Promise.resolve()
      createInterface({ input: server.stdout }).on('line', line => {
        last = last.then(() => tell(JSON.parse(line))).catch((error: Error) => t.log(error.message))
      })
    },
  }
}

/** What kops would download, and its hashes: of any content. Returns the port. */
async function startDownloads(t: ExecutionContext): Promise<number> {
  const files = createServer(({ url = '' }, response) => {
    const isHash = url.endsWith('.sha256')
    response.end(isHash ? createHash('sha256').update(url.slice(0, -'.sha256'.length)).digest('hex') : url)
  }).listen(0, '127.0.0.1')
  t.teardown(() => files.close())
  await once(files, 'listening')
  return (files.address() as AddressInfo).port
}
