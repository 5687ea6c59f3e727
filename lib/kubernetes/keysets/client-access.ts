// How users of a cluster are to trust it now, and which CA lets them in, from what its masters and its API hold. Asks nobody.

import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { splitBundle } from '../../pki/certificates/certificate.ts'
import { type Keyset, type KeysetItem, keysetsOf, primaryOf, type Truster } from '../../pki/keyset.ts'
import { readable } from '../census/entry.ts'
import { bundleOf } from './client-bundle.ts'
import { type KeysOfHost, keysetFacts } from './facts.ts'

/** A place that says whom clients are to trust: a kubeconfig of an administrator, `ConfigMap default/kube-root-ca.crt`. */
export interface SaidTrust {
  readonly where: string
  readonly host?: string
  /** PEM. */
  readonly bundle: string
}

/** What users go by. */
export interface ClientAccess {
  readonly keyset: Keyset
  /** The CAs by which API servers are to be trusted now, PEM. */
  readonly bundle: string
  /** The keys of these. */
  readonly trusted: readonly KeysetItem[]
  /** The CA that signs for clients, where it is known, and the API servers' files that don't let its clients in. */
  readonly signs?: KeysetItem
  readonly missingFrom: readonly string[]
  /** The places where whom clients trust lacks one of `trusted`. */
  readonly behind: readonly string[]
}

/**
 * Reads it from the kubeconfigs by which components trust the API, those of administrators, and what the cluster publishes. A CA counts while one of them has it.
 * @param hosts the masters
 * @param notice is told what is no certificate
 * @returns undefined where none of them has a CA of API servers
 */
export function clientAccess(
  hosts: readonly Pick<KeysOfHost, 'host' | 'found'>[],
  said: readonly SaidTrust[],
  notice: (text: string) => void,
): ClientAccess | undefined {
  const { 'kubernetes-ca': facts = { trusters: [], uses: [] }, ...others } = keysetFacts(
    { hosts: hosts.map(one => ({ ...one, entries: [] })) },
    notice,
  )
  const places = said.map(
    ({ where, host, bundle }): Truster => ({
      ...{ where, host, kind: 'component', directions: ['clients'] },
      holds: readable(splitBundle(bundle), where, notice).flatMap(certificate => {
        const key = publicKeyOf(certificate.pem)
        return key === undefined ? [] : [{ key, certificate }]
      }),
    }),
  )
  const sets = keysetsOf({ ...others, 'kubernetes-ca': { ...facts, trusters: [...facts.trusters, ...places] } })
  const keyset = sets.find(({ name }) => name === 'kubernetes-ca')
  if (!keyset) return undefined
  const kubeconfigs = new Set(
    hosts.flatMap(({ host, found }) =>
      Object.values(found?.layout.components ?? {}).flatMap(one =>
        (one?.files ?? []).flatMap(({ role, real }) =>
          role === 'kubeconfig' || role === 'api-ca' ? [`${host}:${real}`] : [],
        ),
      ),
    ),
  )
  // What else clients trust by is of other servers: kubelets may have a CA of their own.
  const isOfUsers = ({ where }: Truster) => kubeconfigs.has(where) || places.some(place => place.where === where)
  const bundle = bundleOf(keyset, isOfUsers)
  if (bundle === '') return undefined
  const trusted = keyset.items.filter(({ trustedBy }) => trustedBy.some(isOfUsers))
  const signs = primaryOf(keyset)
  return {
    ...{ keyset, bundle, trusted },
    ...(signs && { signs }),
    missingFrom: (signs?.missingFrom ?? []).filter(letsIn).map(({ where }) => where),
    behind: [...new Set(trusted.flatMap(({ missingFrom }) => missingFrom.filter(isOfUsers).map(({ where }) => where)))],
  }
}

/** Whether an API server lets clients in by it. */
const letsIn = ({ directions, by = [] }: Truster) => directions.includes('servers') && by.includes('kube-apiserver')
