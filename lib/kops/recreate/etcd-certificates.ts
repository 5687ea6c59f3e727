// The certificates that etcd-manager keeps on the volumes of etcd: it makes them anew from its CA where they are missing, and keeps them where they
// are not, whatever CA signed them.
import { HostFailedError } from '../../errors.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { onControlPlane } from '../asked/control-plane.ts'
import { begin, isBegun, type Recreation, requireBegun } from './given.ts'

/** What is removed is renamed, and stays on its volume. */
const suffix = '.before-rekey'

/** `pki/CLUSTER/clients/server.crt`, `pki/CLUSTER/peers/me.key`, on each of the volumes, and nothing else of that name; no link is followed. */
const expression = [
  ...['-type', 'f', '(', '-path', '*/pki/*/clients/server.*', '-o', '-path', '*/pki/*/peers/me.*', ')'],
  ...['!', '-name', `*${suffix}`],
]

const linesOf = (text: string) => text.split('\n').filter(Boolean)

async function list({ $ }: HostSession, volumes: string): Promise<string[]> {
  const { stdout } = await $({ quiet: true })`[ ! -e ${volumes} ] || find ${volumes} ${expression} -print`
  return linesOf(stdout)
}

/** Sees that each instance of the control plane lets one in, and has such certificates: where one keeps them, the old ones would go on. */
export const findEtcdCertificates: StepDefinition<Recreation> = {
  id: 'find-the-certificates-of-etcd',
  ...{ readOnly: true, remember: true },
  run: async ctx => {
    const found: Record<string, number> = {}
    for (const session of await onControlPlane(ctx)) {
      const files = await list(session, ctx.vars.etcd_volumes)
      const { name } = session.host
      if (files.length === 0) {
        throw new HostFailedError(`${name} has no certificate of etcd below ${ctx.vars.etcd_volumes}`, {
          code: 'kops.no-etcd-certificates',
          hint: 'Where are the volumes of etcd mounted there? -e etcd_volumes=/FOLDER. Is another user to be become (ansible_become)?',
        })
      }
      for (const file of files) ctx.log(`${name}: ${JSON.stringify(file)}`)
      found[name] = files.length
    }
    return found
  },
}

async function remove(ctx: Recreation): Promise<{ removed: number }> {
  await begin(ctx, 'etcd-certificates')
  const sessions = await onControlPlane(ctx)
  const counts = await Promise.all(
    sessions.map(async session => {
      const { etcd_volumes: volumes } = ctx.vars
      const { name } = session.host
      const { stdout } = await session.$({
        quiet: true,
      })`find ${volumes} ${expression} -exec mv -f {} {}${suffix} ';' -print`
      const left = await list(session, volumes)
      if (left.length > 0)
        throw new HostFailedError(`${name} has ${left.length} certificates of etcd still: ${JSON.stringify(left[0])}`, {
          code: 'kops.not-removed',
          host: name,
          hint: 'Its etcd would go on with the CA of before. Is its volume writable? Then: rekey resume.',
        })
      const removed = linesOf(stdout).length
      ctx.log(`${name}: ${removed} files`)
      return removed
    }),
  )
  return { removed: counts.reduce((all, one) => all + one, 0) }
}

/** Removes them on every instance of the control plane, all at once: from here on the API answers nobody. */
export const removeEtcdCertificates: StepDefinition<Recreation> = {
  id: 'remove-the-certificates-of-etcd',
  plan: ({ vars }) =>
    `rename pki/*/clients/server.* and pki/*/peers/me.* below ${vars.etcd_volumes} on every instance of the control plane`,
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
