// Draws what a terminal shows as an SVG: reads text with colours (ANSI SGR) from stdin, writes the picture to stdout.
// The README's picture is made with it from a run in the lab:
//   tmux capture-pane -e -p -t PANE | node scripts/terminal-picture.ts > docs/rehearsal.svg
import { text } from 'node:stream/consumers'

const cell = { width: 8.4, height: 19 }
const padding = 16
const palette = ['#1c1f24', '#e06c75', '#98c379', '#e5c07b', '#61afef', '#c678dd', '#56b6c2', '#d7dae0']
const bright = ['#7f848e', '#ef8891', '#b5e08f', '#f0d197', '#85c5ff', '#d99bf0', '#7fd4e0', '#ffffff']
const plain = '#d7dae0'

interface Span {
  readonly text: string
  readonly colour: string
  readonly bold: boolean
}

const lines = (await text(process.stdin)).replace(/\s+$/, '').split('\n').map(spansOf)
const columns = Math.max(80, ...lines.map(line => line.reduce((sum, { text }) => sum + [...text].length, 0)))
const width = Math.ceil(columns * cell.width + 2 * padding)
const height = lines.length * cell.height + 2 * padding
const rows = lines.map((spans, index) => {
  const y = padding + cell.height * index + 14
  let column = 0
  const parts = spans.map(({ text, colour, bold }) => {
    const x = padding + column * cell.width
    column += [...text].length
    return `<tspan x="${x.toFixed(1)}" fill="${colour}"${bold ? ' font-weight="bold"' : ''}>${escaped(text)}</tspan>`
  })
  return `<text y="${y}" xml:space="preserve">${parts.join('')}</text>`
})
process.stdout.write(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">
<rect width="100%" height="100%" rx="8" fill="#1c1f24"/>
${rows.join('\n')}
</svg>
`)

function spansOf(line: string): Span[] {
  const spans: Span[] = []
  let colour = plain
  let bold = false
  let rest = 0
  for (const match of line.matchAll(/\x1b\[([\d;]*)m/g)) {
    add(line.slice(rest, match.index))
    rest = match.index + match[0].length
    for (const code of (match[1] || '0').split(';').map(Number)) {
      if (code === 0) [colour, bold] = [plain, false]
      else if (code === 1) bold = true
      else if (code === 2) colour = bright[0] ?? plain
      else if (code === 22) bold = false
      else if (code === 39) colour = plain
      else if (code >= 30 && code <= 37) colour = palette[code - 30] ?? plain
      else if (code >= 90 && code <= 97) colour = bright[code - 90] ?? plain
    }
  }
  add(line.slice(rest))
  return spans

  function add(part: string) {
    if (part !== '') spans.push({ text: part, colour, bold })
  }
}

function escaped(part: string): string {
  return part.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
