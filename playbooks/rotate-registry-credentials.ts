#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Puts another credential for a registry wherever a cluster has the old one: pull Secrets in all namespaces, files of kubelets and container runtimes. Both
// hold meanwhile; each node pulls with the new one before and after. Revoking the old one is the operator's.
import { play, playbook, type RunContext, type StepContext, step } from 'rekey'
import { registry } from 'rekey/credentials'
import type { Cluster } from 'rekey/kubernetes'
import { extra, found, machines, openFoundCluster, preflight } from 'rekey/rotation'
import { z } from 'zod'

// registry, registry_user; registry_new_file or registry_new_vault (vault_addr, vault_cacert, vault_token_file); registry_images;
// registry_log, registry_log_host, registry_quiet, registry_quiet_within; kubelet_cache, pull_within; accept; extra_certificates
const variables = z.object({ ...registry.variables, ...extra.variables })

type Variables = z.output<typeof variables>
type Context = StepContext<Variables> & { readonly cluster: Cluster }

export default playbook({
  name: 'rotate-registry-credentials',
  summary: 'Replace the credential for a registry in all pull Secrets and on all nodes, proven by a pull on each node',
  vars: variables,
  services: (run: RunContext<Variables>) => {
    const cluster = openFoundCluster(run)
    return { cluster, close: () => cluster.close() }
  },
  plays: [
    play<Context>('Look at the nodes', { hosts: machines, tags: ['preflight'] }, [
      step('Read what runs there, and which files it lives by', preflight.readCertificates),
      step('Read the new credential', registry.read),
      step('Look for the old one in what kubelet and container runtime read', registry.lookAtNode(found.readingOf)),
      step('See that it can be changed there', registry.planFiles),
    ]),
    play<Context>('Look at the cluster', { hosts: 'masters', tags: ['preflight'] }, [
      step('Every node of the cluster is in this run', registry.everyNode),
      step('Find every Secret that has it, who hands it to pods, and who would write it back', registry.find),
      step('Note where the registry’s log is', registry.noteLog),
    ]),
    play<Context>('Both credentials hold', { hosts: machines, tags: ['preflight'] }, [
      step('See whether a pull without a credential is refused', registry.without),
      step('The registry takes the old one', registry.old),
      step('Each node pulls with the new one', registry.proven('before')),
    ]),
    play<Context>('The new credential in the cluster', { hosts: 'masters', tags: ['secrets'] }, [
      step('Put it into every Secret', registry.putIntoSecrets),
    ]),
    // Where containerd must be restarted, pods go on; but not everywhere at once.
    play<Context>('The new credential on the nodes', { hosts: machines, serial: '20%', tags: ['nodes'] }, [
      step('Put it into files, and restart what reads them at its start', registry.putIntoFiles),
    ]),
    play<Context>('Each node pulls', { hosts: machines, tags: ['verify'] }, [
      step('Each node pulls with the new one again', registry.proven('after')),
    ]),
    play<Context>('Nobody uses the old one', { hosts: 'masters', tags: ['verify'] }, [
      step('No Secret has the old one', registry.counted('count-what-has-the-old-one')),
      step('Wait until kubelets have forgotten what they had read', registry.forgotten),
      step('Nobody asks the registry as the old user', registry.quiet),
      step('Nobody has written the old one back', registry.counted('count-again')),
      step('No node has come that is not in this run', { ...registry.everyNode, id: 'every-node-again' }),
    ]),
    play<Context>('Nobody has it on a node', { hosts: machines, tags: ['verify'] }, [
      step('No file of a node has the old one', registry.noneHasIt(found.readingOf)),
    ]),
  ],
  report: registry.report,
})
