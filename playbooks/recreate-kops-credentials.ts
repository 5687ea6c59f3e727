#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Deletes every credential of a kOps cluster and has kOps make new ones: its procedure before 1.22, which is DISRUPTIVE. The API answers nobody for a
// while, all machines are replaced at once, every pod is restarted, everything that was handed out is refused. rotate-kops does without that; this is
// for where that can't go on. docs/runbooks/recreate-kops-credentials.md is the page to go by. It takes an inventory with the control plane, for SSH.
import { play, playbook, step } from 'rekey'
import * as kops from 'rekey/kops'
import { z } from 'zod'

const hosts = 'localhost'
const { recreate } = kops

export default playbook({
  name: 'recreate-kops-credentials',
  summary: 'Delete and make anew every credential of a kOps cluster, with an outage: its procedure before 1.22',
  vars: z.object(recreate.recreateVariables),
  services: kops.openServices,
  plays: [
    play<kops.Recreation>('Before anything is changed', { hosts, tags: ['look'] }, [
      step('Say what users will notice', recreate.confirmed),
      step('See which kops it is', kops.ownVersion),
      step('See that nothing is pending', kops.nothingPending),
      step('Read which key pairs and secrets there are', recreate.readCredentials),
      step('Name the autoscalers', kops.nameScalers),
      step('Log in to the control plane, and find the certificates of etcd', recreate.findEtcdCertificates),
      step('Export the kubeconfig of before', kops.exportBefore),
      step('See that the cluster is well', recreate.validAgain('see-that-the-cluster-is-well')),
      step('Note how pods are', recreate.notePods),
      step('Keep every key pair and secret', recreate.keepCredentials),
    ]),
    // Undone as a whole, with all that comes after it: by the same procedure, with the credentials of before.
    play<kops.Recreation>('New credentials', { hosts, tags: ['recreate'], rollback: recreate.wayBack }, [
      step('1. Delete every key pair and secret', recreate.deleteCredentials),
      step('2. Have kOps make new ones', recreate.makeCredentials),
      step('3. Remove the certificates of etcd on every master', recreate.removeEtcdCertificates),
      step('Replace every instance', recreate.replaceInstances),
      step('Export a kubeconfig of the new CA', recreate.exportNew),
      step('The API lets in the new admin, and refuses the old one', recreate.answersNew),
    ]),
    play<kops.Recreation>('4. Tokens, and who holds them', { hosts, tags: ['tokens'] }, [
      step('Write the tokens of every namespace anew', recreate.tokens),
      step('Note which pods hold what was before', recreate.notePodsOfBefore),
      step('Replace the pod network', recreate.network),
      step('Replace the DNS', recreate.dns),
      step('Replace every other pod', recreate.others),
    ]),
    play<kops.Recreation>('5. Is it well?', { hosts, tags: ['verify'] }, [
      step('The cluster is well', recreate.validAgain('the-cluster-is-well')),
      step('Pods are as they were', recreate.asBefore),
      step('The certificates of etcd are of the new CA', recreate.seeEtcdCertificates('see-the-certificates-of-etcd')),
    ]),
  ],
  report: recreate.report,
})
