// Whether a kube-proxy has written its rules, by metrics as its versions print them.
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import test from 'ava'
import { kubeProxySynced } from '../../../lib/kubernetes/components/kube-proxy.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'

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
