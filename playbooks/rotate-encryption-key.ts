#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Rotates the key with which API servers encrypt what they keep in etcd: to a new one of the same provider, to another provider, from no encryption and
// back to it. Servers take their file up by themselves, or are restarted one after the other; every gate is what each of them says, and etcd's own bytes.
import { play, playbook, type RunContext, type StepContext, step } from 'rekey'
import * as encryption from 'rekey/encryption'
import type { Cluster } from 'rekey/kubernetes'
import { extra, openFoundCluster, preflight, restart } from 'rekey/rotation'
import { z } from 'zod'

const { prepare, stages, report } = encryption

// encryption_provider, encryption_resources, backup_directory; drain_timeout, accept_gap; extra_certificates
const variables = z.object({ ...encryption.variables, ...restart.variables, ...extra.variables })

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

const restarts = encryption.restartsBy<Context>(restart)

export default playbook({
  name: 'rotate-encryption-key',
  summary:
    'Rotate the key that Secrets lie under in etcd, written anew and counted there before the old one is dropped',
  vars: variables,
  services: (run: RunContext<Variables>) => {
    const cluster = openFoundCluster(run)
    return { cluster, close: () => cluster.close() }
  },
  plays: [
    play<Context>('Preflight', { hosts: 'masters:etcd', tags: ['preflight'] }, [
      step('Read what runs there, and which files it lives by', preflight.readCertificates),
      step('Read what each API server encrypts by', prepare.read),
    ]),
    play<Context>('Plan and back up', { hosts: 'masters', tags: ['preflight'] }, [
      step('Every API server of the cluster is in this run', encryption.everyServer),
      step('Plan: from which key to which', prepare.plan),
      step('Look for who stands in for an API server that is restarted', restarts.standIn),
      step('Count what lies in etcd under which key', { ...prepare.count, id: 'count-before' }),
      step('Keep the file as it is', prepare.keepFile),
      step('Save a snapshot of etcd', prepare.snapshot('before')),
      step('Make the new key', prepare.makeKey),
    ]),
    // Plays that are undone as a whole, the second with all that comes after it: lib/encryption/key-rotation/way-back.ts lists their steps.
    play<Context>(
      'Read with the new key everywhere',
      { hosts: 'masters', tags: ['read'], rollback: restarts.wayBackToTheFile },
      [
        step('Add the new key as one to read with', stages.addKey),
        step('Restart API servers that read their file only when they start', restarts.startAnew('read')),
        step('Wait until every API server reads with it', stages.converged('wait-to-read')),
        step('All files are the same', stages.equal('same-files-to-read', 'wait-to-read', 'read')),
      ],
    ),
    play<Context>('Write with the new key', { hosts: 'masters', tags: ['write'], rollback: restarts.wayBack }, [
      step('Make the new key the one to write with', stages.promoteKey),
      step('Restart API servers that read their file only when they start', restarts.startAnew('write')),
      step('Wait until every API server writes with it', stages.converged('wait-to-write')),
      step('All files are the same', stages.equal('same-files-to-write', 'wait-to-write', 'write')),
    ]),
    play<Context>('Write everything anew', { hosts: 'masters', tags: ['rewrite'] }, [
      step('Write through each API server, read through every other one, look into etcd', stages.canary),
      step('Write everything anew', stages.reencrypt),
      step('Count what lies in etcd under which key', stages.counted('count-after')),
      step('Save a snapshot of etcd that does not need the old key', prepare.snapshot('after')),
      step('Count again', stages.counted('count-before-the-drop')),
    ]),
    play<Context>('Drop the old key', { hosts: 'masters', tags: ['drop'] }, [
      step('Every API server still goes by its file', stages.converged('wait-before-the-drop')),
      step('All files are still the same', stages.equal('same-files-to-drop', 'wait-before-the-drop', 'write')),
      step('Drop the old key', stages.dropKey),
      step('Restart API servers that read their file only when they start', restarts.startAnew('drop')),
      step('Wait until every API server does without it', stages.converged('wait-to-drop')),
      step('Restart one API server, and read through it', restarts.restartOne),
      step('Count what is in etcd at the end', stages.counted('count-at-the-end')),
    ]),
  ],
  report,
})
