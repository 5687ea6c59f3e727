// A cluster as it is asked through its masters: whose kubeconfig, on which port, and what counts as ready.
import 'reflect-metadata'
import { connect } from 'node:net'
import test from 'ava'
import { openCluster } from '../../../lib/kubernetes/api/cluster.ts'
import type { Host } from '../../../lib/playbook/host.ts'
import type { RunContext } from '../../../lib/playbook/model.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { startApiServer } from './_api-server.ts'

test('an API server that tells nobody without a name is asked by the administrator, whose kubeconfig may name files and lie elsewhere', async t => {
  const server = await startApiServer()
  t.teardown(() => server.close())
  const admin = await issue({ name: 'CN=admin' })
  const answers = [401, 200]
  server.instead = (request, response) => {
    if (!request.endsWith('/readyz')) return false
    response.writeHead(answers.shift() ?? 500).end('ok')
    return true
  }
  const texts: Record<string, string> = {
    '/root/admin.kubeconfig':
      'clusters: [{name: c, cluster: {server: "https://x", certificate-authority: pki/ca.crt}}]\ncontexts: [{name: a, context: {cluster: c, user: u}}]\ncurrent-context: a\nusers: [{name: u, user: {client-certificate: /pki/a.crt, client-key: /pki/a.key}}]\n',
    '/root/pki/ca.crt': server.ca,
    '/pki/a.crt': admin.pem,
    '/pki/a.key': admin.keyPem,
  }
  const [first, second] = ['m1', 'm2'].map(name => ({ name }) as Host) as [Host, Host]
  const read: string[] = []
  const reached: string[] = []
  const run = {
    hosts: () => [first, second],
    on: async ({ name }: Host) => ({
      files: {
        readText: async (path: string) => {
          read.push(`${name}:${path}`)
          return texts[path] ?? ''
        },
      },
      forward: async (address: string, port: number) => {
        reached.push(`${name} ${address}:${port}`)
        return connect(server.port, '127.0.0.1')
      },
    }),
    signal: new AbortController().signal,
    redact: () => {},
  } as unknown as RunContext
  const cluster = openCluster(run, 'masters', {
    administrator: () => ({ host: first, path: '/root/admin.kubeconfig' }),
    apiServer: () => ({ address: '10.0.0.2', port: 7443 }),
  })
  t.teardown(() => cluster.close())
  await cluster.apiServerReady(second, { within: 5_000 })
  t.deepEqual(answers, [])
  t.deepEqual(read, ['m1:/root/admin.kubeconfig', 'm1:/root/pki/ca.crt', 'm1:/pki/a.crt', 'm1:/pki/a.key'])
  t.is(reached[0], 'm2 10.0.0.2:7443')
})

test('a few nodes that are waited for are asked for by name, and one that is not there is waited for', async t => {
  const server = await startApiServer()
  t.teardown(() => server.close())
  server.instead = (request, response) => {
    if (request !== 'GET /version') return false
    response.writeHead(200).end('{}')
    return true
  }
  const text = `clusters: [{name: c, cluster: {server: "https://x", certificate-authority-data: ${Buffer.from(server.ca).toString('base64')}}}]\ncontexts: [{name: a, context: {cluster: c, user: u}}]\ncurrent-context: a\nusers: [{name: u, user: {token: x}}]\n`
  const run = {
    hosts: () => [{ name: 'm1' }],
    on: async () => ({
      files: { readText: async () => text },
      forward: async () => connect(server.port, '127.0.0.1'),
    }),
    signal: new AbortController().signal,
    redact: () => {},
  } as unknown as RunContext
  const cluster = openCluster(run)
  t.teardown(() => cluster.close())
  const names = Array.from({ length: 50 }, (_, index) => `n${index + 1}`)
  const ready = (lastHeartbeatTime: string) => ({ conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime }] })
  for (const name of names) server.put('/api/v1/nodes', { metadata: { name }, status: ready('2') })
  for (const name of names) await cluster.nodesReady([name], { within: 5_000, notBy: { [name]: '1' } })
  const lists = () => server.asked.filter(one => /^GET \/api\/v1\/nodes(\?|$)/.test(one)).length
  t.is(lists(), 0)
  t.is(server.asked.filter(one => one.startsWith('GET /api/v1/nodes/')).length, 50)
  await cluster.nodesReady(names, { within: 5_000 })
  t.is(lists(), 1)
  await t.throwsAsync(cluster.nodesReady(['gone'], { within: 300 }), { message: /gone/ })
  await t.throwsAsync(cluster.nodesReady(['n1'], { within: 300, notBy: { n1: '2' } }), { message: /n1/ })
})
