#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Gives the CAs of a cluster a longer time: their keys sign themselves anew. Every certificate under them stays valid and none is issued; the
// files and copies that hold the CAs are replaced, and what does not read them again is restarted, one master at a time.
import { type Play, play, playbook, type StepContext, type StepDefinition, step } from 'rekey'
import {
  backup,
  conditions,
  copies,
  drift,
  everyMachine,
  extra,
  observe,
  preflight,
  renewal,
  report,
  restart,
  type Services,
  verify,
} from 'rekey/rotation'
import { z } from 'zod'

const variables = z.object({
  ...renewal.variables, // keysets, ca_ttl, pki_mount, vault_addr, vault_cacert, vault_token_file
  ...preflight.variables, // clock_tolerance
  ...conditions.variables, // accept
  ...backup.variables, // backup_directory
  ...extra.variables, // extra_certificates: their folders are looked into, their units restarted
  ...observe.variables, // api_server, canary_results
  ...copies.variables, // ca_copies
  ...restart.variables, // drain_timeout, accept_gap
  ...report.variables, // look_around
})

type Context = StepContext<z.output<typeof variables>> & Omit<Services, 'issued'>

const { oldClients, newClients } = renewal

/** From this step on the cluster goes by other certificates than before: what comes after it is undone together with it. */
const place = 'place-the-files'
const withPlace = <C>(definition: StepDefinition<C>) => ({ ...definition, undoneWith: place })

const preparation: Play<Context>[] = [
  play<Context>('Preflight: every host', { hosts: everyMachine, tags: ['preflight'] }, [
    step('Read the clock', preflight.readClock),
    step('Compare the clocks', preflight.compareClocks),
    step('Read what runs there, and which files it lives by', preflight.readCertificates),
    step('Look for certificates, in files and on ports', renewal.look),
    step('Compare what runs with what lies there', drift.compare),
    step('Check the space for backups', preflight.checkSpace),
  ]),
  play<Context>('Preflight: the CAs, etcd, nodes', { hosts: 'masters', tags: ['preflight'] }, [
    step('Plan the renewal: which CAs, and where their keys are', renewal.plan),
    step('See whether the API may be away, where it must be', renewal.restart.mayBeAway),
    step('See whether each master can hand its traffic over', restart.lookForHandover),
    step('Check etcd', preflight.checkEtcd),
    step('Check the members of etcd', preflight.checkEtcdMembers),
    step('Look at the cluster: nodes, pods, webhooks', conditions.look),
    step('Look for the API where it will be asked', observe.lookForTheApi),
  ]),
  play<Context>('Back up the hosts', { hosts: everyMachine, tags: ['backup'] }, [
    step('Back up keys and configuration', backup.hostsWith(renewal.filesToKeep)),
  ]),
  play<Context>('Back up the cluster', { hosts: 'masters', tags: ['backup'] }, [
    step('Back up the token Secrets of every namespace', backup.tokens),
    step('Save a snapshot of etcd', backup.etcd),
  ]),
  play<Context>('Sign the CAs anew', { hosts: 'masters', tags: ['sign'] }, [
    step('Sign each CA with its own key', renewal.sign),
    step('Verify all that they have signed under the new certificates alone', renewal.verifyAllLeaves),
  ]),
  play<Context>('Stage the files', { hosts: everyMachine, tags: ['stage'] }, [
    step('Write the files with the new certificates beside those that they replace', renewal.stage),
    step('Verify what is staged', renewal.verifyStaged),
  ]),
  play<Context>('Start the probes', { hosts: 'masters', tags: ['probes'] }, [
    step('Ask the API in all ways, and note what the canaries have counted', observe.startProbesOfAllKinds),
    step('Note what must still be accepted and readable afterwards', observe.noteCredentials),
    step('Note what the copies of the CA in the API hold', copies.note(oldClients)),
  ]),
]

const change: Play<Context>[] = [
  // Undone as a whole, with all that comes after it: lib/rotation/renewal/way-back.ts lists its steps.
  play<Context>('Put the files in place', { hosts: everyMachine, tags: ['place'], rollback: renewal.wayBack }, [
    step('Put the files with the new certificates in place', { ...renewal.place, id: place }),
  ]),
  play<Context>('Restart what does not read them again', { hosts: 'masters', tags: ['restart'] }, [
    step('Restart the kubelets, those of masters one after the other', withPlace(renewal.restart.kubelets)),
    step('Restart etcd on machines of its own, member by member', withPlace(renewal.restart.etcdMembers)),
    step('Restart etcd and the API servers, master by master', withPlace(renewal.restart.apiServers)),
    step('Restart controller-managers and schedulers, those that lead last', withPlace(renewal.restart.controllers)),
    step('Restart kube-proxy where it is a unit', withPlace(renewal.restart.kubeProxies)),
  ]),
  play<Context>('Restart what is a unit of its own', { hosts: everyMachine, serial: 1, tags: ['restart'] }, [
    step('Restart the units that the inventory names for certificates of its own', withPlace(extra.restarted)),
  ]),
  play<Context>('Copies of the CA', { hosts: 'masters', tags: ['copies'] }, [
    step('Wait until the new CA is published in every namespace', renewal.verify.publishedEverywhere('next')),
    step('Update cluster-info and the other copies of the CA', withPlace(copies.replace(oldClients, newClients))),
  ]),
  play<Context>('Verify', { hosts: everyMachine, tags: ['verify'] }, [
    step('Every port presents what holds under the new CA alone', renewal.verify.ports),
    step('Every port presents the very certificate of before', renewal.verify.sameLeaves),
    step('Every file is the new one, and everything goes by it', renewal.verify.hosts('next')),
  ]),
  play<Context>('Verify the cluster', { hosts: 'masters', tags: ['verify'] }, [
    step('Every copy in the API is the new one', renewal.verify.objects('next')),
    step('Every node is Ready, and every pod that was well', verify.pods),
    step('Every API server reaches every kubelet', verify.kubeletsReached),
    step('Secrets that were written before are read, unchanged', verify.secretsUnchanged),
    step('The canaries are well', verify.canariesWell),
    step('Fetch the admin kubeconfig', verify.adminKubeconfigFetched),
  ]),
]

export default playbook({
  name: 'renew-ca',
  summary: 'Give the CAs of a cluster a longer time: the same keys signed anew, nothing issued, nobody cut off',
  vars: variables,
  services: renewal.openServices,
  plays: [...preparation, ...change],
  report: renewal.report,
})
