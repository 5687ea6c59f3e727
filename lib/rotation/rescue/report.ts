// What a rescue tells at its end: what it found, what is new and until when, how long it took until the API and the nodes were there, what is left.
import { dayOfEnd } from '../../pki/certificates/certificate.ts'
import type { ReportSection, RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnHost } from '../given/context.ts'
import { everyMachine } from '../given/hosts.ts'
import { newLeaves } from '../leaves/report.ts'
import { namesOf, signedSoFar } from '../renewal/authorities.ts'
import { filesLeft } from '../renewal/files.ts'
import { objectsLeft } from '../renewal/verify.ts'
import { phases, type Variables as ReportVariables, untilTheApiAnswers, whereToLook } from '../report.ts'
import { tell } from './plan.ts'
import { notWell } from './well.ts'

type Run = RunContext<BackupVariables & ReportVariables>

/** All of it; of a check what was found. */
export function whole(ctx: Run): ReportSection[] {
  const told = ctx.registered<string[]>(tell.id ?? '') ?? []
  const found: ReportSection[] = told.length > 0 ? [{ title: 'Found', rows: [['', told.join('\n')]] }] : []
  if (ctx.check || ctx.mode === 'rollback') return found
  const renewed = signedSoFar(ctx) ?? []
  return [
    ...found,
    ...phases(ctx),
    ...untilTheApiAnswers(ctx),
    ...(renewed.length > 0
      ? [
          {
            title: 'CAs, with the keys that they had',
            rows: renewed.map(one => [namesOf(one), `until ${dayOfEnd(one.next)}`] as const),
          },
        ]
      : []),
    ...newLeaves(ctx),
    ...(renewed.length > 0 ? endedElsewhere(ctx) : []),
    ...notWell(ctx),
    whereToLook(ctx),
  ]
}

/** Who still holds a CA that has ended: files of people, and objects of others. */
function endedElsewhere(ctx: Run): ReportSection[] {
  // Of a run that has looked at all hosts, any of them will do.
  const onHost = { ...ctx, host: ctx.hosts(everyMachine)[0] } as unknown as OnHost
  const [files, objects] = [filesLeft(onHost, ctx.hosts(everyMachine)), objectsLeft(ctx)]
  return [
    {
      title: 'Still with a CA that has ended, until you see to it',
      rows: [
        ['pods of others', 'that ran before have it in memory: restart those that ask the API'],
        ['kubeconfigs of users', 'want the CA as it is signed anew: rekey kubeconfig'],
        ...(files.length > 0 ? [['files left as they are', files.join('\n')] as const] : []),
        ...(objects.length > 0 ? [['objects of others', objects.join('\n')] as const] : []),
      ],
    },
  ]
}
