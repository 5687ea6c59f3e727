// The new credential put into Secrets, each in its place: UID, owners, labels and other registries stay. And whether it stayed there.
import { limiter } from '../../connection/limiter.ts'
import { type KubernetesApi, mostSockets } from '../../kubernetes/api/api.ts'
import { rewriteFields } from '../../kubernetes/api/rewrite.ts'
import { firstOf } from '../../kubernetes/before/secrets.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { afterwards, isAccepted, refused } from '../given.ts'
import { entriesOf, withCredential } from './docker-config.ts'
import { type Context, type Holder, ids, nextOf, planOf } from './given.ts'
import { fieldOf, heldSecrets, nameOf, pathOf, textOf } from './holders.ts'
import { requireOldIsTaken } from './pull.ts'

/** What has become of a Secret. */
type Put = Awaited<ReturnType<typeof rewriteFields>>

/** Writes another text into a Secret; for what somebody else writes at the same moment, `textFor` is asked once more. */
function rewrite(api: KubernetesApi, holder: Holder, textFor: (text: string) => string): Promise<Put> {
  const field = fieldOf(holder.shape)
  return rewriteFields(api, pathOf(holder), found => {
    const text = textOf(found, holder.shape)
    const next = textFor(text)
    if (next === text) return []
    const { [field]: value } = found['data'] as Record<string, string>
    return [{ pointer: `/data/${field}`, value: value!, next: Buffer.from(next).toString('base64') }]
  })
}

/** Goes through all holders, as many at a time as the API is asked. */
async function each(
  ctx: Context,
  what: (api: KubernetesApi, holder: Holder) => Promise<Put>,
): Promise<Record<Put, number>> {
  const api = await ctx.cluster.api()
  const count: Record<Put, number> = { changed: 0, 'as it is': 0, gone: 0 }
  const limited = limiter(mostSockets)
  const { holders } = planOf(ctx)
  let told = Date.now()
  let failure: unknown
  // None goes on behind one that failed, and the step does not end before all have.
  const work = async (holder: Holder) => {
    if (failure !== undefined || ctx.signal.aborted) return
    try {
      count[await what(api, holder)]++
    } catch (error) {
      failure ??= error
    }
    const done = count.changed + count['as it is'] + count.gone
    if (Date.now() - told < 2_000) return
    told = Date.now()
    ctx.log(`${done} of ${holders.length}`)
  }
  await Promise.all(holders.map(holder => limited(() => work(holder))))
  ctx.signal.throwIfAborted()
  if (failure !== undefined) throw failure
  return count
}

/** Puts the new credential into every Secret that was found. */
export const put: StepDefinition<Context> = {
  id: ids.put,
  runOnce: true,
  plan: ctx => {
    const { holders } = planOf(ctx)
    return holders.map(one => `put the credential of ${nextOf(ctx).user} into Secret ${nameOf(one)}`)
  },
  run: async ctx => {
    const { registry, registry_user: user } = ctx.vars
    const next = nextOf(ctx)
    const count = await each(ctx, (api, holder) =>
      rewrite(api, holder, text => withCredential(text, holder.shape, registry, user, next)),
    )
    if (count.gone > 0) ctx.log(`${count.gone} are not there any more`)
    return count
  },
  rollback: async ctx => {
    await requireOldIsTaken(ctx)
    const count = await each(ctx, (api, holder) => rewrite(api, holder, text => before(ctx, holder, text)))
    ctx.log(`${count.changed} put back, ${count['as it is']} were as before or are somebody else's by now`)
  },
}

/** What a Secret held before, byte for byte; where somebody has changed it since, the credential of before alone in what it holds now. */
function before(ctx: Context, holder: Holder, text: string): string {
  const { registry, registry_user: user } = ctx.vars
  const next = nextOf(ctx)
  const original = planOf(ctx).texts[holder.text]!.reveal()
  if (text === withCredential(original, holder.shape, registry, user, next)) return original
  const ours = entriesOf(text, holder.shape, registry, next.user).entries.some(one => one.password === next.password)
  const [entry] = entriesOf(original, holder.shape, registry, user).entries
  if (!ours || !entry) return text
  ctx.log(`Secret ${nameOf(holder)} was changed since: the credential of before is put into what it holds now`)
  return withCredential(text, holder.shape, registry, next.user, { user, password: entry.password })
}

/** No Secret has the old one: none was left, none was made meanwhile, and nobody has written one back. */
export const counted = (id: string): StepDefinition<Context> => ({
  ...afterwards,
  id,
  runOnce: true,
  run: async ctx => {
    const left: string[] = []
    for await (const one of heldSecrets(ctx, await ctx.cluster.api())) {
      if (one.passwords.length === 0 || isAccepted(ctx, `secret/${nameOf(one)}`)) continue
      left.push(one.owners.length > 0 ? `${nameOf(one)} (${one.owners.join(', ')})` : nameOf(one))
    }
    if (left.length === 0) return { holders: planOf(ctx).holders.length }
    throw refused(
      'registry.left-behind',
      `Secrets that have the old credential: ${firstOf(left)}`,
      'They were made since, or written back. See who writes them (kubectl get secret -o yaml --show-managed-fields), change it there, and go on: rekey resume. Do not revoke the old one before.',
    )
  },
})
