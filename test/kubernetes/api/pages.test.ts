// Lists of the API: in pages, each object once, with bounds for time and memory, whatever the API server does.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { HostFailedError } from '../../../lib/errors.ts'
import type { ApiError, KubernetesObject } from '../../../lib/kubernetes/api/api.ts'
import { later, type StandIn, startApiServer } from './_api-server.ts'

const secrets = (count: number, bytes = 100) => ({
  '/api/v1/secrets': {
    count,
    make: (index: number) => ({
      metadata: { namespace: `n${Math.floor(index / 40)}`, name: `s${index}` },
      data: { password: `${'x'.repeat(bytes)}${index}` },
    }),
  },
})

/** What an answer may take, in tests of what takes longer. */
const bounds = { request: 300, page: 1_500, bytes: 1_000_000 }

const list = '/api/v1/secrets'
const expected = (count: number) => Array.from({ length: count }, (_, index) => `s${index}`)

async function namesOf(all: AsyncIterable<KubernetesObject>): Promise<string[]> {
  const names: string[] = []
  for await (const { metadata } of all) names.push(metadata.name)
  return names
}

/** What a process with a heap of 28 MB comes to, and how many MB it grew by while it read. */
async function withLittleMemory({ port, ca }: StandIn, job: string): Promise<{ result: unknown; grownBy: number }> {
  const script = fileURLToPath(new URL('_memory.ts', import.meta.url))
  const args = ['--max-old-space-size=28', script, JSON.stringify({ port, ca, job })]
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 170_000 })
  return JSON.parse(stdout)
}

test.serial(
  '20,000 Secrets in 500 namespaces, 30 MB of them, are read in pages, each once, in little memory',
  async t => {
    const namespaces = {
      count: 500,
      make: (index: number) => ({ metadata: { name: `n${index}` }, status: { phase: 'Active' } }),
    }
    const server = await startApiServer({ ...secrets(20_000, 1_200), '/api/v1/namespaces': namespaces })
    t.teardown(server.close)
    const { result, grownBy } = await withLittleMemory(server, 'prove all')
    t.deepEqual(result, [20_000, 0, 500, 500])
    t.log(`it grew by ${Math.round(grownBy)} MB`)
    t.true(grownBy < 120)
    // Noted, compared, searched, grouped.
    t.is(server.asked.filter(one => one.includes(list)).length, (4 * 20_000) / 250)
    await t.throwsAsync(withLittleMemory(server, 'hold all'), { message: /heap out of memory/ })
  },
)

test.serial('a short list comes whole, one that is empty as well', async t => {
  const server = await startApiServer(secrets(3))
  t.teardown(server.close)
  t.deepEqual(await namesOf(server.api.each(list)), expected(3))
  t.deepEqual(await server.api.list('/api/v1/nodes'), [])
  server.put('/api/v1/nodes', { metadata: { name: 'm1' } })
  t.is((await server.api.list('/api/v1/nodes?labelSelector=a%3Db'))[0]?.metadata.name, 'm1')
})

test.serial('where the API server has forgotten the list it begins again, and gives nothing twice', async t => {
  const server = await startApiServer(secrets(900))
  t.teardown(server.close)
  const names: string[] = []
  for await (const { metadata } of server.api.each(list)) {
    names.push(metadata.name)
    if (names.length === 300 || names.length === 600) server.forget()
  }
  t.deepEqual(names, expected(900))
  t.is(server.asked.length, 3 + 4 + 4)
})

test.serial('a list that is forgotten again and again is an error in the end', async t => {
  const server = await startApiServer(secrets(500))
  t.teardown(server.close)
  server.instead = request => {
    if (request.includes('continue')) server.forget()
    return false
  }
  const error = await t.throwsAsync<HostFailedError>(namesOf(server.api.each(list)))
  t.is(error.code, 'api.list-expired')
  t.regex(error.message, /^\/api\/v1\/secrets was begun 5 times/)
})

test.serial('a page that is too long is asked for again with fewer objects, and nothing of it is lost', async t => {
  const server = await startApiServer(secrets(40, 30_000), { ...bounds, request: 10_000, page: 10_000 })
  t.teardown(server.close)
  t.deepEqual(await namesOf(server.api.each(list)), expected(40))
  t.deepEqual(
    server.asked.map(one => /limit=(\d+)/.exec(one)?.[1]),
    ['250', '50', '10', '10', '10', '10'],
  )
})

