// What a text says once control characters, or escapes of JSON, shells, addresses and XML, are taken out, and where each character stood.
import { isUtf8 } from 'node:buffer'
import { endOfControl, hasControls, isControl } from './control.ts'

/** A text made of another one. */
export interface Layer {
  readonly text: string
  /** Where each of its characters begins in what it was made of, and where that ends. */
  readonly places: Uint32Array
}

/** How often text may be escaped: JSON in JSON in JSON. */
const deepest = 3

/** Every layer of a text, without the text itself; most have none. `visible` is what a terminal shows of it. */
export function layersOf(text: string): { readonly visible?: Layer; readonly others: readonly Layer[] } {
  const visible = hasControls(text) ? withoutControls(text, endOfControl) : undefined
  const others: Layer[] = []
  // What another program holds for a control sequence may be less.
  if (visible && /[\x1b\x90-\x9f]/.test(text)) others.push(withoutControls(text, (_, at) => at + 1))
  let below: Layer | undefined = visible
  for (let depth = 0; depth < deepest && (below?.text ?? text).includes('\\'); depth++) {
    below = over(unescaped(below?.text ?? text), below)
    if (hasControls(below.text)) below = over(withoutControls(below.text, endOfControl), below)
    others.push(below)
  }
  // A shell has a quote between quotes as several of them, YAML as two.
  for (const one of [visible, ...others])
    if (/''|'"/.test(one?.text ?? text)) others.push(over(withSingleQuotes(one?.text ?? text), one))
  const base = visible?.text ?? text
  let address: Layer | undefined
  for (let depth = 0; depth < deepest && /%[0-9a-fA-F]{2}/.test(address?.text ?? base); depth++) {
    address = over(fromAddress(address?.text ?? base), address ?? visible)
    others.push(address)
  }
  // As in forms.
  if (address && base.includes('+')) others.push(over(fromAddress(base.replaceAll('+', ' ')), visible))
  if (entity.test(base)) others.push(over(fromXml(base), visible))
  return { visible, others }
}

/** A layer of a layer, as one of the text below both. */
function over(layer: Layer, below: Layer | undefined): Layer {
  return below ? { text: layer.text, places: layer.places.map(place => below.places[place]!) } : layer
}

/** Makes a layer, from the beginning of its text to the end. */
function layerOf(text: string) {
  // Nothing that is read here is longer than what it is read from.
  const places = new Uint32Array(text.length + 1)
  const parts: string[] = []
  let count = 0
  let from = 0
  /** Keeps what stands before `to`; what stands from there to `next` is left out. */
  const keep = (to: number, next: number) => {
    parts.push(text.slice(from, to))
    for (let at = from; at < to; at++) places[count++] = at
    from = next
  }
  return {
    keep,
    /** Puts a part in the place of what was left out; `placeOf` tells where each of its units stood. */
    put: (part: string, placeOf: (unit: number) => number) => {
      parts.push(part)
      for (let unit = 0; unit < part.length; unit++) places[count++] = placeOf(unit)
    },
    /** Keeps the rest. */
    end: (): Layer => {
      keep(text.length, text.length)
      places[count] = text.length
      return { text: parts.join(''), places: places.subarray(0, count + 1) }
    },
  }
}

function withoutControls(text: string, endOf: (text: string, at: number) => number): Layer {
  const layer = layerOf(text)
  for (let at = 0; at < text.length; ) {
    if (isControl(text.charCodeAt(at))) {
      const next = endOf(text, at)
      layer.keep(at, next)
      at = next
    } else at++
  }
  return layer.end()
}

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f' }

/** Bytes as C, Python and shells have them; each takes four characters. */
const byteEscapes = /(?:\\x[0-9a-fA-F]{2}|\\[0-3][0-7]{2})+/y

/** Backslashes as in JSON; before anything else one takes its meaning, as in a shell. */
function unescaped(text: string): Layer {
  const layer = layerOf(text)
  for (let at = text.indexOf('\\'); at !== -1 && at + 1 < text.length; ) {
    byteEscapes.lastIndex = at
    const [run] = byteEscapes.exec(text) ?? []
    if (run !== undefined) {
      putBytes(
        layer,
        at,
        run,
        run
          .replaceAll(/\\x?/g, ' ')
          .trim()
          .split(' ')
          .map((one, index) => Number.parseInt(one, run[4 * index + 1] === 'x' ? 16 : 8)),
        4,
      )
      at = text.indexOf('\\', at + run.length)
      continue
    }
    const next = text[at + 1]!
    const hex = next === 'u' ? text.slice(at + 2, at + 6) : ''
    const known = /^[0-9a-fA-F]{4}$/.test(hex)
    const place = at
    const end = at + (known ? 6 : 2)
    layer.keep(at, end)
    layer.put(known ? String.fromCharCode(Number.parseInt(hex, 16)) : (escapes[next] ?? next), () => place)
    at = text.indexOf('\\', end)
  }
  return layer.end()
}

/** `%2F` as in addresses. */
function fromAddress(text: string): Layer {
  const layer = layerOf(text)
  for (const { 0: run, index } of text.matchAll(/(?:%[0-9a-fA-F]{2})+/g)) {
    putBytes(layer, index, run, [...Buffer.from(run.replaceAll('%', ''), 'hex')], 3)
  }
  return layer.end()
}

/** Puts the characters of bytes in the place of a run of their escapes, of which each has `width` characters. */
function putBytes(
  layer: ReturnType<typeof layerOf>,
  index: number,
  run: string,
  bytes: readonly number[],
  width: number,
) {
  layer.keep(index, index + run.length)
  const raw = Buffer.from(bytes)
  // Which of several bytes a character is of matters little: the whole run is replaced, or none of it.
  const starts: number[] = []
  let decoded = ''
  for (let at = 0; at < raw.length; ) {
    const whole = raw.subarray(at, at + lengthOf(raw[at]!))
    // One mark for several bytes that are none, as decoders have it, would shift the places.
    const character = isUtf8(whole) ? whole.toString() : '\ufffd'
    for (let unit = 0; unit < character.length; unit++) starts.push(at)
    decoded += character
    at += isUtf8(whole) ? whole.length : 1
  }
  layer.put(decoded, unit => Math.min(index + width * starts[unit]!, index + run.length))
}

/** How many bytes a character has in UTF-8 that begins with this one. */
function lengthOf(byte: number): number {
  if (byte < 0xc0) return 1
  return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
}

function withSingleQuotes(text: string): Layer {
  const layer = layerOf(text)
  for (const { 0: run, index } of text.matchAll(/['"]{2,}/g)) {
    if (!run.includes("'")) continue
    layer.keep(index, index + run.length)
    layer.put("'", () => index)
  }
  return layer.end()
}

const entity = /&(?:amp|lt|gt|quot|apos|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});/
const named: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

/** `&quot;` as in XML. */
function fromXml(text: string): Layer {
  const layer = layerOf(text)
  for (const { 0: written, index } of text.matchAll(new RegExp(entity, 'g'))) {
    const name = written.slice(1, -1)
    const number = Number(name.startsWith('#') ? name.slice(1).replace(/^[xX]/, '0x') : 0)
    if (number > 0x10_ffff) continue
    layer.keep(index, index + written.length)
    layer.put(named[name] ?? String.fromCodePoint(number), () => index)
  }
  return layer.end()
}
