// The frame of the page: one file that asks nobody for anything, and in which no script would run.
import { createHash } from 'node:crypto'
import { type Content, Html, html } from './html.ts'
import { style } from './style.ts'

/** A part of the page that its contents name. */
export interface Section {
  readonly id: string
  readonly title: string
  readonly content: Content
}

/** The page. Whatever stands in it, a browser may load nothing, send nothing and run nothing: style is what has the hash of ours. */
export function page(title: string, head: Content, sections: readonly Section[], foot: Content): string {
  const hash = createHash('sha256').update(style).digest('base64')
  const policy = `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`
  const whole = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${new Html(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="rekey">
<title>${title}</title>
<style>${new Html(style)}</style>
</head>
<body>
<header>
${head}
<nav aria-label="Contents"><ul>${sections.map(one => html`<li><a href="#${one.id}">${one.title}</a></li>`)}</ul></nav>
</header>
<main>
${sections.map(one => html`<section id="${one.id}">\n<h2>${one.title}</h2>\n${one.content}\n</section>\n`)}
</main>
<footer>${foot}</footer>
</body>
</html>
`
  return whole.text
}

/** A table whose rows stand below each other where there is no room for columns. */
export function table(
  heads: readonly string[],
  rows: readonly (readonly Content[])[],
  classes: readonly string[] = [],
): Content {
  return html`<table class="wide"><thead><tr>${heads.map(head => html`<th scope="col">${head}</th>`)}</tr></thead><tbody>
${rows.map((row, index) => html`<tr${classes[index] ? html` class="${classes[index]}"` : ''}>${row.map((cell, column) => cellOf(cell, heads[column] ?? '', column))}</tr>\n`)}</tbody></table>`
}

const cellOf = (cell: Content, head: string, column: number) =>
  cell === '' || cell === undefined
    ? html`<td></td>`
    : html`<td${column > 0 && head !== '' ? html` data-head="${head}"` : ''} class="pre">${cell}</td>`

/** What is folded until somebody asks for it; on paper it is open. */
export const folded = (summary: Content, content: Content): Content =>
  html`<details class="more"><summary>${summary}</summary>${content}</details>`

/** Rows of a label and a value. */
export const facts = (rows: readonly (readonly [string, Content])[]): Content =>
  html`<dl>${rows.map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>\n`)}</dl>`
