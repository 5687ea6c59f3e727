#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Restarts the control plane, master by master, with no failed request: while an API server is away, another one answers in its place.
// What lies there in manifests, units and files is what they come back with.
import { play, playbook, type RunContext, type StepContext, step } from 'rekey'
import type { Cluster } from 'rekey/kubernetes'
import {
  everyMachine,
  extra,
  observe,
  openFoundCluster,
  openWithProbes,
  preflight,
  report,
  restart,
  type WithProbes,
} from 'rekey/rotation'
import { z } from 'zod'

const known = ['kube-apiserver', 'etcd', 'kube-controller-manager', 'kube-scheduler'] as const

const variables = z.object({
  ...extra.variables, // extra_certificates
  ...observe.variables, // api_server, canary_results
  ...restart.variables, // drain_timeout, accept_gap
  /** What is restarted: a list, or names with commas between them. */
  components: z
    .preprocess(given => (typeof given === 'string' ? given.split(',') : given), z.array(z.enum(known)))
    .default([...known]),
})

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & WithProbes & { readonly cluster: Cluster }

const wants =
  (component: (typeof known)[number]) =>
  ({ vars }: { readonly vars: Variables }) =>
    vars.components.includes(component)

export default playbook({
  name: 'rolling-restart',
  summary: 'Restart the control plane, master by master, with no failed request',
  vars: variables,
  services: (run: RunContext<Variables>) => openWithProbes(run, openFoundCluster(run)),
  plays: [
    play<Context>('Look at the hosts', { hosts: everyMachine, tags: ['preflight'] }, [
      step('Read what runs there, and which files it lives by', preflight.readCertificates),
    ]),
    play<Context>('Look at the cluster', { hosts: 'masters', tags: ['preflight'] }, [
      step('Check etcd', preflight.checkEtcd),
      step('See whether etcd has a quorum without one member', restart.quorumStays<Variables>(wants('etcd'))),
      step('Look for the API where it will be asked', observe.lookForTheApi),
      step('See whether each master can hand its traffic over', restart.lookForHandover),
    ]),
    play<Context>('Start the probes', { hosts: 'masters', tags: ['probes'] }, [
      step('Ask the API in all ways, and note what the canaries have counted', observe.startProbesOfAllKinds),
    ]),
    play<Context>('Restart etcd on hosts of its own', { hosts: 'etcd', serial: 1, tags: ['restart'] }, [
      step('Restart the member of etcd, another one leading', restart.memberDrained(wants('etcd'))),
    ]),
    play<Context>('Restart the API servers, and etcd beside them', { hosts: 'masters', serial: 1, tags: ['restart'] }, [
      step(
        'Restart the API server, and the member of etcd beside it, while another master answers',
        restart.drained<Variables>(({ vars }) =>
          vars.components.filter(one => one === 'etcd' || one === 'kube-apiserver'),
        ),
      ),
    ]),
    play<Context>('Restart the controllers', { hosts: 'masters', serial: 1, tags: ['restart'] }, [
      step('Restart the scheduler', restart.gently('kube-scheduler', wants('kube-scheduler'))),
      step(
        'Restart the controller-manager',
        restart.gently('kube-controller-manager', wants('kube-controller-manager')),
      ),
    ]),
  ],
  report: async ctx => [report.plays(ctx), ...(await report.noticed(ctx))],
})
