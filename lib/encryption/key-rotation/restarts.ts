// API servers started anew: those that read their file only when they start, one after the other, and one of the others as the proof that its file is
// enough. How a server is restarted while another one answers is the rotation's to say, and is handed in by the playbook.
import { HostFailedError } from '../../errors.ts'
import { foundAt } from '../../kubernetes/api/api.ts'
import { restartComponent } from '../../kubernetes/components/control.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { readInForce } from '../in-force.ts'
import { apiServerOn, type Context, coversSecrets, ids, mastersThat, seconds } from './given.ts'

/** What restarts API servers with no call failing: `restart` of `rekey/rotation`. */
export interface Restarting<In> {
  /** Restarts it, its traffic handed to another master meanwhile. */
  restartDrained(ctx: In, session: HostSession, wanted: readonly 'kube-apiserver'[]): Promise<void>
  /** Gives a master its traffic back, where a run that was killed left it with another one. */
  backInTraffic(ctx: In, session: HostSession): Promise<void>
  /** Throws where there is no other master, and no gap is accepted. */
  requireGapAccepted(ctx: In, host: Host): void
}

const onlyAtTheStart = (ctx: Context) => mastersThat(ctx, false)

/** Before the first change: an API server that must be restarted has another one to stand in for it, or may be away. */
export const standIn = <In extends Context>(restarting: Restarting<In>): StepDefinition<In> => ({
  id: 'look-for-a-stand-in',
  readOnly: true,
  runOnce: true,
  when: ctx => onlyAtTheStart(ctx).length > 0,
  run: ctx => {
    const all = ctx.hosts('masters')
    if (all.length === 1) restarting.requireGapAccepted(ctx, all[0]!)
    ctx.log(
      `API servers that read their file only when they start, and are restarted at each stage: ${onlyAtTheStart(ctx)
        .map(({ name }) => name)
        .join(', ')}`,
    )
  },
})

/**
 * Starts those API servers anew that read their file only then, one after the other, and reads through each before the next: the first that can't do
 * with its file is the only one. One that goes by its file already stays.
 * @param stage what they read the file for
 */
export const startAnew = <In extends Context>(
  stage: 'read' | 'write' | 'drop',
  restarting: Restarting<In>,
): StepDefinition<In> => ({
  id: `restart-to-${stage}`,
  runOnce: true,
  ...(stage === 'drop' && { undoneWith: ids.promote }),
  when: ctx => onlyAtTheStart(ctx).length > 0,
  plan: ctx =>
    onlyAtTheStart(ctx).map(({ name }) => `restart the API server of ${name}, which reads its file only then`),
  run: async ctx => {
    for (const host of onlyAtTheStart(ctx)) {
      const session = await ctx.on(host)
      if (await goesByItsFile(ctx, session)) await restarting.backInTraffic(ctx, session)
      else await restarting.restartDrained(ctx, session, ['kube-apiserver'])
      await readThrough(ctx, host)
    }
  },
})

/** Of one that does not answer nobody knows: it is waited for where it is restarted. */
async function goesByItsFile(ctx: Context, session: HostSession): Promise<boolean> {
  const { host } = session
  try {
    const { agrees } = await readInForce(session, apiServerOn(ctx, host.name), await ctx.cluster.apiOf(host))
    return agrees === 'yes' || agrees === 'presumably'
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (error instanceof HostFailedError) return false
    throw error
  }
}

/**
 * The proof, where API servers take up their file by themselves: one that begins with the file alone lists and reads everything. The last master, so that
 * most of the others are asked first.
 */
export const restartOne = <In extends Context>(
  restarting: Restarting<In>,
  among: (ctx: In) => readonly Host[] = ctx => mastersThat(ctx, true),
): StepDefinition<In> => ({
  id: 'restart-one',
  plan: ctx => `restart the API server of ${among(ctx).at(-1)?.name}`,
  undoneWith: ids.promote,
  runOnce: true,
  when: ctx => among(ctx).length > 0,
  run: async ctx => {
    const host = among(ctx).at(-1)!
    const session = await ctx.on(host)
    if (ctx.hosts('masters').length > 1) await restarting.restartDrained(ctx, session, ['kube-apiserver'])
    else {
      await restartComponent(session, apiServerOn(ctx, host.name), { within: seconds(240), signal: ctx.signal })
      await ctx.cluster.apiServerReady(host, { within: seconds(180), signal: ctx.signal })
    }
    await readThrough(ctx, host)
  },
})

/** The same where the run restarts none of those that read their file only when they start: any one is the proof. */
export const restartLast = <In extends Context>(restarting: Restarting<In>): StepDefinition<In> =>
  restartOne(restarting, ctx => ctx.hosts('masters'))

const most = 50

/** Reads Secrets by their names through an API server that was just started: a list would come from its cache, and show nothing. */
async function readThrough(ctx: Context, host: Host): Promise<void> {
  const api = await ctx.cluster.apiOf(host)
  let read = 0
  if (await coversSecrets(ctx))
    for await (const { metadata } of api.each('/api/v1/secrets', { metadata: true, signal: ctx.signal })) {
      if (read >= most) break
      // What was deleted since it was listed is no failure.
      const path = `/api/v1/namespaces/${metadata.namespace}/secrets/${encodeURIComponent(metadata.name)}`
      if (await foundAt(api, path)) read++
    }
  ctx.log(`the API server of ${host.name} is ready, and read ${read} Secrets by their names`)
}
