// What a cluster's keysets are told by, read from its machines, its API servers and its Vault. Reads only.

import { RekeyError } from '../../errors.ts'
import { type AuthorityPlan, authorityPlans } from '../../pki/specs.ts'
import type { Vault } from '../../pki/vault/contract.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { KubernetesApi, KubernetesObject } from '../api/api.ts'
import { fileCertificates } from '../census/files.ts'
import { apiCertificates } from '../census/objects.ts'
import { endpointsOf, nodeAddress, servedCertificates } from '../census/ports.ts'
import { authorityRoles, authorityShares } from '../layout/authorities.ts'
import type { Discovery } from '../layout/discover.ts'
import type { HostLayout } from '../layout/host-layout.ts'
import { auditLogOf } from './audit-log.ts'
import type { KeysOfApi, KeysOfHost, KeysOfIssuer } from './facts.ts'
import { servedTokenKeys, tokenKeysOfHost, tokensOfSecrets } from './token-keys.ts'

/** Whom it is told to what could not be read: so that it may be missing, or so that it does not matter. */
export interface Telling {
  notice(text: string): void
  missed(text: string): void
}

/**
 * Reads what a machine holds and presents.
 * @param found what runs there; undefined where that is not known
 * @param nodes those of the API, which know on which address a node serves
 * @param apiServer gives the API through this machine's own server; asked only where it has one
 * @param audit whether the audit log of its API server is read: up to 1 GiB of it
 */
export async function keysOfHost(
  session: HostSession,
  found: Discovery | undefined,
  {
    nodes,
    folders,
    apiServer,
    audit,
  }: {
    nodes: readonly KubernetesObject[]
    folders?: readonly string[]
    apiServer?: () => Promise<KubernetesApi>
    audit?: boolean
  },
  { notice, missed }: Telling,
): Promise<KeysOfHost> {
  const { host } = session
  if (!found) missed(`${host.name}: what runs there is not known, nor what it trusts`)
  const endpoints = endpointsOf(host, await nodeAddress(session, nodes), found?.layout)
  const [files, ports, tokens, served, log] = await Promise.all([
    fileCertificates(session, notice, folders, missed),
    servedCertificates(session, notice, endpoints),
    found && tokenKeysOfHost(session, found.layout, missed),
    found?.layout.components['kube-apiserver'] &&
      apiServer?.()
        .then(servedTokenKeys)
        .catch(({ message }: Error) =>
          missed(`${host.name}: its API server does not say by which keys it verifies tokens: ${message}`),
        ),
    audit ? found && auditLogOf(session, found.layout, missed) : undefined,
  ])
  return { host: host.name, found, entries: [...files, ...ports], tokens, served: served ?? undefined, audit: log }
}

/** Reads what the API keeps. */
export async function keysOfApi(api: KubernetesApi, { notice }: Telling, signal?: AbortSignal): Promise<KeysOfApi> {
  const namespaces: string[] = []
  for await (const { metadata, status } of api.each('/api/v1/namespaces', { signal }))
    if (status?.phase === 'Active') namespaces.push(metadata.name)
  return {
    entries: await apiCertificates(api, notice, signal),
    namespaces,
    tokens: await tokensOfSecrets(api),
  }
}

/** Reads the issuers of the mounts in a Vault that CAs of a cluster have; mounts that are not there are left out. */
export async function keysOfVault(
  vault: Vault,
  plans: readonly Pick<AuthorityPlan, 'mount' | 'authorities'>[],
): Promise<KeysOfIssuer[]> {
  const found = await Promise.all(
    plans.map(async ({ mount, authorities }): Promise<KeysOfIssuer[]> => {
      const list = await vault.listIssuers(mount).catch((error: Error) => {
        if (error instanceof RekeyError && error.code === 'issuer.no-such-mount') return []
        throw error
      })
      if (list.length === 0) return []
      const issuers = await Promise.all(list.map(id => vault.readIssuer(mount, id)))
      const standard = await vault.readIssuer(mount, 'default')
      const certificates = issuers.flatMap(one => one?.certificate ?? [])
      const ids = new Map(issuers.flatMap(one => (one?.keyId ? [[one.certificate, one.id] as const] : [])))
      return [{ where: `Vault ${mount}`, authorities, certificates, standard: standard?.certificate, ids }]
    }),
  )
  return found.flat()
}

/** The mounts that a cluster's CAs have, or may come to have, by the variables of its inventory, and by which files say whom several roles trust. */
export function mountsOf(
  { pki_authorities: count, pki_mount: mount }: Readonly<Record<string, unknown>>,
  layouts: readonly HostLayout[],
): AuthorityPlan[] {
  return authorityPlans(count === 'one' ? 'one' : 'three', {
    ...(typeof mount === 'string' && { mount }),
    sharing: authorityShares(authorityRoles(layouts)),
  })
}
