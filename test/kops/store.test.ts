// One contract for every state store: of several who come at once one writes, and nobody removes what another one wrote. A bucket is that of a
// small server here; with REKEY_MOTO=/path/to/moto_server it is moto's, too.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, get } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { fileStore } from '../../lib/kops/store/file-store.ts'
import { lockCluster } from '../../lib/kops/store/lock.ts'
import { s3Store } from '../../lib/kops/store/s3-store.ts'
import type { StateStore } from '../../lib/kops/store/store.ts'
import { temporaryFolder } from '../_temporary.ts'

async function holds(t: ExecutionContext, store: StateStore): Promise<void> {
  t.is(await store.get('a/b'), undefined)
  const made = await Promise.all(['one', 'two', 'three'].map(text => store.create('a/b', text)))
  const [tag, ...others] = made.filter(one => one !== undefined)
  t.deepEqual(others, [])
  t.is((await store.get('a/b'))?.tag, tag)
  const next = await store.replace('a/b', 'four', tag!)
  t.is((await store.get('a/b'))?.text, 'four')
  t.is(await store.replace('a/b', 'five', tag!), undefined)
  t.false(await store.remove('a/b', tag!))
  t.is((await store.get('a/b'))?.tag, next)
  t.true(await store.remove('a/b', next!))
  t.is(await store.get('a/b'), undefined)
  t.is(await store.replace('a/b', 'six', next!), undefined)
  const asked = { cluster: 'c', take: false, notice: () => {} }
  const lock = await lockCluster(store, { ...asked, run: 'r' })
  await t.throwsAsync(lockCluster(store, { ...asked, run: 's' }), { message: /is locked in its state store by run r/ })
  await lock.release()
  await (await lockCluster(store, { ...asked, run: 's' })).release()
}

const environment = (port: number) => ({
  S3_ENDPOINT: `http://127.0.0.1:${port}`,
  ...{ S3_ACCESS_KEY_ID: 'made-up', S3_SECRET_ACCESS_KEY: 'made-up-too', S3_REGION: 'us-east-1' },
})

test('a folder', t => holds(t, fileStore(temporaryFolder('kops-store'))))

test('a bucket', async t => {
  const objects = new Map<string, Buffer>()
  const tagOf = (body: Buffer) => `"${createHash('md5').update(body).digest('hex')}"`
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    const key = new URL(request.url ?? '', 'http://x').pathname
    const there = objects.get(key)
    const end = (status: number, name?: string) => {
      response.writeHead(status, {
        'content-type': 'application/xml',
        ...(there ? { etag: tagOf(objects.get(key) ?? there) } : {}),
      })
      response.end(
        name ? `<?xml version="1.0"?><Error><Code>${name}</Code><Message>${name}</Message></Error>` : undefined,
      )
    }
    const { 'if-match': match, 'if-none-match': noneMatch } = request.headers
    if (key.startsWith('/denied/')) return end(403, 'AccessDenied')
    if (request.method === 'PUT') {
      if ((noneMatch === '*' && there) || (match && there && match !== tagOf(there)))
        return end(412, 'PreconditionFailed')
      if (match && !there) return end(404, 'NoSuchKey')
      objects.set(key, request.headers['content-encoding'] === 'aws-chunked' ? unchunked(body) : body)
      response.writeHead(200, { etag: tagOf(objects.get(key)!) })
      response.end()
    } else if (!there && request.method !== 'DELETE') end(404, 'NoSuchKey')
    else if (request.method === 'DELETE') {
      objects.delete(key)
      end(204)
    } else {
      response.writeHead(200, { etag: tagOf(there!), 'content-length': there!.length })
      response.end(request.method === 'HEAD' ? undefined : there)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.closeAllConnections())
  const { port } = server.address() as { port: number }
  await holds(t, s3Store('bucket', 'prefix', environment(port)))
  t.true([...objects.keys()].every(key => key.startsWith('/bucket/prefix/')))
  await t.throwsAsync(s3Store('denied', '', environment(port)).create('a', 'b'), {
    code: 'kops.state-store',
    message: /^s3:\/\/denied\/a: AccessDenied/,
  })
  await t.throwsAsync(s3Store('bucket', '', { ...environment(1) }).get('a'), { code: 'kops.state-store' })
  server.close()
})

/** The body of a request that comes in pieces with their lengths. */
function unchunked(body: Buffer): Buffer {
  const pieces: Buffer[] = []
  for (let at = 0; ; ) {
    const end = body.indexOf('\r\n', at)
    const length = Number.parseInt(body.subarray(at, end).toString('latin1'), 16)
    if (!(length > 0)) return Buffer.concat(pieces)
    pieces.push(body.subarray(end + 2, end + 2 + length))
    at = end + 2 + length + 2
  }
}

const moto = process.env['REKEY_MOTO']
if (moto) {
  test('a bucket of moto', async t => {
    const port = 20_000 + (process.pid % 20_000)
    const server = spawn(moto, ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' })
    t.teardown(() => server.kill())
    const url = `http://127.0.0.1:${port}`
    for (let tries = 0; tries < 100 && !(await answers(url)); tries++) await delay(200)
    t.is((await fetch(`${url}/kops-state`, { method: 'PUT' })).status, 200)
    await holds(t, s3Store('kops-state', '', environment(port)))
  })
}

const answers = (url: string) =>
  new Promise<boolean>(resolve => {
    get(url, response => {
      response.resume()
      resolve(true)
    }).on('error', () => resolve(false))
  })
