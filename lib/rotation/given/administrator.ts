// The administrator's kubeconfig, and where each master's API server listens: as they were found, else as kubeadm has them.
import { servedAt } from '../../kubernetes/components/control.ts'
import { adminKubeconfig, apiServerPort } from '../../kubernetes/layout/kubeadm/index.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import type { Host } from '../../playbook/host.ts'
import type { RunContext } from '../../playbook/model.ts'
import { readingStep } from './found.ts'
import { masters } from './hosts.ts'

type Run = Pick<RunContext<unknown>, 'registered' | 'hosts'>

const readingOf = (run: Run, host: Host) => run.registered<MachineReading>(readingStep, host.name)

/** The host and the path of the administrator's kubeconfig: that of a master, where it has one, else that of the first which has. */
export function administratorOf(run: Run, master: Host): { readonly host: Host; readonly path: string } {
  for (const host of [master, ...run.hosts(masters)]) {
    const path = readingOf(run, host)?.adminKubeconfig
    if (path !== undefined) return { host, path }
  }
  return { host: master, path: adminKubeconfig }
}

/** Where the API server of a master listens, as that master sees it. */
export function apiServerOf(run: Run, master: Host): { readonly address: string; readonly port: number } {
  const found = readingOf(run, master)?.layout?.components['kube-apiserver']
  return found ? servedAt(found) : { address: '127.0.0.1', port: apiServerPort }
}
