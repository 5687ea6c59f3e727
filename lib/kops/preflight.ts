// What must be right before kops changes anything: that it is the cluster's own kops, one whose rotations work; and who else scales the cluster.
import { HostFailedError } from '../errors.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { kops, kopsJson, listed } from './asked/command.ts'
import { named, readInstances } from './asked/instances.ts'
import { readPending } from './asked/pending.ts'
import type { Context, Rotation } from './context.ts'

type Version = readonly [major: number, minor: number, patch: number]

function versionIn(text: string): { readonly said: string; readonly version: Version } | undefined {
  const [said, major, minor, patch] = /(?<!\d)(\d{1,5})\.(\d{1,5})\.(\d{1,5})(?:-[\w.]+)?/.exec(text) ?? []
  return said === undefined ? undefined : { said, version: [Number(major), Number(minor), Number(patch)] }
}

const isBefore = (one: Version, other: Version) => {
  const index = one.findIndex((part, at) => part !== other[at])
  return index >= 0 && one[index]! < other[index]!
}

/** Why a kops must not rotate keysets, or undefined where it may. */
export function brokenRotation(version: Version): string | undefined {
  const [major, minor] = version
  if (isBefore(version, [1, 22, 0])) return 'kops before 1.22 has no graceful rotation of key pairs'
  // https://github.com/kubernetes/kops/issues/14037, mended by pull request 14054; #12343 was seen with 1.22.1.
  const broken = isBefore(version, [1, 23, 3]) || (major === 1 && minor === 24 && isBefore(version, [1, 24, 1]))
  return broken
    ? 'it gives members of etcd the new CA alone, and the others refuse them (kubernetes/kops#14037)'
    : undefined
}

/** An older kops would take the cluster back to its own version in the middle of the rotation, a younger one upgrade it. */
export const ownVersion: StepDefinition<Context> = {
  id: 'see-which-kops-it-is',
  readOnly: true,
  run: async ctx => {
    const { cluster, kops_binary: binary } = ctx.vars
    const { stdout } = await kops(ctx, ['version'], { what: 'kops to say its version' })
    const own = versionIn(stdout)
    if (!own)
      throw new HostFailedError(`'${binary} version' says no version: ${stdout.trim()}`, { code: 'kops.version' })
    const file = `${cluster}/kops-version.txt`
    const there = ctx.kops.store && versionIn((await ctx.kops.store.get(file))?.text ?? '')
    if (there && there.said !== own.said) {
      throw new HostFailedError(`${binary} is ${own.said}, and ${cluster} was last updated by ${there.said}`, {
        code: 'kops.version',
        hint: `Take kops ${there.said} (-e kops_binary=…): another one would change the cluster's own version on the way.`,
      })
    }
    ctx.log(
      there
        ? `kops ${own.said}, as the cluster`
        : `kops ${own.said}; which one updated the cluster last can't be read here`,
    )
    return own.said
  },
}

/** Refuses a kops that is known to break clusters by a rotation. */
export const mayRotate: StepDefinition<Rotation> = {
  id: 'see-that-its-rotations-work',
  readOnly: true,
  run: ctx => {
    const own = versionIn(ctx.registered<string>('see-which-kops-it-is') ?? '')
    const why = own && brokenRotation(own.version)
    if (!why) return
    throw new HostFailedError(`kops ${own.said} must not rotate keysets: ${why}`, {
      code: 'kops.broken-version',
      hint: 'Upgrade kOps, and the cluster with it, to 1.24.1 or later first.',
    })
  },
}

/** Refuses to begin where something is pending, or instances are behind: it would be applied and rolled out on the way. */
export const nothingPending: StepDefinition<Context> = {
  id: 'see-that-nothing-is-pending',
  ...{ readOnly: true, remember: true },
  run: requireNothingPending,
}

/**
 * The same, for whoever goes on after a while.
 * @throws HostFailedError naming what is pending, and who is behind
 */
export async function requireNothingPending(ctx: Context): Promise<void> {
  const pending = await readPending(ctx)
  const behind = (await readInstances(ctx)).filter(({ needsUpdate }) => needsUpdate)
  if (pending.length + behind.length === 0) return
  const what = pending.map(({ how, kind, name }) => `${how} ${kind}/${name}`)
  throw new HostFailedError(
    `changes of before are not rolled out: ${[...what, ...(behind.length > 0 ? [named(behind)] : [])].join(', ')}`,
    {
      code: 'kops.pending',
      hint: 'Apply them and roll them out first (kops update cluster --yes, kops rolling-update cluster --yes), or take them back; then begin again, or go on.',
    },
  )
}

/** Names what adds instances by itself: between an update and the end of its rolling update, new ones may not be able to join. */
export const nameScalers: StepDefinition<Context> = {
  id: 'name-the-autoscalers',
  ...{ readOnly: true, remember: true },
  run: async ctx => {
    const [cluster] = listed(await kopsJson(ctx, ['get', 'cluster'], { what: 'kops to read the cluster' }))
    const groups = listed(await kopsJson(ctx, ['get', 'instancegroups'], { what: 'kops to read the instance groups' }))
    const found = scalersOf(cluster ?? {}, groups)
    for (const one of found)
      ctx.log(
        `${one}: instances that it adds in the middle of a stage may not be able to join until that is rolled out`,
      )
    return found
  },
}

type Fields = Readonly<Record<string, unknown>>
const fields = (value: unknown): Fields => (typeof value === 'object' && value !== null ? (value as Fields) : {})

/** What scales a cluster, by its specification and its groups. */
function scalersOf(cluster: Fields, groups: readonly Fields[]): string[] {
  const spec = fields(cluster['spec'])
  const on = (name: string) => fields(spec[name])['enabled'] === true
  const elastic = groups
    .filter(group => Number(fields(group['spec'])['minSize'] ?? 0) < Number(fields(group['spec'])['maxSize'] ?? 0))
    .map(group => String(fields(group['metadata'])['name']))
  return [
    ...(on('clusterAutoscaler') ? ['cluster-autoscaler'] : []),
    ...(on('karpenter') ? ['Karpenter'] : []),
    ...elastic.map(name => `group ${name}, whose size may change`),
  ]
}
