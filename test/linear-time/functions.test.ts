// What a host, a server or a file says goes through all of these; none of them takes long, whatever it is.
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { ProcessOutput } from 'zx/core'
import { foreignWords } from '../../lib/foreign-words.ts'
import { clustersWithin } from '../../lib/kubernetes/census/kubeconfigs.ts'
import { kubeletWentRound } from '../../lib/kubernetes/components/kubelet.ts'
import { junitView } from '../../lib/output/collected/junit.ts'
import { fileDiffer } from '../../lib/output/diff.ts'
import { redactor } from '../../lib/output/redaction.ts'
import { asciiOnly, cut, visible, visibleJson, widthOf, wrapped } from '../../lib/output/text.ts'
import { certificatesWithin, privateKeysWithin } from '../../lib/pki/certificates/bundle-text.ts'
import { splitBundle } from '../../lib/pki/certificates/certificate.ts'
import { presentCertificates } from '../../lib/pki/certificates/reuse.ts'
import { failureOf } from '../../lib/run/failure.ts'
import { collectLines } from '../../lib/run/printed/output-lines.ts'
import { openSecrets } from '../../lib/secrets/index.ts'
import { matchesWildcards } from '../../lib/wildcard.ts'
import { tries } from '../_fuzz.ts'
import { processorTime } from '../_processor-time.ts'
import { recorded } from '../output/_scenarios.ts'

const fuzzing = tries(1).numRuns > 1
const size = fuzzing ? 200_000 : 100_000
/** Milliseconds of the processor for so much. The slowest takes a tenth of it alone; what takes the square of the size takes many seconds. */
const most = size / 133

const pieces = [
  ...['x', ' ', '\t', '\r', '\n', '=', '"', '\\', '%41', '\\u0041', '\0', '«', '…'],
  ...['-eyJ', 'eyJ-eyJ-eyJ', '-eyJaaaaaaaa.eyJ', 'eyJaaaaaaaa.', 'LS0tLS1CRUdJTi', 'LS0tLS1CRUdJTi '],
  ...['token ', 'token:', 'token\t\t\t', 'password="', 'hvs.', 'hvs.aaaaaaaaaaaaaaaaaaaaaaaa'],
  ...['-----BEGIN ', '-----BEGIN A-----', '-----BEGIN PRIVATE KEY-----', '-----BEGIN PRIVATE KEY-----\n', '-----END '],
  ...['-----BEGIN CERTIFICATE-----', '-----BEGIN CERTIFICATE-----\nMIIB\n', '-----END CERTIFICATE-----'],
  ...['\x1b[', '\x1b[1;1;1', '\x1b[1m', '\x1b]8;;http://a', '\x9b;', '\x9d', '\x1b[[[[', '\u200b', '\u202e'],
  ...['漢', '👩‍👩‍👧', '\u0301', '\ud800'],
  // The beginnings of what is looked for, so that all of it might follow.
  ...['a-known-secret-of-some-lengt', 'aaaaaaaa', 'YWFh', '61616161', 'MIIEvQIB', 'line-one'],
  ...['certificate-authority-data', 'cluster: ', 'server:server', 'kubelet_pod_worker_duration_seconds_count{'],
]
/** Each piece over and over: on one line, and, where there is time, with a line break now and then. */
const texts = pieces.flatMap(piece => {
  const long = `x${piece.repeat(Math.ceil(size / piece.length)).slice(0, size)}!`
  return fuzzing ? [long, long.replaceAll('\n', ' ').replaceAll(/(.{64})/gs, '$1\n')] : [long]
})

const secrets = openSecrets()
for (const one of [
  'a-known-secret-of-some-length',
  'a'.repeat(5_000),
  `${'a'.repeat(4_000)}b`,
  'pin7',
  'line-one-of-two\nab',
])
  secrets.tell(one)
// Keys of one kind begin alike.
for (let index = 0; index < 300; index++) secrets.tell(`MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj${index}`)
const redact = redactor(secrets)
const differ = fileDiffer(redact)

/** By name; each is given every text. */
const functions: Readonly<Record<string, (text: string) => unknown>> = {
  'redact.text': redact.text,
  'redact.line': text => text.split('\n').map(line => redact.line('s', line)),
  'redact.line, in pieces': text => collectLines((line, goesOn) => redact.line('t', line, goesOn)).write(text),
  'redact.marked': redact.marked,
  'a diff': text =>
    differ({ path: '/x', before: Buffer.from(`${text}\nold`), after: Buffer.from(text), secret: false }),
  'a diff of a secret file': text =>
    differ({ path: '/x', before: Buffer.from('a: b'), after: Buffer.from(text), secret: true }),
  visible,
  visibleJson,
  asciiOnly,
  widthOf,
  cut: text => cut(visible(text), 90, '…'),
  wrapped: text => wrapped(visible(text), 90),
  foreignWords: text => foreignWords(text),
  failureOf: text =>
    failureOf(new ProcessOutput({ exitCode: 1, signal: null, stdout: '', stderr: text, message: '' } as never), 'h1'),
  clustersWithin,
  certificatesWithin,
  privateKeysWithin,
  splitBundle,
  presentCertificates: text => presentCertificates([text]),
  matchesWildcards: text => matchesWildcards('a*a*a*b', text),
}

const slowest = new Set(['a diff', 'a diff of a secret file', 'widthOf', 'cut', 'wrapped'])

for (const [name, work] of Object.entries(functions)) {
  test(`${name}: ${size / 1_000} KB of anything take no time`, t => {
    // Those that take the longest are given a part of them.
    const given = texts.filter((_, index) => fuzzing || !slowest.has(name) || index % 3 === 0)
    for (const text of given) {
      const taken = processorTime(() => {
        try {
          work(text)
        } catch {
          // What is no certificate may be refused.
        }
      })
      t.true(taken < most, `${taken} ms for ${JSON.stringify(text.slice(0, 60))}…`)
    }
  })
}

test('a kubelet may say anything', async t => {
  for (const text of texts) {
    const started = process.cpuUsage()
    await kubeletWentRound({ list: async () => [], getText: async () => text } as never, 'n1')
    t.true(process.cpuUsage(started).user < most * 1_000, text.slice(0, 60))
  }
})

test('a report may hold anything', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-linear-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'report.xml')
  closeSync(openSync(file, 'w'))
  for (const text of texts) {
    const view = junitView(file)
    const started = process.cpuUsage()
    for (const event of recorded({ went: () => ({ outcome: 'failed', error: { message: text } }) })) view.event(event)
    await view.close()
    t.true(process.cpuUsage(started).user < most * 1_000, text.slice(0, 60))
  }
})
