// Words of a line as a POSIX shell splits them, without expanding anything: Python's shlex.split.

/**
 * Splits a line into words. Takes the line and whether `#` starts a comment. Throws `SyntaxError` for a quote that is
 * never closed.
 */
export function splitShell(line: string, { comments = false } = {}): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote = ''
  for (let index = 0; index < line.length; index++) {
    const character = line[index]!
    if (quote !== '') {
      if (character === quote) quote = ''
      else if (character === '\\' && quote === '"') {
        const next = line[++index]
        if (next === undefined) throw new SyntaxError('No closing quotation')
        // Within double quotes a backslash escapes only the quote and itself.
        word += next === '"' || next === '\\' ? next : `\\${next}`
      } else word += character
    } else if (comments && character === '#') {
      const end = line.indexOf('\n', index)
      if (end === -1) break
      index = end - 1
    } else if (/[ \t\r\n]/.test(character)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else {
      word ??= ''
      if (character === "'" || character === '"') quote = character
      else if (character === '\\') {
        const next = line[++index]
        if (next === undefined) throw new SyntaxError('No escaped character')
        word += next
      } else word += character
    }
  }
  if (quote !== '') throw new SyntaxError('No closing quotation')
  if (word !== undefined) words.push(word)
  return words
}
