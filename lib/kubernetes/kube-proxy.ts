// kube-proxy on one node: whether what it has heard of is in the kernel.
import { request } from 'node:http'
import type { HostSession } from '../playbook/model.ts'

/**
 * Whether the kube-proxy of a node has written its rules since it was started, by its metrics on loopback (kubeadm's default
 * address). Its pod counts as ready long before that. `undefined` where it shows no metrics there.
 */
export async function kubeProxySynced(session: HostSession): Promise<boolean | undefined> {
  const socket = await session.forward('127.0.0.1', 10249).catch(() => undefined)
  if (!socket) return undefined
  const metrics = await new Promise<string | undefined>(resolve => {
    const outgoing = request(
      { createConnection: () => socket, path: '/metrics', host: '127.0.0.1', timeout: 3_000 },
      answer => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
        answer.on('error', () => resolve(undefined))
      },
    )
    outgoing.on('timeout', () => outgoing.destroy())
    outgoing.on('error', () => resolve(undefined))
    outgoing.end()
  })
  if (metrics === undefined) return undefined
  const last = /^kubeproxy_sync_proxy_rules_last_timestamp_seconds(?:\{[^}]*\})? (\S+)$/m.exec(metrics)
  return last !== null && Number(last[1]) > 0
}
