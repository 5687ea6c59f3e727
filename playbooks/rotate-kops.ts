#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Rotates the keysets of a kOps cluster by kOps' own procedure and command line, and stops where that would let one walk on. It takes up where the
// keysets stand, may stop after a stage (until), and wait before the old key pairs are distrusted (soak). docs/runbooks/rotate-kops.md is the
// page to go by. No hosts are needed: `rekey run rotate-kops -e cluster=… -e state=s3://…`.
import { play, playbook, step } from 'rekey'
import * as kops from 'rekey/kops'
import { z } from 'zod'

const hosts = 'localhost'

export default playbook({
  name: 'rotate-kops',
  summary: 'Rotate the keysets of a kOps cluster by its own command line, stage by stage, with the gates that it lacks',
  vars: z.object(kops.rotationVariables),
  services: kops.openServices,
  plays: [
    play<kops.Rotation>('Where it stands', { hosts, tags: ['look'] }, [
      step('See which kops it is', kops.ownVersion),
      step('See that its rotations work', kops.mayRotate),
      step('Read the keysets, and what is pending', kops.noteKeysets),
      step('Name the autoscalers', kops.nameScalers),
      step('Export the kubeconfig of before', kops.exportBefore),
      step('See that the cluster is well', kops.valid),
    ]),
    play<kops.Rotation>(
      '1. Create and stage new key pairs',
      { hosts, tags: ['stage'], rollback: kops.wayBack.staged },
      [
        ...kops.each('Create a key pair of', kops.create),
        step('Update the cluster', kops.update('staged')),
        step('Replace the instances', kops.roll('staged')),
        step('The cluster is well, and lets in who was let in before', kops.holds('staged')),
      ],
    ),
    play<kops.Rotation>('2. Hand out both CAs', { hosts, tags: ['stage'] }, [
      step('Export a kubeconfig with both CAs', kops.handOutBoth),
    ]),
    play<kops.Rotation>('3. Promote the new key pairs', { hosts, tags: ['promote'], rollback: kops.wayBack.promoted }, [
      step('See that nobody changed anything since', kops.unchangedSince('promoted')),
      ...kops.each('Promote the key pair of', kops.promote),
      step('Update the cluster, now that they sign', kops.update('promoted')),
      step('Replace the instances that were signed for', kops.roll('promoted')),
      step('The cluster is well, and presents the new CA', kops.holds('promoted')),
    ]),
    // Before the old CA goes: the admin credential of before ends with it, and kops could not end its own rolling update.
    play<kops.Rotation>('4. Hand out new admin credentials', { hosts, tags: ['promote'] }, [
      step('Export an admin credential of the new CA', kops.handOutAdmin),
      step('Note when it was promoted', kops.notePromoted),
      step('Let it soak', kops.soak),
    ]),
    play<kops.Rotation>(
      '5. Distrust the old key pairs',
      { hosts, tags: ['distrust'], rollback: kops.wayBack.distrusted },
      [
        step('See that the new ones sign, and that nobody changed anything since', kops.unchangedSince('distrusted')),
        ...kops.each('Distrust the old key pairs of', kops.distrust),
        step('Update the cluster, without the old ones', kops.update('distrusted')),
        step('Replace the instances that trust them', kops.roll('distrusted')),
      ],
    ),
    play<kops.Rotation>('6. Hand out the new CA alone', { hosts, tags: ['distrust'] }, [
      step('Export a kubeconfig with the new CA alone', kops.handOutAfter),
      step('The cluster is well, and refuses who was let in before', kops.holds('distrusted')),
    ]),
  ],
  report: kops.report,
})
