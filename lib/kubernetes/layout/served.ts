// Where a host presents certificates that are planned, and the files that these lie in.
import { type CertificateSpec, placePath } from '../../pki/specs.ts'
import type { TlsEndpoint } from '../components/endpoints.ts'
import type { ComponentName, FileRole, HostLayout } from './host-layout.ts'

/**
 * The TLS ports of a host on which a planned certificate is presented. What a component signs for itself at each start, and what somebody
 * else's CA signed, is none.
 * @param real where a path lies when links are followed
 */
export function servedEndpoints(
  { host, components }: HostLayout,
  specs: readonly CertificateSpec[],
  real: (path: string) => string = path => path,
): TlsEndpoint[] {
  const own = specs.filter(({ hosts }) => hosts.includes(host))
  return Object.values(components).flatMap(found =>
    (found?.endpoints ?? []).flatMap(({ address, port, role }): TlsEndpoint[] => {
      const { component } = found!
      const file = found?.files.find(one => one.role === role)?.path
      const spec =
        own.find(({ id }) => id === `${component}-serving` && role === 'serving') ??
        own.find(({ place }) => file !== undefined && real(placePath(place)) === real(file))
      if (!spec) return []
      const files = [placePath(spec.place)]
      return [{ component: labelOf(component, role), authority: spec.authority, address, port, files }]
    }),
  )
}

function labelOf(component: ComponentName, role: FileRole): string {
  if (component !== 'etcd') return component
  return role === 'peer' ? 'etcd (peers)' : 'etcd (clients)'
}

/** Every TLS port of a host, whoever signed what is presented there. */
export function presentedBy({ components }: HostLayout): TlsEndpoint[] {
  return Object.values(components).flatMap(found =>
    (found?.endpoints ?? []).map(({ address, port, role }): TlsEndpoint => {
      const { component, files } = found!
      const paths = files.flatMap(file => (file.role === role ? [file.path] : []))
      const authority = component === 'etcd' ? 'etcd' : 'kubernetes'
      return { component: labelOf(component, role), authority, address, port, files: paths }
    }),
  )
}
