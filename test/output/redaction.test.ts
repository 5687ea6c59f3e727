// What is replaced of a text: values that somebody told of, however they are written, and what looks like a secret.
import test from 'ava'
import fc from 'fast-check'
import { secret } from '../../lib/connection/shell.ts'
import { redactor } from '../../lib/output/redaction.ts'
import { openSecrets } from '../../lib/secrets/index.ts'
import { tries } from '../_fuzz.ts'

const mark = '«redacted»'
const knowing = (...values: string[]) => {
  const secrets = openSecrets()
  for (const value of values) secrets.tell(value)
  return Object.assign(redactor(secrets), { tell: secrets.tell })
}
const base64 = (text: string) => Buffer.from(text).toString('base64')

for (const [title, others] of [
  ['few', 0],
  ['many', 5000],
] as const) {
  test.serial(`among ${title} values every one that occurs is replaced, the longest first`, t => {
    const redact = knowing(...Array.from({ length: others }, (_, index) => `never-said-${index}-of-them`))
    for (const one of ['password', 'password-of-the-vault', `${'line'.repeat(3)}\nsecond-line`]) redact.tell(one)
    t.is(redact.text('a password-of-the-vault, a password'), 'a «redacted», a «redacted»')
    t.is(redact.text('second-line'), mark)
    t.is(redact.text('prefixpasswordsuffix'), 'prefix«redacted»suffix')
    t.is(redact.text('passwor'), 'passwor')
    t.is(redact.text(`key: ${base64('password-of-the-vault')}.`), 'key: «redacted».')
    // Known from now on, also after texts were looked at.
    t.is(redact.text('told-only-later'), 'told-only-later')
    redact.tell('told-only-later')
    t.is(redact.text('told-only-later'), mark)
    t.is(redact.marked('x password y'), `x ${redact.fingerprint('password')} y`)
  })
}

const odd = 'aX9!"\\ secret/+value=Zz%20é'
const xml = odd.replaceAll('"', '&quot;').replaceAll('+', '&#43;').replaceAll('/', '&#x2f;')
const inBytes = (write: (byte: number) => string) =>
  Buffer.from(odd).reduce(
    (text, byte) => text + (byte > 126 || byte === 92 ? write(byte) : String.fromCharCode(byte)),
    '',
  )
const form = encodeURIComponent(odd).replaceAll('%20', '+').replaceAll('!', '%21')
const ways: Readonly<Record<string, string>> = {
  'as it is': odd,
  'in JSON': JSON.stringify(odd).slice(1, -1),
  'in JSON in JSON': JSON.stringify(JSON.stringify(odd)).slice(3, -3),
  "in Go's JSON": JSON.stringify(odd).slice(1, -1).replaceAll('+', '\\u002b').replaceAll('/', '\\/'),
  'in an address': encodeURIComponent(odd),
  'in an address, small letters': encodeURIComponent(odd).replaceAll(/%../g, found => found.toLowerCase()),
  'in an address in an address': encodeURIComponent(encodeURIComponent(odd)),
  'in a form': form,
  'in base64': base64(odd),
  'in base64 with a newline': base64(`${odd}\n`),
  'in base64 for addresses': Buffer.from(odd).toString('base64url'),
  'in base64 behind a name': base64(`user:${odd}`),
  'in base64 behind a shorter name': base64(`me:${odd}`),
  'in base64 behind a name that fills a group': base64(`me2:${odd}`).slice(4),
  'in base64 in the middle of a file': base64(
    `{"a":1,"pass":"?","text":"${'b'.repeat(40)}${odd}${'c'.repeat(40)}`,
  ).slice(84, -50),
  'in base64 in base64, as a file of a Secret has it': base64(`auth: ${base64(`user:${odd}`)}\n`).slice(8),
  'in XML': xml,
  'with the bytes of Python': inBytes(byte => `\\x${byte.toString(16)}`),
  'with the bytes of Git': inBytes(byte => `\\${byte.toString(8)}`),
  'in hex': Buffer.from(odd).toString('hex'),
  'in hex, large letters': Buffer.from(odd).toString('hex').toUpperCase(),
  'with a colour in the middle': `${odd.slice(0, 9)}\x1b[1;31m${odd.slice(9)}`,
  'with a NUL in the middle': `${odd.slice(0, 9)}\0${odd.slice(9)}`,
  'with a link around its end': `${odd.slice(0, 9)}\x1b]8;;http://x/\x07${odd.slice(9)}`,
  'with a sequence of one character in the middle': `${odd.slice(0, 9)}\x9b31m${odd.slice(9)}`,
  'with nothing to be seen in the middle': `${odd.slice(0, 9)}\u200b${odd.slice(9)}`,
  'with a colour in it, in JSON': JSON.stringify(`${odd.slice(0, 9)}\x1b[1m${odd.slice(9)}`).slice(1, -1),
}
for (const [way, written] of Object.entries(ways)) {
  test(`a secret ${way} is replaced`, t => {
    const redact = knowing(odd)
    t.is(redact.text(`it is <${written}>`).replaceAll('=>', '>'), `it is <${mark}>`)
    t.is(redact.line('s', `it is <${written}>`).replaceAll('=>', '>'), `it is <${mark}>`)
    t.is(redact.text('nothing\\n of it %20 \x1b[0m here'), 'nothing\\n of it %20 \x1b[0m here')
  })
}

