// The report that a playbook makes of a run, as events carry it: whatever its code returns.
import { RekeyError, shown } from '../errors.ts'
import type { ReportSection } from '../playbook/model.ts'

/** Throws `RekeyError` with what is no report in it. What is no text in a row is told as code. */
export function reportSections(returned: unknown): ReportSection[] {
  if (returned === undefined || returned === null) return []
  if (!Array.isArray(returned)) throw notReport('it must be a list of sections', returned)
  return returned.map((section: unknown, index) => {
    const place = `section ${index + 1}`
    if (typeof section !== 'object' || section === null) throw notReport(`${place} must have a title and rows`, section)
    const { title, rows } = section as { title?: unknown; rows?: unknown }
    if (typeof title !== 'string') throw notReport(`the title of ${place} must be a text`, title)
    if (!Array.isArray(rows)) throw notReport(`the rows of ${place} '${title}' must be a list`, rows)
    return {
      title,
      rows: rows.map((row: unknown) => {
        if (Array.isArray(row) && row.length === 2) return [textOf(row[0]), textOf(row[1])] as const
        throw notReport(`each row of ${place} '${title}' must be a label and a value`, row)
      }),
    }
  })
}

const textOf = (value: unknown) => (typeof value === 'string' ? value : shown(value))

function notReport(what: string, value: unknown): RekeyError {
  return new RekeyError(`${what}, not ${shown(value)}`, { code: 'playbook.report' })
}
