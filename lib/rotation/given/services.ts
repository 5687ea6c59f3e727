// What a run holds in memory only: connections, keys, tokens, and what is measured. Each step's type names those that it needs.
import { type Cluster, openCluster } from '../../kubernetes/api/cluster.ts'
import { probeObject, removeProbeObject } from '../../kubernetes/probes/probes.ts'
import type { RunContext } from '../../playbook/model.ts'
import { openIssued, type WithIssued } from '../issue.ts'
import { openProbes, type RunProbes, type WithProbes } from '../observe.ts'
import { administratorOf, apiServerOf } from './administrator.ts'
import { masters } from './hosts.ts'
import { openVault, type RunVault, type Variables, type WithVault } from './vault.ts'

/** What a procedure that issues certificates to a cluster needs. */
export interface Services extends WithVault, WithIssued, WithProbes {
  readonly cluster: Cluster
}

/** Opens them; nothing is connected before a step asks. `close` ends all of them and never rejects. */
export function openServices(run: RunContext<Variables>): Services & { close(): Promise<void> } {
  return { ...openObserved(run, openVault(run)), issued: openIssued() }
}

/** The same for a procedure that issues none. */
export function openObserved(run: RunContext, vault: RunVault): Omit<Services, 'issued'> & { close(): Promise<void> } {
  const observed = openWithProbes(run, openFoundCluster(run))
  return {
    ...observed,
    vault,
    close: async () => {
      await observed.close()
      await vault.close()
    },
  }
}

/** A cluster, and probes of it that end and take away what they wrote at the end, for procedures that need nothing else. */
export function openWithProbes(
  run: RunContext,
  cluster: Cluster,
): WithProbes & { readonly cluster: Cluster; close(): Promise<void> } {
  const probes = openProbes()
  return {
    cluster,
    probes,
    close: async () => {
      await removeProbes(run, cluster, probes)
      cluster.close()
    },
  }
}

/** The cluster, asked with what was found on its masters: `preflight.readCertificates` comes before anybody asks. */
export function openFoundCluster(run: RunContext): Cluster {
  return openCluster(run, masters, {
    administrator: master => administratorOf(run, master),
    apiServer: master => apiServerOf(run, master),
  })
}

/** Ends the probes, and takes away what they wrote. */
async function removeProbes(run: RunContext, cluster: Cluster, probes: RunProbes): Promise<void> {
  try {
    if (await probes.stop()) await removeProbeObject(await cluster.api())
  } catch (error) {
    run.log(`ConfigMap kube-system/${probeObject} could not be removed: ${(error as Error).message}`)
  }
}
