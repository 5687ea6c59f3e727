// Secrets out of everything that is shown or kept: by value where somebody said which, by shape as the last net.
import { createHmac, randomBytes } from 'node:crypto'
import { type Found, type Left, processSecrets, type Secrets } from '../secrets/index.ts'
import { type Layer, layersOf } from './layers.ts'
import { type OpenKey, shapesIn, shapesInFile } from './shapes.ts'

/** Replaces secrets in text. */
export interface Redactor {
  text(text: string): string
  /**
   * Replaces in the lines of a stream, one after the other: also what is spread over several of them.
   * @param goesOn the line is a piece of a longer one, and the next piece follows: its end may be handed on with that
   */
  line(stream: string, line: string, goesOn?: boolean): string
  /** Nothing comes of a stream any more. */
  ended(stream: string): void
  /** Replaces as `text` does, and all that a file has under the name of a secret, each by its fingerprint: so that it shows whether one changed. */
  marked(text: string): string
  /** Stands for a value: the same for the same value, in this run only, and of no use to those who guess. */
  fingerprint(value: string): string
}

const mark = '«redacted»'
/** Escapes, and what may be a control character: whether a line has to be looked at in other ways. */
const layered = /[\\%&\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u206f\ufeff\ufff9-\ufffb]|''|'"/
/** Characters at the end of a piece that are handed on with the next: as much as a known secret is recognized by. */
const recognized = 7
/** The same where a token may go on, with its name before it, and where a secret does. */
const longestName = 32
const longestToken = 8_192
const longestHeld = 65_536

/** What a stream's next line has to know. */
interface State extends Left {
  readonly key?: OpenKey
  readonly held?: string
}
const fresh: State = { open: [] }

/** Makes a redactor. */
export function redactor(secrets: Secrets = processSecrets): Redactor {
  const { find } = secrets.search
  const key = randomBytes(32)
  const streams = new Map<string, State>()
  const fingerprint = (value: string) => `«${createHmac('sha256', key).update(value).digest('hex').slice(0, 12)}»`

  /** What is to be hidden of a line, from its beginning to its end, and what it leaves open. */
  const hidden = (line: string, left: State): { found: readonly Found[] } & State => {
    const { visible, others } = layered.test(line) ? layersOf(line) : { others: [] }
    const known = find(visible?.text ?? line, left)
    const shapes = shapesIn(visible?.text ?? line, left.key)
    const found = placed(visible, [...known.found, ...shapes.found])
    // One by one: of a line of megabytes there may be more than a call takes.
    for (const layer of others) for (const one of placed(layer, inLines(layer.text))) found.push(one)
    return { found: joined(found), open: known.open, tail: known.tail, key: shapes.key }
  }
  /** What is escaped in one line may be several. */
  const inLines = (text: string): readonly Found[] => {
    const found: Found[] = []
    let left: Left = fresh
    forLines(text, (line, at) => {
      const one = find(line, left)
      left = one
      for (const { from, to } of one.found) found.push({ from: at + from, to: at + to })
    })
    return acrossLines(text, joined(found))
  }

  const text = (input: string): string => {
    if (!input.includes('\n')) return replaced(input, hidden(input, fresh).found)
    const found: Found[] = []
    let state: State = fresh
    forLines(input, (line, at) => {
      const one = hidden(line, state)
      state = one
      for (const { from, to } of one.found) found.push({ from: at + from, to: at + to })
    })
    return replaced(input, acrossLines(input, found))
  }

  const line = (stream: string, piece: string, goesOn = false): string => {
    const state = streams.get(stream) ?? fresh
    const whole = state.held === undefined ? piece : state.held + piece
    const { found, ...left } = hidden(whole, state)
    const end = goesOn ? endOfPiece(whole, found) : whole.length
    if (end < whole.length) streams.set(stream, { open: [], held: whole.slice(end) })
    else if (left.open.length > 0 || left.tail || left.key) streams.set(stream, left)
    else if (state !== fresh) streams.delete(stream)
    return replaced(
      whole.slice(0, end),
      found.filter(({ from }) => from < end),
    )
  }

  const marked = (input: string): string =>
    input
      .split('\n')
      .map(one => {
        const found = joined([...hidden(one, fresh).found, ...shapesInFile(one)])
        return replaced(one, found, fingerprint)
      })
      .join('\n')

  return { text, line, ended: stream => void streams.delete(stream), marked, fingerprint }
}

/** Calls for every line, with where it begins. */
function forLines(text: string, take: (line: string, at: number) => void): void {
  let at = 0
  for (;;) {
    const end = text.indexOf('\n', at)
    take(end === -1 ? text.slice(at) : text.slice(at, end), at)
    if (end === -1) return
    at = end + 1
  }
}

/** Places in a layer as places in the text that it was made of. */
function placed(layer: Layer | undefined, found: readonly Found[]): Found[] {
  if (!layer) return [...found]
  return found.map(({ from, to }) => ({ from: layer.places[from]!, to: layer.places[to]! }))
}

/** In order, those that overlap as one. */
function joined(found: readonly Found[]): readonly Found[] {
  if (found.length < 2) return found
  const all: Found[] = []
  for (const one of found.toSorted((a, b) => a.from - b.from)) {
    const last = all.at(-1)
    if (last && one.from < last.to) all[all.length - 1] = { from: last.from, to: Math.max(last.to, one.to) }
    else all.push(one)
  }
  return all
}

/** What is hidden at the end of a line and from the beginning of the next on is one secret, most often: one mark says as much. */
function acrossLines(text: string, found: readonly Found[]): readonly Found[] {
  const all: Found[] = []
  for (const one of found) {
    const last = all.at(-1)
    const between = last && text.slice(last.to, one.from)
    if (last && between?.includes('\n') && between.trim() === '') all[all.length - 1] = { from: last.from, to: one.to }
    else all.push(one)
  }
  return all
}

function replaced(text: string, found: readonly Found[], by: (value: string) => string = () => mark): string {
  if (found.length === 0) return text
  let result = ''
  let at = 0
  for (const { from, to } of found) {
    result += text.slice(at, from) + by(text.slice(from, to))
    at = to
  }
  return result + text.slice(at)
}

/** Where the part of a piece ends that is shown now: before what may be the beginning of a secret. */
function endOfPiece(whole: string, found: readonly Found[]): number {
  const least = Math.max(0, whole.length - recognized)
  let token = whole.length
  while (token > 0 && whole.length - token < longestToken && isToken(whole.charCodeAt(token - 1))) token--
  let start = Math.min(least, whole.length - token < longestToken ? Math.max(0, token - longestName) : least)
  while (start > 0 && least - start < longestToken && isToken(whole.charCodeAt(start - 1))) start--
  for (const { from, to } of found.toReversed()) {
    // The name that says that it is one stands before it.
    if (to > start || to === whole.length) start = Math.min(start, Math.max(0, from - longestName))
  }
  return whole.length - start > longestHeld ? whole.length : start
}

function isToken(code: number): boolean {
  if (code >= 128) return false
  return (
    (code >= 48 && code <= 57) ||
    (code >= 65 && code <= 90) ||
    (code >= 97 && code <= 122) ||
    '+/=_.-\\%&#;'.includes(String.fromCharCode(code))
  )
}