test('a secret in byte escapes is replaced behind bytes that are no text, and they are not', t => {
  const escapes = [...Buffer.from(odd)].map(byte => `\\x${byte.toString(16).padStart(2, '0')}`).join('')
  const before = '\\xff\\xc3\\xe2\\x28'.repeat(10)
  t.is(knowing(odd).text(`it is <${before}${escapes}${before}>`), `it is <${before}${mark}${before}>`)
  t.is(knowing(odd).text(`${'%ff%fe'.repeat(10)}${escapes.replaceAll('\\x', '%')}`), `${'%ff%fe'.repeat(10)}${mark}`)
})

test('a secret with blanks or quotes is replaced as a form, a shell and YAML write it', t => {
  const redact = knowing('correct horse battery', "it's-a-secret")
  t.is(redact.text('a=correct+horse+battery&b=1'), `a=${mark}&b=1`)
  for (const written of [`'it'\\''s-a-secret'`, `'it'"'"'s-a-secret'`, "'it''s-a-secret'"])
    t.is(redact.text(`+ login ${written} now`), `+ login '${mark}' now`)
})

test('a short secret is replaced where it is a word, one of two characters is not taken', t => {
  const secrets = openSecrets()
  for (const value of ['hunter2', 'abcd', 'p@ss', 'xy', '']) secrets.tell(value, `the password '${value}'`)
  const redact = redactor(secrets)
  t.is(redact.text('pw is hunter2, not hunter22 (hunter2)'), 'pw is «redacted», not hunter22 («redacted»)')
  t.is(redact.text('abcd abcde p@ss x=abcd;'), '«redacted» abcde «redacted» x=«redacted»;')
  t.is(
    redact.text(`b64 ${base64('hunter2')} ${base64('user:hunter2')} ${base64('abcd\n')}`),
    `b64 ${mark} ${mark} ${mark}`,
  )
  t.is(redact.text('hunter2'), mark)
  t.is(redact.text('xy'), 'xy')
  t.deepEqual([...secrets.tooShort], ["the password 'xy'"])
})

test('of several lines each is replaced by itself, and short ones where they follow', t => {
  const key = ['line-one-aaaaaaaa', 'short1', 'ab', 'line-two-bbbbbbbb', 'ab'].join('\n')
  const redact = knowing(key)
  t.is(redact.text(`before\n${key}\nafter ab`), `before\n${mark}\nafter ab`)
  const lines = (text: string) => text.split('\n').map(line => redact.line('s', line))
  t.deepEqual(lines(`ab\n${key}\nab`), ['ab', mark, mark, mark, mark, mark, 'ab'])
  t.deepEqual(lines('  line-one-aaaaaaaa\n  short1 \n  ab'), [`  ${mark}`, `  ${mark} `, `  ${mark}`])
  t.deepEqual(lines('line-one-aaaaaaaa\nabout\nab'), [mark, 'about', 'ab'])
  t.is(redact.text(`in one line: ${JSON.stringify(key)}`), `in one line: "${mark}"`)
  t.is(redact.text(`kept as ${base64(key)}`).replace(/=*$/, ''), `kept as ${mark}`)
})

