#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Gives a kOps cluster another encryptionconfig, other IPsec keys of Cilium, or other credentials of Docker, and sees that every instance that is to
// have them was replaced: kOps sees no change in two of the three. docs/runbooks/rotate-kops.md is the page to go by.
import { play, playbook, step } from 'rekey'
import * as encryption from 'rekey/encryption'
import * as kops from 'rekey/kops'
import { z } from 'zod'

const hosts = 'localhost'

export default playbook({
  name: 'rotate-kops-secret',
  summary:
    'Replace the encryptionconfig, ciliumpassword or dockerconfig of a kOps cluster, and every instance that has it',
  vars: z.object(kops.secretVariables),
  services: kops.openServices,
  plays: [
    play<kops.SecretContext>('Where it stands', { hosts, tags: ['look'] }, [
      step('See which kops it is', kops.ownVersion),
      step('See that the cluster uses it', kops.lookAtSpecification),
      step('See that it can follow the one of before', kops.lookAtFile(encryption.misfitOf, encryption.atRest)),
      step('See that nothing is pending', kops.nothingPending),
      step('Export an admin credential', kops.exportBefore),
      step('See that the cluster is well', kops.valid),
      step('Keep the secret of before', kops.keepBefore),
    ]),
    play<kops.SecretContext>(
      'The new secret',
      { hosts, tags: ['secret'], rollback: kops.secretBack(encryption.misfitOf) },
      [
        step('Give it to kOps', kops.give),
        step('Update the cluster', kops.updateSecret),
        step('Replace the instances', kops.rollSecret),
      ],
    ),
    play<kops.SecretContext>('Is it well?', { hosts, tags: ['verify'] }, [
      step('See that the cluster is well again', { ...kops.valid, id: 'see-that-it-is-well-again', remember: false }),
    ]),
    // By SSH, where an inventory says how to log in to the control plane; else the report says what is left to do.
    play<kops.SecretContext>('What lies in etcd', { hosts, tags: ['rewrite'] }, [
      step('Every API server goes by it', kops.secretAtRest.everyServerHasIt(encryption.atRest)),
      step('Write everything anew', kops.secretAtRest.writeAnew(encryption.atRest)),
      step('Count what lies in etcd under which key', kops.secretAtRest.count(encryption.atRest)),
    ]),
  ],
  report: kops.secretReport,
})
