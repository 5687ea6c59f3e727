// What the Vault client makes of answers that go wrong on the way: each one message, and no secret in any of them.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { durationSeconds } from '../../../lib/pki/vault/duration.ts'
import { policyText } from '../../../lib/pki/vault/policy.ts'
import { vaultSecrets } from '../../../lib/pki/vault/secrets.ts'
import { connectVault, readToken } from '../../../lib/pki/vault/vault.ts'
import { issue } from '../certificates/_certificates.ts'

const token = 'the-token-of-this-test'
const folder = mkdtempSync(join(tmpdir(), 'rekey-vault-client-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void

/** A server on loopback that answers as told, and a client for it. Both end with the test. */
async function talkTo(t: { teardown: (end: () => void) => void }, handler: Handler, more = {}) {
  const server = http.createServer((request, response) => {
    let body = ''
    request.on('data', chunk => (body += chunk))
    request.on('end', () => handler(request, response, body))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  const vault = await connectVault({ address, token, backoff: [20], ...more })
  t.teardown(() => {
    vault.close()
    server.closeAllConnections()
    server.close()
  })
  return { vault, address }
}

const answer = (status: number, body: unknown): Handler => {
  return (_, response) => response.writeHead(status).end(typeof body === 'string' ? body : JSON.stringify(body))
}

async function failure(work: Promise<unknown>): Promise<RekeyError> {
  const error = await work.then(
    () => undefined,
    (error: RekeyError) => error,
  )
  if (!error) throw new Error('nothing was refused')
  const told = `${error.message} ${error.hint} ${JSON.stringify(error)} ${error.cause}`
  if (told.includes(token) || told.includes('secret value')) throw new Error('a secret was told')
  return error
}

test.serial('a Vault that nobody runs is unreachable', async t => {
  const { vault, address } = await talkTo(t, answer(200, {}))
  vault.close()
  const nobody = await connectVault({ address: 'http://127.0.0.1:1', token, retries: 0 })
  const error = await failure(nobody.health())
  t.is(error.code, 'vault.unreachable')
  t.is(error.message, 'Vault at http://127.0.0.1:1 is unreachable (ECONNREFUSED), asked for GET sys/health')
  t.truthy(address)
})

test.serial('an answer that does not come is given up after the time-out, with what was asked', async t => {
  const { vault, address } = await talkTo(t, () => undefined, { timeout: 100 })
  const error = await failure(vault.write('pki/issue/web', { common_name: 'secret value' }))
  t.is(error.code, 'vault.timeout')
  t.is(error.message, `Vault at ${address} did not answer POST pki/issue/web within 0.1 s`)
})

test.serial('a time-out also ends an answer that trickles', async t => {
  const { vault } = await talkTo(
    t,
    (_, response) => {
      response.writeHead(200)
      const trickle = setInterval(() => response.write(' '), 20)
      response.on('close', () => clearInterval(trickle))
    },
    { timeout: 150 },
  )
  t.is((await failure(vault.read('a'))).code, 'vault.timeout')
})

test.serial('an answer cut short is no answer', async t => {
  const { vault } = await talkTo(t, (_, response) => {
    response.writeHead(200, { 'Content-Length': '500' })
    response.write('{"data":{"private_key":"secret value')
    setTimeout(() => response.destroy(), 20)
  })
  const error = await failure(vault.write('pki/issue/web', {}))
  t.is(error.code, 'vault.cut-short')
  t.regex(error.message, /the answer to POST pki\/issue\/web was cut short/)
})

test.serial('an answer that ends early in well-formed length but not in JSON is not quoted', async t => {
  const { vault } = await talkTo(t, answer(200, '{"data":{"private_key":"secret value'))
  t.is((await failure(vault.write('pki/issue/web', {}))).code, 'vault.bad-response')
})

test.serial('a redirect is not followed with the token in hand', async t => {
  const seen: (string | undefined)[] = []
  const other = await talkTo(t, (request, response) => {
    seen.push(request.headers['x-vault-token'] as string | undefined)
    response.end('{}')
  })
  const { vault, address } = await talkTo(t, (_, response) =>
    response.writeHead(307, { Location: `${other.address}/v1/sys/mounts` }).end(),
  )
  const error = await failure(vault.read('sys/mounts'))
  t.is(error.code, 'vault.redirected')
  t.is(error.message, `Vault at ${address} redirects to ${other.address}, and the token is not sent there`)
  t.deepEqual(seen, [])
})

test.serial('sealed, standby and uninitialised are told apart', async t => {
  const health = { initialized: true, sealed: false, standby: false, version: '1.21.0', server_time_utc: 1 }
  const states = [
    [503, { ...health, sealed: true }, 'vault.sealed'],
    [429, { ...health, standby: true }, 'vault.standby'],
    [501, { ...health, initialized: false, sealed: true }, 'vault.not-initialised'],
    [200, { hello: 'I am no Vault' }, 'vault.bad-response'],
  ] as const
  for (const [status, body, code] of states) {
    const { vault } = await talkTo(t, answer(status, body))
    t.is((await failure(vault.requireUnsealed())).code, code)
  }
  const { vault } = await talkTo(t, answer(503, { errors: ['Vault is sealed'] }))
  t.is((await failure(vault.read('a'))).code, 'vault.sealed')
  const alone = 'local node not active but active cluster node not found'
  let times = 0
  const count: Handler = (...request) => {
    times++
    answer(500, { errors: [alone] })(...request)
  }
  const waiting = await talkTo(t, count, { retries: 1 })
  t.is((await failure(waiting.vault.write('auth/token/create'))).code, 'vault.standby')
  t.is(times, 2)
})

test.serial('a request that Vault turned away is made again, unless that could leave something twice', async t => {
  const counts = new Map<string, number>()
  const { vault } = await talkTo(t, (request, response) => {
    const path = request.url!.replace('/v1/', '')
    const count = (counts.get(path) ?? 0) + 1
    counts.set(path, count)
    const status = Number(/\d{3}/.exec(path)?.[0])
    response.writeHead(count > 1 ? 200 : status).end(JSON.stringify({ data: { ok: true }, errors: ['try later'] }))
  })
  for (const status of [412, 429, 500, 502, 503, 504]) t.true((await vault.read(`read-${status}`))?.data['ok'])
  for (const status of [412, 429, 500, 503]) t.true((await vault.write(`pki/issue/web-${status}`)).data['ok'])
  t.true((await vault.write('auth/token/create-429')).data['ok'])
  const twice = 'pki/issuers/generate/root/502'
  t.is((await failure(vault.write(twice))).message, `Vault refused POST ${twice} (status 502): try later`)
  t.is((await failure(vault.write('auth/token/create-502'))).code, 'vault.refused')
  t.is((await failure(vault.read('read-501'))).code, 'vault.refused')
  t.deepEqual([...counts.values()], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1])
})

test.serial(
  'a request whose connection ended without an answer is made again, unless that could leave something twice',
  async t => {
    const counts = new Map<string, number>()
    const { vault } = await talkTo(t, (request, response) => {
      const count = (counts.get(request.url!) ?? 0) + 1
      counts.set(request.url!, count)
      if (count === 1) response.destroy()
      else response.end('{"data":{"ok":true}}')
    })
    t.true((await vault.write('pki/issue/web')).data['ok'])
    t.true((await vault.read('secret/app'))?.data['ok'])
    t.is((await failure(vault.write('pki/issuers/generate/root/internal'))).code, 'vault.unreachable')
    t.is((await failure(vault.write('auth/token/create'))).code, 'vault.unreachable')
  },
)

test.serial('a Vault that comes back is asked again, whatever was asked: a refused connection did nothing', async t => {
  const server = http.createServer((_, response) => response.end('{"data":{"ok":true}}'))
  const listen = (port: number) => new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
  await listen(0)
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  const vault = await connectVault({ address: `http://127.0.0.1:${port}`, token, retries: 200, backoff: [50] })
  t.teardown(() => {
    vault.close()
    server.closeAllConnections()
    server.close()
  })
  const asked = vault.write('auth/token/create')
  setTimeout(() => listen(port), 200)
  t.true((await asked).data['ok'])
})

test.serial('a request is given up after the tries that were asked for, and at once where Vault is sealed', async t => {
  let count = 0
  const busy = await talkTo(
    t,
    (_, response) => {
      count++
      response.writeHead(502).end('{}')
    },
    { retries: 2 },
  )
  t.is((await failure(busy.vault.read('a'))).code, 'vault.refused')
  t.is(count, 3)
  const closed = await talkTo(
    t,
    (_, response) => {
      count++
      response.writeHead(503).end('{"errors":["Vault is sealed"]}')
    },
    { retries: 2 },
  )
  t.is((await failure(closed.vault.read('a'))).code, 'vault.sealed')
  t.is(count, 4)
})

test.serial('what is asked at once goes to Vault a few at a time, and waiting for a turn is no time-out', async t => {
  const held: http.ServerResponse[] = []
  let most = 0
  const { vault } = await talkTo(
    t,
    (_, response) => {
      most = Math.max(most, held.push(response))
      // Once there are so many, no other comes for a while.
      if (held.length === 16) setTimeout(() => held.splice(0).forEach(one => void one.end('{"data":{}}')), 60)
    },
    { timeout: 5000 },
  )
  await Promise.all(Array.from({ length: 96 }, (_, index) => vault.read(`path-${index}`)))
  t.is(most, 16)
})

test.serial('a signal ends a request, and a wait between two tries', async t => {
  const stop = new AbortController()
  const { vault } = await talkTo(t, answer(429, { errors: ['rate limit'] }), { signal: stop.signal, backoff: [60_000] })
  setTimeout(() => stop.abort(new Error('Ctrl-C')), 50)
  const started = Date.now()
  await t.throwsAsync(vault.read('a'))
  t.true(Date.now() - started < 30_000)
})

test.serial("the environment's VAULT_TOKEN, VAULT_NAMESPACE and VAULT_PREFIX don't slip in", async t => {
  const before = { ...process.env }
  Object.assign(process.env, { VAULT_TOKEN: 'stray', VAULT_NAMESPACE: 'stray', VAULT_PREFIX: '/stray' })
  t.teardown(() => {
    process.env = before
  })
  const seen: [string | undefined, unknown, unknown][] = []
  const { vault } = await talkTo(t, (request, response) => {
    seen.push([request.url, request.headers['x-vault-token'], request.headers['x-vault-namespace']])
    response.end('{"data":{}}')
  })
  await vault.read('a b/c')
  t.deepEqual(seen, [['/v1/a%20b/c', token, undefined]])
})

test.serial('the namespace goes with every request', async t => {
  const seen: unknown[] = []
  const { vault } = await talkTo(
    t,
    (request, response) => {
      seen.push(request.headers['x-vault-namespace'])
      response.end('{"data":{}}')
    },
    { namespace: 'team/one' },
  )
  await vault.read('a')
  await vault.withToken('another').write('b')
  t.deepEqual(seen, ['team/one', 'team/one'])
})

test.serial('a key-value engine in a namespace is told with the namespace before its mount', async t => {
  const asked: string[] = []
  const vault = {
    read: async (path: string) => {
      asked.push(path)
      const told = { path: 'team/one/kv/', options: { version: '2' } }
      return path.startsWith('sys/') ? { data: told } : { data: {} }
    },
    write: async () => ({ data: {} }),
  }
  await vaultSecrets(vault)('kv/app')
  t.is(asked.at(-1), 'kv/data/app')
})

test.serial('the policy line for a version of a secret has the path alone', async t => {
  const { vault } = await talkTo(t, answer(403, { errors: ['permission denied'] }))
  const error = await failure(vault.read('kv/data/app?version=1'))
  t.is(error.message, 'Vault: permission denied for read on kv/data/app')
  t.is(error.hint, `Add to the token's policy: path "kv/data/app" { capabilities = ["read"] }`)
})

test.serial('the policy line for what is written has create too where that may be what is missing', async t => {
  const { vault } = await talkTo(t, answer(403, { errors: ['permission denied'] }))
  const lines = { 'kv/data/app': 'create", "update', 'pki/issue/web': 'update', 'auth/token/create': 'update' }
  for (const [path, capabilities] of Object.entries(lines)) {
    const error = await failure(vault.write(path, { a: 'b' }))
    t.is(error.message, `Vault: permission denied for update on ${path}`)
    t.is(error.hint, `Add to the token's policy: path "${path}" { capabilities = ["${capabilities}"] }`)
  }
})

test.serial('plain http goes to loopback only, and an address must be one', async t => {
  await t.throwsAsync(connectVault({ address: 'http://vault.example.org:8200', token }), {
    message: /would get the token in clear text/,
  })
  await t.throwsAsync(connectVault({ address: 'vault:8200', token }), { message: /is not the address of a Vault/ })
})

test.serial('files that are missing or hold something else are named', async t => {
  const file = join(folder, 'token')
  t.throws(() => readToken(file), { message: `${file}: can't read the Vault token (ENOENT)` })
  t.throws(() => readToken(undefined), { code: 'vault.no-token' })
  writeFileSync(file, '\n')
  t.throws(() => readToken(file), { message: `${file}: does not hold one Vault token and nothing else` })
  writeFileSync(file, `${token}\n`)
  t.is(readToken(file), token)
  await t.throwsAsync(connectVault({ address: 'https://127.0.0.1:1', token, caFile: file }), {
    message: `${file}: no certificate in it (no complete PEM block)`,
  })
})

test.serial('durations are read as Vault writes them', t => {
  t.deepEqual(
    ['90', '90s', '30m', '1h30m', '1.5h', '500ms', '2d', '43800h'].map(durationSeconds),
    [90, 90, 1800, 5400, 5400, 1, 172_800, 157_680_000],
  )
  for (const bad of ['', 'h', '1w', '1.h', '-1h']) t.throws(() => durationSeconds(bad), { code: 'vault.bad-duration' })
})

test.serial('a policy is written in the HCL that Vault takes', t => {
  t.is(
    policyText([
      { path: 'pki_k8s/issue/kubernetes', capabilities: ['update'] },
      { path: 'sys/mounts', capabilities: ['read', 'list'] },
    ]),
    'path "pki_k8s/issue/kubernetes" { capabilities = ["update"] }\npath "sys/mounts" { capabilities = ["read", "list"] }',
  )
})

test.serial('a template gets no empty certificate, and none that holds shorter than it asked', async t => {
  const { pem } = await issue({ name: 'CN=short' })
  const source = (data: Record<string, unknown>) =>
    vaultSecrets({ read: async () => ({ data }), write: async () => ({ data, warnings: ['cut', 'cut', 'late'] }) })
  t.is((await source({ certificate: pem })('pki/issue/web', { ttl: '50m' }))?.data['certificate'], pem)
  const short = await failure(source({ certificate: pem })('pki/issue/web', { ttl: '2h' }))
  t.regex(short.message, /shorter than the ttl of 2h that was asked\. It says: cut late$/)
  const empty = await failure(source({ certificate: '' })('pki/cert/ca'))
  t.is(empty.message, 'the answer of pki/cert/ca has an empty certificate')
})
