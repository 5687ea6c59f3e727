#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Takes another KMS plugin with another key: it is placed beside the first one, on a socket of its own, and tried there; API servers read with it, then
// write with it; everything is written anew; and the first one goes once its own log says that nobody asks it. Also from keys in the file to a plugin.
import { file, play, playbook, type RunContext, type StepContext, service, step, template } from 'rekey'
import * as encryption from 'rekey/encryption'
import type { Cluster } from 'rekey/kubernetes'
import { extra, openFoundCluster, preflight, restart } from 'rekey/rotation'
import { z } from 'zod'

const { plugin, prepare, stages, report } = encryption

// kms_name, kms_endpoint, kms_files …; encryption_resources, backup_directory; drain_timeout, accept_gap; extra_certificates
const { encryption_provider: _, ...common } = encryption.variables
const variables = z.object({ ...common, ...plugin.variables, ...restart.variables, ...extra.variables })

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

const restarts = encryption.restartsBy<Context>(restart)

export default playbook({
  name: 'rotate-kms-plugin',
  summary:
    'Put a second KMS plugin with another key beside the first, write everything anew with it, and take the first away',
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
      step('Plan: from which key to which plugin', plugin.plan),
      step('What it is made of takes nothing from the old plugin', plugin.ownFiles),
      step('Look for who stands in for an API server that is restarted', restarts.standIn),
      step('Count what lies in etcd under which key', { ...prepare.count, id: 'count-before' }),
      step('Keep the file as it is', prepare.keepFile),
      step('Save a snapshot of etcd', prepare.snapshot('before')),
    ]),
    play<Context>('Start the new plugin', { hosts: 'masters', tags: ['plugin'] }, [
      step('Place what it is made of', template<Context>(plugin.placed)),
      step('Start its unit', { ...service<Context>(plugin.units), when: plugin.hasUnits }),
      step('Try it over its socket', plugin.tried),
      step('Its key is the same on every master, and another one than before', plugin.sameKey),
    ]),
    // Plays that are undone as a whole, the second with all that comes after it: lib/encryption/key-rotation/way-back.ts lists their steps.
    play<Context>(
      'Read with the new plugin everywhere',
      { hosts: 'masters', tags: ['read'], rollback: restarts.wayBackToTheFile },
      [
        step('Add the new plugin as one to read with', stages.addKey),
        step('Restart API servers that read their file only when they start', restarts.startAnew('read')),
        step('Wait until every API server reads with it', stages.converged('wait-to-read')),
        step('Every API server has been told of its key', plugin.seen),
        step('All files are the same', stages.equal('same-files-to-read', 'wait-to-read', 'read')),
      ],
    ),
    play<Context>('Write with the new plugin', { hosts: 'masters', tags: ['write'], rollback: restarts.wayBack }, [
      step('Make the new plugin the one to write with', stages.promoteKey),
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
    play<Context>('Drop the old plugin', { hosts: 'masters', tags: ['drop'] }, [
      step('Every API server still goes by its file', stages.converged('wait-before-the-drop')),
      step('All files are still the same', stages.equal('same-files-to-drop', 'wait-before-the-drop', 'write')),
      step('The log of the old plugin tells of requests', plugin.oldIsLogged),
      step('Drop the old plugin from the files', stages.dropKey),
      step('Restart API servers that read their file only when they start', restarts.startAnew('drop')),
      step('Wait until every API server does without it', stages.converged('wait-to-drop')),
      step('Restart one API server, and read through it', restarts.restartOne),
      step('Count what is in etcd at the end', stages.counted('count-at-the-end')),
    ]),
    play<Context>('Take the old plugin away', { hosts: 'masters', tags: ['old-plugin'] }, [
      step('Its log says that nobody asks it any more', plugin.unaskedFor(75)),
      step('Stop its unit', { ...service<Context>(plugin.oldUnit), when: plugin.oldIsUnit }),
      step('Remove the manifest of its pod', { ...file<Context>(plugin.oldPod), when: plugin.oldIsPod }),
      step('Every API server is well without it', plugin.wellWithout),
    ]),
  ],
  report,
})
