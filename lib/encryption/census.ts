// How many values of each resource and namespace lie in etcd under which provider, key and key id. Values are told apart and forgotten.
import type { EtcdValue } from './etcd-values.ts'
import { headBytes, needsAll, type Stored } from './stored.ts'

/** Values of one resource and namespace that lie in the same way. */
export interface CensusRow {
  /** `secrets`, `deployments.apps`, `widgets.example.com`. */
  readonly resource: string
  readonly namespace?: string
  readonly stored: Stored
  readonly count: number
  readonly bytes: number
  /** The keys of the first few of them, where they are to be named. */
  readonly keys: readonly string[]
}

export interface Census {
  readonly rows: readonly CensusRow[]
  readonly values: number
  readonly bytes: number
}

/** How many keys are named of a row. */
const mostNamed = 20

/**
 * Counts.
 * @param prefix where the API server keeps everything: `/registry`
 * @param tell what a value was written by (`tellingApart`)
 * @param isNamed which values are named by their keys: those that nobody knows, where nothing is said
 */
export async function takeCensus(
  pages: AsyncIterable<readonly EtcdValue[]>,
  prefix: string,
  tell: (value: Uint8Array) => Stored,
  isNamed: (resource: string, stored: Stored) => boolean = (_, { kind }) => kind === 'unknown',
): Promise<Census> {
  const rows = new Map<string, { -readonly [member in keyof CensusRow]: CensusRow[member] } & { keys: string[] }>()
  let [values, bytes] = [0, 0]
  for await (const page of pages)
    for (const value of page) {
      const head = value.head(headBytes)
      const stored = tell(needsAll(head) ? value.all() : head)
      const { resource, namespace } = keptAt(value.key, prefix)
      const id = JSON.stringify([resource, namespace, stored])
      const row = rows.get(id) ?? {
        ...{ resource, stored, count: 0, bytes: 0, keys: [] as string[] },
        ...(namespace !== undefined && { namespace }),
      }
      rows.set(id, row)
      row.count++
      row.bytes += value.size
      if (row.keys.length < mostNamed && isNamed(resource, stored)) row.keys.push(value.key)
      values++
      bytes += value.size
    }
  return { rows: [...rows.values()], values, bytes }
}

/** Resources that are kept under another name than the API has for them. */
const renamed: Readonly<Record<string, string>> = {
  minions: 'nodes',
  controllers: 'replicationcontrollers',
  ingress: 'ingresses',
  'services/specs': 'services',
  'services/endpoints': 'endpoints',
}

/** Resources of the API's own groups, which keys do not name. */
const groups: Readonly<Record<string, string>> = {
  apps: 'controllerrevisions daemonsets deployments replicasets statefulsets',
  batch: 'cronjobs jobs',
  autoscaling: 'horizontalpodautoscalers',
  policy: 'poddisruptionbudgets',
  'networking.k8s.io': 'ingresses ingressclasses networkpolicies ipaddresses servicecidrs',
  'rbac.authorization.k8s.io': 'clusterroles clusterrolebindings roles rolebindings',
  'storage.k8s.io': 'storageclasses csidrivers csinodes csistoragecapacities volumeattachments volumeattributesclasses',
  'coordination.k8s.io': 'leases leasecandidates',
  'discovery.k8s.io': 'endpointslices',
  'scheduling.k8s.io': 'priorityclasses',
  'node.k8s.io': 'runtimeclasses',
  'flowcontrol.apiserver.k8s.io': 'flowschemas prioritylevelconfigurations',
  'admissionregistration.k8s.io':
    'mutatingwebhookconfigurations validatingwebhookconfigurations validatingadmissionpolicies validatingadmissionpolicybindings mutatingadmissionpolicies mutatingadmissionpolicybindings',
  'certificates.k8s.io': 'certificatesigningrequests clustertrustbundles',
  'resource.k8s.io': 'resourceclaims resourceclaimtemplates resourceslices deviceclasses',
  'internal.apiserver.k8s.io': 'storageversions',
}
const groupOf = new Map(Object.entries(groups).flatMap(([group, names]) => names.split(' ').map(name => [name, group])))

/** What an API server keeps for itself, and no rule is for. */
export const isOwn = (resource: string) => /^(ranges|masterleases|peerserverleases|health)$/.test(resource)

/**
 * Of which resource and namespace a key is: `/registry/secrets/NAMESPACE/NAME`, `/registry/minions/NAME`, and with the group before it where it has
 * a dot: `/registry/example.com/widgets/NAMESPACE/NAME`.
 */
export function keptAt(key: string, prefix: string): { resource: string; namespace?: string } {
  const [first = '', ...rest] = key.slice(prefix.length).split('/').filter(Boolean)
  const grouped = first.includes('.') || first === 'services'
  const named = grouped ? `${first}/${rest.shift() ?? ''}` : first
  const resource = first.includes('.') ? named.split('/').reverse().join('.') : withGroup(renamed[named] ?? named)
  return rest.length > 1 ? { resource, namespace: rest[0]! } : { resource }
}

function withGroup(name: string): string {
  const group = groupOf.get(name)
  return group === undefined ? name : `${name}.${group}`
}
