// The extensions of the API, which believe an API server by what it presents: those that answered before are to answer still.

import { waitFor } from '../../../operations/wait.ts'
import type { StepDefinition } from '../../../playbook/model.ts'
import { beforehand, type OnCluster, seconds } from '../../given/context.ts'
import { isMaster } from '../../given/hosts.ts'

/** What the API's extensions were like before: their names, those that answered. */
const extensionsStep = 'note-the-extensions-of-the-api'

/** Registers which extensions of the API answer, by the paths of their groups. */
export const noteExtensions: StepDefinition<OnCluster> = {
  id: extensionsStep,
  ...beforehand,
  runOnce: true,
  run: async (ctx): Promise<string[]> => {
    const api = await ctx.cluster.api()
    const services = await api.list('/apis/apiregistration.k8s.io/v1/apiservices')
    return services
      .filter(({ spec, status }) => spec?.service && isAvailable(status))
      .map(({ spec }) => `/apis/${spec.group}/${spec.version}`)
  },
}

const isAvailable = (status: { conditions?: { type: string; status: string }[] } | undefined) =>
  status?.conditions?.some(one => one.type === 'Available' && one.status === 'True') ?? false

/** Fails where the API server of a host does not reach an extension of the API that answered before. */
export const extensionsAnswer: StepDefinition<OnCluster> = {
  readOnly: true,
  when: ctx => !ctx.check && isMaster(ctx),
  run: async ctx => {
    const paths = ctx.registered<string[]>(extensionsStep) ?? []
    const api = await ctx.cluster.apiOf(ctx.host)
    for (const path of paths) {
      await waitFor(
        `${path} to answer through the API server of ${ctx.host.name}`,
        { within: seconds(75), signal: ctx.signal, host: ctx.host.name },
        async () => (await api.get(path)) !== undefined,
      )
    }
    if (paths.length > 0) ctx.log(paths.join(', '))
  },
}
