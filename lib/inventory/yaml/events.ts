// YAML as libyaml parses it: from tokens to the events of which documents are made.
import { YamlSyntaxError } from './cursor.ts'
import { Scanner, type Token } from './scanner.ts'

interface Placed {
  /** The line on which it starts, from 1. */
  readonly line: number
  readonly start: number
}
interface Labelled extends Placed {
  readonly anchor?: string
  readonly tag?: string
}

/** A scalar, the start of a list or map, which an `end` closes, an alias, or the start of a document. */
export type YamlEvent =
  | (Labelled & { readonly kind: 'scalar'; readonly text: string; readonly plain: boolean })
  | (Labelled & { readonly kind: 'sequence' })
  | (Labelled & { readonly kind: 'mapping' })
  | (Placed & { readonly kind: 'alias'; readonly name: string })
  | (Placed & { readonly kind: 'document' })
  | (Placed & { readonly kind: 'end' })

const maxDepth = 200
type Kinds = readonly Token['kind'][]
const documentStart: Kinds = ['version', 'tag-directive', 'document-start']
// What stands where there is no value.
const noDocument: Kinds = [...documentStart, 'document-end', 'stream-end']
const noEntry: Kinds = ['block-entry', 'block-end']
const noBlockValue: Kinds = ['key', 'value', 'block-end']
const noIndentlessEntry: Kinds = ['block-entry', ...noBlockValue]
const noFlowValue: Kinds = ['flow-entry', 'flow-sequence-end', 'flow-mapping-end']
const noFlowKey: Kinds = ['value', 'flow-entry', 'flow-mapping-end']
const behindNoKey: Kinds = ['value', 'flow-entry']

const secondary = 'tag:yaml.org,2002:'

/** The events of a text. Throws `YamlSyntaxError` for what libyaml refuses, and for more than 200 levels. */
export function parseEvents(text: string): YamlEvent[] {
  return new Parser(text).stream()
}

/** A recursive-descent parser; a class because scanner, events and tag handles are shared by every rule. */
class Parser {
  readonly #scanner: Scanner
  readonly #events: YamlEvent[] = []
  #handles = new Map<string, string>()
  #depth = 0

  constructor(text: string) {
    this.#scanner = new Scanner(text)
  }

  stream(): YamlEvent[] {
    for (let first = true; ; first = false) {
      if (!first) while (this.#at('document-end')) this.#scanner.next()
      const token = this.#scanner.peek()
      if (token.kind === 'stream-end') return this.#events
      const implicit = first && !this.#atOneOf(documentStart)
      this.#directives()
      if (!implicit) this.#expect('document-start', "a document starts with '---' here")
      this.#mark('document', token)
      // libyaml takes an implicit document for one with a node in it.
      if (implicit) this.#node(true, false)
      else this.#nodeUnless(true, false, noDocument)
      this.#mark('end', this.#scanner.peek())
    }
  }

  #at(kind: Token['kind']): boolean {
    return this.#scanner.peek().kind === kind
  }

  #atOneOf(kinds: Kinds): boolean {
    return kinds.includes(this.#scanner.peek().kind)
  }

