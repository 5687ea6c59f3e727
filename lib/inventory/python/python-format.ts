// Python's `%` formatting.
import { pythonType, TemplateError, text, toNumber } from './python-values.ts'

/** Python's `'…%s…' % values`, for the conversions that inventories use. */
export function formatPercent(format: string, values: readonly unknown[]): string {
  let next = 0
  const result = format.replace(
    /%(?:%|([-+ 0#]*)(\d*)(?:\.(\d+))?([a-zA-Z])|(.?))/gs,
    (whole, flags = '', width = '', precision, kind: string | undefined) => {
      if (whole === '%%') return '%'
      if (kind === undefined || !'sdifrxXo'.includes(kind) || flags.includes('#'))
        throw new TemplateError(`the format "${whole}" is not understood`)
      if (next >= values.length) throw new TemplateError('there are fewer values than the format takes')
      const subject = values[next++]
      let printed: string
      if (kind === 's' || kind === 'r') printed = kind === 's' ? text(subject) : JSON.stringify(subject)
      else {
        const number = toNumber(subject)
        if (number === undefined)
          throw new TemplateError(`the format "${whole}" takes a number, not a ${pythonType(subject)}`)
        if (kind === 'f') printed = number.toFixed(Number(precision ?? 6))
        else {
          const base = kind === 'o' ? 8 : kind === 'd' || kind === 'i' ? 10 : 16
          printed = Math.trunc(number).toString(base)
          if (kind === 'X') printed = printed.toUpperCase()
        }
        if (number >= 0 && /[+ ]/.test(flags)) printed = (flags.includes('+') ? '+' : ' ') + printed
        if (flags.includes('0') && !flags.includes('-')) {
          const sign = /^[-+ ]/.exec(printed)?.[0] ?? ''
          printed = sign + printed.slice(sign.length).padStart(Number(width) - sign.length, '0')
        }
      }
      if (kind === 's' && precision !== undefined) printed = printed.slice(0, Number(precision))
      return flags.includes('-') ? printed.padEnd(Number(width)) : printed.padStart(Number(width))
    },
  )
  if (next < values.length) throw new TemplateError('there are more values than the format takes')
  return result
}
