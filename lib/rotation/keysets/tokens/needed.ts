// Who still needs the key of tokens that is to go: whoever holds a token of it, and pods that have not read yet what they hold now.
import { setTimeout as delay } from 'node:timers/promises'
import { HostFailedError } from '../../../errors.ts'
import { kubeletRoot } from '../../../kubernetes/keysets/token-keys.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { type Variables as ConditionVariables, isAccepted } from '../../conditions.ts'
import type { OnCluster, OnHost } from '../../given/context.ts'
import { layoutOf } from '../../given/found.ts'
import { machines } from '../../given/hosts.ts'
import type { Key } from '../state.ts'
import { gate } from './gates.ts'
import { everyToken } from './holders.ts'
import { aboutTokens, stateOf } from './keys.ts'

/** The keys that signed before, and are still trusted. */
export const former = (ctx: OnHost): Key[] => stateOf(ctx).items.filter(({ state }) => state === 'trusted')

/** Fails where there is nothing to distrust, or somebody still holds a token of the old key, and it was not accepted by name. */
export const nobodyHoldsTheOld: StepDefinition<OnCluster<BackupVariables & ConditionVariables>> = {
  ...{ readOnly: true, remember: true, runOnce: true },
  when: aboutTokens,
  run: async ctx => {
    const { name } = stateOf(ctx)
    const old = former(ctx)
    if (old.length === 0) {
      throw new HostFailedError(`${name} has no key but the one that signs`, {
        code: 'keysets.nothing-to-distrust',
        hint: 'Was it promoted? rekey keysets shows how they stand.',
      })
    }
    const { tokens, unread } = await everyToken(ctx)
    const held = tokens.filter(({ key }) => old.some(one => one.key === key)).map(({ where }) => where)
    const pods = held.some(where => where.includes('/pods/')) ? await podsById(ctx) : new Map<string, string>()
    const left: string[] = []
    for (const where of held) {
      const id = /\/pods\/([0-9a-f-]+)\//.exec(where)?.[1] ?? ''
      const known = pods.get(id)
      const item = `token/${known === undefined ? where : `Pod ${known}`}`
      if (isAccepted(ctx, item))
        ctx.log(`${item.replace('token/', '')} holds a token of the old key, and will be refused: accepted`)
      else if (!left.includes(item)) left.push(item)
    }
    if (unread.length > 0 && !isAccepted(ctx, 'token/unread') && !isAccepted(ctx, 'certificate/unread')) {
      throw new HostFailedError(`who holds a token of the old key is not known: ${unread.join('; ')}`, {
        code: 'keysets.unread',
        hint: 'Have it readable, and begin again; or let it be: accept: [token/unread].',
      })
    }
    if (left.length === 0) return
    throw new HostFailedError(
      `tokens of the old key that would be refused: ${left.map(item => item.replace('token/', '')).join(', ')}`,
      {
        code: 'keysets.old-in-use',
        hint: `Restart the pods, or their node's kubelet; have users of a Secret go by the one that promote-keysets made beside it, and delete it; or let them be refused: accept: [${left.join(', ')}].`,
      },
    )
  },
}

/** Pods by their ids: `kube-system/coredns-…`. */
async function podsById(ctx: OnCluster): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for await (const { metadata } of (await ctx.cluster.api()).each('/api/v1/pods', { signal: ctx.signal })) {
    const { uid, namespace, name } = metadata as { uid?: string; namespace?: string; name: string }
    if (uid !== undefined) found.set(uid, `${namespace}/${name}`)
  }
  return found
}

/** Seconds after which clients have read their token's file again: those of Kubernetes do each minute. */
const readWithin = 75

/** Waits until who was given a token of the new key last has read it. */
export const podsHaveRead: StepDefinition<OnCluster<BackupVariables>> = gate<OnCluster<BackupVariables>>(async ctx => {
  const youngest = await Promise.all(
    ctx.hosts(machines).map(async host => {
      const folder = kubeletRoot(layoutOf(ctx, host.name))
      const { $ } = await ctx.on(host)
      const script = `find "$1"/pods/*/volumes/kubernetes.io~projected/*/ -name token -prune -o -name '..data' -printf '%T@\\n' 2>/dev/null | sort -n | tail -1; date +%s`
      const { stdout } = await $({ quiet: true })`sh -c ${script} rekey ${folder}`
      const [at = 0, now] = stdout.trim().split('\n').map(Number)
      return now === undefined ? Number.POSITIVE_INFINITY : now - at
    }),
  )
  const left = Math.max(0, readWithin - Math.min(...youngest))
  if (left === 0) return
  ctx.log(
    `pods were given a token ${Math.round(Math.min(...youngest))} s ago: they have read it in ${Math.ceil(left)} s`,
  )
  await delay(left * 1_000, undefined, { signal: ctx.signal })
})
