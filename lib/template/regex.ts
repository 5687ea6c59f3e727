// Go's regular expressions (RE2) on JavaScript's: what both mean alike passes, the rest is translated or refused.

const classes: Record<string, string> = {
  alnum: 'A-Za-z0-9',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7f',
  blank: '\\t ',
  cntrl: '\\x00-\\x1f\\x7f',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\t-\\r ',
  upper: 'A-Z',
  word: 'A-Za-z0-9_',
  xdigit: 'A-Fa-f0-9',
}

/**
 * Compile a Go pattern. `more` adds JavaScript flags. Throws an Error for what is no pattern in Go, and for the few
 * things that JavaScript can't do.
 */
export function compileRegex(pattern: string, more = ''): RegExp {
  let flags = `u${more}`
  let source = pattern
  const inline = /^\(\?([imsU]+)\)/.exec(source)
  if (inline) {
    if (inline[1]!.includes('U')) throw new Error('the flag U is not offered in regular expressions')
    flags += inline[1]
    source = source.slice(inline[0].length)
  }
  if (/\(\?(<?[=!])/.test(source)) throw new Error('Go has no look-around in regular expressions')
  if (/(^|[^\\])(\\\\)*\\[1-9]/.test(source)) throw new Error('Go has no back-references in regular expressions')
  const translated = source
    .replaceAll(/\(\?P</g, '(?<')
    .replaceAll(/\[:(\^?)(\w+):\]/g, (_, not: string, name: string) => {
      if (not || !classes[name]) throw new Error(`the class [:${not}${name}:] is not offered in regular expressions`)
      return classes[name]
    })
    .replaceAll(/\\([AzZaQE])/g, (_, letter: string) => {
      if (letter === 'A') return '(?<![\\s\\S])'
      if (letter === 'z') return '(?![\\s\\S])'
      throw new Error(`\\${letter} is not offered in regular expressions`)
    })
    // Go allows these to be escaped, JavaScript's u flag doesn't.
    .replaceAll(/\\([^\p{L}\p{N}])/gu, (whole, character: string) =>
      '^$\\.*+?()[]{}|/-'.includes(character) ? whole : character,
    )
    .replaceAll(/\\-/g, '\\x2d')
  try {
    return new RegExp(translated, flags)
  } catch {
    throw new Error('the regular expression can not be parsed')
  }
}

/** Go's Expand: `$1`, `${1}`, `$name`, `${name}`; a name is as long as it can be, one that is not there is empty. */
export function expand(replacement: string, found: readonly unknown[]): string {
  const last = found.at(-1)
  const named = typeof last === 'object' && last !== null ? (last as Record<string, string | undefined>) : {}
  return replacement.replaceAll(/\$(?:\$|\{(\w+)\}|(\w+))/g, (whole, braced?: string, bare?: string) => {
    if (whole === '$$') return '$'
    const name = braced ?? bare!
    if (!/^\d+$/.test(name)) return named[name] ?? ''
    const group = found[Number(name)]
    // Beyond the groups come the offset and the whole text, which are no groups.
    return typeof group === 'string' && Number(name) < groupCount(found) ? group : ''
  })
}

const groupCount = (found: readonly unknown[]) => found.findIndex(one => typeof one === 'number')
