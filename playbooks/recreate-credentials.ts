#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Makes every CA, certificate, key and token of a cluster anew at once, and replaces every pod: the disruptive way, for when all keys have leaked.
// Users notice it: docs/runbooks/recreate-credentials.md is the page to go by. rotate-keysets does the same without an outage.
import { type Play, play, playbook, type StepContext, type StepDefinition, step } from 'rekey'
import {
  authorities,
  backup,
  caKey,
  conditions,
  copies,
  drift,
  everyMachine,
  extra,
  found,
  issue,
  leftBehind,
  machineTrust,
  observe,
  onMasters,
  openServices,
  place,
  preflight,
  recreate,
  report,
  restart,
  type Services,
  tokens,
  vault,
  verify,
  workloads,
} from 'rekey/rotation'
import { z } from 'zod'

const variables = z.object({
  ...vault.variables, // vault_addr, vault_cacert, vault_token_file
  ...authorities.variables, // cluster_name, pki_authorities, pki_mount, ca_ttl, certificate_ttl, vault_manage_roles, controller_manager_signs
  ...preflight.variables, // clock_tolerance
  ...conditions.variables, // accept
  ...backup.variables, // backup_directory
  ...extra.variables, // extra_certificates
  ...observe.variables, // api_server, canary_results
  ...copies.variables, // ca_copies
  ...workloads.variables, // cni_workloads: replaced first; restart_workloads: with all others
  ...report.variables, // look_around
  ...recreate.variables, // confirm, confirm_rollback, wait, rotate_service_account_keys
})

type Context = StepContext<z.output<typeof variables>> & Services

const old = { ca: found.oldClusterAuthority, clients: found.oldClientAuthorities }
const next = { ca: authorities.newClusterAuthority, clients: authorities.newClientAuthorities }

/** From the swap on the cluster has other credentials than before: what comes after it is undone together with it. */
const swap = recreate.swapStep
const withSwap = <C>(definition: StepDefinition<C>) => ({ ...definition, undoneWith: swap })

const preparation: Play<Context>[] = [
  play<Context>('Is it meant?', { hosts: 'masters', tags: ['preflight'] }, [
    step('Say what users will notice', recreate.confirmed),
  ]),
  play<Context>('Look at every host', { hosts: everyMachine, tags: ['preflight'] }, [
    step('Read the clock', preflight.readClock),
    step('Compare the clocks', preflight.compareClocks),
    step('Read the certificates', preflight.readCertificates),
    step('Compare what runs with what lies there', drift.compare),
    step('Check the space for backups', preflight.checkSpace),
  ]),
  play<Context>('Look at the cluster, and plan', { hosts: 'masters', tags: ['preflight'] }, [
    step('Check etcd', preflight.checkEtcd),
    step('Check the members of etcd', preflight.checkEtcdMembers),
    step('Look at the cluster: nodes, pods, webhooks', conditions.look),
    step('Plan the certificates', preflight.planCertificates),
    step('Ask Vault', preflight.askVault),
    step('Look what else the key of the CA signs', caKey.checkKeyOfTheCa),
    step('Have the API try the changes, without making them', conditions.tryThem),
    step('Look for the API where it will be asked', observe.lookForTheApi),
    step('Note what pods are connected by', recreate.noteNetwork),
    step('Note who admits pods, and see that nobody must admit itself', recreate.noteAdmission),
  ]),
  play<Context>('Back up', { hosts: everyMachine, tags: ['backup'] }, [
    step('Back up keys and configuration', recreate.backups.hosts),
  ]),
  play<Context>('Back up the cluster', { hosts: 'masters', tags: ['backup'] }, [
    step('Back up the token Secrets of every namespace', recreate.backups.tokens),
    step('Save a snapshot of etcd', recreate.backups.etcd),
  ]),
  play<Context>('Make new CAs', { hosts: 'masters', tags: ['vault'] }, [
    step('Mount and tune the PKI engines', authorities.mountEngines),
    step('Note the CAs that Vault issues from', authorities.noteIssuers),
    step('Generate the new root CAs', authorities.generateRoots),
    step('Write the roles', authorities.writeRoles),
    step('Make a policy and a short-lived token for this run', authorities.makeToken),
  ]),
  play<Context>('Make new certificates', { hosts: everyMachine, tags: ['certificates'] }, [
    step('Make a new service-account key pair', issue.makeServiceAccountKeys),
    step('Issue every certificate, and stage it beside the live one', issue.issueAndStage),
    step('Verify what is staged: chain, key, names', issue.verifyIssued),
  ]),
  play<Context>('Start the probes', { hosts: 'masters', tags: ['probes'] }, [
    step('Ask the API five times a second, and note what the canaries have counted', observe.startProbes),
    step('Note what must be refused, and what must still be readable afterwards', observe.noteCredentials),
    step('Note what the copies of the CA in the API hold', copies.note(old.clients)),
  ]),
]

