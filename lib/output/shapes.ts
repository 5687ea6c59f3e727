// What looks like a secret although nobody said so: private keys, tokens, what stands behind the name of one. The last net. Each look
// goes over a line once, whatever stands in it: hosts write it.

export interface Shape {
  readonly from: number
  readonly to: number
}

/** A private key that began in a line before: as PEM, or that in base64. */
export type OpenKey = 'pem' | 'base64'

export interface Shapes {
  readonly found: readonly Shape[]
  readonly key?: OpenKey
}

const pemBegin = '-----BEGIN '
const pemEnd = '-----END '
/** `-----BEGIN ` in base64. */
const encodedBegin = 'LS0tLS1CRUdJTi'
/** `PRIVATE` and a little more, at each of its three places in base64. */
const encodedPrivate = ['UFJJVkFURS', 'BSSVZBVE', 'QUklWQVRF']

const triggers = /-----BEGIN |LS0tLS1CRUdJTi|client-key-data|token|password|secret_id|eyJ|hv[sbr]\./g
/** In files alone: the keys of an encryption configuration, and passwords of any length. */
const triggersInFiles = /-----BEGIN |LS0tLS1CRUdJTi|key-data|token|passw(?:or)?d|secret(?:_id)?|eyJ|hv[sbr]\./gi

const shortestValue = 8
/** Lines of an encoded key that have fewer characters are its end. */
const shortestEncodedLine = 32

/**
 * Finds what looks like a secret in a line.
 * @param key what the line before left open
 */
export function shapesIn(line: string, key?: OpenKey): Shapes {
  const found: Shape[] = []
  let open: OpenKey | undefined
  let from = 0
  if (key) {
    const went = key === 'pem' ? goOnPem(line) : goOnEncoded(line)
    if (went) {
      found.push(went.shape)
      open = went.key
      from = went.shape.to
    }
  }
  if (open) return { found, key: open }
  // Few lines hold any of the words.
  triggers.lastIndex = from
  return triggers.test(line) ? look(line, from, triggers, shortestValue, found) : { found }
}

/** The same for a line of a file, where values are secrets that have the name of one, however short. */
export function shapesInFile(line: string): readonly Shape[] {
  return look(line, 0, triggersInFiles, 1, []).found
}

function look(line: string, start: number, words: RegExp, shortest: number, found: Shape[]): Shapes {
  let key: OpenKey | undefined
  /** Up to where there is no JSON web token, and no encoded key: asked once for each stretch of their letters. */
  let [noWebToken, noKey] = [0, 0]
  let from = start
  for (;;) {
    words.lastIndex = from
    const trigger = words.exec(line)
    if (!trigger) return { found, key }
    const { index } = trigger
    const word = trigger[0].toLowerCase()
    let shape: Shape | undefined
    if (word === pemBegin.toLowerCase()) {
      shape = pemAt(line, index)
      if (shape && endOfPem(line, index) === undefined) key = 'pem'
    } else if (word === 'eyj') {
      if (index >= noWebToken && !isWord(line, index - 1)) {
        shape = webTokenAt(line, index)
        noWebToken = shape ? 0 : endOfWord(line, index)
      }
    } else if (word === encodedBegin.toLowerCase()) {
      if (index >= noKey) {
        const to = endOfBase64(line, index)
        const run = line.slice(index, to)
        if (encodedPrivate.some(one => run.includes(one))) shape = { from: index, to: endOfPadding(line, to) }
        else noKey = to
        if (shape && to === line.trimEnd().length) key = 'base64'
      }
    } else if (word.startsWith('hv')) {
      const to = endOfWord(line, index + 4)
      if (to - index - 4 >= 20 && !isWord(line, index - 1)) shape = { from: index, to }
    } else shape = valueAt(line, index, index + word.length, shortest)
    if (shape) found.push(shape)
    from = shape?.to ?? index + 1
  }
}

function pemAt(line: string, from: number): Shape | undefined {
  const label = labelAt(line, from + pemBegin.length)
  if (!label?.endsWith('PRIVATE KEY')) return undefined
  return { from, to: endOfPem(line, from + pemBegin.length) ?? line.length }
}

