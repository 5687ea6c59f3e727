// All that lies in etcd below a prefix, page by page, through the gateway of the member on a host: bounded in bytes, whatever the sizes.
import type { Agent as HttpAgent } from 'node:http'
import type { Duplex } from 'node:stream'
import type { SecureContextOptions } from 'node:tls'
import { HostFailedError } from '../errors.ts'
import { firstOf } from '../kubernetes/components/etcd.ts'
import { type EtcdClientAccess, urlOf } from '../kubernetes/components/etcd-access.ts'
import { http, https, tls } from '../network-modules.ts'
import type { HostSession } from '../playbook/model.ts'
import { keepHeapSmall } from '../process/small-heap.ts'

/** A value of etcd. What it is read from is written over by the next page: it is for whoever counts, and not for whoever keeps. */
export interface EtcdValue {
  readonly key: string
  /** Bytes of the value. */
  readonly size: number
  head(bytes: number): Uint8Array
  all(): Uint8Array
}

/**
 * How much is asked for at a time. etcd bounds a page by its number of values only, and big ones lie together: it begins with few, goes on with
 * as many as made up the wanted bytes, and what comes to more than is kept is asked for again in smaller pieces.
 */
const usualBounds = { first: 16, most: 1_000, wanted: 2 ** 20, kept: 4 * 2 ** 20, within: 60_000 }

/** Bytes of answers from which on garbage is collected often: pieces of them, as they come through SSH and TLS. */
const muchRead = 4 * 2 ** 20

/** No answer with one value is as long as this, however etcd's `--max-request-bytes` is set. */
const longest = 64 * 2 ** 20

interface ReadOptions {
  readonly signal?: AbortSignal
  readonly bounds?: typeof usualBounds
  /** What the member has itself; where it is not so, what most members have agreed on: it waits until it has that. */
  readonly serializable?: boolean
}

/**
 * Reads all values below a prefix, in the order of their keys, from the member of etcd on a host: what it has itself, where nothing else is said, so
 * no quorum is needed, and not at one revision: the API server compacts every few minutes, and what is written meanwhile is written anew anyhow.
 * @throws HostFailedError where it does not answer, or has no gateway
 */
export async function* etcdValues(
  session: HostSession,
  access: EtcdClientAccess,
  prefix: string,
  { signal, bounds = usualBounds, serializable = true }: ReadOptions = {},
): AsyncGenerator<readonly EtcdValue[]> {
  const end = Buffer.from(prefix)
  end[end.length - 1]! += 1
  const gateway = await openGateway(session, access)
  let page = Buffer.allocUnsafe(bounds.kept)
  let from = Buffer.from(prefix)
  let limit = bounds.first
  let read = 0
  try {
    for (;;) {
      const asked = { key: from.toString('base64'), range_end: end.toString('base64'), limit, serializable }
      const length = await gateway.range(JSON.stringify(asked), page, { signal, within: bounds.within })
      if (length === undefined) {
        if (limit > 1) limit = Math.ceil(limit / 8)
        else if (page.length < longest) page = Buffer.allocUnsafe(page.length * 4)
        else throw tooLong(session.host.name)
        continue
      }
      if (read < muchRead && read + length >= muchRead) keepHeapSmall()
      read += length
      const { values, last, more } = pageOf(page.subarray(0, length), session.host.name)
      yield values
      if (!more || !last) return
      // The next key there can be after the last one.
      from = Buffer.concat([last, Buffer.alloc(1)])
      limit = Math.max(1, Math.min(bounds.most, limit * 4, Math.floor((limit * bounds.wanted) / length)))
    }
  } finally {
    gateway.close()
  }
}

const tooLong = (host: string) =>
  new HostFailedError(`a value in the etcd of ${host} is longer than ${longest} bytes`, { code: 'etcd.too-long', host })

/**
 * What is in an answer. Its JSON is looked through where it lies, and not parsed: of megabytes that nobody wants, no text is made. An object of
 * `kvs` holds none and no text but base64 and digits, so the next brace ends it.
 */
function pageOf(page: Buffer, host: string): { values: EtcdValue[]; last?: Buffer; more: boolean } {
  const values: EtcdValue[] = []
  let last: Buffer | undefined
  let at = page.indexOf('"kvs"')
  let open = at < 0 ? -1 : page.indexOf('{', at)
  for (; open >= 0; open = page[at] === comma ? page.indexOf('{', at) : -1) {
    const close = page.indexOf('}', open)
    const key = close < 0 ? undefined : memberOf(page, '"key"', open, close)
    if (!key)
      throw new HostFailedError(`etcd on ${host} answered a range with what is not JSON`, {
        code: 'etcd.not-json',
        host,
      })
    last = Buffer.from(page.toString('latin1', ...key), 'base64')
    values.push(valueIn(page, last, memberOf(page, '"value"', key[1], close) ?? [close, close]))
    at = close + 1
    while (isSpace(page[at])) at++
  }
  return { values, last, more: /"more"\s*:\s*true/.test(page.toString('latin1', Math.max(at, 0))) }
}