const change: Play<Context>[] = [
  play<Context>('Prepare the kubelets of the masters', { hosts: 'masters', tags: ['restart'] }, [
    step('Restart the kubelet, so that it starts what is killed at once', restart.preparedKubelet),
    step('Wait until the nodes are Ready again, and their kubelets went round their pods', restart.preparedKubelets),
  ]),
  // Undone as a whole, with all that comes after it: lib/rotation/recreate/way-back.ts lists its steps.
  play<Context>('New credentials', { hosts: everyMachine, tags: ['swap'], rollback: recreate.wayBack }, [
    step('Put the new ones in place of the old, those of etcd, too, on all hosts at once', {
      ...place.swap,
      id: swap,
    }),
  ]),
  play<Context>('Restart etcd and the API servers', { hosts: 'masters', tags: ['restart'] }, [
    step('Have the probes ask as the new administrator, too', observe.probeAsAdministrator),
    step('Restart etcd on the masters that the others can do without', withSwap(restart.sparedEtcd)),
    step('Restart their API servers: they are ready as soon as there is a quorum', withSwap(restart.sparedApiServers)),
    step('Restart etcd on the others, each member as soon as the one before it serves', withSwap(restart.etcd)),
    step('Wait for the quorum of etcd', restart.quorum),
    step('Restart the API servers of the others', withSwap(restart.apiServer)),
    step('Wait until the API server answers', restart.apiServerAnswers),
  ]),
  play<Context>('Restart every kubelet, and the rest', { hosts: everyMachine, tags: ['restart'] }, [
    step('Restart the controller-manager and the scheduler', withSwap(onMasters(restart.controllers))),
    step('Restart the kubelet', withSwap(restart.kubelet)),
    step(
      'Wait until every node is Ready',
      restart.nodesReady('masters:nodes', { after: 'restart-the-kubelet', milestone: 'nodes ready' }),
    ),
    step(
      'Wait until the controller-manager and the scheduler run',
      onMasters(restart.controllersRun('restart-the-controller-manager-and-the-scheduler')),
    ),
    step('Restart the units that the inventory names for certificates of its own', withSwap(extra.restarted)),
    step('Have machines that trust an old CA in all they do trust the new one instead', withSwap(machineTrust.follow)),
  ]),
  play<Context>('Every token', { hosts: 'masters', tags: ['tokens'] }, [
    step('Wait until every namespace has the new kube-root-ca.crt', tokens.rootCaEverywhere(next.ca)),
    step('Regenerate the service-account tokens, namespace by namespace', withSwap(tokens.regenerate(next.ca))),
    step('Update cluster-info and the other copies of the CA', withSwap(copies.replace(old.clients, next.clients))),
  ]),
  play<Context>('Every pod', { hosts: 'masters:nodes', tags: ['workloads'] }, [
    step('Note which pods hold what was before', recreate.note),
    step('Restart kube-proxy, so that nodes follow what the next restarts change', withSwap(workloads.kubeProxy)),
    step('Wait until kube-proxy has written its rules', workloads.kubeProxyRules),
    step('Replace the pod network', withSwap(recreate.network)),
    step('Restart CoreDNS', withSwap(workloads.coreDns)),
    step('Restart what admits pods', withSwap(recreate.admission)),
    step('Replace every other pod', withSwap(recreate.others)),
  ]),
  play<Context>('Verify', { hosts: everyMachine, tags: ['verify'] }, [
    step('Every TLS endpoint presents a certificate of the new CA', verify.endpoints),
    step('Look for files that still hold something of the old CAs', leftBehind.files),
  ]),
  play<Context>('Is it well?', { hosts: 'masters', tags: ['verify'] }, [
    step('The old admin certificate and the old tokens are refused', verify.refusals),
    step('Every node is Ready, and every pod that was well', recreate.asBefore),
    step('The cluster is well, as rekey validate looks at it', recreate.well),
    step('Secrets that were written before are read, unchanged', verify.secretsUnchanged),
    step('The canaries are well', verify.canariesWell),
    step('Look for objects that still hold something of the old CAs', leftBehind.objects),
    step('Fetch the new admin kubeconfig', verify.adminKubeconfigFetched),
  ]),
]

export default playbook({
  name: 'recreate-credentials',
  summary:
    'Make every CA, certificate, key and token of a cluster anew at once, with an outage: for when all keys have leaked',
  vars: variables,
  services: openServices,
  // Whatever --tags and --start-at-step leave out: nothing is changed without the cluster's name, backups, and what comes before it.
  plays: recreate.guarded([...preparation, ...change]),
  report: recreate.report,
})
