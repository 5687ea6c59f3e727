// Secrets that kOps hands to instances: what API servers encrypt etcd with, Cilium's IPsec keys, Docker's credentials. kOps prints nothing when it
// takes one, and sees no change in two of the three.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { type ReportSection, type RunContext, type Step, type StepDefinition, step } from '../../playbook/model.ts'
import { kops, kopsJson, listed } from '../asked/command.ts'
import { howToReach } from '../asked/control-plane.ts'
import type { KopsServices } from '../context.ts'
import { keepWhole } from '../kept.ts'
import { ended } from '../report.ts'
import { applyUpdate, rollOut, type Updated } from '../update.ts'
import { type AtRest, isReachable, unreadableBy } from './at-rest.ts'
import { keepNew, readGiven, readNew, type SecretContext, type Variables } from './given.ts'
import { ipsecKeysBack, ipsecMisfits } from './ipsec-keys.ts'

type Fields = Readonly<Record<string, unknown>>
const fields = (value: unknown): Fields => (typeof value === 'object' && value !== null ? (value as Fields) : {})

/** What the cluster's specification must say for a secret to reach anybody; otherwise kOps takes it, ends with 0, and nothing changes. */
export const lookAtSpecification: StepDefinition<SecretContext> = {
  id: 'see-that-the-cluster-uses-it',
  ...{ readOnly: true, remember: true },
  run: async ctx => {
    const { secret, file } = ctx.vars
    const [cluster] = listed(await kopsJson(ctx, ['get', 'cluster'], { what: 'kops to read the cluster' }))
    const spec = fields(cluster?.['spec'])
    const uses =
      secret === 'dockerconfig' ||
      (secret === 'encryptionconfig'
        ? spec['encryptionConfig'] === true
        : usesIpsec(fields(fields(spec['networking'])['cilium'])))
    if (!uses) {
      throw new HostFailedError(
        `no instance of ${ctx.vars.cluster} is given the ${secret}: its specification does not ask for it`,
        {
          code: 'kops.secret-unused',
          hint:
            secret === 'encryptionconfig'
              ? 'Set spec.encryptionConfig to true (kops edit cluster), with the encryptionconfig that is there, and roll that out first.'
              : 'It is for clusters whose spec.networking.cilium has enableEncryption, with IPsec.',
        },
      )
    }
    if ((await readGiven(ctx)).length === 0)
      throw new HostFailedError(`${file} is empty`, { code: 'kops.secret-empty' })
  },
}

const usesIpsec = ({ enableEncryption, encryptionType = 'ipsec' }: Fields) =>
  enableEncryption === true && encryptionType === 'ipsec'

/** Holds one encryptionconfig against another: what would be unreadable while both are in use, and what is not read any more. */
export type Compare = (
  before: string,
  next: string,
) => { readonly unreadable: readonly string[]; readonly dropped: readonly string[] }

/** Sees, before anything is changed, that API servers can read what they find while one after the other is replaced. */
export const lookAtFile = (compare: Compare, atRest: AtRest): StepDefinition<SecretContext> => ({
  id: 'see-that-the-file-fits',
  ...{ readOnly: true, remember: true },
  run: async ctx => {
    const given = await readGiven(ctx)
    if (ctx.vars.secret === 'encryptionconfig') await requireFit(ctx, given.toString('utf8'), compare, atRest)
    if (ctx.vars.secret === 'ciliumpassword') await requireNextKeys(ctx, given.toString('utf8'))
    await keepNew(ctx, given)
  },
})

/** Holds an encryptionconfig against the one of before. Throws where it does not fit, and nobody said that it is taken as it is. */
async function requireFit(ctx: SecretContext, next: string, compare: Compare, atRest: AtRest): Promise<void> {
  const before = await readStored(ctx)
  // Held against itself it is read at least: what is no configuration would end API servers.
  const { unreadable, dropped } = compare(before?.toString('utf8') ?? next, next)
  const against = [
    ...(before
      ? []
      : ['the one of before can’t be read from the state store: nothing can be compared, and there is no way back']),
    ...unreadable,
    ...(dropped.length > 0 ? await stillUsed(ctx, dropped, atRest, next) : []),
  ]
  if (ctx.vars.as_it_is) for (const one of against) ctx.log(one)
  else if (against.length > 0) throw unfit(ctx, against)
}

/** Holds Cilium's keys against those of before: nodes that have them already, and those that wait for them, must tell them by their id. */
async function requireNextKeys(ctx: SecretContext, next: string): Promise<void> {
  const against = ipsecMisfits((await readStored(ctx))?.toString('utf8'), next)
  if (ctx.vars.as_it_is) for (const one of against) ctx.log(one)
  else if (against.length > 0)
    throw new HostFailedError(
      `these IPsec keys can’t follow those of ${ctx.vars.cluster} as they are:\n${against.map(one => `  ${one}`).join('\n')}`,
      {
        code: 'kops.secret-unfit',
        hint: 'Nodes would drop each other’s packets, or go on with the key of before. Make a line with the next id, the same algorithm and a new key; or -e as_it_is=true.',
      },
    )
}

