// A small lab through everything that can happen to one: made, asked for again, killed, repaired, put back, ended.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import * as lab from '../../lib/lab/index.ts'
import { leftovers, rekey } from './_lab.ts'
import { rehearseOperations } from './operations/_operations.ts'

const name = 'life'
const bin = fileURLToPath(new URL('../../bin/rekey', import.meta.url))
const call = (words: readonly string[]) => rekey(['lab', ...words, '--name', name])
const up = (...more: string[]) => call(['up', '--yes', ...more])

/** The folders of this lab in every cgroup hierarchy. */
const cgroups = () =>
  readdirSync('/sys/fs/cgroup')
    .map(hierarchy => join('/sys/fs/cgroup', hierarchy, 'rekey', name))
    .concat(join('/sys/fs/cgroup/rekey', name))
    .filter(folder => existsSync(folder))

test.after.always(() => call(['destroy']))

test.serial('a small lab comes up, and asked for again it says so and changes nothing', async t => {
  const first = await up('--masters', '1', '--nodes', '1')
  t.is(first.code, 0, first.stdout + first.stderr)
  const leader = lab.leaderOf(name, 'm1')
  const started = performance.now()
  const second = await up()
  t.is(second.code, 0, second.stderr)
  t.regex(second.stdout, /Lab 'life' is up already/)
  t.true(performance.now() - started < 20_000)
  t.is(lab.leaderOf(name, 'm1'), leader)
  const { code, stdout } = await call(['status'])
  t.is(code, 0, stdout)
  t.regex(stdout, /m1 +master +10\.\S+ +running/)
  t.regex(stdout, /cluster: well/)
})

test.serial('a lab of another size or with other traits under the same name is refused', async t => {
  const { code, stderr } = await up('--masters', '3', '--login', 'sudo')
  t.is(code, 1)
  t.regex(stderr, /lab 'life' has 1 master, not 3 masters; --login root, not --login sudo/)
})

test.serial(
  'rekey lab ssh runs a command on a machine, passes its exit code on, and takes its options as they are',
  async t => {
    const { code, stdout } = await rekey([
      'lab',
      'ssh',
      '--name',
      name,
      'm1',
      'kubectl',
      'get',
      'nodes',
      '--no-headers',
      '-o',
      'name',
    ])
    t.is(code, 0)
    t.deepEqual(stdout.trim().split('\n').sort(), ['node/m1', 'node/n1'])
    t.is((await rekey(['lab', 'ssh', '--name', name, 'n1', 'exit 7'])).code, 7)
    // As 'lab up' and each run propose it.
    const all = await rekey(`lab ssh --name ${name} m1 kubectl get nodes,pods -A`.split(' '))
    t.is(all.code, 0, all.stderr)
    t.regex(all.stdout, /kube-apiserver-m1/)
    const nowhere = await rekey(['lab', 'ssh', '--name', name, 'm9'])
    t.is(nowhere.code, 1)
    t.regex(nowhere.stderr, /no machine 'm9'/)
  },
)

test.serial('the canaries count calls, and none that fail', async t => {
  const before = lab.canaryResultsOf(await shape())
  t.deepEqual([...new Set(before.map(({ kind }) => kind))].sort(), ['legacy-token', 'service', 'token'])
  t.deepEqual(
    before.filter(({ failures }) => failures > 0),
    [],
  )
  await new Promise(resolve => setTimeout(resolve, 3000))
  for (const { pod, kind, calls } of lab.canaryResultsOf(await shape())) {
    const more = calls - (before.find(result => result.pod === pod)?.calls ?? 0)
    t.true(more >= (kind === 'service' ? 25 : 5), `${pod}: ${more} calls in 3 s`)
  }
})

test.serial('an API that keeps whoever asks it waiting is asked again, and does not end an up', async t => {
  // The first question takes a minute. All machines run, so that `up` begins by asking.
  const slow = '#!/bin/sh\nif rm /run/slow 2>/dev/null; then sleep 60; fi\nexec /usr/bin/kubectl "$@"\n'
  const script = `touch /run/slow; printf %s "$0" >/usr/local/sbin/kubectl; chmod +x /usr/local/sbin/kubectl`
  await lab.exec(name, 'm1', ['sh', '-c', script, slow])
  const again = await up()
  t.is(again.code, 0, again.stdout + again.stderr)
  t.regex(again.stdout, /Wait until the cluster is well/)
  await lab.exec(name, 'm1', ['rm', '/usr/local/sbin/kubectl'])
})

test.serial('operations do on a machine what they say, nothing the second time, and are undone', t =>
  rehearseOperations(t, name),
)

test.serial('a machine that died is started again, and the rest stays as it is', async t => {
  const master = lab.leaderOf(name, 'm1')
  process.kill(lab.leaderOf(name, 'n1')!, 'SIGKILL')
  await new Promise(resolve => setTimeout(resolve, 500))
  const ill = await call(['status'])
  t.is(ill.code, 2)
  t.regex(ill.stdout, /n1 is down/)
  const repaired = await up()
  t.is(repaired.code, 0, repaired.stdout + repaired.stderr)
  t.is(lab.leaderOf(name, 'm1'), master)
  t.is((await call(['status'])).code, 0)
})

test.serial('what was changed outlives a restart, and is gone after --fresh', async t => {
  const secret = ['get', 'configmap', 'kept', '-o', 'name', '--ignore-not-found']
  const kubectl = (...words: string[]) =>
    lab.exec(name, 'm1', ['kubectl', '--kubeconfig=/etc/kubernetes/admin.conf', ...words])
  await kubectl('create', 'configmap', 'kept')
  t.is((await call(['down'])).code, 0)
  const again = await up()
  t.is(again.code, 0, again.stdout + again.stderr)
  t.is(await kubectl(...secret), 'configmap/kept\n')
  const fresh = await up('--fresh')
  t.is(fresh.code, 0, fresh.stdout + fresh.stderr)
  t.is(await kubectl(...secret), '')
})

for (const after of [2, 8])
  test.serial(`an 'up' that is killed ${after} s after it began is made good by the next`, async t => {
    const child = spawn(bin, ['lab', 'up', '--fresh', '--name', name], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    })
    child.stdout.resume()
    // Its first words come when it has begun to work.
    await once(child.stdout, 'data')
    const second = after === 2 ? await up() : undefined
    await new Promise(resolve => setTimeout(resolve, after * 1000))
    const gone = once(child, 'exit')
    process.kill(-child.pid!, 'SIGKILL')
    await gone
    if (second) {
      t.is(second.code, 1)
      t.regex(second.stderr, /lab 'life' is being worked on by process \d+, 'rekey lab up'/)
    }
    const next = await up()
    t.is(next.code, 0, next.stdout + next.stderr)
    t.is((await call(['status'])).code, 0)
  })

test.serial('after down nothing of it runs or is mounted, and destroy removes its disks and keys', async t => {
  t.is((await call(['down'])).code, 0)
  t.deepEqual(leftovers(name), [])
  t.deepEqual(cgroups(), [])
  t.false(existsSync(`/run/rekey/labs/${name}`))
  t.true(existsSync(lab.inventoryPath(name)))
  const folder = join(lab.inventoryPath(name), '..', '..')
  t.is((await call(['destroy'])).code, 0)
  t.false(existsSync(folder))
  const unknown = await call(['status'])
  t.is(unknown.code, 1)
  t.regex(unknown.stderr, /there is no lab 'life'/)
})

async function shape(): Promise<lab.Shape> {
  return (await lab.status(name)).shape
}