  #error(message: string, { start }: Token = this.#scanner.peek()): YamlSyntaxError {
    return new YamlSyntaxError(message, start)
  }

  #expect(kind: Token['kind'], message: string): void {
    if (!this.#at(kind)) throw this.#error(message)
    this.#scanner.next()
  }

  #mark(kind: 'document' | 'end', { start, line }: Token): void {
    this.#events.push({ kind, start, line: line + 1 })
  }

  #empty({ start, line }: Token = this.#scanner.peek()): void {
    this.#events.push({ kind: 'scalar', start, line: line + 1, text: '', plain: true })
  }

  #directives(): void {
    this.#handles = new Map()
    let versions = 0
    for (;;) {
      const token = this.#scanner.peek()
      if (token.kind === 'version') {
        if (++versions > 1) throw this.#error('a second %YAML')
        if (!token.supported) throw this.#error('only YAML 1.1 and 1.2 are read')
      } else if (token.kind === 'tag-directive') {
        if (this.#handles.has(token.handle)) throw this.#error(`a second %TAG for ${token.handle}`)
        this.#handles.set(token.handle, token.prefix)
      } else break
      this.#scanner.next()
    }
  }

  /** A value; `block`: one in the block style is possible, `indentless`: so is a list at the column of its key. */
  #node(block: boolean, indentless: boolean): void {
    const first = this.#scanner.peek()
    if (first.kind === 'alias') {
      this.#scanner.next()
      this.#events.push({ kind: 'alias', start: first.start, line: first.line + 1, name: first.name })
      return
    }
    let [anchor, tag]: (string | undefined)[] = []
    for (let token = this.#scanner.peek(); ; token = this.#scanner.peek()) {
      if (token.kind === 'anchor' && anchor === undefined) anchor = token.name
      else if (token.kind === 'tag' && tag === undefined) tag = this.#resolved(token)
      else break
      this.#scanner.next()
    }
    const token = this.#scanner.peek()
    // A text with the tag ! alone is read like one without quotes, and nothing with it like one with them.
    const bare = tag === '!'
    const [start, line] = [first.start, first.line + 1]
    if (bare) tag = undefined
    if (token.kind === 'scalar') {
      this.#scanner.next()
      this.#events.push({ kind: 'scalar', start, line, anchor, tag, text: token.text, plain: bare || token.plain })
      return
    }
    if (++this.#depth > maxDepth) throw this.#error(`more than ${maxDepth} levels within each other`)
    const open = (kind: 'sequence' | 'mapping'): void => void this.#events.push({ kind, start, line, anchor, tag })
    if (indentless && token.kind === 'block-entry') {
      open('sequence')
      this.#indentlessSequence()
    } else if (token.kind === 'flow-sequence') {
      open('sequence')
      this.#flowSequence()
    } else if (token.kind === 'flow-mapping') {
      open('mapping')
      this.#flowMapping()
    } else if (block && token.kind === 'block-sequence') {
      open('sequence')
      this.#blockSequence()
    } else if (block && token.kind === 'block-mapping') {
      open('mapping')
      this.#blockMapping()
    } else if (anchor !== undefined || tag !== undefined || bare)
      this.#events.push({ kind: 'scalar', start, line, anchor, tag, text: '', plain: !bare })
    else throw this.#error('a value is expected here')
    this.#depth--
  }

  #resolved(token: Extract<Token, { kind: 'tag' }>): string {
    const { handle, suffix } = token
    if (handle === '') return suffix
    const prefix = this.#handles.get(handle) ?? { '!': '!', '!!': secondary }[handle]
    if (prefix === undefined) throw this.#error(`the handle ${handle} of a tag is not declared`, token)
    return prefix + suffix
  }

  #nodeUnless(block: boolean, indentless: boolean, kinds: Kinds): void {
    if (this.#atOneOf(kinds)) this.#empty()
    else this.#node(block, indentless)
  }

  #blockSequence(): void {
    this.#scanner.next()
    while (this.#at('block-entry')) {
      this.#scanner.next()
      this.#nodeUnless(true, false, noEntry)
    }
    this.#close('block-end', "an entry that starts with '- ' is expected here")
  }

  #indentlessSequence(): void {
    while (this.#at('block-entry')) {
      this.#scanner.next()
      this.#nodeUnless(true, false, noIndentlessEntry)
    }
    this.#mark('end', this.#scanner.peek())
  }

  #blockMapping(): void {
    this.#scanner.next()
    while (this.#at('key')) {
      this.#scanner.next()
      this.#nodeUnless(true, true, noBlockValue)
      if (this.#at('value')) {
        this.#scanner.next()
        this.#nodeUnless(true, true, noBlockValue)
      } else this.#empty()
    }
    this.#close('block-end', 'a key is expected here')
  }

  #close(kind: Token['kind'], message: string): void {
    this.#mark('end', this.#scanner.peek())
    this.#expect(kind, message)
  }

  #flowSequence(): void {
    this.#scanner.next()
    for (let first = true; !this.#at('flow-sequence-end'); first = false) {
      if (!first) {
        this.#expect('flow-entry', "a ',' or ']' is expected here")
        if (this.#at('flow-sequence-end')) break
      }
      if (this.#at('key')) this.#flowPair()
      else this.#node(false, false)
    }
    this.#close('flow-sequence-end', "a ']' is expected here")
  }

  /** A map of one key within `[…]`. */
  #flowPair(): void {
    const { start, line } = this.#scanner.next()
    this.#events.push({ kind: 'mapping', start, line: line + 1 })
    // An empty key swallows the colon or comma behind it: so does libyaml, whose versions differ in what a bracket there is.
    if (this.#atOneOf(behindNoKey)) this.#empty(this.#scanner.next())
    else if (this.#at('flow-sequence-end')) throw this.#error("a key is expected behind '?'")
    else this.#node(false, false)
    this.#flowValue()
    this.#mark('end', this.#scanner.peek())
  }

  #flowValue(): void {
    if (this.#at('value')) {
      this.#scanner.next()
      this.#nodeUnless(false, false, noFlowValue)
    } else this.#empty()
  }

  #flowMapping(): void {
    this.#scanner.next()
    for (let first = true; !this.#at('flow-mapping-end'); first = false) {
      if (!first) {
        this.#expect('flow-entry', "a ',' or '}' is expected here")
        if (this.#at('flow-mapping-end')) break
      }
      if (this.#at('key')) {
        this.#scanner.next()
        this.#nodeUnless(false, false, noFlowKey)
        this.#flowValue()
      } else {
        this.#node(false, false)
        this.#empty()
      }
    }
    this.#close('flow-mapping-end', "a '}' is expected here")
  }
}
