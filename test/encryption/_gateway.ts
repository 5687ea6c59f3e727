// An etcd's gateway as far as ranges are asked of it, and a host on which it listens.
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import type { Duplex } from 'node:stream'
import type { ExecutionContext } from 'ava'
import type { EtcdAccess } from '../../lib/kubernetes/components/etcd-access.ts'
import type { HostSession } from '../../lib/playbook/model.ts'

interface Asked {
  readonly key: string
  readonly range_end: string
  readonly limit: number
  readonly serializable: boolean
}

export interface Gateway {
  readonly session: HostSession
  readonly access: EtcdAccess
  /** What was asked, in order. */
  readonly asked: Asked[]
}

/**
 * @param values by their keys; gone through anew for each question
 * @param write how an answer is written: protojson leaves spaces where it likes
 */
export async function gatewayOf(
  t: ExecutionContext,
  values: Iterable<readonly [string, Uint8Array]>,
  write: (answer: object) => string = JSON.stringify,
): Promise<Gateway> {
  const asked: Asked[] = []
  const server = createServer(async (request, answer) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    if (request.url !== '/v3/kv/range') return answer.writeHead(404).end('404 page not found')
    const ask = JSON.parse(Buffer.concat(chunks).toString()) as Asked
    asked.push(ask)
    const sorted = [...values].map(([key, value]) => ({ key: Buffer.from(key), value: Buffer.from(value) }))
    sorted.sort((a, b) => Buffer.compare(a.key, b.key))
    const [from, end] = [Buffer.from(ask.key, 'base64'), Buffer.from(ask.range_end, 'base64')]
    const all = sorted.filter(({ key }) => Buffer.compare(key, from) >= 0 && Buffer.compare(key, end) < 0)
    const kvs = all.slice(0, ask.limit).map(({ key, value }) => ({
      ...{ key: key.toString('base64'), create_revision: '7', mod_revision: '8', version: '1' },
      ...(value.length > 0 && { value: value.toString('base64') }),
    }))
    const more = all.length > kvs.length
    answer.end(
      write({
        header: { revision: '9' },
        ...(kvs.length > 0 && { kvs }),
        ...(more && { more }),
        count: String(all.length),
      }),
    )
  })
  // An etcd does not hang up between two questions, however long the one who asks takes.
  server.keepAliveTimeout = 0
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.closeAllConnections())
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const forward = (address: string, to: number) =>
    new Promise<Duplex>((resolve, reject) => {
      const socket = connect(to, address, () => resolve(socket)).on('error', reject)
    })
  const at = { tls: false, address: '127.0.0.1', port }
  return {
    session: { host: { name: 'm1' }, forward } as unknown as HostSession,
    access: { client: at, peer: at, identities: [], data: '/var/lib/etcd' },
    asked,
  }
}
