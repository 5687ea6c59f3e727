#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// First stage of a graceful rotation: every server trusts the new CAs of the keysets beside the old ones, and nobody uses them. The cluster may
// rest like this for weeks. docs/runbooks/rotate-keysets.md is the page to go by.
import { play, playbook, step } from 'rekey'
import { authorities, everyMachine, keysets } from 'rekey/rotation'
import { z } from 'zod'

const { cluster, stages, tokens } = keysets
type Context = keysets.Context

export default playbook({
  name: 'stage-keysets',
  summary: 'Have every server trust new CAs of keysets beside the old ones; nobody uses them yet',
  vars: z.object(keysets.variables),
  services: keysets.openServices,
  plays: [
    ...keysets.lookAround,
    play<Context>('May it begin?', { hosts: 'masters', tags: ['gate'] }, [
      ...keysets.etcdIsWhole,
      step('See that no other rotation of these keysets rests', stages.mayStage),
      step('See that Vault has no CA that is of another cluster', keysets.noneForeign),
      step('See that masters keep the key of a CA that was staged before', cluster.keyIsKept),
      step('See that API servers go by files of keys for tokens', tokens.verifiable),
      step('See whether the API may be away, where it must be', stages.stageRestarts.mayBeAway),
    ]),
    ...keysets.beginning,
    play<Context>('Prepare the cluster’s own signer', { hosts: 'masters', tags: ['prepare'] }, [
      step('Have controller-managers sign with a pair apart from what is trusted', cluster.signApart),
      step('See that the cluster signs with the old CA', cluster.signsWithPrimary),
    ]),
    play<Context>('Vault PKI', { hosts: 'masters', tags: ['vault'] }, [
      step('Mount and tune the PKI engines', authorities.mountEngines),
      step('Note the CAs that Vault issues from', authorities.noteIssuers),
      step('Make the new CAs beside them', keysets.makeStaged),
      step('Write the roles', authorities.writeRoles),
      step('Keep the keys of new CAs that go to the masters', cluster.keepNewKeys),
    ]),
    play<Context>('The new key of tokens', { hosts: 'masters', tags: ['keys'] }, [
      step('Make the new key of tokens, and keep it on the masters', tokens.make),
    ]),
    play<Context>('Note whom others are told to trust', { hosts: 'masters', tags: ['trust'] }, [
      step('Note whom the API servers tell others to trust', stages.noteStaged),
      step('Note what clients in the cluster are told to believe', cluster.noteBelieved),
      step('Note what goes by the files, for the way back', stages.stageRestarts.undone),
    ]),
    // The first master alone: where its servers don't read the file again, the others still have theirs.
    play<Context>('Trust the new CAs', { hosts: everyMachine, serial: [1, '100%'], tags: ['trust'] }, [
      step('Put the new CAs behind the old ones', stages.stage),
      step('Have the machine trust the new CAs, where it trusts the old ones', stages.stageAnchors),
      step('See that the servers of this host let in a client of the new CA', stages.stagedLetIn),
      step('Write the files of token keys, with the new key behind the old one', tokens.staged.prepared),
      step('Put the files of token keys in place', tokens.staged.placed),
    ]),
    ...stages.stageRestarts.plays,
    play<Context>('Have clients believe the new CAs', { hosts: 'masters', tags: ['trust'] }, [
      step('Write them into cluster-info and the other copies of the CA', cluster.stagedCopies),
      step('See them in every namespace, and in the volumes of pods', cluster.publishedEverywhere),
      step('Keep since when pods get them', cluster.keepPublished),
      step('Restart pods that hold the CA of before alone', cluster.restartBehind),
    ]),
    play<Context>('Is it staged?', { hosts: 'masters', tags: ['verify'] }, [
      step('Every server lets in a client of the new CA', stages.stagedEverywhere),
      step('Every API server publishes the new key, and knows its tokens', tokens.stagedKnown),
    ]),
  ],
  report: keysets.reportOf('staged', stages.stageRestarts),
})
