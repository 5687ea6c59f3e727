// What a renewal tells at its end: until when each CA holds now, what was started anew, what still goes by the old certificate and until when.
import { dayOfEnd, parseCertificate } from '../../pki/certificates/certificate.ts'
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import { firstChange, type OnHost } from '../given/context.ts'
import { everyMachine } from '../given/hosts.ts'
import type { Variables as ObserveVariables, WithProbes } from '../observe.ts'
import { noticed, outOfTheOrdinary, phases, type Variables as ReportVariables, whereToLook } from '../report.ts'
import { namesOf, type Renewed, signedSoFar } from './authorities.ts'
import { filesLeft, restart, verifiedLeaves } from './files.ts'
import { objectsLeft } from './verify.ts'

function authorities(renewed: readonly Renewed[]): ReportSection {
  return {
    title: 'CAs',
    rows: renewed.map(({ roles, old, next }) => [
      namesOf({ roles }),
      `old until ${dayOfEnd(old)}\nnew until ${dayOfEnd(next)}\nkey identifier ${parseCertificate(next).subjectKeyId ?? 'none'}, as before\nnew ${parseCertificate(next).fingerprint}`,
    ]),
  }
}

/** What goes by the old certificate until it ends. */
function left(ctx: OnHost, renewed: readonly Renewed[]): ReportSection {
  const until = renewed.map(({ old }) => dayOfEnd(old)).sort()[0] ?? ''
  const [files, objects] = [filesLeft(ctx, ctx.hosts(everyMachine)), objectsLeft(ctx)]
  return {
    title: `Good until the old certificate ends, ${until}`,
    rows: [
      ['pods', `that ran before have the old certificate in memory: restart them before ${until}, at any time`],
      ['kubeconfigs of users', `work unchanged, and want the new certificate before ${until}`],
      ...(files.length > 0 ? [['files left as they are', files.join('\n')] as const] : []),
      ...(objects.length > 0 ? [['objects of others', objects.join('\n')] as const] : []),
    ],
  }
}

/** All of it; nothing for a check, and of CAs nothing after a way back. */
export async function whole(
  ctx: RunContext<BackupVariables & ObserveVariables & ReportVariables> & WithProbes,
): Promise<ReportSection[]> {
  if (ctx.check) return []
  const renewed = ctx.mode === 'rollback' ? undefined : signedSoFar(ctx)
  const changed = ctx.timeline.milestones.has(firstChange)
  const leaves = verifiedLeaves(ctx)
  // Of a run that has looked at all hosts, any of them will do.
  const onHost = { ...ctx, host: ctx.hosts(everyMachine)[0] } as unknown as OnHost
  return [
    ...phases(ctx),
    ...(renewed ? [authorities(renewed)] : []),
    ...(renewed && leaves !== undefined
      ? [
          {
            title: 'Certificates',
            rows: [
              ['hold under the new CAs alone', `${leaves}`],
              ['issued', 'none'],
            ] as const,
          },
        ]
      : []),
    ...(renewed && changed ? [{ title: 'Started anew, one after the other', rows: restart.restarted(onHost) }] : []),
    ...(await noticed(ctx)),
    ...outOfTheOrdinary(ctx),
    ...(renewed && changed ? [left(onHost, renewed)] : []),
    whereToLook(ctx),
  ]
}
