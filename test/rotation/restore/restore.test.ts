// Steps of a restore, on this machine as a host: files put back and what was there before put back again, nodes that the restored API does not know,
// processes that are somebody else's, and what is refused.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { etcdIsReadable } from '../../../lib/encryption/index.ts'
import { manifestHead, writeManifest } from '../../../lib/kubernetes/backups/manifest.ts'
import { processesOf } from '../../../lib/kubernetes/components/control.ts'
import type { FoundComponent, HostLayout } from '../../../lib/kubernetes/layout/host-layout.ts'
import { kubeadmLayout } from '../../../lib/kubernetes/layout/kubeadm/index.ts'
import type { MachineReading } from '../../../lib/kubernetes/trust/machine.ts'
import { backUpFiles } from '../../../lib/operations/backup.ts'
import { restoreFiles } from '../../../lib/operations/restore.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { restore } from '../../../lib/rotation/index.ts'
import { processesOn } from '../../../lib/rotation/restore/stop.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { found, type LocalHost, localHost, staticPod, unit } from '../../kubernetes/components/_host.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

type Step = StepDefinition<never>

const kubelet = found({ component: 'kubelet', runs: unit('kubelet') })
const readingOf = (layout: HostLayout) =>
  ({
    ...{ host: 'm1', nodeName: 'n1', controlPlane: false, certificates: {}, kubeconfigs: {}, authority: '', layout },
  }) as MachineReading

/** What a step gets, on this machine: it registers what it returns. */
function context(
  { session }: LocalHost,
  { parts, layout, folder = '', more = {} }: { parts: string[]; layout: HostLayout; folder?: string; more?: object },
) {
  const registered = new Map<string, unknown>([['read-the-certificates', readingOf(layout)]])
  const ctx = {
    ...session,
    vars: { parts, from: 'then', backup_directory: join(folder, 'on-host'), accept_other_trust: true },
    ...{ run: 'r1', folder: join(folder, 'own'), signal: new AbortController().signal },
    hosts: () => [session.host],
    on: async () => session,
    log: () => {},
    milestone: () => {},
    timeline: { milestones: new Map() },
    otherRun: () => join(folder, 'then'),
    registered: (step: string) => registered.get(step),
    ...more,
  } as never
  const run = async (step: Step) => {
    const value = await step.run(ctx)
    if (step.id !== undefined) registered.set(step.id, value)
    return value
  }
  return { run, back: (step: Step) => step.rollback?.(ctx), ctx }
}

const layout: HostLayout = { host: 'm1', components: { kubelet } }

/** The backup of a run that has these files of a folder of the host's. */
async function backedUp({ session }: LocalHost, folder: string, paths: string[], reading = readingOf(layout)) {
  const archive = join(folder, 'then', 'backups', 'm1', 'host.tgz')
  const { size, entries } = await backUpFiles(session, archive, paths)
  const sha256 = createHash('sha256').update(readFileSync(archive)).digest('hex')
  await writeManifest(join(folder, 'then'), {
    ...{ ...manifestHead('then'), kind: 'files', host: 'm1', address: '127.0.0.1', machine: 'a' },
    ...{ size, entries, sha256, reading },
  })
}

const steps = restore as unknown as Readonly<Record<string, Step>>

async function scene(t: ExecutionContext) {
  const host = await localHost(t)
  const folder = temporaryFolder('restore')
  const etc = join(folder, 'etc')
  mkdirSync(etc)
  const at = (name: string) => join(etc, name)
  const held = (name: string) => (existsSync(at(name)) ? readFileSync(at(name), 'utf8') : undefined)
  for (const name of ['changed', 'gone', 'same']) writeFileSync(at(name), name, { mode: 0o600 })
  await backedUp(host, folder, [etc])
  writeFileSync(at('changed'), 'now')
  writeFileSync(at('since'), 'now')
  rmSync(at('gone'))
  return { host, folder, at, held, ...context(host, { parts: ['files'], layout, folder }) }
}

test('files that no component names come back as they were before, and those that were not there go', async t => {
  const { run, back, held, at } = await scene(t)
  const compared = (await run(steps['compareFiles']!)) as { changed: string[]; missing: string[]; since: string[] }
  t.deepEqual(compared.changed, [at('changed')])
  t.deepEqual(compared.missing, [at('gone')])
  t.deepEqual(compared.since, [at('since')])
  await run(steps['bringFiles']!)
  await run(steps['keepFiles']!)
  await run(steps['placeNodeFiles']!)
  const all = () => ['changed', 'gone', 'same', 'since'].map(held)
  t.deepEqual(all(), ['changed', 'gone', 'same', 'now'])
  t.is(statSync(at('gone')).mode & 0o777, 0o600)
  for (const _ of ['once', 'twice']) {
    await back(steps['placeNodeFiles']!)
    t.deepEqual(all(), ['now', undefined, 'same', 'now'])
  }
})

test('what the source of a restore holds is asked no more once files are compared and brought', async t => {
  const { run, back, held, folder } = await scene(t)
  await run(steps['compareFiles']!)
  await run(steps['bringFiles']!)
  await run(steps['keepFiles']!)
  rmSync(join(folder, 'then'), { recursive: true })
  await run(steps['placeNodeFiles']!)
  t.is(held('changed'), 'changed')
  await back(steps['placeNodeFiles']!)
  t.is(held('changed'), 'now')
})

