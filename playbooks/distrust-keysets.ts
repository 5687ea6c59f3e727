#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Third stage of a graceful rotation: nobody trusts the old CAs any more. Before that, whoever still has what they signed is named; after it,
// each server refuses it, also what was signed with the old key just now. docs/runbooks/rotate-keysets.md is the page to go by.
import { play, playbook, step } from 'rekey'
import { everyMachine, keysets } from 'rekey/rotation'
import { z } from 'zod'

const { cluster, stages, tokens } = keysets
type Context = keysets.Context

export default playbook({
  name: 'distrust-keysets',
  summary: 'Have nobody trust the CAs of keysets that were followed by others, and see each server refuse them',
  vars: z.object(keysets.variables),
  services: keysets.openServices,
  plays: [
    ...keysets.lookAround,
    play<Context>('May it begin?', { hosts: 'masters', tags: ['gate'] }, [
      ...keysets.etcdIsWhole,
      step('See whether the API may be away, where it must be', stages.distrustRestarts.mayBeAway),
      step('See that no file has the old CA alone', stages.noneHasTheOldAlone),
      step('See that nobody has what the old CAs signed', stages.nobodyNeedsTheOld),
      step('See that what comes to the API presents what lies there now', keysets.allPresentTheNew),
      step('See that the cluster signs with the new CA', cluster.signsWithPrimary),
      step('See that nobody holds a token of the old key', tokens.nobodyHoldsTheOld),
      step('Every server lets in a client of the new CA', stages.primaryEverywhere),
      step('Every API server signs with the new key, and knows its tokens', tokens.primaryKnown),
      step('Wait until pods have read their tokens', tokens.podsHaveRead),
      step('See that the API server presents its new pair', keysets.pairReread),
      step('Note which extensions of the API answer', keysets.noteExtensions),
    ]),
    ...keysets.beginning,
    play<Context>('Note whom others are told to trust', { hosts: 'masters', tags: ['trust'] }, [
      step('Note whom the API servers tell others to trust', stages.noteFormer),
      step('Note the old key of tokens, for the way back', tokens.noteFormer),
      step('Note what clients in the cluster are told to believe', cluster.noteBelieved),
      step('Note what goes by the files, for the way back', stages.distrustRestarts.undone),
    ]),
    // The first API server alone, as a canary.
    play<Context>('Distrust the old CAs', { hosts: everyMachine, serial: [1, '100%'], tags: ['trust'] }, [
      step('Take the old CAs out of the files', stages.distrust),
      step('Have the machine trust the old CAs no more, where it does', stages.distrustAnchors),
      step('Write the files of token keys, without the old key', tokens.distrusted.prepared),
      step('Put the files of token keys in place', tokens.distrusted.placed),
      step('See that the servers of this host refuse what the old CAs signed, and could sign', stages.formerRefused),
      step('See that they let in a client of the new CA', stages.primaryLetIn),
      step('See that the extensions of the API answer through this API server', keysets.extensionsAnswer),
    ]),
    ...stages.distrustRestarts.plays,
    play<Context>('What clients believe', { hosts: 'masters', tags: ['trust'] }, [
      step('Write the same into cluster-info and the other copies of the CA', cluster.distrustedCopies),
      step('See it in every namespace, and in the volumes of pods', cluster.publishedEverywhere),
    ]),
    play<Context>('Tell the others', { hosts: 'masters', tags: ['trust'] }, [
      step('Take the old CAs out of what API servers have told others', stages.untold),
    ]),
    play<Context>('Is it distrusted?', { hosts: 'masters', tags: ['verify'] }, [
      step('Every server refuses what the old CAs signed, and could sign', stages.formerRefusedEverywhere),
      step('Every API server refuses what the old key of tokens signs now', tokens.formerRefused),
      step('Every server lets in a client of the new CA still', { ...stages.primaryEverywhere, id: 'verify-let-in' }),
      step('The extensions of the API answer still', { ...keysets.extensionsAnswer, id: 'verify-extensions' }),
    ]),
  ],
  report: keysets.reportOf('distrusted', stages.distrustRestarts),
})
