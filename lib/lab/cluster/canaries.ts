// The canaries: workloads of the lab's cluster that count what its users would have noticed.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ownFile } from '../../package.ts'
import { fileOf } from '../machines/machine.ts'
import { endpointOf, has, kubeletMachines, type Shape } from '../shape.ts'

const manifest = (name: string) => readFileSync(ownFile('lib/lab/cluster/manifests', `${name}.yaml`), 'utf8')

/** What is applied to the cluster. Where it has no DNS, the canaries call the same Services by their addresses. */
export function canaryManifest(shape: Shape): string {
  const text = manifest('canaries')
  if (has(shape, 'coredns')) return text
  return text
    .replaceAll('web.canary.svc.cluster.local.', '10.96.80.80')
    .replaceAll('kubernetes.default.svc', '10.96.0.1')
}

/** What leads Services to their pods in a cluster without kube-proxy. */
export const routesManifest = (shape: Shape): string =>
  manifest('service-routes').replaceAll('$API', `https://${endpointOf(shape).host}:6443`)

/** Its workload: to a rotation, part of the pod network. */
export const routesWorkload = { kind: 'DaemonSet', namespace: 'kube-system', name: 'service-routes' } as const

/** The workloads that hold tokens or the CA, or that show whether others do. A rotation restarts them. */
export const canaryWorkloads = [
  { kind: 'Deployment', namespace: 'canary', name: 'web' },
  { kind: 'DaemonSet', namespace: 'canary', name: 'service-caller' },
  { kind: 'Deployment', namespace: 'canary', name: 'token-caller' },
  { kind: 'Deployment', namespace: 'canary-legacy', name: 'legacy-token-caller' },
] as const

/** What one caller has counted; its file outlives its pod. */
export interface CanaryResult {
  readonly kind: 'service' | 'token' | 'legacy-token'
  readonly pod: string
  readonly namespace: string
  readonly node: string
  readonly started: string
  readonly updated: string
  readonly calls: number
  /** Calls that got no good answer in time, refused ones among them. */
  readonly failures: number
  /** Calls that were answered with 401 or 403. */
  readonly refused: number
  readonly longestGapMs: number
  readonly lastError: string
}

/** Every result there is on the masters and nodes, read from their disks. */
export function canaryResultsOf(shape: Shape): CanaryResult[] {
  return kubeletMachines(shape).flatMap(({ name }) => {
    const folder = fileOf(shape.name, name, '/var/lib/rekey-canary')
    if (!existsSync(folder)) return []
    return readdirSync(folder).flatMap(file => {
      if (!file.endsWith('.json')) return []
      try {
        return JSON.parse(readFileSync(join(folder, file), 'utf8')) as CanaryResult
      } catch {
        // Removed between being listed and being read.
        return []
      }
    })
  })
}
