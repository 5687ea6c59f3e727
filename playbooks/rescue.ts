#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Certificates have ended, and the API does not answer. Works from the hosts alone, says what it found before it does anything, and brings etcd, the
// API servers and the nodes up again. docs/runbooks/rescue.md is the page to go by.
import { type Play, play, playbook, type StepContext, step } from 'rekey'
import {
  backup,
  copies,
  everyMachine,
  extra,
  leaves,
  preflight,
  renewal,
  report,
  rescue,
  type Services,
  workloads,
} from 'rekey/rotation'
import { z } from 'zod'

const variables = z.object({
  ...rescue.variables, // within, certificate_ttl, ca_ttl, pki_mount, vault_…, cluster_name
  ...preflight.variables, // clock_tolerance
  ...backup.variables, // backup_directory
  ...extra.variables, // extra_certificates: made anew, too, and their units restarted
  ...copies.variables, // ca_copies
  ...workloads.variables, // cni_workloads, restart_workloads: where a CA was signed anew
  ...report.variables, // look_around
})

type Context = StepContext<z.output<typeof variables>> & Services

const preparation: Play<Context>[] = [
  play<Context>('Look at every host', { hosts: everyMachine, tags: ['preflight'] }, [
    step('Read the clock', preflight.readClock),
    step('Compare the clocks', preflight.compareClocks),
    step('Read what is to run there, and its certificates', preflight.readCertificates),
    step('Look for certificates, in files and on ports', renewal.look),
    step('See what of it serves, and what is half done', rescue.look),
  ]),
  play<Context>('What has ended, and what is down because of it?', { hosts: 'masters', tags: ['preflight'] }, [
    step('See that all hosts trust one CA, and that its files are whole', rescue.refuse),
    step('Plan the CAs: which have ended, and where their keys are', rescue.planAuthorities),
    step('Plan the certificates: which have ended, and who signs them', rescue.plan),
    step('Say what was found, and what will be done', rescue.tell),
    step('See whether Vault would issue them', leaves.rolesWouldIssue),
  ]),
  play<Context>('Back up', { hosts: everyMachine, tags: ['backup'] }, [
    step('Check the space for backups', preflight.checkSpace),
    step('Back up keys and configuration', rescue.backUp),
  ]),
]

const change: Play<Context>[] = [
  play<Context>('Sign CAs anew that have ended', { hosts: everyMachine, tags: ['authorities'] }, [
    step('Sign each with its own key', rescue.signAuthorities),
    step('Write the files with them beside those that they replace', rescue.stageAuthorities),
    step('Verify what is staged', rescue.verifyAuthorities),
    step('Put them in place, on all hosts at once', rescue.placeAuthorities),
  ]),
  play<Context>('Certificates', { hosts: everyMachine, tags: ['certificates'] }, [
    step('Have roles of Vault issue them, where Vault signs', rescue.writeRoles),
    step('Issue those of this host, and stage them beside the live files', rescue.issueAndStage),
    step('Verify what is staged on this host: chain, key, names', rescue.verifyIssued),
    step('Put the certificates in place, on all hosts at once', rescue.placeLeaves),
  ]),
  play<Context>('Start etcd and the API servers', { hosts: everyMachine, tags: ['start'] }, [
    step('Start the kubelets of masters that gave up, or would wait', rescue.kubeletsOfMasters),
    step('Start etcd where it does not answer', rescue.etcd),
    step('Wait until each member of etcd has a quorum', rescue.quorum),
    step('Start the API servers that are not ready', rescue.apiServers),
    step('Wait until the API servers are ready', rescue.apiServersReady),
  ]),
  play<Context>('Start the rest', { hosts: everyMachine, tags: ['start'] }, [
    step('Start the controller-managers', rescue.controllerManagers),
    step('Start the schedulers', rescue.schedulers),
    step('Start the kubelets', rescue.kubelets),
    step('Wait until every node is Ready', rescue.nodesReady),
    step('Start kube-proxy where it is a unit', rescue.kubeProxies),
    step('Restart the units that the inventory names for certificates of its own', rescue.extraUnits),
  ]),
  play<Context>(
    'Where a CA was signed anew: its copies, and pods that hold it',
    { hosts: 'masters', tags: ['copies'] },
    [
      step('Wait until it is published in every namespace', rescue.published),
      step('Note what its copies in the API hold', rescue.noteCopies),
      step('Update cluster-info and its other copies', rescue.replaceCopies),
      step('Look for kube-proxy and the DNS', rescue.lookForWorkloads),
      step('Restart kube-proxy', rescue.kubeProxyPods),
      step('Restart the pod network', rescue.podNetwork),
      step('Restart CoreDNS', rescue.coreDns),
      step('Restart what the inventory lists', rescue.listedWorkloads),
    ],
  ),
  play<Context>('Verify', { hosts: everyMachine, tags: ['verify'] }, [
    step('Every port presents the new certificates', rescue.presented),
    step('What a CA has signed that was signed anew holds under that', rescue.portsGoByIt),
    step('Every file holds such a CA as it is signed anew', rescue.filesHoldIt),
    step('Nothing runs since before they were in place', rescue.allGoByTheNew),
  ]),
  play<Context>('Verify the cluster', { hosts: 'masters', tags: ['verify'] }, [
    step('Every copy of such a CA in the API is the new one', rescue.copiesHoldIt),
    step('The cluster is well, as rekey validate looks at it', rescue.well),
    step('Fetch the admin kubeconfig', rescue.adminKubeconfig),
  ]),
]

export default playbook({
  name: 'rescue',
  summary: 'Bring a cluster back whose API does not answer since certificates have ended',
  vars: variables,
  services: leaves.openServices,
  plays: [...preparation, ...change],
  report: rescue.report,
})
