// Control characters and sequences of terminals in text that somebody else wrote: where each of them ends.

/** What moves the cursor, changes the direction of writing, or can't be seen; a tab is none. */
const control = /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/

/** Whether there is any in a text. */
export function hasControls(text: string): boolean {
  return control.test(text)
}

/** Whether a character is one. */
export function isControl(code: number): boolean {
  if (code < 0x20) return code !== 0x09 && code !== 0x0a
  if (code < 0x7f) return false
  if (code <= 0x9f || code === 0xad || code === 0x61c) return true
  return (
    (code >= 0x200b && code <= 0x200f) ||
    (code >= 0x2028 && code <= 0x202e) ||
    (code >= 0x2060 && code <= 0x206f) ||
    (code >= 0xfff9 && code <= 0xfffb) ||
    code === 0xfeff
  )
}

/** What begins with an escape: a control sequence, or a string that a terminal swallows (a title, a link). */
const introducers: Readonly<Record<string, 'sequence' | 'string'>> = {
  '[': 'sequence',
  ']': 'string',
  P: 'string',
  X: 'string',
  '^': 'string',
  _: 'string',
}
/** The same in one character each. */
const single: Readonly<Record<string, 'sequence' | 'string'>> = {
  '\x9b': 'sequence',
  '\x9d': 'string',
  '\x90': 'string',
  '\x98': 'string',
  '\x9e': 'string',
  '\x9f': 'string',
}

/** Where what begins with the control character at a place ends, as ECMA-48 has it: behind that character alone where it begins nothing whole. */
export function endOfControl(text: string, at: number): number {
  const escaped = text[at] === '\x1b'
  const kind = escaped ? introducers[text[at + 1] ?? ''] : single[text[at]!]
  const from = at + (escaped ? 2 : 1)
  if (kind === 'string') return endOfString(text, from) ?? at + 1
  if (kind === 'sequence') return endOfSequence(text, from) ?? at + 1
  if (!escaped) return at + 1
  // Character sets and the like: intermediate characters, and one that ends it.
  const to = over(text, at + 1, 0x20, 0x2f)
  return isIn(text, to, 0x30, 0x7e) ? to + 1 : at + 1
}

/** A text without what tells a terminal to do something. Takes time that grows with the text. */
export function withoutSequences(text: string): string {
  let [kept, from] = ['', 0]
  for (const { index } of text.matchAll(/[\x1b\x90\x98\x9b\x9d-\x9f]/g)) {
    if (index < from) continue
    kept += text.slice(from, index)
    from = endOfControl(text, index)
  }
  return kept + text.slice(from)
}

/** Parameters, intermediate characters, and one that says what it is. */
function endOfSequence(text: string, from: number): number | undefined {
  const to = over(text, over(text, from, 0x30, 0x3f), 0x20, 0x2f)
  return isIn(text, to, 0x40, 0x7e) ? to + 1 : undefined
}

/** Up to what ends it; another control character breaks it off. */
function endOfString(text: string, from: number): number | undefined {
  let to = from
  while (to < text.length && !isControl(text.charCodeAt(to)) && text[to] !== '\n') to++
  if (text[to] === '\x1b' && text[to + 1] === '\\') return to + 2
  return text[to] === '\x07' || text[to] === '\x9c' ? to + 1 : undefined
}

function over(text: string, from: number, first: number, last: number): number {
  let to = from
  while (isIn(text, to, first, last)) to++
  return to
}

function isIn(text: string, at: number, first: number, last: number): boolean {
  const code = text.charCodeAt(at)
  return code >= first && code <= last
}
