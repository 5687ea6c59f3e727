#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Destroys a key that values in etcd lay under, for good: what is kept of it on the masters and in the folders of runs here. It is refused while an API
// server has the key, a value lies under it, or a snapshot that is kept needs it. Of a KMS plugin's key it says so, and what is left to do there.
import { play, playbook, type RunContext, type StepContext, step } from 'rekey'
import * as encryption from 'rekey/encryption'
import type { Cluster } from 'rekey/kubernetes'
import { extra, openFoundCluster, preflight } from 'rekey/rotation'
import { z } from 'zod'

const { ledger, prepare } = encryption

// destroy_key, destroy_key_id; backup_directory; extra_certificates
const { encryption_provider: _, encryption_resources: __, ...common } = encryption.variables
const variables = z.object({ ...common, ...ledger.variables, ...extra.variables })

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

export default playbook({
  name: 'destroy-old-key',
  summary: 'Destroy a key of encryption at rest that nothing needs any more, in etcd or in any snapshot that is kept',
  vars: variables,
  services: (run: RunContext<Variables>) => {
    const cluster = openFoundCluster(run)
    return { cluster, close: () => cluster.close() }
  },
  plays: [
    play<Context>('Preflight', { hosts: 'masters:etcd', tags: ['preflight'] }, [
      step('Read what runs there, and which files it lives by', preflight.readCertificates),
      step('Read what each API server encrypts by', prepare.readOnly),
    ]),
    play<Context>('Is it needed?', { hosts: 'masters', tags: ['preflight'] }, [
      step('Every API server of the cluster is in this run', encryption.everyServer),
      step('No API server has the key, and nothing in etcd lies under it', ledger.unused),
      step('No snapshot that is kept needs it, and no backup has it', ledger.unneeded),
    ]),
    play<Context>('Destroy the key', { hosts: 'masters', tags: ['destroy'] }, [
      step('Destroy what is kept of it, and look again', ledger.destroy),
    ]),
  ],
  report: ledger.report,
})