test('what is folded, or ends with the line, is replaced over all the lines', t => {
  const wrapped = 'WRAPPED0123456789abcdefghijklmnopqrstuvwxyz'
  const redact = knowing(wrapped, `${'long'.repeat(40)}-and-more`)
  const folded = (text: string, at: number) => text.match(new RegExp(`.{1,${at}}`, 'g')) ?? []
  const lines = (all: string[]) => all.map(line => redact.line('s', line))
  t.deepEqual(lines(folded(wrapped, 20)), [mark, mark, mark])
  t.deepEqual(
    lines([...folded(base64(`${'long'.repeat(40)}-and-more\n`), 76), 'And then'])
      .slice(0, 3)
      .map(line => line.replace(/=*$/, '')),
    [mark, mark, mark],
  )
  t.is(redact.line('s', 'And then'), 'And then')
  t.is(redact.text(`cut off: ${wrapped.slice(0, 12)}`), `cut off: ${mark}`)
  t.is(redact.text(`cut off: ${wrapped.slice(0, 12)}…`), `cut off: ${mark}…`)
  // Two streams don't go on with each other.
  t.is(redact.line('a', wrapped.slice(0, 20)), mark)
  t.is(redact.line('b', wrapped.slice(20)), wrapped.slice(20))
  redact.ended('a')
  t.is(redact.line('a', wrapped.slice(20)), wrapped.slice(20))
})

test('where a fold comes behind the first characters of a secret, the rest is replaced still', t => {
  const secret = 'zK9!mQ2-vB7_xT4pLs'
  const ways = [(text: string) => text, base64, (text: string) => Buffer.from(text).toString('hex')]
  for (const encode of ways)
    for (let before = 1; before < 60; before++) {
      const redact = knowing(secret)
      const folded = encode(`${'q'.repeat(before)}${secret}${'tail'.repeat(5)}`).match(/.{1,60}/g) ?? []
      const shown = folded.map(line => redact.line('s', line))
      const text = redact.text(folded.join('\n  '))
      for (const one of [shown.join(''), text.replaceAll('\n  ', '')]) {
        t.true(one.includes(mark), `${before}: ${one}`)
        // Not even most of it.
        for (const way of ways) t.false(one.includes(way(secret).slice(-10).replace(/=+$/, '')), `${before}: ${one}`)
      }
    }
  const redact = knowing(secret)
  t.is(redact.line('s', secret.slice(0, 3)), 'zK9')
  t.is(redact.line('s', ''), '')
  t.is(redact.line('s', secret.slice(3, 5)), '!m')
  t.is(redact.line('s', secret.slice(5)), mark)
  t.is(redact.line('s', secret.slice(5)), secret.slice(5))
})

test('a secret that lies over the pieces of a long line is replaced, wherever it is cut', t => {
  const secret = 'STRADDLE-0123456789-abcdefghij-SECRET'
  const token = `eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl`
  for (const one of [secret, token, `password=${'x'.repeat(20)}`]) {
    const redact = knowing(secret)
    const whole = `${'x '.repeat(300)}${one}${' y'.repeat(300)}`
    for (let at = 590; at < 700; at++) {
      const shown = redact.line('s', whole.slice(0, at), true) + redact.line('s', whole.slice(at))
      t.is(shown, redact.text(whole), `${one} at ${at}`)
      t.true(shown.includes(mark))
    }
  }
})

test('what looks like a secret is replaced although nobody said so', t => {
  const redact = knowing()
  const key = ['-----BEGIN EC PRIVATE KEY-----', 'MHcCAQEEIA', 'AbCd==', '-----END EC PRIVATE KEY-----'].join('\n')
  t.is(redact.text(`a\n${key}\nb`), `a\n${mark}\nb`)
  t.is(redact.text(`{"key": ${JSON.stringify(key)}, "b": 1}`), `{"key": "${mark}\\n", "b": 1}`.replace('\\n', ''))
  t.deepEqual(
    [...`a\n${key}\nb`.split('\n')].map(line => redact.line('s', line)),
    ['a', mark, mark, mark, mark, 'b'],
  )
  // One that never ends does not hide what follows.
  t.deepEqual(
    ['-----BEGIN PRIVATE KEY-----', 'MIIE', 'a word: and more'].map(line => redact.line('s', line)),
    [mark, mark, 'a word: and more'],
  )
  for (const before of ['', 'a', 'ab']) {
    const encoded = base64(`${before}x`).slice(0, 0) + base64(`${key}\n`)
    t.is(redact.text(`client-key: ${encoded}`).replace(/=*$/, ''), `client-key: ${mark}`)
  }
  t.deepEqual(
    (base64(`${key}\n`.repeat(2)).match(/.{1,76}/g) ?? [])
      .map(line => redact.line('s', line))
      .filter(line => line !== mark),
    [],
  )
  const token = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl'
  t.is(redact.text(`Bearer ${token}, -${token}`), `Bearer ${mark}, -${mark}`)
  t.is(redact.text(`hvs.${'a'.repeat(24)} hvs.short`), `${mark} hvs.short`)
  t.is(
    redact.text('token: 0123456789, "password": "open sesame", access_token=abcdefgh1'),
    `token: ${mark}, "password": "open sesame", access_token=${mark}`,
  )
  t.is(redact.text('{\\"token\\": \\"0123456789\\"}').replace('\\"}', '"}'), `{\\"token\\": \\"${mark}"}`)
  for (const plain of [
    'tokens: 123456789',
    'the password is wrong',
    'LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t',
    '-----BEGIN CERTIFICATE-----',
    'eyJhbGciOiJub25lIn0',
  ])
    t.is(redact.text(plain), plain)
})

