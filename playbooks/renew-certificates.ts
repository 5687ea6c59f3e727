#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// New certificates under the CAs that are there, before the old ones run out; nothing is changed where nothing is due.
// docs/runbooks/renew-certificates.md is the page to go by.
import { type Play, play, playbook, type StepContext, step } from 'rekey'
import {
  backup,
  conditions,
  drift,
  everyMachine,
  extra,
  leaves,
  observe,
  preflight,
  report,
  restart,
  type Services,
  verify,
} from 'rekey/rotation'
import { z } from 'zod'

const variables = z.object({
  ...leaves.variables, // components, within, certificate_ttl, pki_mount, vault_…, cluster_name
  ...preflight.variables, // clock_tolerance
  ...conditions.variables, // accept
  ...backup.variables, // backup_directory
  ...extra.variables, // extra_certificates: renewed, too, and their units restarted
  ...observe.variables, // api_server, canary_results
  ...restart.variables, // drain_timeout, accept_gap
  ...report.variables, // look_around
})

type Context = StepContext<z.output<typeof variables>> & Services

const { ifDue } = leaves

const preparation: Play<Context>[] = [
  play<Context>('Look at every host', { hosts: everyMachine, tags: ['preflight'] }, [
    step('Read the clock', preflight.readClock),
    step('Compare the clocks', preflight.compareClocks),
    step('Read the certificates', preflight.readCertificates),
  ]),
  play<Context>('What is due?', { hosts: 'masters', tags: ['preflight'] }, [
    step('Plan the certificates: which are due, and who signs them', leaves.plan),
    step('See whether Vault would issue them', leaves.rolesWouldIssue),
    step('See whether the API may be away, where it must be', leaves.restart.mayBeAway),
    step('Check etcd', ifDue<Context>(preflight.checkEtcd)),
    step('Look at the cluster: nodes, pods, webhooks', ifDue<Context>(conditions.look)),
    step('See that kubelets read the pair again that they serve with', ifDue<Context>(restart.kubeletsReread)),
    step('Look for the API where it will be asked', ifDue<Context>(observe.lookForTheApi)),
  ]),
  play<Context>('Look once more, and back up', { hosts: everyMachine, tags: ['backup'] }, [
    step('Compare what runs with what lies there', ifDue<Context>(drift.compare)),
    step('Check the space for backups', ifDue<Context>(preflight.checkSpace)),
    step('Back up keys and configuration', ifDue<Context>(backup.hostsWith(leaves.keysOf))),
  ]),
  play<Context>('Start the probes', { hosts: 'masters', tags: ['probes'] }, [
    step(
      'Ask the API in all ways, and note what the canaries have counted',
      ifDue<Context>(observe.startProbesOfAllKinds),
    ),
    step('Note what must still be accepted and readable afterwards', ifDue<Context>(observe.noteCredentials)),
    step('Note what goes by the certificates, for the way back', leaves.undone),
  ]),
]

const change: Play<Context>[] = [
  play<Context>('Certificates', { hosts: everyMachine, tags: ['certificates'] }, [
    step('Have roles of Vault issue them, where Vault signs', leaves.writeRoles),
    step('Issue what is due on this host, and stage it beside the live files', leaves.issueAndStage),
    step('Verify what is staged: chain, key, names', leaves.verifyIssued),
  ]),
  // The first master alone, as a canary.
  play<Context>('Put them in place', { hosts: everyMachine, serial: [1, '100%'], tags: ['swap'] }, [
    step('Put the certificates of this host in place', leaves.swapIn),
    step('See that its ports present the new ones', leaves.presented),
    step('See that the API server has read its pair again', leaves.pairReread),
  ]),
  play<Context>('Restart what does not read them again', { hosts: 'masters', tags: ['restart'] }, [
    step('Restart etcd on machines of its own, member by member', leaves.restart.etcdMembers),
    step('Restart etcd and the API servers, master by master', leaves.restart.apiServers),
    step('Restart controller-managers and schedulers, those that lead last', leaves.restart.controllers),
    step('Restart the kubelets, those of masters one after the other', leaves.restart.kubelets),
    step('Restart kube-proxy where it is a unit', leaves.restart.kubeProxies),
  ]),
  play<Context>('Verify', { hosts: everyMachine, tags: ['verify'] }, [
    step('Every port still presents the new ones', { ...leaves.presented, id: 'verify-ports' }),
    step('Nothing runs since before they were in place', leaves.allGoByTheNew),
  ]),
  play<Context>('Verify the cluster', { hosts: 'masters', tags: ['verify'] }, [
    step('Every node is Ready, and every pod that was well', ifDue<Context>(verify.pods)),
    step('Every API server reaches every kubelet', ifDue<Context>(verify.kubeletsReached)),
    step('Secrets that were written before are read, unchanged', ifDue<Context>(verify.secretsUnchanged)),
    step('The canaries are well', ifDue<Context>(verify.canariesWell)),
    step('Fetch the admin kubeconfig', ifDue<Context>(verify.adminKubeconfigFetched)),
  ]),
]

export default playbook({
  name: 'renew-certificates',
  summary: 'Make certificates anew under the CAs that are there, before they run out',
  vars: variables,
  services: leaves.openServices,
  plays: [...preparation, ...change],
  report: leaves.report,
})