/** The end of the first line that ends a private key. */
function endOfPem(line: string, start: number): number | undefined {
  for (let at = line.indexOf(pemEnd, start); at !== -1; at = line.indexOf(pemEnd, at + 1)) {
    const label = labelAt(line, at + pemEnd.length)
    if (label?.endsWith('PRIVATE KEY')) return at + pemEnd.length + label.length + 5
  }
  return undefined
}

function labelAt(line: string, from: number): string | undefined {
  let to = from
  while (to < line.length && isLabel(line.charCodeAt(to))) to++
  return line.startsWith('-----', to) ? line.slice(from, to) : undefined
}

function goOnPem(line: string): { shape: Shape; key?: OpenKey } | undefined {
  const from = line.length - line.trimStart().length
  const to = endOfPem(line, from)
  if (to !== undefined) return { shape: { from, to } }
  const body = line.trim()
  // A PEM that some other program printed without its end must not hide all that follows.
  if (!/^[A-Za-z0-9+/=\\"]*$/.test(body) && !body.startsWith('Proc-Type: ') && !body.startsWith('DEK-Info: '))
    return undefined
  return { shape: { from, to: from + body.length }, key: 'pem' }
}

function goOnEncoded(line: string): { shape: Shape; key?: OpenKey } | undefined {
  const from = line.length - line.trimStart().length
  const body = line.trim()
  const end = body.endsWith('=')
  if ((body.length < shortestEncodedLine && !end) || !/^[A-Za-z0-9+/]+=*$/.test(body)) return undefined
  return { shape: { from, to: from + body.length }, key: end ? undefined : 'base64' }
}

/** Three parts with dots between, the first two of them JSON in base64. */
function webTokenAt(line: string, from: number): Shape | undefined {
  const shortest = 'eyJ'.length + 8
  const header = endOfWord(line, from)
  if (header - from < shortest || line[header] !== '.' || !line.startsWith('eyJ', header + 1)) return undefined
  const payload = endOfWord(line, header + 1)
  if (payload - header - 1 < shortest || line[payload] !== '.') return undefined
  const to = endOfWord(line, payload + 1)
  return to > payload + 1 ? { from, to } : undefined
}

/** What stands behind a name and a colon, or a sign of equality. */
function valueAt(line: string, name: number, behind: number, shortest: number): Shape | undefined {
  if (isLetter(line, name - 1)) return undefined
  let at = overQuote(line, behind)
  at = overBlanks(line, at)
  if (line[at] !== ':' && line[at] !== '=') return undefined
  const from = overQuote(line, overBlanks(line, at + 1))
  // It is replaced already.
  if (line[from] === '«' || line[from] === '\0') return undefined
  let to = from
  while (to < line.length && to - from < shortest && isValue(line, to)) to++
  if (to - from < shortest) return undefined
  while (to < line.length && isValue(line, to)) to++
  return { from, to }
}

function isValue(line: string, at: number): boolean {
  const character = line[at]!
  return !`"',} \t\n\r`.includes(character)
}

/** A quote, also one that is escaped. */
function overQuote(line: string, at: number): number {
  const quote = line[at] === '\\' ? at + 1 : at
  return line[quote] === '"' || line[quote] === "'" ? quote + 1 : at
}

function overBlanks(line: string, from: number): number {
  let at = from
  while (line[at] === ' ' || line[at] === '\t') at++
  return at
}

function endOfWord(line: string, from: number): number {
  let to = from
  while (isWord(line, to) || line[to] === '-') to++
  return to
}

function endOfBase64(line: string, from: number): number {
  let to = from
  while (isLetter(line, to) || line[to] === '+' || line[to] === '/') to++
  return to
}

function endOfPadding(line: string, from: number): number {
  let to = from
  while (line[to] === '=') to++
  return to
}

function isLabel(code: number): boolean {
  return (code >= 65 && code <= 90) || (code >= 48 && code <= 57) || code === 32
}

function isWord(line: string, at: number): boolean {
  return isLetter(line, at) || line[at] === '_'
}

function isLetter(line: string, at: number): boolean {
  const code = line.charCodeAt(at)
  return (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122)
}
