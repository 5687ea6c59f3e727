// Whom kubeconfigs trust, as far as it can be told from any text that holds some, without a parser that would need to see the rest.
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'

/** A cluster of a kubeconfig. */
export interface TrustedCluster {
  readonly server?: string
  /** The certificates by which it is trusted, PEM blocks. */
  readonly authorities: readonly string[]
  /** The file with them, as it stands there. */
  readonly authorityFile?: string
}

const fields =
  /(?<=^|[\s{,"-])(certificate-authority-data|certificate-authority|server|cluster)"?:[^\S\n]*"?(\{|[^"\s,}{]*)/g

/** The clusters of every kubeconfig in a text, in order. */
export function clustersWithin(text: string): TrustedCluster[] {
  const clusters: Record<string, string>[] = []
  for (const [, field = '', value = ''] of text.matchAll(fields)) {
    // In a context, `cluster` is a name.
    if (field === 'cluster' && value !== '' && value !== '{') continue
    const last = clusters.at(-1)
    if (field === 'cluster' || last === undefined || field in last) clusters.push({})
    if (field !== 'cluster') clusters.at(-1)![field] = value
  }
  return clusters.map(one => ({
    server: one['server'],
    authorities: certificatesWithin(one['certificate-authority-data'] ?? ''),
    authorityFile: one['certificate-authority'],
  }))
}
