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
import { formerOf, type Key } from '../state.ts'
import { requireFormer } from '../which/standing.ts'
import { gate } from './gates.ts'
import { everyToken } from './holders.ts'
import { aboutTokens, folderOf, keptKey, stateOf } from './keys.ts'

/** The keys that signed before, and are still trusted. */
export const former = (ctx: OnHost): Key[] => formerOf(stateOf(ctx))

/** Fails where there is nothing to distrust, or somebody still holds a token of the old key, and it was not accepted by name. */
export const nobodyHoldsTheOld: StepDefinition<OnCluster<BackupVariables & ConditionVariables>> = {
  ...{ readOnly: true, remember: true, runOnce: true },
  when: aboutTokens,
  run: async ctx => {
    requireFormer(ctx)
    const old = former(ctx)
    // Without it nobody could try at the end whether they refuse it, nor on the way back whether they know it.
    for (const one of old) {
      await keptKey(ctx, one).catch((cause: Error) => {
        throw new HostFailedError(`nobody could try whether tokens of ${one.id} are refused: ${cause.message}`, {
          code: 'keysets.no-old-credential',
          hint: `Put the pair back into ${folderOf(ctx, one)} of a master, as sa.key and sa.pub: the archive of promote-keysets has it (${ctx.vars.backup_directory}/*/host.tgz). Where it is nowhere any more, take the key out of --service-account-key-file by hand.`,
          cause,
        })
      })
    }
    const { tokens, unread } = await everyToken(ctx)
    const held = tokens.filter(({ key }) => old.some(one => one.key === key))
    const pods = held.some(({ pod }) => pod !== undefined) ? await podsById(ctx) : new Map<string, string>()
    const left: string[] = []
    let isOfPlugin = false
    for (const { where, host, pod = '' } of held) {
      const known = pods.get(pod)
      const item = `token/${known === undefined ? where : `Pod ${known}`}`
      if (isAccepted(ctx, item))
        ctx.log(`${item.replace('token/', '')} holds a token of the old key, and will be refused: accepted`)
      else {
        if (!left.includes(item)) left.push(item)
        isOfPlugin ||= host !== undefined && pod === ''
      }
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
        hint: `${isOfPlugin ? 'Restart what wrote the kubeconfig of a network plugin (calico-node), or wait until it has renewed it, hours later. ' : ''}Restart the pods, or their node's kubelet; have users of a Secret go by the one that promote-keysets made beside it, and delete it; or let them be refused: accept: [${left.join(', ')}].`,
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
