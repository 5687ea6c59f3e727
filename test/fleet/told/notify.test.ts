// Whoever is named by `notify` of fleet.yml: what they get, by a server on loopback and a sendmail of the test's own, and what is refused.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import test from 'ava'
import { readFleet } from '../../../lib/fleet/definition/fleet-file.ts'
import { type Message, messageFor } from '../../../lib/fleet/notify/message.ts'
import { openSenders } from '../../../lib/fleet/notify/senders.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { fleetFile } from '../_fleet-file.ts'

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const message: Message = messageFor(
  { id: '20261130-production-abcd', name: 'production', playbook: 'rotate-keysets' },
  {
    id: 17,
    at: Date.UTC(2026, 10, 30, 12),
    kind: 'failed',
    cluster: 'paris-1',
    worker: 'w1',
    text: 'paris-1: failed: <x> & it says “no”\nand more',
  },
)

interface Got {
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** A server that answers with what it is told to, and keeps what it got. */
async function server(
  status = 200,
  headers: Record<string, string> = {},
): Promise<{ address: string; got: Got[]; close(): void }> {
  const got: Got[] = []
  const served = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text: string) => (body += text))
    request.on('end', () => {
      got.push({ url: request.url ?? '', headers: request.headers, body })
      response.writeHead(status, headers).end('whatever')
    })
  }).listen(0, '127.0.0.1')
  await once(served, 'listening')
  return { address: `http://127.0.0.1:${(served.address() as AddressInfo).port}`, got, close: () => served.close() }
}

/** A fleet.yml with that as its `notify`, and files beside it that only this user may read. */
function withNotify(notify: string, files: Readonly<Record<string, string>> = {}): string {
  const file = fleetFile(
    `name: f\nclusters:\n  a: { inventory: inventory/one }\nwaves: [{ name: all }]\nnotify:\n${notify}\n`,
  )
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dirname(file), name), text, { mode: 0o600 })
  return file
}
const sendersOf = (notify: string, files?: Readonly<Record<string, string>>) =>
  openSenders(readFleet(withNotify(notify, files)))

test('a webhook is signed: openssl finds the same signature, over id, time and body', async t => {
  const { address, got, close } = await server(204)
  t.teardown(close)
  const [sender] = sendersOf(`  - webhook: { url: "${address}/hook?a=b", secret_file: hook }`, { hook: `${secret}\n` })
  await sender!.send(message)
  const [{ url, headers, body }] = got as [Got]
  t.is(url, '/hook?a=b')
  t.is(headers['webhook-id'], '20261130-production-abcd-17')
  t.true(Math.abs(Number(headers['webhook-timestamp']) - Date.now() / 1_000) < 300)
  const file = join(temporaryFolder('signed'), 'signed')
  writeFileSync(file, `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`)
  const key = Buffer.alloc(32, 7).toString('hex')
  const digest = execFileSync('openssl', [
    'dgst',
    '-sha256',
    '-mac',
    'HMAC',
    '-macopt',
    `hexkey:${key}`,
    '-binary',
    file,
  ])
  t.is(headers['webhook-signature'], `v1,${digest.toString('base64')}`)
  t.deepEqual(JSON.parse(body), {
    ...{ type: 'rekey.fleet.failed', timestamp: '2026-11-30T12:00:00.000Z' },
    data: {
      ...{ fleet: 'production', fleet_id: '20261130-production-abcd', playbook: 'rotate-keysets', kind: 'failed' },
      ...{ cluster: 'paris-1', worker: 'w1', text: 'paris-1: failed: <x> & it says “no” and more' },
    },
  })
})

test('Slack gets a text in which nothing is a link or a name', async t => {
  const { address, got, close } = await server()
  t.teardown(close)
  const [sender] = sendersOf('  - slack: { url_file: slack }', {
    slack: `${address}/services/T0/B0/very-secret-path\n`,
  })
  t.is(sender?.title, 'slack of slack')
  await sender!.send(message)
  t.is(got[0]?.url, '/services/T0/B0/very-secret-path')
  t.deepEqual(JSON.parse(got[0]!.body), {
    text: 'Fleet production: paris-1: failed: &lt;x&gt; &amp; it says “no” and more',
  })
})

test('what is not taken says so by the host alone: statuses, redirects, nobody there', async t => {
  const elsewhere = await server()
  t.teardown(elsewhere.close)
  const moved = await server(302, { location: `${elsewhere.address}/here` })
  t.teardown(moved.close)
  const full = await server(503)
  t.teardown(full.close)
  const failing = async (address: string) => {
    const [sender] = sendersOf('  - slack: { url_file: slack }', { slack: `${address}/very-secret-path` })
    const error = await t.throwsAsync(sender!.send(message))
    t.false(error.message.includes('very-secret-path'), error.message)
    return error.message
  }
  t.regex(await failing(full.address), /^127\.0\.0\.1:\d+ answers 503$/)
  t.regex(await failing(moved.address), /answers 302, and no redirect is followed$/)
  t.is(elsewhere.got.length, 0)
  full.close()
  t.regex(await failing(full.address), /ECONNREFUSED/)
})

