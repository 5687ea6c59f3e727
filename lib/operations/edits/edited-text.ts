// Files as text to be edited, and lines of it: what is no UTF-8 stays what it is, byte by byte.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** A file as text to be edited. */
export interface EditedText {
  readonly text: string
  /** Such a file, of a text. */
  encode(text: string): Buffer
  /** Options as texts of the same kind. */
  adapted<Options extends object>(options: Options): Options
}

/** A file as text. */
export function textOf(content: Buffer): EditedText {
  try {
    return { text: utf8.decode(content), encode: text => Buffer.from(text), adapted: options => options }
  } catch {
    const inBytes = (value: unknown) => (typeof value === 'string' ? Buffer.from(value).toString('latin1') : value)
    return {
      text: content.toString('latin1'),
      encode: text => Buffer.from(text, 'latin1'),
      adapted: <Options extends object>(options: Options) =>
        Object.fromEntries(Object.entries(options).map(([name, value]) => [name, inBytes(value)])) as Options,
    }
  }
}

/** The lines of a text, each with its line break. */
export function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? []
}

/** A line without its line break. */
export const bare = (line: string): string => line.replace(/(?<![\r\n])[\r\n]+$/, '')
