// What of a host is well: its components run and serve, its etcd has a quorum and no alarm, and from there Services and the DNS answer.
import type { HostSession } from '../../playbook/model.ts'
import { componentServes, processesOf } from '../components/control.ts'
import { presentedCertificates } from '../components/endpoints.ts'
import { etcdAlarms, etcdHealthy, etcdMembers } from '../components/etcd.ts'
import { etcdAccess } from '../components/etcd-access.ts'
import { type ComponentName, componentNames, type FoundComponent, type HostLayout } from '../layout/host-layout.ts'
import { askDns } from '../probes/dns.ts'
import { type Finding, finding } from './finding.ts'

/** What pods go by, as the API has it. */
export interface ServicesOf {
  /** The addresses and ports of the Service of the API. */
  readonly api: readonly { readonly address: string; readonly port: number }[]
  /** Those of the cluster's DNS; none where it has none. */
  readonly dns: readonly string[]
}

/** What every master has. */
const ofMasters: readonly ComponentName[] = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler']

/**
 * Looks at the components of a host. API servers are asked elsewhere: here they are to run.
 * @param isMaster whether it is to have a control plane
 */
export async function componentsOf(session: HostSession, layout: HostLayout, isMaster: boolean): Promise<Finding[]> {
  const { name } = session.host
  const found = componentNames.flatMap(component => layout.components[component] ?? [])
  const missing = isMaster ? ofMasters.filter(component => !layout.components[component]) : []
  return [
    ...(await Promise.all(found.map(one => finding(one.component, name, () => serving(session, layout, one))))),
    ...missing.map(
      (component): Finding => ({
        what: component,
        where: name,
        state: 'not well',
        detail: 'was not found on this host',
      }),
    ),
  ]
}

async function serving(session: HostSession, layout: HostLayout, found: FoundComponent): Promise<string> {
  if (found.component === 'etcd') return memberWell(session, layout)
  if ((await processesOf(session, found)).length === 0) throw new Error('does not run')
  if (!(await componentServes(session, found))) throw new Error('does not say that it is well')
  return { unit: 'a unit', 'static-pod': 'a static pod', pod: 'a pod' }[found.runs.kind]
}

async function memberWell(session: HostSession, layout: HostLayout): Promise<string> {
  const access = etcdAccess(layout)
  if (!(await etcdHealthy(session, access))) throw new Error('it is not healthy, or has lost its quorum')
  const members = await etcdMembers(session, access)
  const waiting = members.filter(({ name, learner }) => learner || name === '').map(({ name, id }) => name || id)
  if (waiting.length > 0) throw new Error(`members that are none yet: ${waiting.join(', ')}`)
  const alarms = await etcdAlarms(session, access)
  if (alarms.length > 0) throw new Error(`alarms: ${alarms.join(', ')}`)
  return `one of ${members.length} members, quorum, no alarm`
}

/** Looks whether Services answer on a host that has a kubelet: that of the API, and the DNS. */
export async function servicesFrom(session: HostSession, { api, dns }: ServicesOf): Promise<Finding[]> {
  const { name } = session.host
  // A Service that every cluster has.
  const known = api[0]?.address
  return Promise.all([
    ...api.map(({ address, port }) =>
      finding('Service of the API', name, async () => {
        await presentedCertificates(() => session.forward(address, port), `${address}:${port}`)
        return `${address}:${port}`
      }),
    ),
    ...dns.map(address =>
      finding('DNS', name, async () => askDns(() => session.forward(address, 53), known ?? address)),
    ),
  ])
}
