// A place in a text that is scanned as YAML, and the kinds of its characters.

/** Text that libyaml refuses. */
export class YamlSyntaxError extends Error {
  /** Where in the text. */
  readonly offset: number
  constructor(message: string, offset: number) {
    super(message)
    this.offset = offset
  }
}

export const [space, tab, lineFeed, carriageReturn] = [0x20, 0x09, 0x0a, 0x0d]
const [nextLine, lineSeparator, paragraphSeparator, byteOrderMark] = [0x85, 0x2028, 0x2029, 0xfeff]
export const [quote, apostrophe, hash, percent, comma, dash, dot] = [0x22, 0x27, 0x23, 0x25, 0x2c, 0x2d, 0x2e]
export const [colon, question, exclamation, backslash, plus] = [0x3a, 0x3f, 0x21, 0x5c, 0x2b]
export const [less, greater, bar, ampersand, asterisk] = [0x3c, 0x3e, 0x7c, 0x26, 0x2a]
export const [openBracket, closeBracket, openBrace, closeBrace] = [0x5b, 0x5d, 0x7b, 0x7d]
/** What stands behind the last character. */
export const end = -1

/** Line breaks as YAML 1.1 has them. */
export const isBreak = (unit: number): boolean =>
  unit === lineFeed ||
  unit === carriageReturn ||
  unit === nextLine ||
  unit === lineSeparator ||
  unit === paragraphSeparator
export const isBlank = (unit: number): boolean => unit === space || unit === tab
/** White space, or the end. */
export const isGap = (unit: number): boolean => unit === end || isBlank(unit) || isBreak(unit)
/** What names of anchors, tags and directives are made of. */
export const isWord = (unit: number): boolean =>
  (unit >= 0x30 && unit <= 0x39) ||
  (unit >= 0x41 && unit <= 0x5a) ||
  (unit >= 0x61 && unit <= 0x7a) ||
  unit === 0x5f ||
  unit === dash
export const isFlowIndicator = (unit: number): boolean =>
  unit === comma || unit === openBracket || unit === closeBracket || unit === openBrace || unit === closeBrace

const unreadable = /[^\t\n\r\x20-\x7e\x85\xa0-\ufffd]/

/** Where a scanner is. A class because offset, line and column move together. */
export class Cursor {
  readonly text: string
  at = 0
  line = 0
  #lineStart = 0

  /** Throws `YamlSyntaxError` for control characters. */
  constructor(text: string) {
    const bad = unreadable.exec(text)
    if (bad) throw new YamlSyntaxError('control characters are not allowed', bad.index)
    this.text = text
    if (text.charCodeAt(0) === byteOrderMark) this.#lineStart = ++this.at
  }

  /** The character here, or so many behind it. */
  unit(ahead = 0): number {
    const at = this.at + ahead
    return at < this.text.length ? this.text.charCodeAt(at) : end
  }

  get column(): number {
    return this.at - this.#lineStart
  }

  error(message: string, offset = this.at): YamlSyntaxError {
    return new YamlSyntaxError(message, offset)
  }

  /** Steps over a line break, and returns what it is within a text; nothing where there is none. */
  break(): string {
    const unit = this.unit()
    if (!isBreak(unit)) return ''
    this.at += unit === carriageReturn && this.unit(1) === lineFeed ? 2 : 1
    this.line++
    this.#lineStart = this.at
    return unit === lineSeparator || unit === paragraphSeparator ? String.fromCharCode(unit) : '\n'
  }

  skipByteOrderMark(): void {
    if (this.column === 0 && this.unit() === byteOrderMark) this.at++
  }

  skipBlanks(): void {
    while (isBlank(this.unit())) this.at++
  }

  skipWord(): void {
    while (isWord(this.unit())) this.at++
  }

  skipLine(): void {
    while (this.at < this.text.length && !isBreak(this.unit())) this.at++
  }

  /** Steps over blanks, perhaps a comment, and the end of the line. Throws where something else stands there. */
  skipRestOfLine(): void {
    this.skipBlanks()
    if (this.unit() === hash) this.skipLine()
    if (this.unit() !== end && !isBreak(this.unit())) throw this.error('a comment or a line break is expected')
    this.break()
  }

  /** True at `---` or `...`, whichever is asked for, at the start of a line. */
  atMarker(unit: number): boolean {
    return (
      this.column === 0 && this.unit() === unit && this.unit(1) === unit && this.unit(2) === unit && isGap(this.unit(3))
    )
  }
}