/** Keys that are dropped speak against it where values lie under them, or nobody can look. */
async function stillUsed(ctx: SecretContext, dropped: readonly string[], atRest: AtRest, next: string) {
  const unreadable = await unreadableBy(atRest, ctx, next)
  if (unreadable === undefined) return dropped
  return unreadable === '' ? [] : [`in etcd lie still: ${unreadable}`]
}

const unfit = (ctx: SecretContext, against: readonly string[]) =>
  new HostFailedError(
    `this encryptionconfig can’t follow the one of ${ctx.vars.cluster} as it is:\n${against.map(one => `  ${one}`).join('\n')}`,
    {
      code: 'kops.secret-unfit',
      hint: `A key is replaced by three runs: one with the new key as a further reader, one with it first, and, once every value was written anew and counted, one without the old. ${isReachable(ctx) ? 'What lies in etcd was counted.' : `For that one etcd is looked at where an inventory is given (${howToReach}); else -e as_it_is=true says that you have.`}`,
    },
  )

const keptFile = ({ folder }: Pick<RunContext, 'folder'>) => join(folder, 'secret-before')

/** Keeps the secret of before in the run's folder, where the state store is one that rekey reads: kops itself shows none. */
export const keepBefore: StepDefinition<SecretContext> = {
  id: 'keep-the-secret-of-before',
  plan: () => 'keep the secret of before in the run’s folder',
  rollback: () => {},
  run: async ctx => {
    const data = await readStored(ctx)
    if (data) {
      await keepWhole(keptFile(ctx), data)
      return 'kept' satisfies Kept
    }
    const isNone = ctx.kops.store !== undefined && !(await secretNames(ctx)).includes(ctx.vars.secret)
    ctx.log(
      isNone
        ? `there was no ${ctx.vars.secret} before: the way back deletes the new one`
        : `the ${ctx.vars.secret} of before can't be read from the state store: there is no way back from the new one`,
    )
    return (isNone ? 'none' : 'unknown') satisfies Kept
  },
}

/** What is known of the secret of before. */
type Kept = 'kept' | 'none' | 'unknown'

/** The names of the secrets that kOps has. It calls none of them a failure. */
async function secretNames(ctx: SecretContext): Promise<string[]> {
  try {
    const { stdout } = await kops(ctx, ['get', 'secrets'], { what: 'kops to name the secrets' })
    return stdout.split(/\s+/)
  } catch (error) {
    if (error instanceof HostFailedError && /no secrets found/.test(error.message)) return []
    throw error
  }
}

/** The secret as the state store has it now, where rekey reads that. */
async function readStored(ctx: SecretContext): Promise<Buffer | undefined> {
  const stored = await ctx.kops.store?.get(`${ctx.vars.cluster}/secrets/${ctx.vars.secret}`)
  return stored && dataOf(stored.text)
}

/** What kOps keeps of a secret: its bytes, as base64 in JSON. */
function dataOf(text: string): Buffer | undefined {
  try {
    const data = (JSON.parse(text) as { Data?: unknown }).Data
    return typeof data === 'string' ? Buffer.from(data, 'base64') : undefined
  } catch {
    return undefined
  }
}

/** Gives kOps the new one, over stdin. */
export const give: StepDefinition<SecretContext> = {
  id: 'give-kops-the-secret',
  plan: ({ vars: { secret, file } }) => `kops create secret ${secret} -f ${file} --force`,
  run: async ctx => create(ctx, await readNew(ctx)),
  verify: async ctx => {
    if ((await secretNames(ctx)).includes(ctx.vars.secret)) return
    throw new HostFailedError(`kops names no secret ${ctx.vars.secret} after it took one`, {
      code: 'kops.secret-missing',
    })
  },
}

/** What of a secret is one by itself: keys and tokens are long words. */
const longWords = /[A-Za-z0-9+/=_-]{16,}/g

const create = (ctx: SecretContext, input: Buffer) => {
  // Those of an encryptionconfig are known as secrets since it was read.
  if (ctx.vars.secret !== 'encryptionconfig')
    for (const [word] of input.toString('utf8').matchAll(longWords)) secret(word)
  return kops(ctx, ['create', 'secret', ctx.vars.secret, '-f', '-', '--force'], {
    what: 'kops to take the secret',
    input,
  }).then(() => {})
}

/** The instances when it was applied, and whether all are replaced whatever kops thinks of them. */
type UpdatedSecret = Updated & { readonly force: boolean }

/**
 * Applies it. kOps sees a change in an encryptionconfig alone, by its hash; where it sees none all the same, though it is another one, and with the
 * other secrets, every instance is replaced by force.
 */
