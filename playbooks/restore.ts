#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Puts a cluster back to what a run has backed up: files of hosts, etcd, or both. What was written since is LOST, and that is said first and must be
// confirmed by the cluster's name. Works without an API. docs/runbooks/restore.md is the page to go by.
import { type Play, play, playbook, type RunContext, type StepContext, step } from 'rekey'
import { etcdIsReadable, snapshotIsReadable } from 'rekey/encryption'
import type { Cluster } from 'rekey/kubernetes'
import { backup, everyMachine, found, openFoundCluster, preflight, report, restore } from 'rekey/rotation'
import { z } from 'zod'

const variables = z.object({
  ...restore.variables, // from, parts, cluster_name, confirm, accept_other_trust, accept_ended
  ...preflight.variables, // clock_tolerance
  ...backup.variables, // backup_directory
  ...report.variables, // look_around
})

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

const keys = snapshotIsReadable<Context>({
  isDue: restore.keepsFiles,
  archived: restore.encryptionThen,
  layout: found.layoutOf,
})

const keysOfNow = etcdIsReadable<Context>({
  isDue: ctx => restore.mustFit(ctx) && !ctx.timeline.milestones.has('first change'),
  archived: restore.encryptionOf,
  now: restore.encryptionNow,
  layout: found.layoutOf,
})

const preparation: Play<Context>[] = [
  play<Context>('Look at the backup and the hosts', { hosts: everyMachine, tags: ['look'] }, [
    step('Verify the backup, all of it', restore.verifyBackup),
    step('Read what is to run there', restore.read),
    step('Read the clock', preflight.readClock),
    step('Compare the clocks', preflight.compareClocks),
    step('Read which machine it is', restore.readMachineId),
    step('See that they are the machines of the backup', restore.sameCluster),
    step('See that no member of etcd and no API server is left out', restore.allMembers),
    step('See that it runs as it did then', restore.runsAlike),
    step('See that the snapshot can be restored there', restore.canRestore),
    step('See that all members are made by one version of etcd', restore.sameTools),
    step('See that API servers have the keys that it needs', keys),
    step('See that files that go over an etcd of now have its keys', keysOfNow),
    step('See that they have the CAs that the cluster goes by', restore.sameTrust),
    step('See that no certificate of masters among them has ended', restore.noneEnded),
    step('Compare the files', restore.compareFiles),
  ]),
  play<Context>('What will be lost?', { hosts: everyMachine, tags: ['look'] }, [
    step('Say what will be lost and changed', restore.tell),
    step('See that the name of the cluster was typed', restore.confirmed),
  ]),
  play<Context>('Make it ready beside what is there', { hosts: everyMachine, tags: ['prepare'] }, [
    step('Bring each host its archive', restore.bringFiles),
    step('Back up the files of now', restore.keepFiles),
    step("Make etcd's data from the snapshot", restore.makeData),
  ]),
]

const change: Play<Context>[] = [
  play<Context>('Put it in place', { hosts: everyMachine, tags: ['place'] }, [
    step('Start its clients anew once all is back, on the way back', restore.clientsOnTheWayBack),
    step('Stop the control plane', restore.stop),
    step('Put the files of masters and members back', restore.placeFiles),
    step("Move etcd's data aside, and put that of the snapshot in its place", restore.placeData),
  ]),
  play<Context>('Start the control plane', { hosts: everyMachine, tags: ['start'] }, [
    step('Start etcd, and the kubelets of masters', restore.members),
    step('Wait until each member of etcd has a quorum', restore.quorum),
    step('Start the API servers and the rest', restore.rest),
    step('Wait until the API servers are ready', restore.apiServersReady),
  ]),
  play<Context>('Start the nodes', { hosts: everyMachine, tags: ['start'] }, [
    step('Put the files of the other hosts back', restore.placeNodeFiles),
    step('Restart the kubelet', restore.kubelets),
    step('Wait until every node is Ready', restore.nodesReady),
    step('Restart kube-proxy where it is a unit', restore.kubeProxies),
    step('Wait until the controller-managers and schedulers serve', restore.controllers),
  ]),
  play<Context>('Tidy up', { hosts: everyMachine, tags: ['verify'] }, [
    step('Remove the archives that were brought', restore.forgetFiles),
  ]),
  play<Context>('Verify', { hosts: 'masters', tags: ['verify'] }, [
    step('The cluster is well, as rekey validate looks at it', restore.well),
  ]),
]

export default playbook({
  name: 'restore',
  summary: 'Put a cluster back to the backup of a run: files of hosts, etcd, or both; what was written since is lost',
  vars: variables,
  services: (run: RunContext<Variables>) => {
    const cluster = openFoundCluster(run)
    return { cluster, close: () => cluster.close() }
  },
  plays: [...preparation, ...change],
  report: restore.report,
})
