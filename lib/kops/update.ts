// What brings key pairs to the instances: `update cluster`, looked through before it is applied, and rolling updates, seen to have replaced what
// was to be replaced.
import { HostFailedError } from '../errors.ts'
import { probeApis, removeProbeObject } from '../kubernetes/probes/probes.ts'
import { formatDuration } from '../playbook/duration.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { unchanged } from '../playbook/model.ts'
import { atEachAddress } from './asked/api.ts'
import { kops } from './asked/command.ts'
import { named, readInstances } from './asked/instances.ts'
import { lastingCredentials } from './asked/kubeconfigs.ts'
import { readPending, refuseForeign } from './asked/pending.ts'
import type { Context, End, Rotation } from './context.ts'
import { requireDue } from './due.ts'
import { passes } from './plan.ts'

/** The instances when a stage was brought to the cloud. */
export interface Updated {
  readonly all: readonly string[]
  /** Those that are to be replaced. */
  readonly due: readonly string[]
}

const whatToRoll =
  'Look at kops get instances, and at what the instances run with. Going on to distrust from here has ended clusters: kops rolling-update cluster --cloudonly --force --yes replaces them; then go on: rekey resume.'

/**
 * Looks through what would be applied, applies it, and notes which instances are behind now.
 * @param also kinds of what may be applied beside key pairs
 */
export async function applyUpdate(ctx: Context, also: readonly string[] = []): Promise<Updated> {
  const pending = (await readPending(ctx)).filter(({ kind }) => !also.includes(kind))
  refuseForeign(
    ctx,
    pending,
    'Somebody changed the cluster’s specification in the middle of the rotation: take that back, or apply it by itself; then: rekey resume.',
  )
  // Else it writes the CAs of now into the kubeconfig that it is called with: the one of before, or one that was handed out.
  await kops(ctx, ['update', 'cluster', '--create-kube-config=false', '--yes'], {
    what: 'the cloud to take what the key pairs change',
    within: ctx.vars.update_within,
    shown: true,
  })
  const all = await readInstances(ctx)
  return { all: all.map(({ id }) => id), due: all.filter(({ needsUpdate }) => needsUpdate).map(({ id }) => id) }
}

/** Applies a stage. Where no instance is behind after it, kops has not seen the change, and nobody goes on. */
export const update = (end: End): StepDefinition<Rotation> => ({
  id: `update-${end}`,
  when: ctx => passes(ctx, end),
  plan: () => 'kops update cluster --yes',
  run: async ctx => {
    const updated = await applyUpdate(ctx)
    await requireDue(ctx, end, { ...updated, what: `key pairs were ${end}` })
    return updated
  },
})

/** How many rolling updates it may take until nobody joins with the old configuration any more. */
const mostRounds = 3

/** Replaces every instance that is behind, and sees that each is another one now. */
export const roll = (end: End): StepDefinition<Rotation> => ({
  id: `roll-${end}`,
  when: ctx => passes(ctx, end),
  plan: () => 'kops rolling-update cluster --yes',
  run: async ctx => {
    const updated = ctx.registered<Updated>(`update-${end}`)
    if (updated === undefined) throw new HostFailedError(`'update-${end}' was left out`, { code: 'kops.no-plan' })
    return rollOut(ctx, updated)
  },
})

/** How a rolling update is made. */
interface Rolling {
  /** Whether all are replaced, whatever kops thinks of them. */
  readonly force?: boolean
  /** Without asking the API: nothing is drained or validated. */
  readonly cloudonly?: boolean
}

/** Rolling updates until no instance is behind. */
export async function rollOut(
  ctx: Context,
  { all, due }: Updated,
  { force = false, cloudonly = ctx.vars.cloudonly }: Rolling = {},
) {
  const known = new Set(all)
  const toGo = force ? all : due
  let rounds = 0
  for (;;) {
    const now = await readInstances(ctx)
    const there = new Set(now.map(({ id }) => id))
    const left = toGo.filter(id => there.has(id))
    const behind = now.filter(({ needsUpdate }) => needsUpdate)
    if (left.length === 0 && behind.length === 0) break
    const joined = behind.filter(({ id }) => !known.has(id))
    if (joined.length > 0)
      ctx.log(`joined in the middle of the stage, with the configuration of before: ${named(joined)}`)
    if (rounds === mostRounds || (rounds > 0 && left.length > 0))
      throw notReplaced(
        now.filter(({ id }) => left.includes(id)),
        behind,
      )
    for (const { id } of now) known.add(id)
    await rollOnce(ctx, { force: force && rounds === 0, cloudonly })
    rounds++
  }
  return rounds === 0 ? unchanged({ rounds }) : { rounds }
}

function notReplaced(left: Parameters<typeof named>[0], behind: Parameters<typeof named>[0]) {
  return left.length > 0
    ? new HostFailedError(`kops calls the rolling update completed, and these were not replaced: ${named(left)}`, {
        code: 'kops.not-replaced',
        hint: whatToRoll,
      })
    : new HostFailedError(`instances go on joining with the configuration of before: ${named(behind)}`, {
        code: 'kops.joining',
        hint: 'Stop what scales the cluster (cluster-autoscaler, Karpenter, scheduled scaling), and go on: rekey resume.',
      })
}

/** One rolling update, with the API asked all the while as its users do. */
async function rollOnce(ctx: Context, { force, cloudonly }: Required<Rolling>): Promise<void> {
  const { rolling_flags: more, roll_within: within } = ctx.vars
  const flags = [
    ...(cloudonly ? ['--cloudonly'] : []),
    ...(force ? ['--force'] : []),
    ...more.split(/\s+/).filter(Boolean),
  ]
  const probes = cloudonly ? undefined : await probing(ctx, within)
  try {
    await kops(ctx, ['rolling-update', 'cluster', ...flags, '--yes'], {
      what: 'every instance that is behind to be replaced',
      within,
      shown: true,
    })
  } finally {
    await probes?.stop()
  }
}

/** Asks the API as its users do, until it is told to stop; then says what came of it. */
async function probing(ctx: Context, within: number): Promise<{ stop(): Promise<void> }> {
  const own = await lastingCredentials(ctx, within)
  const { server, certificate = '', key = '' } = own
  const probes = probeApis([server], [{ certificate, key }])
  return {
    stop: async () => {
      const seen = (await probes.stop()).servers.get(server)?.read
      if (seen) ctx.log(answersOf(seen))
      await atEachAddress(own, removeProbeObject).catch((error: Error) =>
        ctx.log(`the ConfigMap rekey-probe of kube-system could not be removed: ${error.message}`),
      )
    },
  }
}

/** How the API answered, in words. */
export function answersOf({ calls, failures, longest }: { calls: number; failures: number; longest: number }): string {
  if (calls === 0) return 'the API was not asked meanwhile: how it answered was not seen'
  const gap = failures === 0 ? 'each was answered' : `${failures} failed, for ${formatDuration(longest)} at the longest`
  return `the API was asked ${calls} times meanwhile: ${gap}`
}