test('files are put back together or not at all: one that the archive lacks is not removed', async t => {
  const host = await localHost(t)
  const folder = temporaryFolder('lacks')
  const [one, other, archive] = ['one', 'other', 'a/host.tgz'].map(name => join(folder, name)) as [
    string,
    string,
    string,
  ]
  writeFileSync(one, 'then')
  await backUpFiles(host.session, archive, [one])
  for (const path of [one, other]) writeFileSync(path, 'now')
  await t.throwsAsync(restoreFiles(host.session, 'r1', archive, [one, other], { mustHave: true }), {
    message: /other is not in it/,
  })
  t.deepEqual([readFileSync(one, 'utf8'), readFileSync(other, 'utf8')], ['now', 'now'])
})

test('the kubelet of a node that the restored API does not know is started anew all the same', async t => {
  const host = await localHost(t)
  const notFound = async () => Promise.reject(new Error('nodes "n1" not found'))
  const { run } = context(host, { parts: ['etcd'], layout, more: { cluster: { heartbeat: notFound } } })
  t.is(await run(steps['kubelets']!), '')
  t.regex(readFileSync(join(host.folder, 'told'), 'utf8'), /^restart kubelet\.service$/m)
})

test("a process that is called like a component and is in none of the host's pods is somebody else's", async t => {
  const host = await localHost(t)
  const program = join(host.folder, 'etcd')
  copyFileSync('/bin/sleep', program)
  chmodSync(program, 0o755)
  const stranger = spawn(program, ['60'])
  t.teardown(() => stranger.kill())
  await new Promise(resolve => stranger.once('spawn', resolve))
  const etcd: FoundComponent = found({ component: 'etcd', runs: staticPod('/etc/kubernetes/manifests/etcd.yaml') })
  t.true((await processesOf(host.session, etcd)).includes(stranger.pid ?? 0))
  t.false((await processesOn(host.session, etcd)).includes(stranger.pid ?? 0))
})

test('a control plane in pods of the API is refused before anything else', async t => {
  const host = await localHost(t)
  const etcd = found({ component: 'etcd', runs: { kind: 'pod' } })
  const selfHosted = { host: 'm1', components: { ...kubeadmLayout('m1', true).components, etcd } }
  const { run } = context(host, { parts: ['etcd'], layout: selfHosted })
  await t.throwsAsync(run(steps['runsAlike']!), { code: 'restore.layout', message: /m1: etcd is a pod of the API/ })
})

test('members that would be made by other versions of etcd are refused', async t => {
  const host = await localHost(t)
  const tools = new Map(['3.6.4', '3.5.16'].map((version, index) => [`m${index + 1}`, { version, bumps: index === 0 }]))
  const { run } = context(host, {
    ...{ parts: ['etcd'], layout },
    more: {
      hosts: () => [...tools.keys()].map(name => ({ name })),
      registered: (_: string, name: string) => tools.get(name),
    },
  })
  await t.throwsAsync(run(steps['sameTools']!), { code: 'restore.tools-differ', message: /m1 3\.6\.4, m2 3\.5\.16/ })
})

test('files without a key by which etcd is encrypted now are refused by its name', async t => {
  const host = await localHost(t)
  const text = (...names: string[]) => `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources: [secrets]
    providers:
      - aescbc: { keys: [${names.map(name => `{ name: ${name}, secret: ${Buffer.alloc(32, name).toString('base64')} }`).join(', ')}] }
`
  const { ctx } = context(host, { parts: ['files'], layout: kubeadmLayout('m1', true) })
  const step = (then: string[], now: string[]) =>
    etcdIsReadable({
      isDue: () => true,
      archived: async () => [{ where: 'then', text: text(...then) }],
      now: async () => [{ where: 'now', text: text(...now) }],
      layout: () => kubeadmLayout('m1', true),
    }).run(ctx)
  await t.throwsAsync(async () => step(['a'], ['b', 'a']), { code: 'restore.missing-key', message: /now: aescbc b$/ })
  await t.notThrowsAsync(async () => step(['a', 'b'], ['b']))
})

test('certificates of the control plane that have ended since the backup are refused, or told where that is accepted', async t => {
  const host = await localHost(t)
  const folder = temporaryFolder('ended')
  writeFileSync(join(folder, 'any'), 'any')
  const { pem } = await issue({ name: 'CN=kube-apiserver', notAfter: new Date(Date.now() - 1_000) })
  const path = '/etc/kubernetes/pki/apiserver.crt'
  const reading = { ...readingOf(kubeadmLayout('m1', true)), certificates: { [path]: pem, '/any/other.crt': pem } }
  await backedUp(host, folder, [join(folder, 'any')], reading)
  const given = (more: object) => ({ parts: ['files'], layout: kubeadmLayout('m1', true), folder, more })
  const refused = context(host, given({}))
  await t.throwsAsync(async () => refused.run(steps['noneEnded']!), {
    ...{ code: 'restore.ended', message: /have ended since the backup: \/etc\/kubernetes\/pki\/apiserver\.crt$/ },
  })
  const told: string[] = []
  const accepting = given({
    vars: { parts: ['files'], from: 'then', accept_ended: true },
    log: (line: string) => told.push(line),
  })
  await context(host, accepting).run(steps['noneEnded']!)
  t.regex(told.join(), /WARNING: .*apiserver\.crt, \/any\/other\.crt/)
})
