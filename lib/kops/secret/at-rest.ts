// What follows another encryptionconfig: that every API server has it, that everything was written anew, and that nothing in etcd lies under another
// key. By SSH, where an inventory says how to log in to the control plane.
import { HostFailedError } from '../../errors.ts'
import type { KubernetesApi } from '../../kubernetes/api/api.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { whoOf, withApi } from '../asked/api.ts'
import { mastersOf, onControlPlane } from '../asked/control-plane.ts'
import { lastingCredentials } from '../asked/kubeconfigs.ts'
import { readNew, type SecretContext } from './given.ts'

/** What is done with values of etcd, and what API servers encrypt by: `rekey/encryption` has it. */
export interface AtRest {
  encryptsBy(
    session: HostSession,
    who: ReturnType<typeof whoOf>,
  ): Promise<{ readonly text: string; readonly amiss?: string } | undefined>
  countAtRest(
    session: HostSession,
    text: string,
    signal?: AbortSignal,
  ): Promise<{ readonly covered: number; readonly behind: string; readonly unreadable: string }>
  writeAnew(
    api: KubernetesApi,
    text: string,
    options: { signal?: AbortSignal; told: (line: string) => void },
  ): Promise<{ readonly done: number; readonly gone: number }>
}

/** Whether the values of etcd can be looked at: they are those of an encryptionconfig, and an inventory has masters. */
export const isReachable = (ctx: Pick<SecretContext, 'vars' | 'hosts'>): boolean =>
  ctx.vars.secret === 'encryptionconfig' && mastersOf(ctx).length > 0

const when = (ctx: SecretContext) => !ctx.check && isReachable(ctx)
const textOf = async (ctx: SecretContext) => (await readNew(ctx)).toString('utf8')

/**
 * Every API server goes by the new one, by its own word, and not only its file: nodes of an old configuration would not read what the others write.
 */
export const everyServerHasIt = ({ encryptsBy }: AtRest): StepDefinition<SecretContext> => ({
  id: 'every-api-server-has-it',
  readOnly: true,
  when,
  run: async ctx => {
    const text = await textOf(ctx)
    const who = whoOf(await lastingCredentials(ctx, ctx.vars.roll_within))
    for (const session of await onControlPlane(ctx, 'and-api-servers')) {
      const there = await encryptsBy(session, who)
      const isSame = there?.text.trim() === text.trim()
      if (isSame && there?.amiss === undefined) continue
      const how = isSame ? there?.amiss : there ? 'goes by another encryptionconfig' : 'encrypts nothing'
      throw new HostFailedError(`the API server of ${session.host.name} ${how}`, {
        code: 'kops.secret-not-there',
        host: session.host.name,
        hint: 'It was not replaced, or somebody gave kops another one meanwhile, or its log says why it does not go by it. See kops get instances, replace it, and go on: rekey resume.',
      })
    }
  },
})

/** Has every object written anew. Begun again, it passes over what is written anew already. */
export const writeAnew = ({ writeAnew: write }: AtRest): StepDefinition<SecretContext> => ({
  id: 'write-everything-anew',
  plan: () => 'patch every object of the encryptionconfig’s resources with nothing',
  when: ctx => isReachable(ctx),
  // What was written anew is read by the one of before, too: it is given back only where it is.
  rollback: () => {},
  run: async ctx => {
    const text = await textOf(ctx)
    const own = await lastingCredentials(ctx, ctx.vars.roll_within)
    const done = await withApi(own, api => write(api, text, { signal: ctx.signal, told: line => ctx.log(line) }))
    ctx.log(`${done.done} objects, ${done.gone} were deleted meanwhile`)
    return { done: done.done, gone: done.gone }
  },
})

/** Counts in etcd itself: nothing lies there in another way than the new one writes it. */
export const count = ({ countAtRest }: AtRest): StepDefinition<SecretContext> => ({
  id: 'count-what-lies-in-etcd',
  readOnly: true,
  when,
  run: async ctx => {
    const [first] = await onControlPlane(ctx)
    const { covered, behind } = await countAtRest(first as HostSession, await textOf(ctx), ctx.signal)
    if (behind === '') {
      ctx.log(`${covered} values, each as it would be written now`)
      return { covered }
    }
    throw new HostFailedError(`in etcd lie still: ${behind}`, {
      code: 'kops.secret-behind',
      hint: 'Who writes them with an old key? See that every API server was replaced, and go on: rekey resume. Until then no key may be dropped.',
    })
  },
})

/**
 * What an encryptionconfig could not read of what lies in etcd.
 * @returns in words, empty where it reads all of it; undefined where nobody can look
 */
export async function unreadableBy(
  { countAtRest }: AtRest,
  ctx: SecretContext,
  text: string,
): Promise<string | undefined> {
  if (!isReachable(ctx)) return undefined
  const [first] = await onControlPlane(ctx)
  const { covered, unreadable } = await countAtRest(first as HostSession, text, ctx.signal)
  ctx.log(`${covered} values in etcd${unreadable === '' ? ', and the new one reads them' : ''}`)
  return unreadable
}
