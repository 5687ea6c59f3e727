// What keeps the CA of etcd from being rotated: members that nobody has tried it with, others that go by copies of it, and API servers that were
// not started anew since it was staged.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { publicKeyOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { readingStep } from '../../../lib/rotation/given/found.ts'
import { stages } from '../../../lib/rotation/keysets/index.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'
import { refuseCopies, refuseUntried } from '../../../lib/rotation/keysets/which/untried.ts'
import { found, localHost, unit } from '../../kubernetes/components/_host.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

test('members and API servers that nobody has tried it with are refused by name; those that were seen to come through it are not, wherever they run', t => {
  const context = (kinds: Readonly<Record<string, string>>, groups: readonly string[]) => {
    const host = { name: 'e1', groups }
    const components = Object.fromEntries(
      Object.entries(kinds).map(([component, kind]) => [component, { component, runs: { kind } }]),
    )
    return {
      hosts: (pattern: string) => [host].filter(one => one.groups.includes(pattern)),
      registered: () => ({ layout: { host: 'e1', components } }),
    } as never
  }
  const onMaster = (server: string, etcd: string, others = server) =>
    context({ etcd, 'kube-apiserver': server, 'kube-controller-manager': others, 'kube-scheduler': others }, [
      'masters',
      'etcd',
    ])
  const seen = [
    ...['static-pod', 'unit'].map(etcd => context({ etcd }, ['etcd'])),
    ...[onMaster('static-pod', 'static-pod'), onMaster('unit', 'unit')],
  ]
  for (const ctx of seen) t.notThrows(() => refuseUntried(ctx))
  const others = [
    ...[context({ etcd: 'pod' }, ['etcd']), context({}, ['etcd'])],
    context({ 'kube-apiserver': 'static-pod' }, ['masters', 'etcd']),
    ...[onMaster('unit', 'static-pod'), onMaster('static-pod', 'unit'), onMaster('unit', 'unit', 'static-pod')],
  ]
  for (const ctx of others) t.throws(() => refuseUntried(ctx), { code: 'keysets.layout', message: /not as on e1$/ })
  const ofOthers = context({ 'kube-apiserver': 'static-pod' }, ['masters'])
  t.throws(() => refuseUntried(ofOthers), { code: 'keysets.layout', message: /the hosts of etcd, and it has none$/ })
})

/** A context of this machine as the host. */
async function machine(t: ExecutionContext, registered: (step: string) => unknown, accept: readonly string[] = []) {
  const { session, folder } = await localHost(t)
  const ctx = {
    ...session,
    ...{ vars: { accept, items: [] }, mode: 'run', check: false, log: () => {} },
    hosts: () => [session.host],
    on: async () => session,
    registered,
  }
  return { ctx: ctx as never, session, folder }
}

test('what a process names of copies of the CA is refused, unless it is accepted; what nobody names is not', async t => {
  const [authority, another] = await Promise.all(
    ['etcd-ca', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })),
  )
  const certificates: Record<string, string> = {}
  const accepted: string[] = []
  const { ctx, session, folder } = await machine(t, () => ({ certificates }), accepted)
  const paths = ['used.crt', 'unused.crt', 'another.crt'].map(name => join(folder, name))
  for (const [index, path] of paths.entries()) {
    certificates[path] = index === 2 ? another!.pem : authority!.pem
    writeFileSync(path, certificates[path])
  }
  const readers = [paths[0]!, paths[2]!].map(path => spawn('tail', ['-f', path], { stdio: 'ignore' }))
  t.teardown(() => {
    for (const reader of readers) reader.kill()
  })
  await Promise.all(readers.map(reader => once(reader, 'spawn')))
  const { name } = session.host
  const asked = () =>
    refuseCopies(
      ctx,
      paths.map(path => ({ host: name, path })),
      authority!.pem,
    )
  const error = await t.throwsAsync(asked, { code: 'keysets.copy' })
  t.true(error?.message.includes(`${name}:${paths[0]} (process `), error?.message)
  t.false(error?.message.includes('another.crt') || error?.message.includes('unused.crt'))
  accepted.push(`certificate/${name}:${paths[0]}`)
  await t.notThrowsAsync(asked)
})

test('an API server that runs since before the CA was staged keeps it from being promoted, and is named', async t => {
  const [old, next] = await Promise.all(['old', 'next'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const item = ({ pem }: { pem: string }, state: string) => {
    const key = publicKeyOf(pem) ?? ''
    return { id: key.slice(0, 8), key, state, certificate: pem, issuer: 'i' }
  }
  let path = ''
  const apiServer = () =>
    found({
      component: 'kube-apiserver',
      runs: unit('kube-apiserver'),
      files: [{ role: 'etcd-ca', by: '--etcd-cafile', path, real: path }],
    })
  const states = () => [
    {
      ...{ name: 'etcd-ca', authority: 'etcd', items: [item(old!, 'primary'), item(next!, 'staged')] },
      ...{ bundles: { [host]: { [path]: [old!.pem, next!.pem] } }, uses: [], unread: [] },
    },
  ]
  const { ctx, session, folder } = await machine(t, step => {
    if (step === lookStep) return states()
    return step === readingStep ? { layout: { host, components: { 'kube-apiserver': apiServer() } } } : undefined
  })
  const host = session.host.name
  path = join(folder, 'ca.crt')
  const asked = async () => stages.allGoByStaged.run(ctx)
  await session.$`systemctl restart kube-apiserver.service`
  await delay(60)
  writeFileSync(path, 'staged')
  const error = await t.throwsAsync(asked, { code: 'keysets.behind' })
  t.true(error?.message.endsWith(`kube-apiserver of ${host}`), error?.message)
  await delay(60)
  await session.$`systemctl restart kube-apiserver.service`
  await delay(60)
  await t.notThrowsAsync(asked)
})
