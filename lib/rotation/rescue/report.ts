// What a rescue tells at its end: what it found, what is new and until when, how long it took until the API and the nodes were there, what is left.
import { dayOfEnd } from '../../pki/certificates/certificate.ts'
import { formatDuration } from '../../playbook/duration.ts'
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange } from '../given/context.ts'
import { newLeaves } from '../leaves/report.ts'
import { namesOf, signedSoFar } from '../renewal/authorities.ts'
import { phases, type Variables as ReportVariables, whereToLook } from '../report.ts'
import { tell } from './plan.ts'
import { leftOf } from './well.ts'

type Run = RunContext<BackupVariables & ReportVariables>

/** All of it; of a check what was found. */
export function whole(ctx: Run): ReportSection[] {
  const told = ctx.registered<string[]>(tell.id ?? '') ?? []
  const found: ReportSection[] = told.length > 0 ? [{ title: 'Found', rows: [['', told.join('\n')]] }] : []
  if (ctx.check || ctx.mode === 'rollback') return found
  const { milestones } = ctx.timeline
  const [began, answers] = [milestones.get(firstChange), milestones.get('the API answers')]
  const renewed = signedSoFar(ctx) ?? []
  const left = leftOf(ctx)
  return [
    ...found,
    ...phases(ctx),
    ...(began === undefined || answers === undefined
      ? []
      : [{ title: 'The API', rows: [['answers after', formatDuration(answers - began)]] as const }]),
    ...(renewed.length > 0
      ? [
          {
            title: 'CAs, with the keys that they had',
            rows: renewed.map(one => [namesOf(one), `until ${dayOfEnd(one.next)}`] as const),
          },
        ]
      : []),
    ...newLeaves(ctx),
    ...(left.length > 0
      ? [{ title: 'Not well at the end, and not waited for', rows: [['', left.join('\n')]] as const }]
      : []),
    whereToLook(ctx),
  ]
}
