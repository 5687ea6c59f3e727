#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Rotates the key that nodes of Cilium encrypt their traffic with: the next id with a new key, seen on every node by its kernel and by what its agent
// publishes, until the old one is gone and no packet was dropped for want of a key.
import { play, playbook, type RunContext, type StepContext, step } from 'rekey'
import { ipsec } from 'rekey/credentials'
import type { Cluster } from 'rekey/kubernetes'
import { extra, found, machines, openFoundCluster, preflight } from 'rekey/rotation'
import { z } from 'zod'

// cilium_namespace, cilium_daemonset, ipsec_secret; ipsec_within, ipsec_drops; accept; extra_certificates
const variables = z.object({ ...ipsec.variables, ...extra.variables })

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

export default playbook({
  name: 'rotate-ipsec-key',
  summary: 'Rotate the IPsec key of Cilium: seen on every node, and no packet dropped for want of it',
  vars: variables,
  services: (run: RunContext<Variables>) => {
    const cluster = openFoundCluster(run)
    return { cluster, close: () => cluster.close() }
  },
  plays: [
    play<Context>('Look at the nodes', { hosts: machines, tags: ['preflight'] }, [
      step('Read what runs there, and which files it lives by', preflight.readCertificates),
    ]),
    play<Context>('Look at Cilium', { hosts: 'masters', tags: ['preflight'] }, [
      step('Find its settings, its key, and every node with an agent', ipsec.find(found.readingOf)),
      step('No earlier rotation is under way', ipsec.settled),
      step('Note the packets that each node has dropped', ipsec.noteErrors),
    ]),
    play<Context>('The new key', { hosts: 'masters', tags: ['key'], rollback: ipsec.wayBack }, [
      step('Make it', ipsec.make),
      step('Put it into the Secret', ipsec.put),
      step('Restart the agents, where they do not see it', ipsec.restart),
      step('Every node has it, and every agent publishes it', ipsec.loaded),
    ]),
    play<Context>('The old key is over', { hosts: 'masters', tags: ['verify'] }, [
      step('No node has the old one any more', ipsec.alone),
      step('No packet was dropped for want of a key', ipsec.noDrops),
    ]),
  ],
  report: ipsec.report,
})
