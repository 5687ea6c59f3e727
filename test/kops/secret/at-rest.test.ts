// What follows another encryptionconfig: an API server that was started with it, everything written anew, and etcd counted, over a real sshd.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { gatewayOf } from '../../encryption/_gateway.ts'
import { sshdMissing } from '../../ssh/sshd.ts'
import { readObjects } from '../_api.ts'
import { type Bench, cluster, openCluster, settled } from '../_cluster.ts'
import { controlPlaneOf } from '../_control-plane.ts'
import { throughKills } from '../_kills.ts'

const withSshd = sshdMissing() === undefined ? test.serial : test.serial.skip

const key = (name: string) => ({ name, secret: createHash('sha256').update(name).digest('base64') })
/** An EncryptionConfiguration with these keys, the first of which writes. */
const configuration = (...names: string[]) =>
  JSON.stringify({
    ...{ kind: 'EncryptionConfiguration', apiVersion: 'apiserver.config.k8s.io/v1' },
    resources: [{ resources: ['secrets'], providers: [{ secretbox: { keys: names.map(key) } }] }],
  })

const idle = 'setInterval(() => {}, 100_000)'

/** A cluster that encrypts: its API server is a process of that name, its etcd what the objects of the API lie in. */
async function opened(
  t: ExecutionContext,
): Promise<Bench & { give(text: string, ...more: string[]): ReturnType<Bench['run']> }> {
  const bench = await openCluster(t)
  const secrets = join(bench.folder, cluster, 'secrets')
  mkdirSync(secrets, { recursive: true })
  const before = configuration('one', 'two')
  writeFileSync(join(secrets, 'encryptionconfig'), JSON.stringify({ Data: Buffer.from(before).toString('base64') }))
  const file = join(bench.folder, 'encryptionconfig.yaml')
  writeFileSync(file, before)
  const etcd = await gatewayOf(t, {
    *[Symbol.iterator]() {
      for (const [path, object] of Object.entries(readObjects(bench.folder))) {
        const written = Number(object['touched'] ?? 0) > 0 ? 'two' : 'one'
        if (path.startsWith('secrets/'))
          yield [`/registry/${path}`, Buffer.from(`k8s:enc:secretbox:v1:${written}:${'x'.repeat(60)}`)] as const
      }
    },
  })
  const { port } = etcd.access.client
  const flags = [
    ...[`--etcd-servers=http://127.0.0.1:${port}`, `--encryption-provider-config=${file}`],
    `--secure-port=${new URL(bench.state().server).port}`,
  ]
  const apiServer = spawn(process.execPath, ['-e', idle, '--', ...flags], { argv0: 'kube-apiserver', stdio: 'ignore' })
  t.teardown(() => apiServer.kill('SIGKILL'))
  // Its grep sees no other process: on the machine of this test others may run API servers of theirs.
  const programs = join(bench.kept, 'programs')
  mkdirSync(programs)
  const grep = `#!/bin/sh\nif [ "$1" = -lsE ]; then echo /proc/${apiServer.pid}/cmdline; else exec /bin/grep "$@"; fi\n`
  writeFileSync(join(programs, 'grep'), grep)
  chmodSync(join(programs, 'grep'), 0o755)
  const inventory = await controlPlaneOf(t, bench, [`SetEnv PATH=${programs}:${process.env['PATH']}`])
  return {
    ...bench,
    give: (text, ...more) => {
      writeFileSync(join(bench.kept, 'new.yaml'), text)
      const variables = ['-e', 'secret=encryptionconfig', '-e', `file=${bench.kept}/new.yaml`]
      return bench.run('rotate-kops-secret', '-i', inventory, ...variables, ...more)
    },
  }
}

const touch = (bench: Bench, name: string, touched: number) => {
  const objects = readObjects(bench.folder)
  objects[`secrets/shop/${name}`]!['touched'] = touched
  writeFileSync(join(bench.folder, 'api.json'), JSON.stringify(objects))
}

withSshd(
  'with another key first everything is written anew, and counted; a key is dropped once nothing lies under it',
  async t => {
    const bench = await opened(t)
    const { code, out } = await bench.give(configuration('two', 'one'))
    t.is(code, 0, out)
    t.regex(out, /3 objects, 0 were deleted meanwhile/)
    t.regex(out, /counted in etcd +3 values, each as it would be written now/)
    settled(t, bench)
    // Somebody put an old value back.
    touch(bench, 'password', 0)
    const refused = await bench.give(configuration('two'))
    t.is(refused.code, 2)
    t.regex(refused.out, /in etcd lie still: 1 secrets under secretbox one/)
    // The same once more replaces nothing, and mends it.
    const ids = bench.state().instances.map(({ id }) => id)
    const again = await bench.give(configuration('two', 'one'))
    t.is(again.code, 0, again.out)
    t.deepEqual(
      bench.state().instances.map(({ id }) => id),
      ids,
    )
    const dropped = await bench.give(configuration('two'))
    t.is(dropped.code, 0, dropped.out)
    t.regex(dropped.out, /3 values in etcd, and the new one reads them/)
    // An instance that kops does not call behind, and that has the one of before.
    bench.change(state => {
      state.knobs['blind'] = true
    })
    const forced = await bench.give(configuration('two', 'three'))
    t.is(forced.code, 0, forced.out)
    t.regex(forced.out, /every instance is replaced by force/)
    t.true(bench.calls().includes('rolling-update cluster --force --yes'))
  },
)

withSshd('an API server that goes by another one is found, and nothing is written anew', async t => {
  const bench = await opened(t)
  bench.change(state => {
    state.knobs['keepsOldConfiguration'] = true
  })
  const { code, out } = await bench.give(configuration('two', 'one'))
  t.is(code, 2)
  t.regex(out, /the API server of cp goes by another encryptionconfig/)
  t.false(bench.asked.some(one => one.startsWith('PATCH')))
})

withSshd('an API server whose file is the new one, and that has another one in force, is found', async t => {
  const bench = await opened(t)
  bench.change(state => {
    state.knobs['inForce'] = 'what it was started with'
  })
  const { code, out } = await bench.give(configuration('two', 'one'))
  t.is(code, 2)
  t.regex(out, /the API server of cp has another encryptionconfig in force than its file has now/)
  t.false(bench.asked.some(one => one.startsWith('PATCH')))
})

withSshd('killed before and after each step that changes something: undone from there, and gone on with', async t => {
  const bench = await opened(t)
  const before = bench.state().secrets['encryptionconfig']
  const stored = () => bench.state().secrets['encryptionconfig']
  const kills = await throughKills(
    t,
    bench,
    () => bench.give(configuration('two', 'one')),
    where => t.true([before, hashOf(configuration('one', 'two'))].includes(stored()), where),
  )
  // The export of before, what kops is given, the update, the rolling update: before and after each; and of three objects that are written at once.
  t.true(kills >= 10, String(kills))
  t.is(stored(), hashOf(configuration('two', 'one')))
})

const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')
