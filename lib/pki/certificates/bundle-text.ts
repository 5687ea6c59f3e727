// Certificates in texts of any kind: bundles with comments, kubeconfigs, JSON, YAML. They are found by what they are, and replaced without
// a byte of what stands around them being changed.
import { createHash, type KeyObject, X509Certificate } from 'node:crypto'

/** Public keys, each by the SHA-256 of its SPKI: an authority is its key, however often its certificate was made anew. */
export type PublicKeys = ReadonlySet<string>

/** The public keys of all certificates of a PEM text. */
export function publicKeysOf(pem: string): PublicKeys {
  return new Set(certificatesWithin(pem).flatMap(one => publicKeyOf(one) ?? []))
}

/** The public key of a certificate; `undefined` where it can't be read. */
export function publicKeyOf(pem: string): string | undefined {
  if (known.has(pem)) return known.get(pem)
  const key = readPublicKey(pem)
  if (known.size >= mostKnown) known.clear()
  known.set(pem, key)
  return key
}

/** The same few certificates are met in thousands of objects. */
const known = new Map<string, string | undefined>()
const mostKnown = 4096

function readPublicKey(pem: string): string | undefined {
  try {
    return digestOf(new X509Certificate(pem).publicKey)
  } catch {
    return undefined
  }
}

/** The SHA-256 of a public key's SPKI, in hex: what a key is told by. */
export function digestOf(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')
}

/**
 * Every certificate in a text, in order, as a PEM block that ends in a newline: as it stands there, indented, in a JSON text, and in
 * base64, as kubeconfigs have it. One that can't be read is given as well.
 */
export function certificatesWithin(text: string): string[] {
  return piecesOf(text).flatMap(piece => {
    if (piece.kind === 'certificate') return [piece.pem]
    return piece.kind === 'encoded' ? certificatesWithin(piece.text) : []
  })
}

/**
 * Every private key in a text as a PEM block, wherever a certificate may stand. Keys that nobody can look into without a passphrase, and
 * those of ssh, are left out.
 */
export function privateKeysWithin(text: string): string[] {
  const decoded = (text.match(encodedPem) ?? []).map(one => Buffer.from(one, 'base64').toString('latin1'))
  return [text, ...decoded].flatMap(one => writtenOut(one).keys)
}

/** Certificates and private keys as the two above give them, without those in base64. */
export function writtenOut(text: string): { readonly certificates: string[]; readonly keys: string[] } {
  return {
    certificates: piecesOf(text).flatMap(piece => (piece.kind === 'certificate' ? [piece.pem] : [])),
    keys: [...text.matchAll(keyBlock)].map(([, label, body]) => pemOf(label!, body!)),
  }
}

/** Whether a text holds a certificate of one of these keys. */
export function holdsKey(text: string, keys: PublicKeys): boolean {
  return certificatesWithin(text).some(pem => keys.has(publicKeyOf(pem) ?? ''))
}

/**
 * A text with other certificates in place of those that have one of the keys `old`: what stands beside them stays, in its order. In a
 * bundle each of `next` stands once. The very same text where there is none of them.
 * @param next PEM
 */
export function withCertificates(text: string, old: PublicKeys, next: string): string {
  const pieces = piecesOf(text)
  const isOld = (piece: Piece) => piece.kind === 'certificate' && old.has(publicKeyOf(piece.pem) ?? '')
  const blocks = certificatesWithin(next)
  // What stands there already must not come a second time.
  const there = new Set(pieces.flatMap(piece => (piece.kind === 'certificate' && !isOld(piece) ? [piece.pem] : [])))
  return pieces
    .map(piece => {
      if (piece.kind === 'encoded') {
        const changed = withCertificates(piece.text, old, next)
        return changed === piece.text ? piece.raw : Buffer.from(changed, 'latin1').toString('base64')
      }
      if (piece.kind !== 'certificate' || !isOld(piece)) return piece.raw
      // Indented, or within quotes, it may be one value of several: each is one by itself.
      if (piece.lineBreak !== '\n')
        return blocks.map(block => block.trimEnd().replaceAll('\n', piece.lineBreak)).join(piece.lineBreak)
      const missing = blocks.filter(block => !there.has(block))
      for (const block of missing) there.add(block)
      return missing.join('')
    })
    .join('')
}

