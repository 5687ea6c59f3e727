#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// The way back from a distrust, from whatever machine: every server trusts the old CAs again, beside those that sign. It takes the certificates
// of these CAs alone, which the masters keep. docs/runbooks/rotate-keysets.md is the page to go by.
import { play, playbook, step } from 'rekey'
import { everyMachine, keysets } from 'rekey/rotation'
import { z } from 'zod'

const { again, cluster, tokens } = keysets
const variables = z.object({ ...keysets.variables, ...again.trustVariables }) // items
type Context = keysets.Context & { readonly vars: z.output<typeof variables> }

export default playbook({
  name: 'trust-keysets',
  summary: 'Have every server trust CAs of keysets again that were distrusted',
  vars: variables,
  services: keysets.openServices,
  plays: [
    ...keysets.lookAround,
    play<Context>('May it begin?', { hosts: 'masters', tags: ['gate'] }, [
      step('See that what was named was distrusted', again.namedAreKnown),
      step('See whether the API may be away, where it must be', again.trustRestarts.mayBeAway),
    ]),
    ...keysets.beginning,
    play<Context>('Note whom others are told to trust', { hosts: 'masters', tags: ['trust'] }, [
      step('Note whom the API servers tell others to trust', again.noteTrusted),
      step('Note what clients in the cluster are told to believe', cluster.noteBelieved),
      step('Note the old key of tokens, for the way back', tokens.noteTrusted),
      step('Note what goes by the files, for the way back', again.trustRestarts.undone),
    ]),
    play<Context>('Trust the old CAs again', { hosts: everyMachine, serial: [1, '100%'], tags: ['trust'] }, [
      step('Put the old CAs behind those that sign', again.trustAgain),
      step('Have the machine trust the old CAs again, where it trusts the others', again.trustAnchors),
      step('Write the files of token keys, with the old key before the one that signs', tokens.trusted.prepared),
      step('Put the files of token keys in place', tokens.trusted.placed),
      step('See that the servers of this host let in what the old CAs signed', again.trustedAgain),
    ]),
    ...again.trustRestarts.plays,
    play<Context>('What clients believe', { hosts: 'masters', tags: ['trust'] }, [
      step('Write the same into cluster-info and the other copies of the CA', cluster.trustedCopies),
      step('See it in every namespace, and in the volumes of pods', cluster.publishedEverywhere),
    ]),
    play<Context>('Is it trusted?', { hosts: 'masters', tags: ['verify'] }, [
      step('Every server lets in what the old CAs signed', again.trustedAgainEverywhere),
      step('Every API server knows tokens of the old key', tokens.trustedKnown),
    ]),
  ],
  report: keysets.reportOf('trusted', again.trustRestarts),
})
