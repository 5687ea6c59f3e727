// What a page looks like, as facts that hold whatever fonts a machine has: asked in the page, and seen in its picture.
import { inflateSync } from 'node:zlib'

/** What is wrong with a page. Each list names the first of what it is about. */
export interface Looks {
  /** Pixels that the page is wider than its window. */
  readonly wider: number
  /** Text that reaches beyond the window. */
  readonly beyond: readonly string[]
  /** Pairs of texts that lie over each other. */
  readonly over: readonly string[]
  /** Text whose contrast with what is behind it is less than 4.5. */
  readonly pale: readonly string[]
  /** Elements that could load or run something. */
  readonly active: readonly string[]
  /** What was loaded beside the page. */
  readonly loaded: readonly string[]
  /** Milliseconds until it was loaded, and until something was painted. */
  readonly opened: number
  /** Texts that were looked at. */
  readonly texts: number
}

/** An expression that gives `Looks`. */
export const looks = `(() => {
  const width = innerWidth
  const shown = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement
    if (!node.data.trim() || ['STYLE', 'title'].includes(element.tagName) || !element.checkVisibility({ contentVisibilityAuto: false })) continue
    const range = document.createRange()
    range.selectNodeContents(node)
    for (const { left, right, top, bottom } of range.getClientRects())
      if (right - left > 1 && bottom - top > 1) shown.push({ node, element, left, right, top, bottom })
  }
  const said = ({ node }) => node.data.trim().slice(0, 60)
  const beyond = shown.filter(one => one.right > width + 1 || one.left < -1)
  shown.sort((a, b) => a.top - b.top)
  const over = []
  // Boxes of lines touch where nothing that is drawn does.
  const slack = 4
  for (let i = 0; i < shown.length; i++)
    for (let j = i + 1; j < shown.length && shown[j].top < shown[i].bottom - slack; j++) {
      const [a, b] = [shown[i], shown[j]]
      if (a.node === b.node) continue
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - b.top > slack)
        over.push(said(a) + ' / ' + said(b))
    }
  const channels = text => (text.match(/[\\d.]+/g) ?? []).map(Number)
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(one => (one /= 255) <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, alpha = 1] = channels(getComputedStyle(one).backgroundColor)
      if (alpha > 0.99) return [r, g, b]
    }
    return [255, 255, 255]
  }
  const known = new Map()
  const pale = shown.filter(({ element }) => {
    if (!known.has(element)) {
      const style = getComputedStyle(element)
      const ink = channels(element instanceof SVGElement ? style.fill : style.color)
      const [a, b] = [light(ink), light(behind(element))]
      known.set(element, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05))
    }
    return known.get(element) < 4.5
  })
  const active = [...document.querySelectorAll('*')].filter(one =>
    ['SCRIPT', 'IFRAME', 'IMG', 'LINK', 'OBJECT', 'EMBED', 'FORM', 'BASE', 'VIDEO', 'image', 'use'].includes(one.tagName) ||
    [...one.attributes].some(({ name, value }) => /^on|^style$/i.test(name) || (/^(href|src|action|xlink:href)$/i.test(name) && !value.startsWith('#'))))
  const [navigation] = performance.getEntriesByType('navigation')
  const [paint] = performance.getEntriesByName('first-contentful-paint')
  return {
    wider: document.documentElement.scrollWidth - width,
    beyond: beyond.slice(0, 5).map(said), over: over.slice(0, 5), pale: pale.slice(0, 5).map(one => said(one) + ' ' + known.get(one.element).toFixed(2)),
    active: active.slice(0, 5).map(one => one.outerHTML.slice(0, 120)),
    loaded: performance.getEntriesByType('resource').map(one => one.name),
    opened: Math.max(navigation.loadEventEnd, paint ? paint.startTime : 0),
    texts: shown.length,
  }
})()`

/** A picture as its pixels. */
export interface Picture {
  readonly width: number
  readonly height: number
  /** How many pixels have a colour, `#rrggbb`. */
  count(colour: string): number
}

/** Reads a PNG of eight bits a channel, as browsers write it. */
export function readPicture(png: Buffer): Picture {
  const pieces: Buffer[] = []
  let [width, height, channels] = [0, 0, 3]
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at)
    const data = png.subarray(at + 8, at + 8 + length)
    const type = png.toString('latin1', at + 4, at + 8)
    if (type === 'IHDR') [width, height, channels] = [data.readUInt32BE(0), data.readUInt32BE(4), data[9] === 6 ? 4 : 3]
    if (type === 'IDAT') pieces.push(data)
    at += 12 + length
  }
  const raw = inflateSync(Buffer.concat(pieces))
  const stride = width * channels
  const counts = new Map<number, number>()
  let above = new Uint8Array(stride)
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)]
    const row = new Uint8Array(raw.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)))
    for (let x = 0; x < stride; x++) {
      const [left, up] = [x >= channels ? row[x - channels]! : 0, above[x]!]
      const corner = x >= channels ? above[x - channels]! : 0
      row[x]! += [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter ?? 0] ?? 0
    }
    for (let x = 0; x < stride; x += channels) {
      const colour = (row[x]! << 16) | (row[x + 1]! << 8) | row[x + 2]!
      counts.set(colour, (counts.get(colour) ?? 0) + 1)
    }
    above = row
  }
  return { width, height, count: colour => counts.get(Number.parseInt(colour.slice(1), 16)) ?? 0 }
}

function paeth(left: number, up: number, corner: number): number {
  const guess = left + up - corner
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)]
  return a <= b && a <= c ? left : b <= c ? up : corner
}
