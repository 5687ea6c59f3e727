// Text as HTML: whatever hosts, inventories and folders of runs say is data, and can't become markup.
import { visible } from '../text.ts'

/** What is markup already. Made by `html` alone. */
export class Html {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** What may stand in a template: text is escaped, nothing at all is left out. */
export type Content = Html | string | number | undefined | false | readonly Content[]

/** Markup with what stands in it escaped, in text as in quoted attributes. */
export function html(markup: TemplateStringsArray, ...contents: readonly Content[]): Html {
  let text = markup[0] ?? ''
  contents.forEach((content, index) => {
    text += textOf(content) + (markup[index + 1] ?? '')
  })
  return new Html(text)
}

function textOf(content: Content): string {
  if (content instanceof Html) return content.text
  if (content === undefined || content === false) return ''
  if (typeof content === 'number') return String(content)
  if (typeof content === 'string') return escaped(content)
  let text = ''
  for (const one of content) text += textOf(one)
  return text
}

const harmless = /^[\w .:,;/()=+@%#!?*~^|{}[\]$-]*$/

/** Text without what is no sign, and without what HTML takes for its own. */
export function escaped(text: string): string {
  if (harmless.test(text)) return text
  return text
    .split('\n')
    .map(visible)
    .join('\n')
    .toWellFormed()
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;')
}
