#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Rotates the key of a KMS plugin whose keys are in an HSM: the new key is in the token already. Every plugin decrypts with it before any encrypts with
// it (Secondary_key, then Primary_key); then everything is written anew, and counted by the id of its key. The old key stays in the token.
import { play, playbook, type RunContext, type StepContext, step } from 'rekey'
import * as encryption from 'rekey/encryption'
import type { Cluster } from 'rekey/kubernetes'
import { extra, openFoundCluster, preflight, restart } from 'rekey/rotation'
import { z } from 'zod'

const { hsm, kmsKey, prepare, stages, report } = encryption

// hsm_key, hsm_config, hsm_unit, hsm_module, hsm_token, hsm_pin_file …; encryption_resources, backup_directory; drain_timeout, accept_gap; extra_certificates
const { encryption_provider: _, ...common } = encryption.variables
const variables = z.object({ ...common, ...hsm.variables, ...restart.variables, ...extra.variables })

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

const restarts = encryption.restartsBy<Context>(restart)

export default playbook({
  name: 'rotate-hsm-key',
  summary:
    'Rotate the key of a KMS plugin in an HSM: every plugin decrypts with the new key before any encrypts with it',
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
    play<Context>('Plan', { hosts: 'masters', tags: ['preflight'] }, [
      step('Every API server of the cluster is in this run', encryption.everyServer),
      step('Plan: which plugin', kmsKey.plan),
      step('Read which keys it has', hsm.read),
    ]),
    // One after the other: of a wrong PIN, no token may be told more than once.
    play<Context>('Look into the tokens', { hosts: 'masters', tags: ['preflight'], serial: 1 }, [
      step('The old key and the new one are there, each once', hsm.look),
    ]),
    play<Context>('Compare and back up', { hosts: 'masters', tags: ['preflight'] }, [
      step('Masters have the same keys, and everything lies under that of now', hsm.compare),
      step('Keep the file of the plugin', hsm.keepConfig),
      step('Save a snapshot of etcd', prepare.snapshot('before')),
    ]),
    play<Context>('Decrypt with the new key everywhere', { hosts: 'masters', tags: ['read'], serial: 1 }, [
      step('Make the new key the Secondary_key, and restart the plugin', hsm.addKey),
    ]),
    // Undone as a whole, with all that comes after it: hsm.wayBack lists its steps.
    play<Context>('Encrypt with the new key', { hosts: 'masters', tags: ['write'], serial: 1, rollback: hsm.wayBack }, [
      step('Make the new key the Primary_key, and restart the plugin', hsm.promoteKey),
    ]),
    play<Context>('Write everything anew', { hosts: 'masters', tags: ['rewrite'] }, [
      step('Each plugin decrypts what another one has encrypted', hsm.sameKey),
      step('Write through each API server, read through every other one, look into etcd', stages.canary),
      step('Write everything anew', stages.reencrypt),
      step('Count what lies in etcd under which key', stages.counted('count-after')),
      step('Save a snapshot of etcd that does not need the old key', prepare.snapshot('after')),
      step('The log of the plugin names the new key', hsm.logged),
      step('Restart one API server, and read through it', restarts.restartLast),
      step('Count again', stages.counted('count-at-the-end')),
    ]),
  ],
  report,
})
