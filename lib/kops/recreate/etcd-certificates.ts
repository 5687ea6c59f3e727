// The certificates that etcd-manager keeps on the volumes of etcd: it makes them anew from its CA where they are missing, and keeps them where they
// are not, whatever CA signed them.
import { HostFailedError } from '../../errors.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { onControlPlane } from '../asked/control-plane.ts'
import { begin, isBegun, type Recreation, requireBegun } from './given.ts'

/** `pki/…/clients/server.crt`, `pki/…/peers/me.key`, on each of the volumes; no link is followed. */
const expression = ['-type', 'f', '-path', '*/pki/*', '(', '-name', 'server.*', '-o', '-name', 'me.*', ')']

async function count({ $ }: HostSession, volumes: string): Promise<number> {
  const { stdout } = await $({ quiet: true })`find ${volumes} ${expression} -print | wc -l`
  return Number(stdout.trim())
}

/** Sees that each instance of the control plane lets one in, and has such certificates: where one keeps them, the old ones would go on. */
export const findEtcdCertificates: StepDefinition<Recreation> = {
  id: 'find-the-certificates-of-etcd',
  ...{ readOnly: true, remember: true },
  run: async ctx => {
    const found: Record<string, number> = {}
    for (const session of await onControlPlane(ctx)) {
      const files = await count(session, ctx.vars.etcd_volumes)
      const { name } = session.host
      if (files === 0) {
        throw new HostFailedError(`${name} has no certificate of etcd below ${ctx.vars.etcd_volumes}`, {
          code: 'kops.no-etcd-certificates',
          hint: 'Where are the volumes of etcd mounted there? -e etcd_volumes=/FOLDER. Is another user to be become (ansible_become)?',
        })
      }
      ctx.log(`${name}: ${files} files`)
      found[name] = files
    }
    return found
  },
}

async function remove(ctx: Recreation): Promise<{ removed: number }> {
  await begin(ctx, 'etcd-certificates')
  const sessions = await onControlPlane(ctx)
  const counts = await Promise.all(
    sessions.map(async session => {
      const files = await count(session, ctx.vars.etcd_volumes)
      await session.$({ quiet: true })`find ${ctx.vars.etcd_volumes} ${expression} -delete`
      ctx.log(`${session.host.name}: ${files} files`)
      return files
    }),
  )
  return { removed: counts.reduce((all, one) => all + one, 0) }
}

/** Removes them on every instance of the control plane, all at once: from here on the API answers nobody. */
export const removeEtcdCertificates: StepDefinition<Recreation> = {
  id: 'remove-the-certificates-of-etcd',
  plan: ({ vars }) =>
    `remove server.* and me.* below ${vars.etcd_volumes}/*/pki on every instance of the control plane`,
  run: async ctx => {
    await requireBegun(ctx, 'make-the-credentials')
    return remove(ctx)
  },
}

/** The same on the way back, where it was begun with on the way there: those that are there now may be of the new CA. */
export const removeEtcdCertificatesBack: StepDefinition<Recreation> = {
  id: 'remove-the-certificates-of-etcd-back',
  when: ctx => isBegun(ctx, 'etcd-certificates'),
  run: remove,
}
