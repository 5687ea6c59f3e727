// Words of a line as a POSIX shell splits them, without expanding anything: Python's shlex.split.

// A run of plain characters; a text in double quotes; one in single quotes; an escaped character; white space; a hash.
const piece = /([^ \t\r\n"'\\#]+)|"((?:[^"\\]|\\[\s\S])*)"|'([^']*)'|\\([\s\S])|([ \t\r\n]+)|#/y

/**
 * Splits a line into words. Takes the line and whether `#` starts a comment. Throws `SyntaxError` for a quote that is
 * never closed.
 */
export function splitShell(line: string, { comments = false } = {}): string[] {
  const words: string[] = []
  let word: string | undefined
  piece.lastIndex = 0
  while (piece.lastIndex < line.length) {
    const match = piece.exec(line)
    if (!match) throw new SyntaxError('a quote is not closed')
    const [, plain, double, single, escaped, space] = match
    if (plain !== undefined) word = (word ?? '') + plain
    // Within double quotes a backslash escapes only the quote and itself.
    else if (double !== undefined) word = (word ?? '') + double.replace(/\\(["\\])/g, '$1')
    else if (single !== undefined || escaped !== undefined) word = (word ?? '') + (single ?? escaped)
    else if (space === undefined && !comments) word = `${word ?? ''}#`
    else {
      if (word !== undefined) words.push(word)
      word = undefined
      if (space === undefined) {
        const end = line.indexOf('\n', piece.lastIndex)
        if (end === -1) break
        piece.lastIndex = end
      }
    }
  }
  if (word !== undefined) words.push(word)
  return words
}
