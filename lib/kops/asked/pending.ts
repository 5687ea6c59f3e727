// What `kops update cluster` would change, from its dry run: the key pairs that are being rotated, and what others left behind.
import { HostFailedError } from '../../errors.ts'
import type { Context } from '../context.ts'
import { kops } from './command.ts'

/** One thing that would change. */
export interface Pending {
  readonly how: 'create' | 'modify' | 'delete'
  readonly kind: string
  readonly name: string
  /** Those of its fields that would. */
  readonly fields: readonly string[]
}

/**
 * What follows from other key pairs, by kind, with the fields that may differ for them alone: what instances are told when they start, and what
 * addons are told of CAs.
 */
const ofKeypairs: Readonly<Record<string, readonly string[] | 'any'>> = {
  Keypair: 'any',
  ManagedFile: ['Contents'],
  MirrorKeystore: 'any',
  LaunchTemplate: ['UserData'],
  AutoscalingGroup: ['LaunchTemplate'],
  Instance: ['UserData'],
  InstanceTemplate: ['Metadata'],
  InstanceGroupManager: ['InstanceTemplate'],
  VMScaleSet: ['UserData'],
  ServerGroup: ['UserData'],
}

/** Whether that is what other key pairs bring with them. */
export function isOfKeypairs({ how, kind, fields }: Pending): boolean {
  const allowed = ofKeypairs[kind]
  if (allowed === undefined) return false
  if (allowed === 'any' || how === 'delete') return allowed === 'any' || kind.startsWith('LaunchTemplate')
  return how === 'create' ? kind === 'InstanceTemplate' : fields.every(field => allowed.includes(field))
}

/**
 * Has kops say what it would change.
 * @throws HostFailedError where that can't be read
 */
export async function readPending(ctx: Context): Promise<Pending[]> {
  const { stdout } = await kops(ctx, ['update', 'cluster'], {
    what: 'the cloud to say what differs from the cluster’s specification',
    within: ctx.vars.update_within,
    shown: true,
  })
  return pendingOf(stdout)
}

/** The same from what it printed. */
export function pendingOf(text: string): Pending[] {
  const found: { how: Pending['how']; kind: string; name: string; fields: string[] }[] = []
  let how: Pending['how'] | undefined
  for (const line of text.split('\n')) {
    how = (/^Will (create|modify|delete) (?:resources|items):/.exec(line)?.[1] as Pending['how'] | undefined) ?? how
    const [, kind, name] = /^ {2}([A-Za-z]\w*)(?:\/| +)(\S.*)$/.exec(line) ?? []
    if (how && kind && name) found.push({ how, kind, name, fields: [] })
    const field = /^ {2}\t([A-Za-z]\w*)\s/.exec(`${line} `)?.[1]
    if (field) found.at(-1)?.fields.push(field)
  }
  const isNothing = text.includes('No changes need to be applied')
  if (isNothing !== (found.length === 0)) {
    throw new HostFailedError(`what 'kops update cluster' would change can't be read: ${text.trim().slice(-600)}`, {
      code: 'kops.unexpected-answer',
    })
  }
  return found
}

/**
 * Refuses what is neither the key pairs' nor accepted by name: `update cluster --yes` would apply it, too.
 * @param begun whether key pairs are being rotated: where not, nothing that is pending is theirs
 * @throws HostFailedError naming each
 */
export function refuseForeign(ctx: Context, pending: readonly Pending[], hint: string, begun = true): void {
  const nameOf = ({ kind, name }: Pending) => `pending/${kind}/${name}`
  const foreign = pending.filter(one => !(begun && isOfKeypairs(one)) && !ctx.vars.accept.includes(nameOf(one)))
  if (foreign.length === 0) return
  const lines = foreign.map(
    ({ how, kind, name, fields }) => `  ${how} ${kind}/${name}${fields.length > 0 ? `: ${fields.join(', ')}` : ''}`,
  )
  throw new HostFailedError(
    `'kops update cluster --yes' would apply ${begun ? 'more than key pairs' : 'what is pending, before anything was begun'}:\n${lines.join('\n')}`,
    {
      code: 'kops.pending',
      hint: `${hint} What may be applied is accepted by name: -e '${JSON.stringify({ accept: foreign.map(nameOf) })}'`,
    },
  )
}
