// Host names with ports and ranges, as inventories write them: `m[01:03].example.com:2222`.
import { excerpt, RekeyError } from '../errors.ts'

const numericRange = String.raw`\[(?:[0-9]+:[0-9]+)(?::[0-9]+)?\]`
const hexadecimalRange = String.raw`\[(?:[0-9a-f]+:[0-9a-f]+)(?::[0-9]+)?\]`
const alphanumericRange = String.raw`\[(?:[a-z]:[a-z]|[0-9]+:[0-9]+)(?::[0-9]+)?\]`
const v4 = `(?:[01]?[0-9]{1,2}|2[0-4][0-9]|25[0-5]|${numericRange})`
const v6 = `(?:[0-9a-f]{1,4}|${hexadecimalRange})`
const letter = String.raw`[\p{L}\p{N}_]`
const label = String.raw`(?:${letter}|${alphanumericRange})(?:[\p{L}\p{N}_-]|${alphanumericRange})*(?<![_-])`

const bracketedHostPort = /^\[(.+)\]:([0-9]+)$/
const hostPort = /^((?:[^:[\]]|\[[^\]]*\])*):([0-9]+)$/
const ipv4 = new RegExp(`^(?:${v4}\\.){3}${v4}$`, 'i')
const ipv6 = new RegExp(
  `^(?:${[
    `(?:${v6}:){7}${v6}`,
    `(?:${v6}:){1,6}:`,
    `(?:${v6}:)(?::${v6}){1,6}`,
    `(?:${v6}:){2}(?::${v6}){1,5}`,
    `(?:${v6}:){3}(?::${v6}){1,4}`,
    `(?:${v6}:){4}(?::${v6}){1,3}`,
    `(?:${v6}:){5}(?::${v6}){1,2}`,
    `(?:${v6}:){6}(?::${v6})`,
    `:(?::${v6}){1,6}`,
    `${v6}?::`,
    `(?:0:){6}(?:${v6}\\.){3}${v6}`,
    `::(?:ffff:)?(?:${v6}\\.){3}${v6}`,
    `(?:0:){5}ffff:(?:${v6}\\.){3}${v6}`,
  ].join('|')})$`,
  'i',
)
const hostname = new RegExp(`^${label}(?:\\.${label})*$`, 'iu')

/** A host name or address, possibly with ranges in it, and the port behind it. */
export interface Address {
  readonly host: string
  readonly port?: number
}

/** Splits `host:port`; undefined for what is neither a host name nor an address. */
export function parseAddress(text: string): Address | undefined {
  let host = text
  let port: number | undefined
  for (const pattern of [bracketedHostPort, hostPort]) {
    const match = pattern.exec(host)
    if (!match) continue
    host = match[1]!
    port = Number(match[2])
  }
  return isIpAddress(host) || hostname.test(host) ? { host, port } : undefined
}

/** True for IPv4 and IPv6 addresses: their dots don't end a short name. */
export function isIpAddress(text: string): boolean {
  return ipv4.test(text) || ipv6.test(text)
}

/**
 * Every host that a pattern of an inventory stands for, and their port. Throws `RekeyError` (its message without a
 * place; the caller knows the file and line) for a bad range.
 */
export function expandHosts(pattern: string): { hosts: string[]; port?: number } {
  // Most are plain names: neither port nor range.
  if (!/[:[]/.test(pattern)) return { hosts: [pattern] }
  const address = parseAddress(pattern)
  const host = address?.host ?? pattern
  if (!host.includes('[')) return { hosts: [host], port: address?.port }
  if (host.length > longestPattern) throw badRange(host, `it is longer than ${longestPattern} characters`)
  if (host.split('[').length - 1 > mostRanges) throw badRange(host, `it has more than ${mostRanges} ranges`)
  return { hosts: expandRange(host), port: address?.port }
}

const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
const rangeLimit = 1_000_000
/** Ranges of one pattern, and its characters: names of hosts have no more. */
const [mostRanges, longestPattern] = [20, 1000]

function expandRange(pattern: string): string[] {
  const match = /^([^[\]]*)\[([^[\]]*)\](.*)$/.exec(pattern)
  if (!match) throw badRange(pattern, 'its brackets are not balanced')
  const [, head = '', range = '', tail = ''] = match
  const parts = range.split(':')
  if (parts.length !== 2 && parts.length !== 3) throw badRange(pattern, 'a range is begin:end or begin:end:step')
  const [begin, end, step] = [parts[0] || '0', parts[1]!, Number(parts[2] ?? '1')]
  if (end === '') throw badRange(pattern, 'the end of the range is missing')
  if (!Number.isInteger(step) || step < 1) throw badRange(pattern, 'the step must be a whole number of 1 or more')
  const members =
    begin.length === 1 && letters.includes(begin)
      ? letterRange(pattern, begin, end, step)
      : numberRange(pattern, begin, end, step)
  const tails = tail.includes('[') ? expandRange(tail) : [tail]
  if (members.length * tails.length > rangeLimit) throw badRange(pattern, `it is more than ${rangeLimit} hosts`)
  return members.flatMap(member => tails.map(rest => `${head}${member}${rest}`))
}

function letterRange(pattern: string, begin: string, end: string, step: number): string[] {
  const [from, to] = [letters.indexOf(begin), end.length === 1 ? letters.indexOf(end) : -1]
  if (to === -1) throw badRange(pattern, 'begin and end must both be letters, or both numbers')
  if (from > to) throw badRange(pattern, 'begin comes after end')
  return [...letters.slice(from, to + 1)].filter((_, index) => index % step === 0)
}

function numberRange(pattern: string, begin: string, end: string, step: number): string[] {
  if (!/^\d+$/.test(begin) || !/^\d+$/.test(end)) {
    throw badRange(pattern, 'begin and end must both be letters, or both numbers')
  }
  const width = begin.length > 1 && begin.startsWith('0') ? begin.length : 0
  if (width > 0 && end.length !== width)
    throw badRange(pattern, 'with leading zeros, begin and end must be of equal length')
  const [from, to] = [Number(begin), Number(end)]
  if (from > to) throw badRange(pattern, 'begin comes after end')
  if ((to - from) / step > rangeLimit) throw badRange(pattern, `it is more than ${rangeLimit} hosts`)
  const members: string[] = []
  for (let member = from; member <= to; member += step) members.push(String(member).padStart(width, '0'))
  return members
}

function badRange(pattern: string, what: string): RekeyError {
  return new RekeyError(`bad host range "${excerpt(pattern)}": ${what}`, {
    code: 'inventory.bad-range',
    hint: 'Write ranges like node[1:5], node[01:20:2] or rack[a:f].',
  })
}
