// A file that changes, as a unified diff that may be shown: of a key its fingerprint, of a certificate its fields, and no secret.
import { createHash, createPublicKey, X509Certificate } from 'node:crypto'
import { structuredPatch } from 'diff'
import type { FileChange } from '../connection/files.ts'
import type { Redactor } from './redaction.ts'

/** Bytes up to which files are compared line by line. */
const largest = 512 * 1024
/** Milliseconds for the comparison: what takes longer has little in common. */
const longest = 2_000

const pemBegin = '-----BEGIN '
/** A PEM in base64, as kubeconfigs and Secrets carry it. */
const encodedPem = /LS0tLS1CRUdJTi[A-Za-z0-9+/]+=*/g

/** What hides values. */
type Marks = Pick<Redactor, 'marked' | 'fingerprint'>

/** Makes the function that shows changes: lines of a unified diff; none where the file stays as it is. */
export function fileDiffer(redactor: Marks): (change: FileChange) => string[] {
  return change => {
    const { path, before, after, secret } = change
    if (before === undefined ? after === undefined : after && before.equals(after)) return []
    const [old, next] = [before?.toString('utf8') ?? '', after?.toString('utf8') ?? '']
    const sized = (bytes: Buffer) => `${bytes.length} bytes ${redactor.fingerprint(bytes.toString('base64'))}`
    const inWords = `${path}: ${before ? sized(before) : 'nothing'} becomes ${after ? sized(after) : 'nothing'}`
    if (isBinary(before) || isBinary(after) || old.length > largest || next.length > largest) return [inWords]
    const [shownOld, shownNext] = shown(old, next, secret, redactor)
    const patch = structuredPatch(
      before ? path : '/dev/null',
      after ? path : '/dev/null',
      shownOld,
      shownNext,
      '',
      '',
      {
        ...{ context: 3, timeout: longest },
      },
    )
    if (!patch) return [inWords]
    if (patch.hunks.length === 0) return [`${path}: changes only in what can't be shown`]
    return [
      `--- ${patch.oldFileName}`,
      `+++ ${patch.newFileName}`,
      ...patch.hunks.flatMap(({ oldStart, oldLines, newStart, newLines, lines }) => [
        // Of nothing, the line before it is named.
        `@@ -${oldLines === 0 ? oldStart - 1 : oldStart},${oldLines} +${newLines === 0 ? newStart - 1 : newStart},${newLines} @@`,
        ...lines,
      ]),
    ]
  }
}

function isBinary(bytes: Buffer | undefined): boolean {
  return bytes?.includes(0) ?? false
}

/** Both texts with everything in them replaced that must not be shown, or that nobody can read. */
function shown(old: string, next: string, secret: boolean, marks: Marks): [string, string] {
  const [was, is] = [setAside(old, marks), setAside(next, marks)]
  const lines = (text: string) =>
    text
      .split('\n')
      .map(line => hideLine(line, marks))
      .join('\n')
  if (secret) return [was.putBack(lines(was.text)), is.putBack(lines(is.text))]
  const marked = marks.marked(is.text)
  return [was.putBack(marks.marked(hideAlike(was.text, is.text, marked, marks))), is.putBack(marked)]
}

/** A text without its keys and certificates, so that what hides values does not see what they are told by. */
function setAside(text: string, marks: Marks): { text: string; putBack(text: string): string } {
  const blocks: string[] = []
  const place = (told: string) => `\0${blocks.push(told) - 1}\0`
  return {
    text: withBlocks(text.replaceAll('\0', ''), (block, kind) =>
      place(pemLines(block, kind, marks).join('\n')),
    ).replace(encodedPem, found => place(encodedText(found, marks))),
    putBack: hidden => hidden.replace(/\0(\d+)\0/g, (_, index: string) => blocks[Number(index)] ?? ''),
  }
}

/** A text with something else in the place of each of its PEM blocks. One that begins before another has ended is none. */
function withBlocks(text: string, place: (block: string, kind: string) => string): string {
  const [before = '', ...parts] = text.split(pemBegin)
  return (
    before +
    parts
      .map(part => {
        const kind = part.slice(0, Math.max(0, part.indexOf('-----')))
        const end = `-----END ${kind}-----`
        const at = part.indexOf(end)
        if (at === -1 || !/^[A-Z0-9 ]+$/.test(kind)) return pemBegin + part
        const to = at + end.length
        return place(pemBegin + part.slice(0, to), kind) + part.slice(to)
      })
      .join('')
  )
}

/** A line of a secret file: the name of a value may be seen, the value may not. */
function hideLine(line: string, { fingerprint }: Marks): string {
  if (line.trim() === '' || /^\s*\0\d+\0\s*$/.test(line)) return line
  const [, name = '', value = line] = /^(\s*(?:- )?["']?[\w.-]+["']?:\s+)(\S.*)$/.exec(line) ?? []
  return name + (/^\0\d+\0$/.test(value.trim()) ? value : fingerprint(value))
}

/**
 * What was there before, where a line of the new text holds a secret: the value that stood in its place is one too, and nobody has
 * said so.
 */
function hideAlike(old: string, next: string, marked: string, { fingerprint }: Marks): string {
  const plain = new Set(next.split('\n'))
  const starts = marked
    .split('\n')
    .filter(line => line.includes('«') && !plain.has(line))
    .map(line => line.slice(0, line.indexOf('«')))
  if (starts.length === 0) return old
  const known = new Set(starts)
  const lengths = [...new Set(starts.map(({ length }) => length))]
  return old
    .split('\n')
    .map(line => {
      const start = lengths.map(length => line.slice(0, length)).find(one => known.has(one))
      if (plain.has(line) || start === undefined || line.trim() === '') return line
      return start + fingerprint(line.slice(start.length))
    })
    .join('\n')
}

function pemLines(block: string, kind: string, marks: Marks): string[] {
  const text = block.replace(/^[ \t]+/gm, '')
  if (kind.endsWith('PRIVATE KEY')) return [`-----PRIVATE KEY ${keyName(text, marks)}-----`]
  if (kind !== 'CERTIFICATE') return [block]
  try {
    const certificate = new X509Certificate(text)
    return [
      `certificate ${nameOf(certificate.subject)}`,
      ...(certificate.subjectAltName?.split(', ').map(name => `  subject alternative name ${name}`) ?? []),
      `  issuer ${nameOf(certificate.issuer)}`,
      `  not after ${certificate.validToDate.toISOString()}`,
      `  sha256 ${certificate.fingerprint256}`,
    ]
  } catch {
    return [block]
  }
}

/** A PEM in base64, on one line. */
function encodedText(encoded: string, marks: Marks): string {
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const blocks: string[][] = []
  withBlocks(text, (block, kind) => String(blocks.push(pemLines(block, kind, marks))))
  if (blocks.length === 0) return marks.fingerprint(encoded)
  return `«${blocks.map(lines => lines.map(line => line.trim()).join(', ')).join('; ')}»`
}

/** The fingerprint of a private key is that of its public one: whoever has the certificate can compare. */
function keyName(text: string, { fingerprint }: Marks): string {
  try {
    const key = createPublicKey(text).export({ type: 'spki', format: 'der' })
    return `sha256:${createHash('sha256').update(key).digest('hex').slice(0, 32)}`
  } catch {
    return fingerprint(text)
  }
}

function nameOf(name: string): string {
  return name.split('\n').join(', ')
}
