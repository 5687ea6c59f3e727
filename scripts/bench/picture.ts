// The picture of the README: for a few cases, how long each runner took, as bars.
import type { Row } from './bench-run.ts'
import type { Runner } from './jobs.ts'
import { figuresOf } from './table.ts'

const pictured = ['30x5', '10x100', '30x5-delay', 'small', 'small-again', 'templates-again']
const [width, left, right, bar, gap] = [860, 130, 90, 18, 30]

/** Draws it as SVG. Bars of one case share a scale; what was ended has an open end. */
export function picture(rows: readonly Row[], runners: readonly Runner[], subtitle: string): string {
  const parts: string[] = []
  let y = 58
  for (const phase of pictured) {
    const own = rows.filter(row => row.phase === phase && (row.seconds.length > 0 || row.stopped !== undefined))
    if (own.length === 0) continue
    parts.push(`<text x="16" y="${y}" class="head">${escaped(own[0]!.title)}</text>`)
    const value = (row: Row) => figuresOf(row)?.median ?? row.stopped ?? 0
    const longest = Math.max(...own.map(value))
    for (const row of own) {
      y += bar + 4
      const length = Math.max(2, ((width - left - right) * value(row)) / longest)
      const ended = !figuresOf(row)
      const name = runners.find(({ id }) => id === row.runner)?.title ?? row.runner
      const kind = row.runner === 'rekey' ? 'own' : row.runner === 'node-ssh' ? 'reference' : 'peer'
      parts.push(
        `<text x="${left - 8}" y="${y}" text-anchor="end">${escaped(name)}</text>`,
        `<rect x="${left}" y="${y - 13}" width="${length.toFixed(1)}" height="${bar}" rx="2" class="${kind}"/>`,
        `<text x="${(left + length + 6).toFixed(1)}" y="${y}">${ended ? '&gt; ' : ''}${value(row).toFixed(value(row) < 10 ? 2 : 0)} s</text>`,
      )
    }
    y += gap
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" font-family="ui-sans-serif, system-ui, sans-serif" font-size="13">
<style>text { fill: #57606a } .head { fill: #1f2328; font-weight: 600 } .own { fill: #1a7f37 } .peer { fill: #afb8c1 } .reference { fill: #6e9ecf }</style>
<rect width="100%" height="100%" rx="8" fill="#ffffff"/>
<text x="16" y="26" class="head" font-size="15">Seconds, less is better</text>
<text x="${width - 16}" y="26" text-anchor="end">${escaped(subtitle)}</text>
${parts.join('\n')}
</svg>
`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
