// A message by mail: handed to this machine's sendmail, which knows where mail goes.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { hostname } from 'node:os'
import { delimiter } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { momentOf } from '../../output/report/words.ts'
import { oneLine } from '../../output/text.ts'
import { withoutStore } from '../work/called.ts'
import { inOneLine, type Message } from './message.ts'

/** Milliseconds that it may take. */
const patience = 30_000
/** Where sendmail is, and PATH of most users does not lead. */
const usual = ['/usr/sbin', '/usr/lib']
/** Letters of a subject. */
const mostSubject = 150

/** A mail, as sendmail reads it: whoever gets it is named in its head. */
export function mailOf(to: readonly string[], from: string, message: Message): string {
  const { id, fleet, event } = message
  const rows = [
    ...[
      ['Fleet', `${fleet.name} (${fleet.id})`],
      ['Playbook', fleet.playbook],
      ['When', momentOf(event.at)],
    ],
    ...[
      ['Wave', event.wave],
      ['Cluster', event.cluster],
      ['Run', event.run],
      ['Worker', event.worker],
      ['Operator', event.operator],
    ],
  ].flatMap(([name, value]) => (value ? [`${name}: ${oneLine(value)}`] : []))
  const text = `${event.text}\n\n${rows.join('\n')}\n\nSee how it is: rekey fleet status\n`
  const heads = [
    `From: ${from}`,
    `To: ${to.join(', ')}`,
    `Subject: ${encodedWords(inOneLine(message).slice(0, mostSubject))}`,
    `Date: ${new Date(event.at).toUTCString().replace('GMT', '+0000')}`,
    `Message-ID: <${id}@${hostname()}>`,
    // Whoever is away need not tell us so.
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: base64',
  ]
  return `${heads.join('\n')}\n\n${Buffer.from(text).toString('base64').replace(/.{76}/g, '$&\n')}\n`
}

/** A text in the head of a mail, as RFC 2047 has what is not ASCII: in words, of which a line has one. */
function encodedWords(text: string): string {
  if (/^[\x20-\x7e]*$/.test(text)) return text
  const words: string[] = []
  let word = ''
  for (const letter of text) {
    // 39 bytes are 52 letters in base64.
    if (Buffer.byteLength(word + letter) > 39) {
      words.push(word)
      word = ''
    }
    word += letter
  }
  return [...words, word].map(one => `=?UTF-8?B?${Buffer.from(one).toString('base64')}?=`).join('\n ')
}

/** Sends a mail. Throws `RekeyError` where sendmail did not take it. */
export async function sendMail(to: readonly string[], from: string, message: Message): Promise<void> {
  const PATH = [process.env['PATH'], ...usual].filter(Boolean).join(delimiter)
  const child = spawn('sendmail', ['-t', '-i'], {
    env: { ...withoutStore(), PATH },
    stdio: ['pipe', 'ignore', 'pipe'],
    timeout: patience,
    killSignal: 'SIGKILL',
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += said.length < 1_000 ? text : ''))
  child.stdin.on('error', () => {})
  child.stdin.end(mailOf(to, from, message))
  let code: number | null
  try {
    // Not 'close': what it has started may go on, and hold its output.
    ;[code] = (await once(child, 'exit')) as [number | null]
  } catch (cause) {
    throw new RekeyError(`sendmail can't be started: ${(cause as Error).message}`, { code: 'fleet.notify', cause })
  }
  if (code === 0) return
  const why =
    code === null ? `it took longer than ${patience / 1_000} s` : oneLine(said).slice(0, 300) || `it ended with ${code}`
  throw new RekeyError(`sendmail did not take the mail: ${why}`, { code: 'fleet.notify' })
}
