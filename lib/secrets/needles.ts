// How a secret looks in text: as it is, a line at a time, and in base64 and hex. Escapes are taken out of the text instead, by who searches.

/** A text that gives a secret away. */
export interface Needle {
  readonly text: string
  /** How many characters the secret takes; more than `text` has where the rest is known by its alphabet. */
  readonly length: number
  readonly alphabet?: Alphabet
  /** Only where it stands by itself, not as a part of a longer word. */
  readonly word?: boolean
  /** The line after it. */
  readonly next?: Needle
}

export type Alphabet = 'base64' | 'hex'

/** Characters from which on a secret is found anywhere; shorter ones only as words. */
export const anywhere = 8
/** What has fewer is not looked for. */
export const shortestNeedle = 3
/** Fewer characters of an encoding are in many texts by chance. */
const shortestEncoded = 5
/** Bytes of a secret that are looked for in an encoding: what follows is known by its alphabet. */
const mostEncoded = 48

/** The needles of a secret, that has `shortestNeedle` characters at least; none of what is blank. */
export function needlesOf(value: string): Needle[] {
  const whole = value.trim()
  if (whole === '') return []
  const base64 = base64Of(beginningOf(whole), Buffer.byteLength(whole))
  const encoded = [...base64, ...hexOf(whole)].filter(({ text }) => text.length >= shortestEncoded)
  // A key of a kubeconfig that is in a Secret of the cluster.
  const twice = base64.flatMap(({ text, length }) => base64Of(Buffer.from(text), length))
  return [...linesOf(whole), ...encoded, ...twice.filter(({ text }) => text.length >= anywhere)]
}

/** Several lines are seen one by one. A short one says nothing by itself, and is replaced behind the others. */
function linesOf(whole: string): Needle[] {
  let open = false
  const lines = whole
    .split('\n')
    .map(line => line.trim())
    .filter(line => {
      if (line.startsWith('-----BEGIN ')) open = !line.endsWith('PRIVATE KEY-----')
      const isPublic = open || line === '' || isMarker(line)
      if (line.startsWith('-----END ')) open = false
      return !isPublic
    })
  const needles: Needle[] = []
  let next: Needle | undefined
  for (const text of lines.toReversed()) {
    next = { text, length: text.length, word: text.length < anywhere, next }
    needles.push(next)
    // As in forms.
    if (text.includes(' ')) needles.push({ ...next, text: text.replaceAll(' ', '+') })
  }
  const long = needles.filter(({ word }) => !word)
  return long.length > 0 ? long : needles.filter(({ length }) => length >= shortestNeedle)
}

/** The first and the last line of a key say what it is, and nothing of it. Certificates and public keys are there to be seen. */
function isMarker(line: string): boolean {
  return line.startsWith('-----') && line.endsWith('-----')
}

/**
 * The characters that are the same whatever stands before and behind: a secret may begin at any of three places in a group of four
 * characters, and goes on with a newline, a user's name before it, or more of a file.
 */
function base64Of(bytes: Buffer, size: number): Needle[] {
  return [0, 1, 2].flatMap(before => {
    const encoded = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64')
    const from = Math.ceil((8 * before) / 6)
    const text = encoded.slice(from, Math.floor((8 * (before + bytes.length)) / 6))
    const length = Math.ceil((8 * (before + size)) / 6) - from
    const forUrls = text.replaceAll('+', '-').replaceAll('/', '_')
    return [...new Set([text, forUrls])].map(one => ({ text: one, length, alphabet: 'base64' as const }))
  })
}

function hexOf(whole: string): Needle[] {
  const text = beginningOf(whole).toString('hex')
  const length = 2 * Buffer.byteLength(whole)
  return [...new Set([text, text.toUpperCase()])].map(one => ({ text: one, length, alphabet: 'hex' as const }))
}

/** One character more than bytes: none is cut in two. */
function beginningOf(whole: string): Buffer {
  return Buffer.from(whole.slice(0, mostEncoded + 1)).subarray(0, mostEncoded)
}
