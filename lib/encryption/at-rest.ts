// Encryption at rest on machines whose layout rekey does not change (kOps): what an API server there encrypts by, what lies in its etcds against a
// configuration, and everything written anew.

import { HostFailedError, shown } from '../errors.ts'
import { type KubernetesApi, kubernetesApi } from '../kubernetes/api/api.ts'
import type { ApiCredentials } from '../kubernetes/api/kubeconfig.ts'
import { servedAt } from '../kubernetes/components/control.ts'
import { etcdAccessesOf, registryOf } from '../kubernetes/components/etcd-access.ts'
import { fileOf, readComponentFile } from '../kubernetes/components/files.ts'
import type { FoundComponent } from '../kubernetes/layout/host-layout.ts'
import { runningComponent } from '../kubernetes/layout/running.ts'
import type { HostSession } from '../playbook/model.ts'
import { isOwn, takeCensus } from './census.ts'
import { type EncryptionConfiguration, namedProviders, readConfiguration, rulesOf } from './configuration.ts'
import { etcdValues } from './etcd-values.ts'
import { type InForce, readInForce } from './in-force.ts'
import { type Reencrypted, reencrypt } from './rewrite/reencrypt.ts'
import { apiResources } from './rewrite/resources.ts'
import { type Behind, behindIn, listed } from './standing.ts'
import { tellingApart } from './stored.ts'

async function apiServerOn(session: HostSession): Promise<FoundComponent> {
  const found = await runningComponent(session, 'kube-apiserver')
  if (found) return found
  throw new HostFailedError(`no API server runs on ${session.host.name}`, {
    code: 'encryption.no-server',
    host: session.host.name,
  })
}

/** What an API server encrypts by. */
export interface EncryptsBy {
  /** The file that it was started with, as it is now. */
  readonly text: string
  /** Why it is not known to go by that, in words; undefined where it says so itself, or was started since the file was written. */
  readonly amiss?: string
}

/**
 * What the API server of a host encrypts by: its file, and its own word for what of it is in force.
 * @param who as whom it is asked (PEM). Without a CA, it must be of the one that its own clients are of
 * @returns undefined where it encrypts nothing
 * @throws HostFailedError where none runs there, or it does not answer
 */
export async function encryptsBy(
  session: HostSession,
  who: Omit<ApiCredentials, 'server' | 'ca'> & { readonly ca?: string },
): Promise<EncryptsBy | undefined> {
  const apiServer = await apiServerOn(session)
  if (!fileOf(apiServer, 'encryption')) return undefined
  const { address, port } = servedAt(apiServer)
  const ca = who.ca ?? (await readComponentFile(session, apiServer, 'client-ca'))
  const api = kubernetesApi(() => session.forward(address, port), { ...who, ca })
  try {
    // First: what is written once the server was asked is not what it has said that of.
    const text = await readComponentFile(session, apiServer, 'encryption')
    const amiss = amissOf(await readInForce(session, apiServer, api))
    return { text, ...(amiss !== undefined && { amiss }) }
  } finally {
    api.close()
  }
}

function amissOf({ agrees, health }: InForce): string | undefined {
  if (agrees === 'no') return 'has another encryptionconfig in force than its file has now'
  if (agrees === 'unknown')
    return 'does not say whether it has its file in force, which was written since it was started'
  return health === undefined || health === 'ok' ? undefined : `is not well with its KMS plugins: ${shown(health)}`
}

const isMeantBy = (configuration: EncryptionConfiguration) => (resource: string) =>
  !isOwn(resource) && rulesOf(configuration, resource).length > 0

/** What lies in etcd, of the resources of a configuration, that it would write in another way, or not read. */
export interface AtRest {
  /** How many values there are of those resources. */
  readonly covered: number
  /** How many it would write otherwise, in words; empty where there are none. */
  readonly behind: string
  /** The same of those that it does not read, whatever their resource. */
  readonly unreadable: string
}

/**
 * Counts in all etcds that the API server of a host has.
 * @param text of the configuration that values are held against
 * @throws RekeyError where that is none; HostFailedError where an etcd does not answer
 */
export async function countAtRest(session: HostSession, text: string, signal?: AbortSignal): Promise<AtRest> {
  const configuration = readConfiguration(text, 'the encryptionconfig')
  const apiServer = await apiServerOn(session)
  const prefix = registryOf(apiServer.flags)
  const all: Behind[] = []
  const lost: Behind[] = []
  const isUnreadable = ({ standing }: Behind) => standing === 'unreadable'
  let covered = 0
  for (const access of etcdAccessesOf(apiServer)) {
    const pages = etcdValues(session, access, prefix, { signal })
    const census = await takeCensus(pages, prefix, tellingApart(namedProviders(configuration.rules)))
    const found = behindIn(census, configuration, isMeantBy(configuration))
    covered += found.covered
    all.push(...found.behind)
    // A rule that was taken out whole leaves values that nothing reads.
    lost.push(...behindIn(census, configuration, resource => !isOwn(resource)).behind.filter(isUnreadable))
  }
  return { covered, behind: listed(all), unreadable: listed(lost) }
}

/**
 * Has every object of a configuration's resources written anew.
 * @param text of the configuration that API servers go by
 * @param told lines for the people who watch
 */
export async function writeAnew(
  api: KubernetesApi,
  text: string,
  { signal, told }: { signal?: AbortSignal; told: (line: string) => void },
): Promise<Reencrypted> {
  const configuration = readConfiguration(text, 'the encryptionconfig')
  const resources = await apiResources(api, isMeantBy(configuration), signal)
  const progress = ({ done, rate }: { done: number; rate: number }) => told(`${done}, ${rate.toFixed(0)} a second`)
  return reencrypt(api, resources, { signal, progress })
}
