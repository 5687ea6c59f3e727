// What goes by the files of the keysets and does not read them again: started anew after a stage has changed them, and on its way back. A keyset
// whose servers all read their files again has none of it.
import { type HostSession, type Play, play, type StepDefinition, step } from '../../../playbook/model.ts'
import type { Mounts } from '../../authorities.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import { nothing, type OnCluster, type OnHost, onTheWayBack } from '../../given/context.ts'
import type { WithVault } from '../../given/vault.ts'
import type { Variables as DrainVariables } from '../../restart/drained.ts'
import { keepsWhatItRead, type Restarts, restartsOf } from '../../restart/due.ts'
import { bundlesOf } from '../bundles.ts'
import { publishedInApi } from '../cluster/published.ts'
import type { WithVisitors } from '../credentials.ts'
import { startUnknowingAnew } from '../gates.ts'

type Drains = OnCluster<Mounts & BackupVariables & DrainVariables> & WithVault & WithVisitors

/** The restarts of a stage, and their way back. */
export interface StageRestarts<in Needs extends Drains = Drains> {
  /** Fails where the only API server would be restarted, and nobody has accepted that: before anything is changed. */
  readonly mayBeAway: StepDefinition<Drains>
  /**
   * Changes nothing on the way there; on the way back it restarts what was started with the files of this stage. So it stands before the step
   * that changes them.
   */
  readonly undone: StepDefinition<Needs>
  /** Restarts what is to go by the files now. */
  readonly plays: readonly Play<Needs>[]
  /** What of a host runs since before its files were written: it goes by what they held then. */
  readonly due: Restarts['notStartedSince']
  /** What of the cluster is restarted, a line each. */
  readonly restarted: Restarts['restarted']
}

/** A step that changes files. */
export interface ChangedBy {
  /** Its id; it registers when it has put them in place (`bundles`). */
  readonly step: string
  /** Those of a host that it changes. */
  files(ctx: OnHost, host: string): readonly string[]
}

/** The files by which keysets of CAs are trusted, changed by a step. */
export const bundlesBy = (id: string): ChangedBy => ({ step: id, files: bundlesOf })

/**
 * The restarts after the files of keysets were changed.
 * @param changed the steps that change them: each component is restarted once for all of them
 * @param seen proves of a member of etcd, or of an API server, what it is to do since it was started anew: the first of them is a canary
 */
export function restartsAfter<Needs extends Drains = Drains>(
  changed: readonly [ChangedBy, ...ChangedBy[]],
  seen?: (ctx: Needs, session: HostSession) => Promise<void>,
): StageRestarts<Needs> {
  const [{ step: id }] = changed
  const files = (ctx: OnHost, host: string) => changed.flatMap(one => one.files(ctx, host))
  const restarts = restartsOf<Needs>({
    files,
    ...(seen && { seen }),
    keeps: keepsWhatItRead,
    placedAt: (ctx, host) => {
      const times = changed.flatMap(one => ctx.registered<{ at?: number }>(one.step, host)?.at ?? [])
      return times.length > 0 ? Math.min(...times) : undefined
    },
  })
  const { mayBeAway, kubelets, etcdMembers, apiServers, controllers, kubeProxies } = restarts
  const there = (definition: StepDefinition<Needs>) => ({ ...definition, rollback: nothing })
  const hear: StepDefinition<Needs> = {
    ...{ id: 'start-anew-what-began-without-the-api', readOnly: true, runOnce: true },
    when: async ctx => !ctx.check && ((await apiServers.when?.(ctx)) ?? true),
    run: ctx => startUnknowingAnew(ctx),
  }
  // Kubelets come after what they give to the volumes of pods: as they start they write these anew, and otherwise a minute and a half later.
  const order = [etcdMembers, apiServers, controllers, publishedInApi, kubelets, kubeProxies, hear]
  return {
    mayBeAway,
    undone: onTheWayBack<Needs>(`note-what-goes-by-${id}`, async ctx => {
      for (const { when, run } of order) if (await when?.(ctx)) await run(ctx)
    }),
    plays: [
      play<Needs>('Restart what does not read them again', { hosts: 'masters', tags: ['restart'] }, [
        step('Restart etcd on machines of its own, member by member', there(etcdMembers)),
        step('Restart etcd and the API servers, master by master', there(apiServers)),
        step('Restart controller-managers and schedulers, those that lead last', there(controllers)),
        step('See what controller-managers publish now in every namespace', publishedInApi),
        step('Restart the kubelets, those of masters one after the other', there(kubelets)),
        step('Restart kube-proxy where it is a unit', there(kubeProxies)),
        step('Restart schedulers that began while the API was away', there(hear)),
      ]),
    ],
    due: restartsOf<Drains>({ files, keeps: keepsWhatItRead, byWriting: true }).notStartedSince,
    restarted: restarts.restarted,
  }
}
