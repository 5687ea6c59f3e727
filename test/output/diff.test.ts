// What is shown of a file that changes: what changed, and no secret.
import 'reflect-metadata'
import { execFileSync } from 'node:child_process'
import { createHash, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import test from 'ava'
import type { FileChange } from '../../lib/connection/files.ts'
import { fileDiffer } from '../../lib/output/diff.ts'
import { redactor } from '../../lib/output/redaction.ts'
import { openSecrets } from '../../lib/secrets/index.ts'
import { processorTime } from '../_processor-time.ts'
import { issue } from '../pki/certificates/_certificates.ts'

const differ = (secrets: readonly string[] = []) => {
  const known = openSecrets()
  for (const value of secrets) known.tell(value)
  const redact = redactor(known)
  const diff = fileDiffer(redact)
  return (before: string | Buffer | undefined, after: string | Buffer, more: Partial<FileChange> = {}) =>
    // As every event goes through the redactor once more.
    diff({
      path: '/etc/x',
      before: before === undefined ? undefined : Buffer.from(before),
      after: Buffer.from(after),
      secret: false,
      ...more,
    }).map(redact.text)
}

const newKey = () =>
  generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'sec1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  }).privateKey
/** A certificate that signs itself, of a key of its own. */
const certificate = async (name: string, names: readonly string[] = []) =>
  (
    await issue({
      name: `CN=${name}`,
      extensions:
        names.length > 0 ? [new SubjectAlternativeNameExtension(names.map(value => ({ type: 'dns', value })))] : [],
    })
  ).pem
const keyHash = (key: string) =>
  createHash('sha256')
    .update(createPublicKey(key).export({ type: 'spki', format: 'der' }))
    .digest('hex')
    .slice(0, 32)

test.serial('a text is a unified diff, as diff -u has it', t => {
  const diff = differ()
  t.deepEqual(diff('a\nb\nc\n', 'a\nB\nc\n'), ['--- /etc/x', '+++ /etc/x', '@@ -1,3 +1,3 @@', ' a', '-b', '+B', ' c'])
  t.deepEqual(diff(undefined, 'new\n'), ['--- /dev/null', '+++ /etc/x', '@@ -0,0 +1,1 @@', '+new'])
  t.deepEqual(diff('same\n', 'same\n'), [])
})

test.serial('a private key is its fingerprint, which is that of its public key', t => {
  const [old, next] = [newKey(), newKey()]
  const lines = differ()(`# key\n${old}`, `# key\n${next}`)
  t.deepEqual(lines.slice(3), [
    ' # key',
    `------PRIVATE KEY sha256:${keyHash(old)}-----`,
    `+-----PRIVATE KEY sha256:${keyHash(next)}-----`,
  ])
  t.notRegex(lines.join('\n'), /BEGIN|END/)
})

test.serial('a certificate is its fields, and only those that change', async t => {
  const old = await certificate('api', ['api.example', 'old.example'])
  const next = await certificate('api', ['api.example', 'new.example'])
  const text = differ()(old, next).join('\n')
  t.regex(
    text,
    / certificate CN=api\n {3}subject alternative name DNS:api\.example\n-.*DNS:old\.example\n\+.*DNS:new\.example\n {3}issuer CN=/,
  )
  t.regex(text, /not after 20\d\d-/)
  t.regex(text, /\+ {2}sha256 ([0-9A-F]{2}:){31}[0-9A-F]{2}/)
  t.notRegex(text, /MII/)
})

test.serial('keys and certificates of a kubeconfig are known in base64, too', async t => {
  const [key, ann] = [newKey(), await certificate('ann')]
  const config = (host: string, certificate: string, own: string) =>
    `server: https://${host}:6443\nclient-certificate-data: ${Buffer.from(certificate).toString('base64')}\nclient-key-data: ${Buffer.from(own).toString('base64')}\ntoken: abc\n`
  const text = differ()(config('a', ann, key), config('b', await certificate('ann'), newKey())).join('\n')
  t.regex(text, /-server: https:\/\/a:6443/)
  t.regex(text, /\+client-certificate-data: «certificate CN=ann, issuer/)
  t.regex(text, /-client-key-data: «-----PRIVATE KEY sha256:/)
  t.regex(text, / token: «[0-9a-f]{12}»/)
  t.notRegex(text, /LS0t/)
})

test.serial('values that somebody named a secret are fingerprints, and so is what stood in their place', t => {
  const text = differ(['horse-battery', 'pin'])(
    'name = app\npass phrase horse-carriage\n',
    'name = app\npass phrase horse-battery\nthe pin opens\n',
  ).join('\n')
  t.regex(text, / name = app\n-pass phrase «[0-9a-f]{12}»\n\+pass phrase «[0-9a-f]{12}»\n\+the «[0-9a-f]{12}» opens/)
  t.notRegex(text, /horse|pin/)
})

test.serial('of a secret file the names may be seen, the values may not; whether one changed can be told', t => {
  const key = newKey()
  const text = differ()(`user: ann\nhash: abc\nplain words\n${key}`, `user: ann\nhash: abd\nplain words\n${key}`, {
    secret: true,
  }).join('\n')
  t.regex(
    text,
    / user: «[0-9a-f]{12}»\n-hash: «[0-9a-f]{12}»\n\+hash: «[0-9a-f]{12}»\n «[0-9a-f]{12}»\n -----PRIVATE KEY sha256:/,
  )
  t.notRegex(text, /ann|: ab[cd]|plain/)
})

test.serial('the key of an encryption configuration is a fingerprint', t => {
  const secret = randomBytes(32).toString('base64')
  const text = differ()(
    `keys:\n- name: key1\n  secret: ${secret}\n`,
    `keys:\n- name: key2\n  secret: ${secret}\n`,
  ).join('\n')
  t.regex(text, /\+- name: key2\n {3}secret: «/)
  t.false(text.includes(secret))
})

test.serial('fingerprints of values are another in every run, so that nobody can try guesses', t => {
  const [one, other] = [
    differ(['horse-battery'])(undefined, 'horse-battery\n'),
    differ(['horse-battery'])(undefined, 'horse-battery\n'),
  ]
  t.notDeepEqual(one, other)
})

test.serial('what is no text, or too long to be read, is told in a line', t => {
  const diff = differ()
  t.regex(
    diff(Buffer.from([0, 1]), Buffer.from([0, 2, 3])).join('\n'),
    /^\/etc\/x: 2 bytes «[0-9a-f]{12}» becomes 3 bytes «[0-9a-f]{12}»$/,
  )
  t.is(diff('a\n', `${'b\n'.repeat(600_000)}`).length, 1)
})

test.serial('two long texts that have nothing in common do not hold up the run', t => {
  const text = () => Array.from({ length: 8_000 }, () => randomBytes(8).toString('hex')).join('\n')
  const taken = processorTime(() => t.true(differ()(text(), text()).length > 0))
  t.true(taken < 20_000, `${taken} ms`)
})

test.serial('a unified diff can be applied by patch', t => {
  let missing = false
  try {
    execFileSync('patch', ['--version'])
  } catch {
    missing = true
  }
  if (missing) return void t.pass('no patch on this machine')
  const before = Array.from({ length: 60 }, (_, index) => `line ${index}\n`).join('')
  const after = before.replace('line 3\n', 'three\n').replace('line 50\n', '').concat('end\n')
  const lines = differ()(before, after)
  const patched = execFileSync(
    'sh',
    [
      '-c',
      'd=$(mktemp -d); printf %s "$1" >"$d/x"; printf "%s\\n" "$2" | patch -s "$d/x" && cat "$d/x"; rm -r "$d"',
      'sh',
      before,
      lines.join('\n'),
    ],
    { encoding: 'utf8' },
  )
  t.is(patched, after)
})
