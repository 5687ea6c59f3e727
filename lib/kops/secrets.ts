// Secrets that kOps hands to instances: what API servers encrypt etcd with, Cilium's IPsec keys, Docker's credentials. kOps prints nothing when it
// takes one, and sees no change in two of the three.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { secret } from '../connection/shell.ts'
import { HostFailedError } from '../errors.ts'
import {
  type ReportSection,
  type RunContext,
  type Step,
  type StepContext,
  type StepDefinition,
  step,
} from '../playbook/model.ts'
import { kops, kopsJson, listed } from './asked/command.ts'
import { type KopsServices, variables } from './context.ts'
import { ended } from './report.ts'
import { applyUpdate, rollOut, type Updated } from './update.ts'

export const secretVariables = {
  ...variables,
  /** Which, by kOps' names. */
  secret: z.enum(['encryptionconfig', 'ciliumpassword', 'dockerconfig']),
  /** The file with the new one, on this machine. */
  file: z.string().min(1),
  /** Takes an encryptionconfig that drops a key or can't be held against the one of before: once every value was counted, as the operator says. */
  as_it_is: z.boolean().default(false),
}

type Variables = z.output<z.ZodObject<typeof secretVariables>>

export type SecretContext = StepContext<Variables> & KopsServices

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
        : fields(spec['networking'])['cilium'] !== undefined)
    if (!uses) {
      throw new HostFailedError(
        `no instance of ${ctx.vars.cluster} is given the ${secret}: its specification does not ask for it`,
        {
          code: 'kops.secret-unused',
          hint:
            secret === 'encryptionconfig'
              ? 'Set spec.encryptionConfig to true (kops edit cluster), with the encryptionconfig that is there, and roll that out first.'
              : 'It is for clusters whose spec.networking is cilium.',
        },
      )
    }
    if ((await readNew(file)).length === 0) throw new HostFailedError(`${file} is empty`, { code: 'kops.secret-empty' })
  },
}

/** Holds one encryptionconfig against another: what would be unreadable while both are in use, and what is not read any more. */
export type Compare = (
  before: string,
  next: string,
) => { readonly unreadable: readonly string[]; readonly dropped: readonly string[] }

/** Sees, before anything is changed, that API servers can read what they find while one after the other is replaced. */
export const lookAtFile = (compare: Compare): StepDefinition<SecretContext> => ({
  id: 'see-that-the-file-fits',
  ...{ readOnly: true, remember: true },
  when: ({ vars }) => vars.secret === 'encryptionconfig',
  run: async ctx => {
    const next = (await readNew(ctx.vars.file)).toString('utf8')
    const before = await readStored(ctx)
    // Held against itself it is read at least: what is no configuration would end API servers.
    const { unreadable, dropped } = compare(before?.toString('utf8') ?? next, next)
    const against = [
      ...(before
        ? []
        : ['the one of before can’t be read from the state store: nothing can be compared, and there is no way back']),
      ...unreadable,
      ...dropped,
    ]
    if (ctx.vars.as_it_is) for (const one of against) ctx.log(one)
    else if (against.length > 0) throw unfit(ctx, against)
  },
})

const unfit = ({ vars: { cluster } }: SecretContext, against: readonly string[]) =>
  new HostFailedError(
    `this encryptionconfig can’t follow the one of ${cluster} as it is:\n${against.map(one => `  ${one}`).join('\n')}`,
    {
      code: 'kops.secret-unfit',
      hint: 'A key is replaced by three runs: one with the new key as a further reader, one with it first, and, once every value was written anew and counted, one without the old: that last one with -e as_it_is=true.',
    },
  )

async function readNew(file: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (cause) {
    throw new HostFailedError(`${file} can't be read: ${(cause as Error).message}`, {
      code: 'kops.secret-unreadable',
      cause,
    })
  }
}

const keptFile = ({ folder }: Pick<RunContext, 'folder'>) => join(folder, 'secret-before')

