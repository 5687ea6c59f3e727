// What a ProxyCommand says beside the way that it is.
import { once } from 'node:events'
import test from 'ava'
import { startProxy } from '../../lib/connection/proxy-command.ts'

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
    const { stream } = startProxy(settings, `sh -c 'printf "${banner}" >&2; yes x | head -c 1000000 >&2; echo through'`)
    let through = ''
    stream.setEncoding('utf8').on('data', (text: string) => {
      through += text
    })
    await once(stream, 'end')
    t.is(through, 'through\n')
  } finally {
    process.stderr.write = write
  }
  t.regex(told, /^welcome\nx\n/)
  t.notRegex(told, /[\x00-\x09\x0b-\x1f\x7f-\x9f]|52;c/)
  t.true(told.length < 70_000, String(told.length))
})
