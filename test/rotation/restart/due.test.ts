// What is started anew after a file was changed: who goes by it, does not read it again, and runs since before it was put in place.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { FileRole } from '../../../lib/kubernetes/layout/host-layout.ts'
import type { OnHost } from '../../../lib/rotation/given/context.ts'
import { conditionsStep } from '../../../lib/rotation/given/found.ts'
import { restart } from '../../../lib/rotation/index.ts'
import { stages } from '../../../lib/rotation/keysets/index.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'
import { keepsWhatItRead, restartsOf } from '../../../lib/rotation/restart/due.ts'
import { found, localHost, unit } from '../../kubernetes/components/_host.ts'

/** A host whose API server names a file in a role; where it is a link, `real` is what that led to. */
async function hostWith(t: ExecutionContext, role: FileRole, real?: string) {
  const { session, folder } = await localHost(t)
  const path = join(folder, 'ca.crt')
  const runs = unit('kube-apiserver')
  const apiServer = found({
    component: 'kube-apiserver',
    runs,
    files: [{ role, by: '--any', path, real: real ?? path }],
  })
  const reading = {
    host: 'm1',
    controlPlane: true,
    layout: { host: 'm1', components: { 'kube-apiserver': apiServer } },
  }
  const ctx = (mode: 'run' | 'rollback' = 'run') =>
    ({
      ...session,
      mode,
      hosts: () => [session.host],
      on: async () => session,
      registered: (step: string) => (step === 'read-the-certificates' ? reading : undefined),
    }) as unknown as OnHost
  /** A file as a rotation puts it in place, whose content may be older than the process. */
  const put = async () => {
    execFileSync('sh', ['-c', `echo a >"$1.new"; touch -d @1 "$1.new"; mv -f "$1.new" "$1"`, 'sh', path])
    await delay(60)
  }
  const start = async () => {
    await session.$`systemctl restart kube-apiserver.service`
    await delay(60)
  }
  return { ctx, path, put, start }
}

test('who goes by a file without reading it again is started anew, unless it was started since', async t => {
  const { ctx, path, put, start } = await hostWith(t, 'etcd-ca')
  const { notStartedSince, restarted } = restartsOf({ files: () => [path], keeps: keepsWhatItRead })
  await start()
  await put()
  t.deepEqual(await notStartedSince(ctx()), ['kube-apiserver'])
  t.deepEqual(restarted(ctx()), [['kube-apiserver', ctx().host.name]])
  await start()
  t.deepEqual(await notStartedSince(ctx()), [])
})

test('a link that leads elsewhere counts like a file that was replaced', async t => {
  const { ctx, path, put, start } = await hostWith(t, 'etcd-ca', `/somewhere/else`)
  await put()
  const { restarted, notStartedSince } = restartsOf({ files: () => [path], keeps: keepsWhatItRead })
  t.deepEqual(restarted(ctx()), [['kube-apiserver', ctx().host.name]])
  await start()
  t.deepEqual(await notStartedSince(ctx()), [])
  await put()
  t.deepEqual(await notStartedSince(ctx()), ['kube-apiserver'])
})

test('who reads a file again by itself is left alone, and so is who goes by others', async t => {
  const { ctx, path, put, start } = await hostWith(t, 'client-ca')
  await start()
  await put()
  const of = (...[changes]: Parameters<typeof restartsOf>) => restartsOf(changes).notStartedSince(ctx())
  t.deepEqual(await of({ files: () => [path], keeps: keepsWhatItRead }), [])
  t.deepEqual(await of({ files: () => [`${path}.other`] }), [])
  t.deepEqual(await of({ files: () => [path] }), ['kube-apiserver'], 'unless all are to be')
})

test('on the way back those alone are started anew that were started with the files that are gone', async t => {
  const { ctx, path, put, start } = await hostWith(t, 'etcd-ca')
  let at: number | undefined
  const { notStartedSince } = restartsOf({ files: () => [path], keeps: keepsWhatItRead, placedAt: () => at })
  await start()
  await put()
  at = Date.now() / 1_000
  await put()
  t.deepEqual(await notStartedSince(ctx('rollback')), [], 'it has never read them')
  await start()
  await put()
  t.deepEqual(await notStartedSince(ctx('rollback')), ['kube-apiserver'])
  at = undefined
  t.deepEqual(await notStartedSince(ctx('rollback')), [], 'nothing was put in place')
})

test('a file that was put back is as old as it was, where it counts when it was written', async t => {
  const { ctx, path, put, start } = await hostWith(t, 'etcd-ca')
  const of = (changes: object) =>
    restartsOf({ files: () => [path], keeps: keepsWhatItRead, ...changes }).notStartedSince(ctx())
  await start()
  await put()
  t.deepEqual(await of({}), ['kube-apiserver'])
  t.deepEqual(await of({ byWriting: true }), [], 'its content is older than the process')
})

