// Whether a kube-proxy has written its rules, by metrics as its versions print them.
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { forgetUdpFlows, kubeProxySynced } from '../../../lib/kubernetes/components/kube-proxy.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { localHost } from './_host.ts'

/** What is said of a kube-proxy with these metrics. */
async function synced(metrics: readonly string[] | undefined): Promise<boolean | undefined> {
  const server = createServer((_, answer) => {
    answer.end(metrics?.map(line => `kubeproxy_sync_proxy_rules_${line}\n`).join(''))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const forward = async () => {
    if (metrics === undefined) throw new Error('refused')
    return connect(port, '127.0.0.1')
  }
  try {
    return await kubeProxySynced({ forward } as unknown as HostSession)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

test('its rules are written when each family is as new as what was heard', async t => {
  const of = (queued: string, written: string, family: string) => [
    `last_queued_timestamp_seconds{ip_family="${family}"} ${queued}`,
    `last_timestamp_seconds{ip_family="${family}"} ${written}`,
  ]
  t.true(await synced([...of('1.7952929e+09', '1.7952930e+09', 'IPv4'), ...of('1.7e+09', '1.7e+09', 'IPv6')]))
  t.false(await synced([...of('1.7952930e+09', '1.7952929e+09', 'IPv4'), ...of('1.7e+09', '1.7e+09', 'IPv6')]))
  t.false(await synced([...of('1.7e+09', '1.7e+09', 'IPv4'), ...of('1.71e+09', '1.7e+09', 'IPv6')]))
})

test('one that has just started has written nothing', async t => {
  t.false(await synced(['last_timestamp_seconds{ip_family="IPv4"} 0']))
  t.false(await synced([]))
})

test('older versions give one time for all families', async t => {
  t.true(await synced(['last_queued_timestamp_seconds 1.7e+09', 'last_timestamp_seconds 1.7e+09']))
  t.false(await synced(['last_queued_timestamp_seconds 1.71e+09', 'last_timestamp_seconds 1.7e+09']))
})

test('where it shows no metrics, nothing is known', async t => {
  t.is(await synced(undefined), undefined)
})

test('what leads to pods that end is forgotten, but for a question that is being answered: that a second later', async t => {
  const { session, folder } = await localHost(t)
  const conntrack = join(folder, 'bin', 'conntrack')
  const asked = async (status: number) => {
    writeFileSync(conntrack, `#!/bin/sh\necho "$(date +%s%N) $*" >>"$STATE/flows"\nexit ${status}\n`)
    chmodSync(conntrack, 0o755)
    return forgetUdpFlows(session, ['10.0.0.1', '10.0.0.2'])
  }
  t.true(await asked(1), 'there were none')
  const lines = readFileSync(join(folder, 'flows'), 'utf8').trim().split('\n')
  const words = ['10.0.0.1', '10.0.0.2'].map(address => `-D -p udp --reply-src ${address}`)
  t.deepEqual(
    lines.map(line => line.slice(line.indexOf(' ') + 1)),
    [...words.map(one => `${one} -u SEEN_REPLY`), ...words],
  )
  const [, answered, all] = lines.map(line => Number(line.split(' ')[0]) / 1e9)
  t.true(all! - answered! >= 1)
  t.false(await asked(2))
})
