#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// The end of a graceful rotation: keys, certificates and CAs that were distrusted, and kept for the way back, are destroyed. This can't be
// undone. docs/runbooks/rotate-keysets.md is the page to go by.
import { play, playbook, step } from 'rekey'
import { keysets } from 'rekey/rotation'
import { z } from 'zod'

const { cluster, finish, tokens } = keysets
type Context = keysets.Context

export default playbook({
  name: 'finish-keysets',
  summary: 'Destroy what is kept of distrusted CAs of keysets; this can’t be undone',
  vars: z.object(keysets.variables),
  services: keysets.openServices,
  plays: [
    ...keysets.lookAround,
    play<Context>('May it begin?', { hosts: 'masters', tags: ['gate'] }, [
      step('See that there is something to finish', finish.somethingToFinish),
      step('Every server refuses what the old CAs signed, and could sign', finish.refusedEverywhere),
      step('Every API server refuses what the old key of tokens signs now', tokens.forgottenRefused),
    ]),
    play<Context>('As it was before', { hosts: 'masters', tags: ['flags'] }, [
      step('Have controller-managers sign with the file of the CA again', cluster.signTogether),
    ]),
    play<Context>('Destroy the old CAs', { hosts: 'masters:etcd', tags: ['destroy'] }, [
      step('Destroy what this host keeps of them', finish.destroyKept),
      step('Destroy them in Vault', finish.destroyIssuers),
    ]),
  ],
  report: ctx => (ctx.check || ctx.outcome !== 'done' ? [] : [{ title: 'Finished', rows: finish.finished(ctx) }]),
})
