// Kubeconfigs of one cluster and one user, as kubeadm writes them.
import { RekeyError } from '../errors.ts'

/** What a client needs to talk to an API server. PEM texts. */
export interface ApiCredentials {
  readonly server: string
  readonly ca: string
  readonly certificate?: string
  readonly key?: string
}

/**
 * Reads a kubeconfig.
 * @param where its file and host, for messages
 * @throws RekeyError where it has several clusters or users, or no embedded CA
 */
export function readKubeconfig(text: string, where: string): ApiCredentials {
  const all = (name: string) =>
    [...text.matchAll(new RegExp(`^\\s*(?:- )?${name}:\\s*["']?([^\\s"']+)["']?\\s*$`, 'gm'))].map(
      match => match[1] ?? '',
    )
  const one = (name: string) => {
    const found = all(name)
    if (found.length > 1) {
      throw new RekeyError(`${where} speaks of several clusters or users: it has ${found.length} times ${name}`, {
        code: 'kubeconfig.several',
        hint: 'rekey reads kubeconfigs of one cluster and one user, as kubeadm writes them.',
      })
    }
    return found[0]
  }
  const decoded = (name: string) => {
    const value = one(name)
    return value === undefined ? undefined : Buffer.from(value, 'base64').toString('utf8')
  }
  const server = one('server')
  const ca = decoded('certificate-authority-data')
  if (server === undefined || ca === undefined) {
    throw new RekeyError(`${where} holds no ${server === undefined ? 'server' : 'certificate-authority-data'}`, {
      code: 'kubeconfig.incomplete',
    })
  }
  return { server, ca, certificate: decoded('client-certificate-data'), key: decoded('client-key-data') }
}

/** A kubeconfig's text with another CA in it, and everything else as it was. */
export function withAuthority(text: string, ca: string): string {
  const encoded = Buffer.from(ca).toString('base64')
  return text.replace(/^(\s*certificate-authority-data:\s*)\S+\s*$/gm, `$1${encoded}`)
}
