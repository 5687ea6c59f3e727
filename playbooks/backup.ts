#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Backs up what a rotation touches: keys and configuration of every host, token Secrets, etcd. Each backup is read back
// before it counts, stays on its host, and is copied into the run's folder.
import { join } from 'node:path'
import { play, playbook, type RunContext, type StepContext, step } from 'rekey'
import type { Cluster } from 'rekey/kubernetes'
import { backup, everyMachine, extra, openFoundCluster, preflight } from 'rekey/rotation'
import { z } from 'zod'

const variables = z.object({ ...backup.variables, ...extra.variables }) // backup_directory, extra_certificates

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

export default playbook({
  name: 'backup',
  summary: 'Back up keys, configuration, token Secrets and etcd of a cluster, and read every backup back',
  vars: variables,
  services: (run: RunContext<Variables>) => {
    const cluster = openFoundCluster(run)
    return { cluster, close: () => cluster.close() }
  },
  plays: [
    play<Context>('Look at the hosts', { hosts: everyMachine, tags: ['backup'] }, [
      step('Read what runs there, and which files it lives by', preflight.readCertificates),
      step('Check the space for backups', preflight.checkSpace),
      step('Check the tools of etcd', preflight.checkEtcdTools),
    ]),
    play<Context>('Back up the hosts', { hosts: everyMachine, tags: ['backup'] }, [
      step('Back up keys and configuration', backup.hosts),
    ]),
    play<Context>('Back up the cluster', { hosts: 'masters', tags: ['backup'] }, [
      step('Back up the token Secrets of every namespace', backup.tokens),
      step('Save a snapshot of etcd', backup.etcd),
    ]),
  ],
  report: ctx => [
    {
      title: 'Backups',
      rows: [
        ['on every host', backup.archiveOf(ctx)],
        ['here', join(ctx.folder, 'backups')],
      ],
    },
  ],
})
