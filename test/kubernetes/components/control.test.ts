// Components of units and of static pods, killed, ended and started anew.
import { spawn } from 'node:child_process'
import { chmodSync, copyFileSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import {
  componentServes,
  endComponent,
  killComponent,
  processesOf,
  restartComponent,
  servedAt,
  startedAnew,
} from '../../../lib/kubernetes/components/control.ts'
import { found, localHost, staticPod, unit } from './_host.ts'

const told = (folder: string) => readFileSync(join(folder, 'told'), 'utf8').trim().split('\n')
const soon = { within: 5_000 }

test('a unit that is killed is started at once, and nobody waits for systemd to say that it is ready', async t => {
  const { session, folder } = await localHost(t)
  const etcd = found({ component: 'etcd', runs: unit('etcd') })
  await session.$`systemctl restart etcd.service`
  const [first] = await processesOf(session, etcd)
  t.truthy(first)
  const killed = await killComponent(session, etcd)
  t.deepEqual(killed, [first])
  await startedAnew(session, etcd, killed, soon)
  t.notDeepEqual(await processesOf(session, etcd), [first])
  t.deepEqual(told(folder).slice(1), ['reset-failed etcd.service', 'restart --no-block etcd.service'])
})

test('one that does not run is started', async t => {
  const { session, folder } = await localHost(t)
  const scheduler = found({ component: 'kube-scheduler', runs: unit('kube-scheduler') })
  t.deepEqual(await killComponent(session, scheduler), [])
  await startedAnew(session, scheduler, [], soon)
  t.deepEqual(told(folder), ['reset-failed kube-scheduler.service', 'restart --no-block kube-scheduler.service'])
})

test('one that is ended is asked by systemd, and not killed', async t => {
  const { session, folder } = await localHost(t)
  const api = found({ component: 'kube-apiserver', runs: unit('apiserver') })
  await session.$`systemctl restart apiserver.service`
  const ended = await endComponent(session, api)
  await startedAnew(session, api, ended, soon)
  t.deepEqual(told(folder).slice(1), ['reset-failed apiserver.service', 'restart --no-block apiserver.service'])
})

test('a unit is restarted by the name that it was found by, and asked whether it serves', async t => {
  const { session, folder } = await localHost(t)
  let asked = 0
  const server = createServer((request, response) => {
    response.end(request.url === '/healthz' && ++asked > 1 ? 'ok' : 'no')
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  const kubelet = found({ component: 'kubelet', runs: unit('kubelet-1.34'), flags: { 'healthz-port': [`${port}`] } })
  await restartComponent(session, kubelet, soon)
  t.deepEqual(
    told(folder),
    ['reset-failed', 'restart', 'is-active'].map(verb => `${verb} kubelet-1.34.service`),
  )
  t.is(asked, 2)
})

test('one that does not come back says for how long it was waited for', async t => {
  const { session } = await localHost(t)
  const kubelet = found({ component: 'kubelet', runs: unit('kubelet'), flags: { 'healthz-port': ['1'] } })
  const error = await t.throwsAsync<RekeyError>(() => restartComponent(session, kubelet, { within: 1 }))
  t.is(error?.code, 'wait.timeout')
  t.regex(error?.message ?? '', /for kubelet of m1 to serve/)
})

test('the processes of a static pod are killed by the name that they were started with', async t => {
  const { session, folder } = await localHost(t)
  // No component of this machine has such a name.
  const name = `rekey-${process.pid}` as 'kube-scheduler'
  copyFileSync('/bin/sleep', join(folder, name))
  chmodSync(join(folder, name), 0o755)
  const child = spawn(join(folder, name), ['60'])
  t.teardown(() => child.kill('SIGKILL'))
  const ended = new Promise<NodeJS.Signals | null>(resolve => child.once('exit', (_, signal) => resolve(signal)))
  const pod = found({ component: name, runs: staticPod('/none') })
  t.deepEqual(await killComponent(session, pod), [child.pid])
  t.is(await ended, 'SIGKILL')
  await t.throwsAsync(() => startedAnew(session, pod, [child.pid ?? 0], { within: 1 }), {
    message: new RegExp(`for ${name} of m1 to be started anew`),
  })
})

test('what listens at every address is asked on loopback, and what was not found where it usually is', async t => {
  const api = found({
    component: 'kube-apiserver',
    runs: unit('kube-apiserver'),
    endpoints: [{ address: '0.0.0.0', port: 8443, role: 'serving' }],
  })
  t.deepEqual(servedAt(api), { address: '127.0.0.1', port: 8443 })
  t.deepEqual(servedAt({ ...api, endpoints: [] }), { address: '127.0.0.1', port: 6443 })
  const { session } = await localHost(t)
  await t.throwsAsync(() =>
    componentServes(session, { ...api, endpoints: [{ address: '::', port: 1, role: 'serving' }] }),
  )
})
