// What a ProxyCommand says beside the way that it is.
import { once } from 'node:events'
import test from 'ava'
import { proxyLine, startProxy } from '../../../lib/connection/ssh/proxy-command.ts'

const settings = {
  address: 'h1',
  port: 22,
  user: 'op',
  kind: 'ssh',
  hostKeyChecking: 'yes',
  connectTimeout: 5,
} as const

test.serial('what it prints on stderr is told in signs alone, and not for ever', async t => {
  const { write } = process.stderr
  let told = ''
  process.stderr.write = ((text: string) => {
    told += text
    return true
  }) as typeof write
  try {
    const banner = '\\033]52;c;cHduZWQ=\\007\\033[2Jwelcome\\r\\n'
    const { stream, end } = startProxy(
      settings,
      `sh -c 'printf "${banner}" >&2; yes x | head -c 1000000 >&2; echo through; cat'`,
    )
    let through = ''
    stream.setEncoding('utf8').on('data', (text: string) => {
      through += text
    })
    // It stays until its end is called for: what it said is here by then.
    while (!through.includes('\n')) await once(stream, 'data')
    end()
    t.is(through, 'through\n')
  } finally {
    process.stderr.write = write
  }
  t.regex(told, /^welcome\nx\n/)
  t.notRegex(told, /[\x00-\x09\x0b-\x1f\x7f-\x9f]|52;c/)
  t.true(told.length < 70_000, String(told.length))
})

test('an address or a user that a shell would run is refused, as OpenSSH refuses it', t => {
  const line = (more: object) => proxyLine({ ...settings, ...more }, 'nc %h %p; echo %r 100%%')
  t.is(line({}), 'nc h1 22; echo op 100%')
  t.is(line({ address: 'fe80::1%eth0', user: 'DOMAIN-x.y_z@corp' }), 'nc fe80::1%eth0 22; echo DOMAIN-x.y_z@corp 100%')
  for (const address of [
    '$(touch x)',
    'a`id`',
    'a;id',
    'a|id',
    'a&id',
    '-oProxyCommand=id',
    'a b',
    "a'b",
    'a\nid',
    'a\\b',
    ''.padEnd(3, '{'),
  ]) {
    t.throws(() => line({ address }), { code: 'connection.proxy-value', message: /%h in a ProxyCommand/ }, address)
    t.throws(() => line({ user: address }), { code: 'connection.proxy-value', message: /%r in a ProxyCommand/ })
  }
  // What is not asked for need not fit.
  t.is(proxyLine({ ...settings, user: '$(id)' }, 'nc %h %p'), 'nc h1 22')
})
