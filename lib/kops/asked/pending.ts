// What `kops update cluster` would change, from its dry run: the key pairs that are being rotated, and what others left behind.
import { diffArrays } from 'diff'
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
  /** Lines of text that would be taken out or put in, where kops shows them. */
  readonly lines: readonly ChangedLine[]
}

/** A line without its sign, and the one that stands before it in its text. */
interface ChangedLine {
  readonly text: string
  readonly before: string
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
export function isOfKeypairs({ how, kind, name, fields, lines }: Pending): boolean {
  const allowed = ofKeypairs[kind]
  if (allowed === undefined || neverOfKeypairs.test(name) || !lines.every(isKeyMaterial)) return false
  // An addon that holds a CA shows so; of one that shows nothing nobody knows.
  if (kind === 'ManagedFile' && /-addons-(?!bootstrap$)/.test(name) && lines.length === 0) return false
  if (allowed === 'any' || how === 'delete') return allowed === 'any' || kind.startsWith('LaunchTemplate')
  if (how === 'create') return kind === 'InstanceTemplate'
  return fields.length > 0 && fields.every(field => allowed.includes(field))
}

/** The specification itself: nothing of it comes from key pairs. */
const neverOfKeypairs = /(^|\/)cluster-completed\.spec$/

/** Whether a line of a file is of certificates, ids, hashes, public keys, or the name of such a list alone. */
function isKeyMaterial({ text, before }: ChangedLine): boolean {
  const bare = text.trim()
  if (/^[A-Za-z0-9+/]{64}$/.test(bare) || /^-----(BEGIN|END) [A-Z ]+-----$/.test(bare)) return true
  // The last line of a certificate is shorter.
  if (/^[A-Za-z0-9+/]{1,63}={0,2}$/.test(bare)) return /^[A-Za-z0-9+/]{64}$/.test(before.trim())
  const value = bare
    .replace(/^(- )+/, '')
    .replace(/^(["']?)[\w.-]+(?: [\w.-]+)*\1(: *|:$|=(?=.))/, '')
    .replace(/^["'|>]+|(?<!["',])["',]+$/g, '')
  return /^([[\]{},|>-]*|\d{19,}|[A-Za-z0-9+/_-]{40,}={0,2}|RS256|RSA|sig|AQAB)$/.test(value)
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

/** What the lines after a heading are about. */
const headings: readonly (readonly [heading: RegExp, how: Pending['how'] | 'kept'])[] = [
  [/^Will create resources:/, 'create'],
  [/^Will modify resources:/, 'modify'],
  [/^(Will delete items|Items will be deleted during update):/, 'delete'],
  // Nothing of it goes without --prune, which rekey never says.
  [/^Items will be deleted only when the --prune flag is specified:/, 'kept'],
]

/** A text of a field before and after a change, as much of it as kops shows. */
interface Shown {
  readonly old: string[]
  readonly next: string[]
}

/**
 * What differs. Where much does, kops shows all of a text as taken out and put in again (it compares letters, and joins what lies close by:
 * `pkg/diff`): what is the same in both is no change.
 */
function changedLines({ old, next }: Shown): ChangedLine[] {
  const lines: ChangedLine[] = []
  let [atOld, atNext] = [0, 0]
  for (const { added, removed, value } of diffArrays(old, next)) {
    const of = (all: readonly string[], from: number) =>
      value.map((text, index) => ({ text, before: all[from + index - 1] ?? '' }))
    if (removed) lines.push(...of(old, atOld))
    if (added) lines.push(...of(next, atNext))
    if (!added) atOld += value.length
    if (!removed) atNext += value.length
  }
  return lines.filter(({ text }) => text.trim() !== '')
}

/** The same from what it printed. */
export function pendingOf(text: string): Pending[] {
  const found: { how: Pending['how']; kind: string; name: string; fields: string[]; shown: Shown[] }[] = []
  let kept = 0
  let how: Pending['how'] | 'kept' | undefined
  for (const line of text.split('\n')) {
    how = headings.find(([heading]) => heading.test(line))?.[1] ?? how
    const [, kind, name] = /^ {2}([A-Za-z]\w*)(?:\/| +)(\S.*)$/.exec(line) ?? []
    if (how === 'kept') kept += kind && name ? 1 : 0
    else if (how && kind && name) found.push({ how, kind, name, fields: [], shown: [] })
    const field = /^ {2}\t([A-Za-z]\w*)\s/.exec(`${line} `)?.[1]
    if (field) {
      found.at(-1)?.fields.push(field)
      found.at(-1)?.shown.push({ old: [], next: [] })
    }
    // The sign stands right after the tab: a line without one is shown around others, and may itself be an item of a list.
    const [, sign, text] = /^ {2}\t *\t([+-]|\s|\.\.\.)(?:\s(.*))?$/.exec(line) ?? []
    const shown = found.at(-1)?.shown.at(-1)
    if (!sign || !shown) continue
    const said = text ?? (sign === '...' ? sign : '')
    if (sign !== '+') shown.old.push(said)
    if (sign !== '-') shown.next.push(said)
  }
  const isNothing = text.includes('No changes need to be applied')
  if (isNothing !== (found.length + kept === 0)) {
    throw new HostFailedError(`what 'kops update cluster' would change can't be read: ${text.trim().slice(-600)}`, {
      code: 'kops.unexpected-answer',
    })
  }
  return found.map(({ shown, ...one }) => ({ ...one, lines: shown.flatMap(changedLines) }))
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