test.serial('a proxy’s address that can not be read is not told: there may be a password in it', async t => {
  const before = process.env['HTTPS_PROXY']
  process.env['HTTPS_PROXY'] = 'http://svc:Pa#ssw0rd@proxy.example.com:3128'
  t.teardown(() => {
    if (before === undefined) delete process.env['HTTPS_PROXY']
    else process.env['HTTPS_PROXY'] = before
  })
  const [sender] = sendersOf('  - slack: { url_file: slack }', { slack: 'https://hooks.example.com/secret' })
  const error = await t.throwsAsync(sender!.send(message))
  t.is(error.message, 'HTTPS_PROXY or HTTP_PROXY is not the address of a proxy')
})

test.serial('mail goes to sendmail, with nothing of an event in its head that is more than a subject', async t => {
  const folder = temporaryFolder('sendmail')
  writeFileSync(
    join(folder, 'sendmail'),
    `#!/bin/sh\necho "$@" >${folder}/words\ncat >${folder}/mail\nenv >${folder}/env\ntest ! -e ${folder}/fails || { echo 'no relay' >&2; exit 75; }\n`,
  )
  chmodSync(join(folder, 'sendmail'), 0o755)
  const path = process.env['PATH']
  process.env['PATH'] = `${folder}:${path}`
  process.env['PGPASSWORD'] = 'of-the-store'
  t.teardown(() => {
    process.env['PATH'] = path
    delete process.env['PGPASSWORD']
  })
  const [sender] = sendersOf('  - mail: { to: [ops@example.com, night@example.com], from: rekey@example.com }')
  await sender!.send({ ...message, event: { ...message.event, text: 'paris-1: failed: “no”\r\nBcc: all@example.com' } })
  t.is(readFileSync(join(folder, 'words'), 'utf8'), '-t -i\n')
  const [head = '', body = ''] = readFileSync(join(folder, 'mail'), 'utf8').split('\n\n')
  t.regex(head, /^From: rekey@example\.com\nTo: ops@example\.com, night@example\.com\nSubject: =\?UTF-8\?B\?/)
  t.notRegex(head, /^Bcc/m)
  for (const line of head.split('\n')) t.true(line.length < 78 || line.startsWith('Message-ID'), line)
  const text = Buffer.from(body, 'base64').toString('utf8')
  t.regex(text, /^paris-1: failed: “no”/)
  t.regex(text, /^Cluster: paris-1$/m)
  t.notRegex(readFileSync(join(folder, 'env'), 'utf8'), /of-the-store/)
  writeFileSync(join(folder, 'fails'), '')
  const error = await t.throwsAsync(sender!.send(message))
  t.is(error.message, 'sendmail did not take the mail: no relay')
})

const wrong: Readonly<Record<string, readonly [notify: string, error: RegExp]>> = {
  'no way': ['  - on: [halted]', /fleet\.yml:6: notify\.0: each has one of webhook, slack and mail$/],
  'two ways': [
    '  - slack: { url_file: a }\n    mail: { to: a@b.c, from: a@b.c }',
    /fleet\.yml:6: notify\.0: each has one/,
  ],
  'plain http': [
    '  - webhook:\n      url: http://example.com/\n      secret_file: a',
    /fleet\.yml:7: notify\.0\.webhook\.url: plain http goes to loopback only$/,
  ],
  'a password in an address': [
    '  - webhook: { url: "https://me:hidden@example.com/", secret_file: a }',
    /a name and a password in it would be seen by everybody$/,
  ],
  'an option as an address': [
    '  - mail: { to: -oQ/tmp@example.com, from: a@b.c }',
    /is no address such as ops@example\.com$/,
  ],
  'a second header': ['  - mail: { to: "a@b.c\\nBcc: d@e.f", from: a@b.c }', /is no address such as ops@example\.com$/],
  'an event that there is not': ['  - { slack: { url_file: a }, on: [halt] }', /fleet\.yml:6: notify\.0\.on\.0: /],
  'a word that means nothing': [
    '  - { slack: { url_file: a }, onn: [halted] }',
    /fleet\.yml:6: 'onn' means nothing here.*\bon\b/,
  ],
}
for (const [name, [notify, error]] of Object.entries(wrong))
  test(`refused with its line: ${name}`, t => {
    const thrown = t.throws(() => readFleet(withNotify(notify)))
    t.regex(thrown.message, error)
    t.false(thrown.message.includes('hidden'))
  })

test('secrets that others may read, that are none, or that are not there are refused before anything is begun', t => {
  const hook = '  - webhook: { url: "https://example.com/", secret_file: hook }'
  t.regex(t.throws(() => sendersOf(hook)).message, /hook, the secret of a webhook, can't be read \(ENOENT\)$/)
  t.regex(t.throws(() => sendersOf(hook, { hook: 'whsec_c2hvcnQ=' })).message, /holds no secret of a webhook/)
  t.regex(t.throws(() => sendersOf(hook, { hook: 'plain' })).message, /holds no secret of a webhook/)
  const file = withNotify(hook, { hook: secret })
  chmodSync(join(dirname(file), 'hook'), 0o640)
  t.regex(
    t.throws(() => openSenders(readFleet(file))).message,
    /is the secret of a webhook, and others may read or write it$/,
  )
  const slack = t.throws(() => sendersOf('  - slack: { url_file: slack }', { slack: 'http://example.com/hidden' }))
  t.regex(slack.message, /holds no address of a webhook of Slack: plain http goes to loopback only$/)
  t.false(slack.message.includes('hidden'))
})
