// Python's regular expressions as JavaScript's; what would read differently throws instead.

/**
 * A pattern of Python's `re`. Takes its source and JavaScript flags to add; throws `SyntaxError` for what JavaScript
 * has no equal of.
 */
export function pythonRegex(source: string, extraFlags = ''): RegExp {
  const flags = new Set(`u${extraFlags}`)
  const inline = /^\(\?([aims]+)\)/.exec(source)
  for (const flag of inline?.[1] ?? '') if (flag !== 'a') flags.add(flag)
  let pattern = ''
  let members = false
  for (let at = inline?.[0].length ?? 0; at < source.length; at++) {
    const character = source[at]!
    if (character === '\\') {
      pattern += escaped(source[++at], members)
    } else if (members) {
      // A bracket within brackets is a member to Python; JavaScript wants it escaped.
      pattern += character === '[' ? '\\[' : character
      members = character !== ']'
    } else if (character === '[') {
      members = true
      pattern += character
      if (source[at + 1] === '^') pattern += source[++at]
      if (source[at + 1] === ']') pattern += `\\${source[++at]}`
    } else if (source.startsWith('(?P<', at)) {
      pattern += '(?<'
      at += 3
    } else if (source.startsWith('(?P=', at)) {
      const end = source.indexOf(')', at)
      pattern += `\\k<${source.slice(at + 4, end)}>`
      at = end
    } else if (character === '{' && !/^\{\d*(,\d*)?\}/.test(source.slice(at))) pattern += '\\{'
    else if (character === '}' && !/\{\d*(,\d*)?$/.test(source.slice(0, at))) pattern += '\\}'
    else if (character === ']') pattern += '\\]'
    else pattern += character
  }
  return new RegExp(pattern, [...flags].join(''))
}

function escaped(character: string | undefined, members: boolean): string {
  switch (character) {
    case undefined:
      throw new SyntaxError('a backslash ends the pattern')
    case 'A':
      return '(?<![\\s\\S])'
    case 'Z':
      return '(?![\\s\\S])'
    case 'a':
      return '\\x07'
    case '-':
      return members ? '\\-' : '-'
    case 'w':
      return members ? '\\p{L}\\p{N}_' : '[\\p{L}\\p{N}_]'
    case 'd':
      return '\\p{Nd}'
  }
  // Python lets any punctuation be escaped, JavaScript only its own syntax.
  return /[a-zA-Z0-9^$\\.*+?()[\]{}|/]/.test(character) ? `\\${character}` : character
}

/** The text that a replacement like `\1-\g<name>` gives for a match. */
export function expandReplacement(replacement: string, match: RegExpExecArray): string {
  return replacement.replace(/\\(?:g<(\w+)>|(\d\d?)|([\\nrt]))/g, (_whole, name, number, single) => {
    if (single !== undefined) return { '\\': '\\', n: '\n', r: '\r', t: '\t' }[single as 'n'] ?? single
    const group = name ?? number
    return (/^\d+$/.test(group) ? match[Number(group)] : match.groups?.[group]) ?? ''
  })
}
