#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// The key behind a KMS plugin was rotated where it is kept, and the plugin stays: every API server must have been told of the new key, then everything
// is written anew with it, and counted by the id of its key. No file is changed.
import { play, playbook, type RunContext, type StepContext, step } from 'rekey'
import * as encryption from 'rekey/encryption'
import type { Cluster } from 'rekey/kubernetes'
import { extra, openFoundCluster, preflight, restart } from 'rekey/rotation'
import { z } from 'zod'

const { kmsKey, prepare, stages, report } = encryption

// encryption_resources, backup_directory; drain_timeout, accept_gap; extra_certificates
const { encryption_provider: _, ...common } = encryption.variables
const variables = z.object({ ...common, ...restart.variables, ...extra.variables })

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

const restarts = encryption.restartsBy<Context>(restart)

export default playbook({
  name: 'rotate-kms-key',
  summary: 'Write everything anew once the key behind a KMS plugin was rotated, after every API server was told of it',
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
    play<Context>('The new key is there', { hosts: 'masters', tags: ['preflight'] }, [
      step('Every API server of the cluster is in this run', encryption.everyServer),
      step('Plan: which plugin', kmsKey.plan),
      step('Try it over its socket', kmsKey.tried),
      step('Its key is the same on every master', kmsKey.sameKey),
      step('Every API server has been told of it', kmsKey.seen),
      step('Count what lies in etcd under which key', kmsKey.count),
      step('Save a snapshot of etcd', prepare.snapshot('before')),
    ]),
    play<Context>('Write everything anew', { hosts: 'masters', tags: ['rewrite'] }, [
      step('Write through each API server, read through every other one, look into etcd', kmsKey.kept(stages.canary)),
      step('Write everything anew', kmsKey.kept(stages.reencrypt)),
      step('Count what lies in etcd under which key', kmsKey.kept(stages.counted('count-after'))),
      step('Save a snapshot of etcd that does not need the old key', prepare.snapshot('after')),
      step('Restart one API server, and read through it', kmsKey.kept(restarts.restartLast)),
      step('Count again', kmsKey.kept(stages.counted('count-at-the-end'))),
    ]),
  ],
  report,
})