/** A text is made of these, one after the other. */
type Piece =
  | { readonly kind: 'text'; readonly raw: string }
  /** `lineBreak`: a line feed, with the indentation after it, or the two characters that JSON has for it. */
  | { readonly kind: 'certificate'; readonly raw: string; readonly pem: string; readonly lineBreak: string }
  | { readonly kind: 'encoded'; readonly raw: string; readonly text: string }

const keyBlock = /-----BEGIN ((?!ENCRYPTED |OPENSSH )(?:[A-Z0-9]{1,20} )?PRIVATE KEY)-----([^-]*)-----END \1-----/g
/** What begins with five dashes. */
const encodedPem = /(?<![A-Za-z0-9+/])LS0tLS[A-Za-z0-9+/]{100}[A-Za-z0-9+/]*={0,2}/g

/** A block in lines of 64, whatever its line breaks are and whatever JSON escaped in it. */
function pemOf(label: string, body: string): string {
  const bare = body
    .replaceAll(/\\{1,8}[rnt]|\s/g, '')
    .replaceAll(/\\{1,8}(\/|u00(?:2b|2f|3d))/gi, (_, escaped: string) =>
      escaped === '/' ? '/' : String.fromCharCode(Number.parseInt(escaped.slice(1), 16)),
    )
  const lines = bare.match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

const block = /-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----/g
// On one line, or in lines of 64 or 76 as programs break it. A CA has no certificate that is shorter. `{400,}`, and one expression for all of
// the lines, would remember each sign or line, and overflow the stack at some megabytes.
const beginning =
  /(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]{400}[A-Za-z0-9+/]*={0,2}|[A-Za-z0-9+/]{64}(?:[A-Za-z0-9+/]{12})?\r?\n[ \t]*)/g
const nextLine = /[A-Za-z0-9+/]{64}(?:[A-Za-z0-9+/]{12})?\r?\n[ \t]*/y
const lastLine = /[A-Za-z0-9+/]+={0,2}(?=[ \t\r]*(?:\n|$))/y
const fewestLines = 5

/** Where base64 is that is long enough for a certificate. */
function base64Within(text: string): { raw: string; index: number }[] {
  const found: { raw: string; index: number }[] = []
  const endOf = (expression: RegExp, from: number): number | undefined => {
    expression.lastIndex = from
    return expression.test(text) ? expression.lastIndex : undefined
  }
  for (let from = 0; ; ) {
    beginning.lastIndex = from
    const first = beginning.exec(text)
    if (!first) return found
    const { 0: start, index } = first
    from = index + start.length
    let end = from
    if (start.includes('\n')) {
      let lines = 1
      for (let next = endOf(nextLine, end); next !== undefined; next = endOf(nextLine, end), lines++) end = next
      if (lines < fewestLines) continue
      end = endOf(lastLine, end) ?? end
    }
    from = end
    found.push({ raw: text.slice(index, end), index })
  }
}

function piecesOf(text: string): Piece[] {
  const pieces: Piece[] = []
  let end = 0
  for (const { 0: whole, 1: body = '', index } of text.matchAll(block)) {
    pieces.push(...encodedPieces(text.slice(end, index)))
    end = index + whole.length
    const lineBreak = /^(?:\\r)?\\n/.test(body) ? '\\n' : (/^\r?(\n[ \t]*)/.exec(body)?.[1] ?? '\n')
    // In a bundle the line ends with its line break, and in one without a last newline it gets one.
    const after = lineBreak === '\n' ? (/^[ \t]*\r?\n/.exec(text.slice(end, end + 100))?.[0] ?? '') : ''
    end += after.length
    pieces.push({ kind: 'certificate', raw: whole + after, pem: pemOf('CERTIFICATE', body), lineBreak })
  }
  return [...pieces, ...encodedPieces(text.slice(end))]
}

function encodedPieces(text: string): Piece[] {
  const pieces: Piece[] = []
  let end = 0
  for (const { raw, index } of base64Within(text)) {
    const decoded = Buffer.from(raw, 'base64').toString('latin1')
    if (!decoded.includes('-----BEGIN CERTIFICATE-----')) continue
    // The line break after the last line of it is not part of it.
    const own = raw.trimEnd()
    pieces.push({ kind: 'text', raw: text.slice(end, index) }, { kind: 'encoded', raw: own, text: decoded })
    end = index + own.length
  }
  return [...pieces, { kind: 'text', raw: text.slice(end) }]
}
