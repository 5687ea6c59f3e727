// The playbook of README.md.
import { duration, play, playbook, type RunContext, type StepContext, step } from 'rekey'
import { type Cluster, openCluster } from 'rekey/kubernetes'
import { z } from 'zod'

const vars = z.object({ ready_within: duration.default(120_000) })

type Context = StepContext<z.output<typeof vars>> & { cluster: Cluster }

export default playbook({
  name: 'restart-kubelets',
  summary: 'Restart the kubelet on every node, one at a time',
  vars,
  services: (run: RunContext) => ({ cluster: openCluster(run) }),
  plays: [
    play('Restart the kubelets', { hosts: 'nodes', serial: 1 }, [
      step('Restart kubelet', {
        run: async ({ $ }: Context) => {
          await $`systemctl restart kubelet`
        },
        verify: async ({ host, cluster, vars }: Context) => {
          await cluster.nodesReady([host.name], { within: vars.ready_within })
        },
      }),
    ]),
  ],
})