test('a kubelet that has joined since knows what it wrote to its kubeconfig, and need not be started anew until somebody else writes it', async t => {
  const { session, folder } = await localHost(t)
  const [path, current] = [join(folder, 'kubelet.conf'), join(folder, 'kubelet-client-current.pem')]
  const kubelet = found({
    ...{ component: 'kubelet', runs: unit('kubelet') },
    flags: { 'bootstrap-kubeconfig': ['/bootstrap.conf'], 'cert-dir': [folder] },
    files: [
      { role: 'kubeconfig', by: '--kubeconfig', path, real: path },
      { role: 'client', by: 'client-certificate', path: current, real: current },
    ],
  })
  const registered = () => ({ host: 'n1', layout: { host: 'n1', components: { kubelet } } })
  const ctx = { ...session, mode: 'run', on: async () => session, registered } as unknown as OnHost
  const write = async (name: string) => {
    writeFileSync(join(folder, name), name)
    await delay(60)
  }
  const due = () => restartsOf({ files: () => [path], keeps: keepsWhatItRead, byWriting: true }).notStartedSince(ctx)
  await session.$`systemctl restart kubelet.service`
  await delay(60)
  await write('kubelet.conf')
  t.deepEqual(await due(), ['kubelet'], 'that it has joined is not seen before it has a certificate')
  await write('kubelet-client-2026-11-30-17-44-20.pem')
  t.deepEqual(await due(), [])
  await write('kubelet.conf')
  t.deepEqual(await due(), ['kubelet'])
})

test('the kubelet of a node that was accepted as not Ready is left out, and named: it would be waited for in vain; its kube-proxy, too', async t => {
  const host = { name: 'n7', groups: ['nodes'] }
  const of = (component: string) => ({
    component,
    runs: { kind: 'unit', environmentFiles: [], definition: [] },
    files: [{ role: 'client-ca', path: '/ca', real: '/ca' }],
    flags: {},
  })
  const layout = { host: 'n7', components: { kubelet: of('kubelet'), 'kube-proxy': of('kube-proxy') } }
  const said: string[] = []
  const ctx = {
    ...{ host, hosts: () => [host], milestone: () => {}, log: (line: string) => said.push(line) },
    registered: (step: string) =>
      step === conditionsStep ? { absent: ['n7.internal'] } : { host: 'n7', nodeName: 'n7.internal', layout },
    on: () => t.fail('nobody goes there'),
  }
  const { kubelets, kubeProxies } = restartsOf({ files: () => ['/ca'] })
  await kubelets.run(ctx as never)
  await kubeProxies.run(ctx as never)
  t.deepEqual(said, ['the kubelet of n7 is left out: it goes by what it has read'])
  const states = [
    { authority: 'kubernetes', items: [{ state: 'staged', issuer: 'i' }], bundles: { n7: { '/ca': [] } } },
  ]
  const registered = (step: string) => (step === lookStep ? states : ctx.registered(step))
  await t.notThrowsAsync(async () => stages.allGoByStaged.run({ ...ctx, registered } as never))
})

test('kube-proxies of many nodes are restarted a few at a time, those of masters one after the other', async t => {
  const of = (count: number, group: string) =>
    Array.from({ length: count }, (_, index) => ({ name: `${group}-${index}`, groups: [group] }))
  const proxy = found({
    ...{ component: 'kube-proxy', runs: unit('kube-proxy') },
    files: [{ role: 'kubeconfig', by: '--config', path: '/config', real: '/config' }],
  })
  for (const [hosts, atOnce] of [
    [of(12, 'nodes'), 5],
    [of(3, 'masters'), 1],
  ] as const) {
    const begun: string[] = []
    const ctx = {
      hosts: () => hosts,
      registered: (step: string) =>
        step === conditionsStep ? { absent: [] } : { layout: { components: { 'kube-proxy': proxy } } },
      on: async ({ name }: { name: string }) => {
        begun.push(name)
        await delay(20)
        throw new Error('not reached')
      },
    }
    const { kubeProxies } = restartsOf({ files: () => ['/config'] })
    await t.throwsAsync(async () => kubeProxies.run(ctx as never), { message: 'not reached' })
    t.is(begun.length, atOnce)
  }
})

test('a member of etcd is not restarted where the others are no quorum, before somebody has accepted that nothing answers meanwhile', t => {
  const etcd = found({
    component: 'etcd',
    runs: unit('etcd'),
    files: [{ role: 'etcd-ca', by: '--trusted-ca-file', path: '/ca.crt', real: '/ca.crt' }],
  })
  const asked = (members: number, more: { accept?: boolean } = {}) => {
    const hosts = Array.from({ length: members }, (_, index) => ({ name: `e${index + 1}`, groups: ['etcd'] }))
    const ctx = {
      hosts: (pattern: string) => (pattern.includes('etcd') ? hosts : []),
      registered: (step: string) => step === 'read-the-certificates' && { layout: { components: { etcd } } },
      vars: { accept_gap: more.accept ?? false },
    }
    return () => restartsOf({ files: () => ['/ca.crt'] }).mayBeAway.run(ctx as never)
  }
  for (const members of [1, 2]) {
    t.throws(asked(members), { code: 'drained.quorum' })
    t.notThrows(asked(members, { accept: true }))
  }
  t.notThrows(asked(3))
  const rolling = restart.quorumStays<restart.Variables>(() => true)
  const two = { hosts: () => [{ name: 'e1' }, { name: 'e2' }], vars: { accept_gap: false } }
  t.throws(() => rolling.run(two as never), { code: 'drained.quorum' })
})
