#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Second stage of a graceful rotation: new keys sign, and what they sign takes the place of what the old ones did, one API server before the
// others. Both are trusted: nobody fails, here or on the way back. docs/runbooks/rotate-keysets.md is the page to go by.
import { play, playbook, step } from 'rekey'
import { authorities, everyMachine, keysets, observe, restart } from 'rekey/rotation'
import { z } from 'zod'

const { cluster, stages, tokens } = keysets
type Context = keysets.Context

export default playbook({
  name: 'promote-keysets',
  summary: 'Have the staged CAs of keysets sign, and replace what the old ones signed; both are trusted',
  vars: z.object(keysets.variables),
  services: keysets.openServices,
  plays: [
    ...keysets.lookAround,
    play<Context>('May it begin?', { hosts: 'masters', tags: ['gate'] }, [
      ...keysets.etcdIsWhole,
      step('See whether the API may be away, where it must be', keysets.swapRestarts.mayBeAway),
      step('See that kubelets read the pair again that they serve with', restart.kubeletsReread),
      step('See that no host is behind', stages.noneBehind),
      step('See that everything goes by the staged files', stages.allGoByStaged),
      step('See that controller-managers can be given the new CA’s key', cluster.maySign),
      step('See that no pod holds the CA of before alone', cluster.noneBehind),
      step('Every server lets in a client of the new CA', stages.nextEverywhere),
      step('Every API server knows tokens of the new key', tokens.nextKnown),
      step('Note which extensions of the API answer', keysets.noteExtensions),
    ]),
    ...keysets.beginning,
    play<Context>('Vault PKI', { hosts: 'masters', tags: ['vault'] }, [
      step('Note the CAs that Vault issues from', authorities.noteIssuers),
      step('Have Vault issue from the new CAs', keysets.promote),
      step('Write the roles', authorities.writeRoles),
      step('Make a policy and a short-lived token for this run', authorities.makeToken),
    ]),
    play<Context>('Certificates', { hosts: everyMachine, tags: ['certificates'] }, [
      step('Note what goes by the certificates, for the way back', keysets.swapRestarts.undone),
      step('Keep the old CAs and what they signed', keysets.keepOld),
      step('Issue the certificates of this host, and stage them beside the live files', keysets.issueAndStage),
      step('Verify what is staged: chain, key, names', keysets.verifyIssued),
      // After that, which takes away whatever the run has staged before.
      step('Keep the old key of tokens, and write the files with the new key to sign', tokens.promoted.prepared),
    ]),
    // The first API server alone, as a canary.
    play<Context>('Use the new certificates', { hosts: everyMachine, serial: [1, '100%'], tags: ['swap'] }, [
      step('Put the certificates of this host in place', keysets.swapInWatched),
      step('Put the files of token keys in place', tokens.promoted.placed),
      step('Have its controller-manager sign with the new CA', cluster.signWithNext),
      step('See that the ports of this host present certificates of the new CA', keysets.presented),
      step('See that the API server has read its pair again', keysets.pairReread),
      step('See that the extensions of the API answer through this API server', keysets.extensionsAnswer),
    ]),
    play<Context>('The new CAs first', { hosts: everyMachine, serial: [1, '100%'], tags: ['trust'] }, [
      step('Put the new CAs before the old ones', stages.reorder),
      step('See that the servers of this host let in a client of the new CA', stages.nextLetIn),
      step('Take the keys of the old CAs away from beside them', stages.oldKeysGone),
    ]),
    ...keysets.swapRestarts.plays, // and tokens of the new key
    play<Context>('Is it promoted?', { hosts: 'masters', tags: ['verify'] }, [
      step('Have the probes ask as the new administrator, too', observe.probeAsAdministrator),
      step('The cluster signs with the new CA', cluster.signsWithNext),
      step('Every server lets in a client of the new CA still', { ...stages.nextEverywhere, id: 'verify-promoted' }),
    ]),
  ],
  report: keysets.reportOf('promoted', keysets.swapRestarts),
})