export const updateSecret: StepDefinition<SecretContext> = {
  id: 'update-secret',
  plan: () => 'kops update cluster --yes',
  run: async (ctx): Promise<UpdatedSecret> => {
    const updated = await applyUpdate(ctx)
    if (ctx.vars.secret !== 'encryptionconfig') return { ...updated, force: true }
    if (updated.due.length > 0) return { ...updated, force: false }
    const isKept = ctx.registered<Kept>('keep-the-secret-of-before') === 'kept'
    if (isKept && (await readFile(keptFile(ctx))).equals(await readNew(ctx))) {
      if (isReachable(ctx)) {
        ctx.log('it is the encryptionconfig that was there: nothing is rolled out')
        return { ...updated, force: false }
      }
      throw new HostFailedError('no instance needs an update: the encryptionconfig is the same as before', {
        code: 'kops.nothing-due',
        hint: 'There is nothing to roll out. Is it the right file?',
      })
    }
    ctx.log(
      'kops calls no instance behind, though its encryptionconfig is another one: every instance is replaced by force',
    )
    return { ...updated, force: true }
  },
}

/** Replaces the instances. */
export const rollSecret: StepDefinition<SecretContext> = {
  id: 'roll-secret',
  plan: ({ vars: { secret } }) => `kops rolling-update cluster ${secret === 'encryptionconfig' ? '' : '--force '}--yes`,
  run: ctx => {
    const updated = ctx.registered<UpdatedSecret>('update-secret')
    if (!updated) throw new HostFailedError("'update-secret' was left out", { code: 'kops.no-plan' })
    return rollOut(ctx, updated, updated)
  },
}

/** What undoes it: the secret of before, brought to the instances in the same way. */
export const secretBack = (compare: Compare): Step<SecretContext>[] => [
  step('Give kOps the secret of before', {
    run: async ctx => {
      const { secret } = ctx.vars
      const kept = ctx.registered<Kept>('keep-the-secret-of-before')
      if (kept === 'none') {
        if ((await secretNames(ctx)).includes(secret))
          await kops(ctx, ['delete', 'secret', secret], { what: 'kops to delete the secret' })
        return
      }
      if (kept === 'kept') {
        const data = await readFile(keptFile(ctx))
        await requireReadable(ctx, compare, data)
        await create(ctx, secret === 'ciliumpassword' ? await keysBack(ctx, data) : data)
        return
      }
      throw new HostFailedError(`the ${secret} of before was not kept`, {
        code: 'kops.secret-not-kept',
        hint: `Give it to kops by hand, as the file of a new run: rekey run rotate-kops-secret -e secret=${secret} -e file=FILE`,
      })
    },
  }),
  step('Update the cluster', { id: 'update-back-secret', run: ctx => applyUpdate(ctx) }),
  step('Replace the instances', {
    id: 'roll-back-secret',
    run: ctx => {
      const updated = ctx.registered<Updated>('update-back-secret') ?? { all: [], due: [] }
      // What was replaced by force on the way there kops does not see on the way back either.
      const force = ctx.registered<UpdatedSecret>('update-secret')?.force ?? ctx.vars.secret !== 'encryptionconfig'
      return rollOut(ctx, updated, { force })
    },
  }),
]

/** Cilium's keys of before, under the id that comes next: agents have that of the new ones by now. */
async function keysBack(ctx: SecretContext, kept: Buffer): Promise<Buffer> {
  return Buffer.from(ipsecKeysBack(kept.toString('utf8'), (await readStored(ctx))?.toString('utf8')))
}

/** Values that were written since must be read by the one that comes back. */
async function requireReadable(ctx: SecretContext, compare: Compare, kept: Buffer): Promise<void> {
  const now = ctx.vars.secret === 'encryptionconfig' ? await readStored(ctx) : undefined
  const { unreadable } = now ? compare(now.toString('utf8'), kept.toString('utf8')) : { unreadable: [] }
  if (unreadable.length > 0) throw unfit(ctx, unreadable)
}

const leftToDo = `what lies in etcd is under the key of before still, and was not looked at. ${howToReach} The same run again with one writes everything anew, and counts. By hand: kubectl get RESOURCE -A -o json | kubectl replace -f -, for each resource of the encryptionconfig. Until then leave the key of before among the readers`

/** What was counted, or is left to do. */
export function secretReport(
  ctx: RunContext<Variables> & KopsServices & { readonly outcome: string },
): ReportSection[] {
  ended(ctx)
  if (ctx.outcome !== 'done' || ctx.mode === 'rollback' || ctx.check) return []
  const counted = ctx.registered<{ covered: number }>('count-what-lies-in-etcd')
  const rows: (readonly [string, string])[] = counted
    ? [
        [
          'counted in etcd',
          `${counted.covered} values, each as it would be written now: what only reads may be dropped, by a run of its own`,
        ],
      ]
    : [['next', ctx.vars.secret === 'encryptionconfig' ? leftToDo : 'nothing: every instance was replaced']]
  return [{ title: `The ${ctx.vars.secret} of ${ctx.vars.cluster}`, rows }]
}