test('certificates and public keys beside a secret key are there to be seen', t => {
  const line = 'MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A'
  const redact = knowing(`-----BEGIN CERTIFICATE-----\n${line}\n-----END CERTIFICATE-----\nthe-secret-line\n`)
  t.is(redact.text(`${line}\nthe-secret-line`), `${line}\n${mark}`)
})

test('of a text that holds secrets these are replaced, and not the rest', t => {
  const text = 'apiVersion: v1\nserver: https://lb:6443\ntoken-of: the-inner-secret-1\n'
  secret(text, { parts: ['the-inner-secret-1'] })
  t.is(redactor().text(text), text.replace('the-inner-secret-1', mark))
  t.throws(() => secret('ab'), { message: /fewer than 3 characters/ })
  t.throws(() => secret(text, { parts: ['ab'] }), { message: /fewer than 3 characters/ })
  t.is(secret('').reveal(), '')
})

test('replaced once more, a text stays what it is', t => {
  const redact = knowing('correct-horse', 'hunter2')
  const once = redact.text('token: correct-horse and hunter2, password=correct-horse')
  t.is(redact.text(once), once)
})

/** Text with what hosts print: words, colours, escapes. */
const noise = fc.string({
  unit: fc.constantFrom('a', ' ', '%', '\\', '"', '\x1b[1m', '\t', '\r', 'é', '4', '=', '/', '.', '\u200b', '-'),
  maxLength: 60,
})
const secretText = fc
  .string({ unit: fc.constantFrom(...'abcXYZ0189!"$%&/()=?+*#-_.:,;<>|@ \\'), minLength: 8, maxLength: 80 })
  .filter(text => text.trim() === text && text.length >= 8)

test('whatever stands around it, and however it is written, no secret comes through', t => {
  const writings: ((text: string) => string)[] = [
    text => text,
    text => JSON.stringify(text).slice(1, -1),
    encodeURIComponent,
    base64,
    text => Buffer.from(text).toString('base64url'),
    text => Buffer.from(text).toString('hex'),
    text => base64(`u:${text}\n`),
    text => text.split('').join('\x1b[0m'),
  ]
  fc.assert(
    fc.property(
      fc.array(secretText, { minLength: 1, maxLength: 5 }),
      noise,
      noise,
      fc.nat(),
      fc.nat(),
      (secrets, before, behind, which, way) => {
        const redact = knowing(...secrets)
        const secret = secrets[which % secrets.length]!
        const writing = writings[way % writings.length]!
        const written = writing(secret)
        // A backslash, or a percent sign, right before it makes something else of it.
        const whole = `${before} ${written} ${behind}`
        const shown = redact.text(whole)
        t.false(shown.includes(written), `${JSON.stringify(whole)} -> ${JSON.stringify(shown)}`)
        t.false(redact.line('s', whole).includes(written))
        redact.ended('s')
      },
    ),
    tries(400),
  )
})

test('however often a secret stands in a line, and however it is escaped, it is replaced', t => {
  const redact = knowing('some-secret-value-0123')
  for (const around of ['\x1b', '\\u0041', '%41']) {
    const shown = redact.text(`${around}some-secret-value-0123`.repeat(150_000))
    t.false(shown.includes('secret'))
    t.true(shown.includes(mark))
  }
})