const comma = 0x2c
const isSpace = (byte: number | undefined) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

/** Where the text of a member begins and ends. */
function memberOf(page: Buffer, name: string, from: number, to: number): [number, number] | undefined {
  const found = page.indexOf(name, from)
  if (found < 0 || found >= to) return undefined
  const start = page.indexOf('"', found + name.length) + 1
  const end = page.indexOf('"', start)
  return start > 0 && end >= 0 && end < to ? [start, end] : undefined
}

function valueIn(page: Buffer, key: Buffer, [start, end]: [number, number]): EtcdValue {
  const padding = page[end - 2] === 0x3d ? 2 : page[end - 1] === 0x3d ? 1 : 0
  const upTo = (to: number) => Buffer.from(page.toString('latin1', start, to), 'base64')
  return {
    key: key.toString('utf8'),
    size: start === end ? 0 : ((end - start) / 4) * 3 - padding,
    // Four characters are three bytes.
    head: bytes => upTo(Math.min(end, start + Math.ceil(bytes / 3) * 4)),
    all: () => upTo(end),
  }
}

interface Gateway {
  /** Puts the answer into a buffer, and says how long it is; undefined where it is longer than that. */
  range(body: string, into: Buffer, options: { signal?: AbortSignal; within: number }): Promise<number | undefined>
  close(): void
}

async function openGateway(session: HostSession, access: EtcdClientAccess): Promise<Gateway> {
  const { client, ca, identities } = access
  const [secured, authority] = client.tls
    ? await Promise.all([firstOf(session, identities), ca === undefined ? undefined : session.files.readText(ca)])
    : []
  const agent = client.tls
    ? new (https().Agent)({ keepAlive: true, maxSockets: 1 })
    : new (http().Agent)({ keepAlive: true, maxSockets: 1 })
  agent.createConnection = ((_: unknown, done: (error: Error | null, stream?: Duplex) => void) => {
    session.forward(client.address, client.port).then(
      socket =>
        done(
          null,
          client.tls ? overTls(socket, { ...secured, ...(authority && { ca: authority }) }) : withSettings(socket),
        ),
      error => done(error),
    )
    return undefined
  }) as unknown as HttpAgent['createConnection']
  return {
    range: (body, into, { signal, within }) => post(session, access, agent, { body, into, signal, within }),
    close: () => agent.destroy(),
  }
}

/** Whose certificate it shows must be of the CA that its clients trust; for which address it is, layouts say differently. */
const overTls = (socket: Duplex, secured: SecureContextOptions) =>
  tls().connect({
    ...{ ...secured, socket, servername: 'localhost' },
    ...(secured.ca === undefined ? { rejectUnauthorized: false } : { checkServerIdentity: () => undefined }),
  })

/** A stream that takes what an agent sets at a socket between two requests: one through SSH has no such settings. */
function withSettings(stream: Duplex): Duplex {
  const lacking = ['setKeepAlive', 'setTimeout', 'setNoDelay', 'ref', 'unref'].filter(name => !(name in stream))
  return Object.assign(stream, Object.fromEntries(lacking.map(name => [name, () => stream])))
}

interface Ask {
  readonly body: string
  readonly into: Buffer
  readonly within: number
  readonly signal?: AbortSignal
}

function post(
  { host }: HostSession,
  { client }: EtcdClientAccess,
  agent: HttpAgent,
  { body, into, within, signal }: Ask,
): Promise<number | undefined> {
  signal?.throwIfAborted()
  const failed = (what: string, cause?: unknown, hint?: string) =>
    new HostFailedError(`etcd on ${host.name} at ${urlOf(client)} ${what}`, {
      code: 'etcd.no-range',
      host: host.name,
      cause,
      hint,
    })
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }
    const request = client.tls ? https().request : http().request
    const outgoing = request({ agent, method: 'POST', path: '/v3/kv/range', host: 'localhost', headers }, answer => {
      let length = 0
      answer.on('data', (chunk: Buffer) => {
        chunk.copy(into, length)
        length += chunk.length
        if (length <= into.length) return
        resolve(undefined)
        outgoing.destroy()
      })
      answer.on('error', error => reject(failed(`broke off: ${error.message}`, error)))
      answer.on('end', () => {
        if (answer.statusCode === 200) return resolve(length)
        const hint =
          answer.statusCode === 404
            ? 'Has it --enable-grpc-gateway=false? Values are read through its gateway.'
            : undefined
        reject(failed(`answered a range with ${answer.statusCode}`, undefined, hint))
      })
    })
    const timer = setTimeout(() => {
      reject(failed(`did not answer a range within ${within / 1_000} s`))
      outgoing.destroy()
    }, within)
    const abort = () => {
      reject(signal?.reason)
      outgoing.destroy()
    }
    signal?.addEventListener('abort', abort, { once: true })
    outgoing.on('error', error => reject(failed(`does not answer: ${error.message}`, error)))
    outgoing.on('close', () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    })
    outgoing.end(body)
  })
}