test.serial('an API server that has too much to do is asked again when it says, and not for ever', async t => {
  const server = await startApiServer(secrets(300))
  t.teardown(server.close)
  let refusals = 0
  server.instead = (_, response) => {
    if (refusals++ % 3 === 2) return false
    response.writeHead(429, { 'retry-after': '0' }).end('{"message":"too many requests"}')
    return true
  }
  t.deepEqual(await namesOf(server.api.each(list)), expected(300))
  t.is(refusals, 6)
  server.instead = (_, response) => {
    refusals++
    response.writeHead(429, { 'retry-after': '0' }).end('{"message":"too many requests"}')
    return true
  }
  const error = await t.throwsAsync<ApiError>(namesOf(server.api.each(list)))
  t.is(error.message, 'page 1 of /api/v1/secrets: 429 too many requests')
  t.is(refusals, 12)
})

test.serial('an error of the API server in the middle says of which page it is', async t => {
  const server = await startApiServer(secrets(600))
  t.teardown(server.close)
  server.instead = (request, response) => {
    if (!request.includes('continue')) return false
    response.writeHead(500).end('{"message":"unable to transform key \\"/registry/secrets/a/b\\""}')
    return true
  }
  const error = await t.throwsAsync<ApiError>(namesOf(server.api.each(list)))
  t.is(error.message, 'page 2 of /api/v1/secrets: 500 unable to transform key "/registry/secrets/a/b"')
  t.is(error.status, 500)
})

test.serial('an answer that never ends, drop by drop, ends in time with the name of what was waited for', async t => {
  const server = await startApiServer(secrets(600), bounds)
  t.teardown(server.close)
  server.instead = async (request, response) => {
    if (request.includes('limit') && !request.includes('continue')) return false
    for (let drops = 0; drops < 200 && !response.destroyed; drops++) {
      response.write(' ')
      await later(20)
    }
    return true
  }
  const error = await t.throwsAsync<HostFailedError>(namesOf(server.api.each(`${list}?fieldSelector=a%3Db`)))
  t.is(error.code, 'api.no-answer')
  t.is(error.message, 'waited 1.5 s for page 2 of /api/v1/secrets?fieldSelector=a=b')
  await t.throwsAsync(server.api.get('/version'), { message: 'waited 0.3 s for GET /version' })
})

test.serial('an answer that never ends, in floods, is cut off', async t => {
  const server = await startApiServer({}, { ...bounds, request: 10_000 })
  t.teardown(server.close)
  const flood = Buffer.alloc(1_000_000, ' ')
  server.instead = (_, response) => {
    const more = () => {
      if (!response.destroyed && response.write(flood)) setImmediate(more)
    }
    response.on('drain', more)
    more()
    return true
  }
  await t.throwsAsync(server.api.get('/version'), { message: 'GET /version: the answer is longer than 1000000 bytes' })
})

test.serial('a server that hangs up in the middle of an answer, or answers what is no JSON, is an error', async t => {
  const server = await startApiServer()
  t.teardown(server.close)
  server.instead = (_, response) => {
    response.writeHead(200, { 'content-length': 100 })
    response.write('{"items":[')
    setTimeout(() => response.destroy(), 10)
    return true
  }
  await t.throwsAsync(server.api.get('/version'), { instanceOf: HostFailedError, message: /^GET \/version: / })
  server.instead = (_, response) => response.end('<html>') !== undefined
  await t.throwsAsync(server.api.get('/version'), { message: 'GET /version: the answer is not JSON' })
})

test.serial('whoever is interrupted waits for no page', async t => {
  const server = await startApiServer(secrets(600))
  t.teardown(server.close)
  const ending = new AbortController()
  server.instead = () => {
    ending.abort(new Error('interrupted'))
    return true
  }
  await t.throwsAsync(namesOf(server.api.each(list, { signal: ending.signal })), { message: 'interrupted' })
  await t.throwsAsync(namesOf(server.api.each(list, { signal: ending.signal })), { message: 'interrupted' })
  t.is(server.asked.length, 1)
})
