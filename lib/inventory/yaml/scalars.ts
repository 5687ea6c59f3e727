// What words in YAML mean to PyYAML: `yes`, `010`, `1:30`, `1e3`, `2001-12-14`.
import { float, integer, Timestamp, type Value, type WholeFloat } from '../values.ts'

/** Python reads and writes whole numbers of no more decimal digits: more of them take ever longer. */
const longestInteger = 4300

/** Words for true and false, whatever their case. */
export const booleans: ReadonlyMap<string, boolean> = new Map([
  ['yes', true],
  ['no', false],
  ['true', true],
  ['false', false],
  ['on', true],
  ['off', false],
])
const integerPattern =
  /^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$/
const floatPattern =
  /^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$/
const timestampPattern =
  /^(\d{4})-(\d\d?)-(\d\d?)(?:(?:[Tt]|[ \t]+)(\d\d?):(\d\d):(\d\d)(?:\.(\d*))?(?:[ \t]*(Z|[-+]\d\d?(?::\d\d)?))?)?$/
const datePattern = /^\d{4}-\d\d-\d\d$/

/** What a plain scalar means to PyYAML; undefined for what it can't construct: `=`, `<<`, `2001-13-45`. */
export function resolveScalar(text: string): Value | undefined {
  if (text === '') return null
  const first = text.charCodeAt(0)
  // Most scalars are words: look at the first character before trying any pattern.
  if (first === 0x2b || first === 0x2d || first === 0x2e || (first >= 0x30 && first <= 0x39)) {
    if (floatPattern.test(text)) return yamlFloat(text)
    if (integerPattern.test(text)) return yamlInteger(text)
    const timestamp = timestampPattern.test(text) && (text.length > 10 || datePattern.test(text))
    return timestamp ? yamlTimestamp(text) : text
  }
  if (first === 0x7e) return text === '~' ? null : text
  if (first === 0x3d) return text === '=' ? undefined : text
  if (first === 0x3c) return text === '<<' ? undefined : text
  if (text.length > 5) return text
  switch (text) {
    case 'null':
    case 'Null':
    case 'NULL':
      return null
  }
  const boolean = booleans.get(text.toLowerCase())
  if (boolean === undefined) return text
  // yes, Yes and YES, but not yEs.
  const rest = text.slice(1)
  return rest === rest.toLowerCase() || text === text.toUpperCase() ? boolean : text
}

/** An integer as PyYAML reads one, undefined for what is none. */
export function yamlInteger(source: string): number | bigint | undefined {
  if (source.length > longestInteger) return undefined
  let text = source.trim().replaceAll('_', '')
  const sign = text.startsWith('-') ? -1n : 1n
  if (/^[-+]/.test(text)) text = text.slice(1)
  if (!/^[\da-fxb:]+$/i.test(text)) return undefined
  try {
    if (text === '0') return 0
    if (text.startsWith('0b') || text.startsWith('0x')) return integer(sign * BigInt(text))
    if (text.startsWith('0')) return integer(sign * BigInt(`0o${text}`))
    if (text.includes(':')) return integer(sign * text.split(':').reduce((sum, part) => sum * 60n + BigInt(part), 0n))
    return integer(sign * BigInt(text))
  } catch {
    return undefined
  }
}

/** A number as PyYAML reads one, undefined for what is none. */
export function yamlFloat(source: string): number | WholeFloat | undefined {
  let text = source.trim().replaceAll('_', '').toLowerCase()
  const sign = text.startsWith('-') ? -1 : 1
  if (/^[-+]/.test(text)) text = text.slice(1)
  if (text === '.inf') return sign * Number.POSITIVE_INFINITY
  if (text === '.nan') return Number.NaN
  if (!/^(?:[\d.e+-]+:)*[\d.e+-]+$/.test(text)) return undefined
  const parts = text.split(':').map(Number)
  if (parts.some(Number.isNaN)) return undefined
  // Smallest part first, as PyYAML adds them up: floats notice the order.
  let value = 0
  let base = 1
  for (const part of parts.toReversed()) {
    value += part * base
    base *= 60
  }
  return float(sign * value)
}

/** A date or time as PyYAML reads one, undefined for what is none. */
export function yamlTimestamp(text: string): Timestamp | undefined {
  const match = timestampPattern.exec(text)
  if (!match) return undefined
  const [, year = '', month = '', day = '', hour, minute = '', second = '', fraction, zone] = match
  const two = (digits: string): string => digits.padStart(2, '0')
  const date = `${year}-${two(month)}-${two(day)}`
  const valid = new Date(`${date}T00:00:00Z`)
  if (Number.isNaN(valid.getTime()) || valid.getUTCDate() !== Number(day) || Number(year) === 0) return undefined
  if (hour === undefined) return new Timestamp(date)
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return undefined
  const micro = (fraction ?? '').slice(0, 6).padEnd(6, '0')
  let offset = ''
  if (zone === 'Z') offset = '+00:00'
  else if (zone) {
    const [zoneHour = '', zoneMinute = '00'] = zone.slice(1).split(':')
    offset = `${zone[0]}${two(zoneHour)}:${zoneMinute}`
  }
  return new Timestamp(`${date}T${two(hour)}:${minute}:${second}${Number(micro) === 0 ? '' : `.${micro}`}${offset}`)
}
