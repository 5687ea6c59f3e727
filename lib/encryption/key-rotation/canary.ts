// A Secret of rekey's own that goes through every API server, before everything else is written anew.
import { HostFailedError } from '../../errors.ts'
import { foundAt, type KubernetesApi } from '../../kubernetes/api/api.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { listed } from '../standing.ts'
import { type Context, countBehind, coversSecrets } from './given.ts'
import { refused } from './prepare.ts'

const name = 'rekey-encryption-canary'
const all = '/api/v1/namespaces/kube-system/secrets'
const path = `${all}/${name}`
const labels = { 'app.kubernetes.io/managed-by': 'rekey' }

/**
 * Removes it, where a run that was killed left it.
 * @throws HostFailedError where somebody else has a Secret of that name
 */
async function remove(api: Pick<KubernetesApi, 'get' | 'delete'>): Promise<void> {
  const found = await foundAt(api, path)
  if (!found) return
  if (found.metadata.labels?.['app.kubernetes.io/managed-by'] !== 'rekey')
    throw refused(
      `kube-system/${name} is not rekey's`,
      'canary-taken',
      'rekey tries keys with a Secret of that name, and would remove it. Give yours another one.',
    )
  await api.delete(path)
}

/** Writes a Secret through each API server, reads it through every other one, and looks at it in etcd. */
export const canary: StepDefinition<Context> = {
  id: 'try-the-key',
  plan: ctx => `write kube-system/${name} through ${ctx.hosts('masters').length} API servers, read it, and remove it`,
  runOnce: true,
  when: async ctx => !ctx.check && coversSecrets(ctx),
  run: async ctx => {
    const masters = ctx.hosts('masters')
    const first = await ctx.cluster.apiOf(masters[0]!)
    await remove(first)
    try {
      for (const writer of masters) {
        const api = await ctx.cluster.apiOf(writer)
        const body = { metadata: { name, labels }, stringData: { by: writer.name } }
        if (writer === masters[0]) await api.post(all, body)
        else await api.patch(path, body)
        for (const reader of masters) {
          const found = await (await ctx.cluster.apiOf(reader)).get(path)
          if (Buffer.from(found['data'].by, 'base64').toString() !== writer.name)
            throw new HostFailedError(`what ${writer.name} wrote ${reader.name} reads otherwise`, {
              code: 'encryption.canary',
              host: reader.name,
            })
        }
        const { behind, covered } = await countBehind(ctx, `secrets/kube-system/${name}`)
        if (behind.length > 0 || covered !== 1)
          throw new HostFailedError(
            `what the API server of ${writer.name} wrote lies in etcd as ${listed(behind) || 'nothing'}`,
            { code: 'encryption.canary', host: writer.name },
          )
      }
    } finally {
      await first.delete(path).catch(() => undefined)
    }
    ctx.log(`written by ${masters.length}, read by each`)
  },
  // Of a run that was killed in the middle of it.
  rollback: async ctx => remove(await ctx.cluster.api()),
}