/** Keeps the secret of before in the run's folder, where the state store is one that rekey reads: kops itself shows none. */
export const keepBefore: StepDefinition<SecretContext> = {
  id: 'keep-the-secret-of-before',
  plan: () => 'keep the secret of before in the run’s folder',
  rollback: () => {},
  run: async ctx => {
    const { secret } = ctx.vars
    const data = await readStored(ctx)
    if (data) await writeFile(keptFile(ctx), data, { mode: 0o600 })
    else ctx.log(`the ${secret} of before can't be read from the state store: there is no way back from the new one`)
    return data !== undefined
  },
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
  run: async ctx => create(ctx, await readNew(ctx.vars.file)),
  verify: async ctx => {
    const { stdout } = await kops(ctx, ['get', 'secrets'], { what: 'kops to name the secrets' })
    if (stdout.split(/\s+/).includes(ctx.vars.secret)) return
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

/** Applies it. API servers must be behind then, where it is theirs; of the other two kOps sees nothing. */
export const updateSecret: StepDefinition<SecretContext> = {
  id: 'update-secret',
  plan: () => 'kops update cluster --yes',
  run: async ctx => {
    const updated = await applyUpdate(ctx)
    if (ctx.vars.secret !== 'encryptionconfig' || updated.due.length > 0) return updated
    throw new HostFailedError('no instance needs an update after the encryptionconfig was replaced', {
      code: 'kops.nothing-due',
      hint: 'Was it the same as before? kOps tells API servers of it by its hash. See kops get instances.',
    })
  },
}

/** Replaces the instances: those that are behind, and where kOps sees no change all of them, by force. */
export const rollSecret: StepDefinition<SecretContext> = {
  id: 'roll-secret',
  plan: ({ vars: { secret } }) => `kops rolling-update cluster ${secret === 'encryptionconfig' ? '' : '--force '}--yes`,
  run: ctx =>
    rollOut(
      ctx,
      ctx.registered<Updated>('update-secret') ?? { all: [], due: [] },
      ctx.vars.secret !== 'encryptionconfig',
    ),
}

/** What undoes it: the secret of before, brought to the instances in the same way. */
export const secretBack = (compare: Compare): Step<SecretContext>[] => [
  step('Give kOps the secret of before', {
    run: async ctx => {
      if (ctx.registered<boolean>('keep-the-secret-of-before')) {
        const kept = await readFile(keptFile(ctx))
        await requireReadable(ctx, compare, kept)
        return create(ctx, kept)
      }
      throw new HostFailedError(`the ${ctx.vars.secret} of before was not kept`, {
        code: 'kops.secret-not-kept',
        hint: `Give it to kops by hand, as the file of a new run: rekey run rotate-kops-secret -e secret=${ctx.vars.secret} -e file=FILE`,
      })
    },
  }),
  step('Update the cluster', { id: 'update-back-secret', run: applyUpdate }),
  step('Replace the instances', {
    id: 'roll-back-secret',
    run: ctx =>
      rollOut(
        ctx,
        ctx.registered<Updated>('update-back-secret') ?? { all: [], due: [] },
        ctx.vars.secret !== 'encryptionconfig',
      ),
  }),
]

/** Values that were written since must be read by the one that comes back. */
async function requireReadable(ctx: SecretContext, compare: Compare, kept: Buffer): Promise<void> {
  const now = ctx.vars.secret === 'encryptionconfig' ? await readStored(ctx) : undefined
  const { unreadable } = now ? compare(now.toString('utf8'), kept.toString('utf8')) : { unreadable: [] }
  if (unreadable.length > 0) throw unfit(ctx, unreadable)
}

/** What is left to do: what lies in etcd is not written anew by anybody. */
export function secretReport(
  ctx: RunContext<Variables> & KopsServices & { readonly outcome: string },
): ReportSection[] {
  ended(ctx)
  if (ctx.outcome !== 'done' || ctx.mode === 'rollback' || ctx.check) return []
  const next =
    ctx.vars.secret === 'encryptionconfig'
      ? 'what lies in etcd is under the key of before still: leave that among the readers until every value was written anew and counted (rekey encryption, with the control-plane instances as its inventory), and take it out by a run of its own'
      : 'nothing: every instance was replaced'
  return [{ title: `The ${ctx.vars.secret} of ${ctx.vars.cluster}`, rows: [['next', next]] }]
}
