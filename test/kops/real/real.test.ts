// The same procedure with a real kops, offline: REKEY_KOPS=/path/to/kops REKEY_MOTO=/path/to/moto_server npm run test:kops. The cloud and the state
// store are moto's (moto[server] 5.2.5 of PyPI, by moto-shim.py), and there is no API: instances are replaced with --cloudonly.
import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { start } from '../../_process.ts'
import { temporaryFolder } from '../../_temporary.ts'

const root = join(import.meta.dirname, '..', '..', '..')
const kops = process.env['REKEY_KOPS']
const moto = process.env['REKEY_MOTO'] ?? 'moto_server'
const name = 'test.k8s.local'
const kubernetes = '1.35.3'
const ownVersion = /(\d+\.\d+\.\d+)/

if (kops) {
  test.serial('all stages, each seen by ids, and every instance replaced three times', async t => {
    const { rekey, trusted, instances } = await openRealCluster(t, kops)
    const before = await instances()
    const { code, all } = await rekey('run', 'rotate-kops', ...variables)
    t.is(code, 0, all)
    t.deepEqual(new Set((await trusted()).values()), new Set([1]))
    const after = await instances()
    t.is(after.length, before.length)
    t.deepEqual(
      after.filter(id => before.includes(id)),
      [],
    )
  })

  test.serial('from the promotion back to where it began, by ids', async t => {
    const { rekey, trusted } = await openRealCluster(t, kops)
    const run = await rekey('run', 'rotate-kops', ...variables, '-e', 'until=promoted')
    t.is(run.code, 0, run.all)
    t.deepEqual(new Set((await trusted()).values()), new Set([2]))
    const undone = await rekey('rollback', 'last')
    t.is(undone.code, 0, undone.all)
    t.deepEqual(new Set((await trusted()).values()), new Set([1]))
  })
}

const variables = [
  ...['-e', `cluster=${name}`, '-e', 'state=s3://kops-state', '-e', `kops_binary=${kops}`, '-e', 'cloudonly=true'],
  ...['-e', 'rolling_flags=--control-plane-interval 2s --node-interval 2s'],
]

/** A cluster that kops has made in moto: what it downloads are files whose hashes alone matter. */
async function openRealCluster(t: ExecutionContext, binary: string) {
  const folder = temporaryFolder('kops-real')
  const cloud = 20_000 + (process.pid % 20_000)
  const shim = spawn(join(dirname(moto), 'python'), [join(import.meta.dirname, 'moto-shim.py'), String(cloud)], {
    stdio: 'ignore',
  })
  t.teardown(() => shim.kill())
  const files = createServer(({ url = '' }, response) => {
    const isHash = url.endsWith('.sha256')
    response.end(isHash ? createHash('sha256').update(url.slice(0, -'.sha256'.length)).digest('hex') : url)
  }).listen(0, '127.0.0.1')
  t.teardown(() => files.close())
  await once(files, 'listening')
  const { port } = files.address() as { port: number }
  const run = promisify(execFile)
  const version = ownVersion.exec((await run(binary, ['version'])).stdout)?.[1] ?? ''
  const channel = join(folder, 'channels', 'stable')
  mkdirSync(dirname(channel), { recursive: true })
  writeFileSync(channel, `spec:\n  cluster:\n    kubernetesVersion: v${kubernetes}\n  images: []\n`)
  const endpoint = `http://127.0.0.1:${cloud}`
  const keys = { id: 'made-up', secret: 'made-up-too' }
  const env = {
    ...process.env,
    ...{ NO_COLOR: '1', FORCE_COLOR: undefined, HOME: folder, XDG_STATE_HOME: join(folder, 'state') },
    ...{ AWS_ENDPOINT_URL: endpoint, AWS_EC2_METADATA_DISABLED: 'true', AWS_REGION: 'us-east-1' },
    ...{ AWS_ACCESS_KEY_ID: keys.id, AWS_SECRET_ACCESS_KEY: keys.secret },
    ...{ S3_ENDPOINT: endpoint, S3_REGION: 'us-east-1', S3_ACCESS_KEY_ID: keys.id, S3_SECRET_ACCESS_KEY: keys.secret },
    ...{ KOPS_BASE_URL: `http://127.0.0.1:${port}/kops/${version}/`, KOPS_STATE_STORE: 's3://kops-state' },
  }
  for (let tries = 0; ; tries++) {
    const made = await fetch(`${endpoint}/kops-state`, { method: 'PUT' }).catch(() => undefined)
    if (made?.ok) break
    if (tries > 100) throw new Error('moto does not answer')
    await delay(200)
  }
  const ask = async (...words: string[]) =>
    (await run(binary, [...words, '--name', name], { env, timeout: 120_000 })).stdout
  await ask(
    ...['create', 'cluster', '--cloud=aws', '--dns=none', '--networking', 'cni', '--zones', 'us-east-1a'],
    ...['--image', 'ami-785db401', '--kubernetes-version', kubernetes, '--channel', `file://${channel}`],
  )
  await ask('update', 'cluster', '--yes', '--admin')
  return {
    rekey: (...args: string[]) =>
      start(process.execPath, [join(root, 'bin', 'rekey'), ...args, '--output', 'plain'], env),
    /** How many key pairs are trusted, by keyset. */
    trusted: async () => {
      const all = JSON.parse(await ask('get', 'keypairs', '-o', 'json')) as { name: string }[]
      const rotated = all.filter(one => one.name === 'service-account' || one.name.includes('-ca'))
      return new Map([...Map.groupBy(rotated, one => one.name)].map(([keyset, items]) => [keyset, items.length]))
    },
    instances: async () =>
      (JSON.parse(await ask('get', 'instances', '-o', 'json')) as { id: string }[]).map(({ id }) => id),
  }
}
