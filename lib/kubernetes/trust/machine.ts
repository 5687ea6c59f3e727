// What a rotation must know of one machine: what runs there, its certificates and kubeconfigs. Private keys stay where they are.
import { HostFailedError } from '../../errors.ts'
import { type CertificateFacts, parseCertificates } from '../../pki/certificates/certificate.ts'
import type { HostSession } from '../../playbook/model.ts'
import { kubeconfigFields } from '../api/kubeconfig.ts'
import { authorityFilesOf } from '../layout/authorities.ts'
import { type Discovery, discover } from '../layout/discover.ts'
import type { FoundFile } from '../layout/found-text.ts'
import type { HostLayout } from '../layout/host-layout.ts'
import type { MachineFacts } from '../layout/layout.ts'
import { adminKubeconfigOf, isInHome, kubeletFolder } from '../layout/plan.ts'

/** The names in a kubeconfig, which the one that replaces it keeps. */
export interface KubeconfigNames {
  readonly cluster: string
  readonly context: string
  readonly user: string
  readonly server: string
  /** The files with its client's certificate and key, as it names them, where it does not hold these itself. */
  readonly certificateFile?: string
  readonly keyFile?: string
  /** Whether it holds the CA itself. */
  readonly holdsAuthority?: boolean
  /** Whether it holds more than one client of one cluster needs: that stays. */
  readonly more?: boolean
}

/** What was read from one machine. Plain data: it is registered, and read again by a resumed run. */
export interface MachineReading {
  readonly host: string
  /** Undefined where no kubelet runs. */
  readonly nodeName?: string
  readonly controlPlane: boolean
  /** The first certificate of each file, PEM, by path; of a kubeconfig, its client certificate. */
  readonly certificates: Readonly<Record<string, string>>
  readonly kubeconfigs: Readonly<Record<string, KubeconfigNames>>
  /** Every certificate, PEM, of those files that hold several CAs, by path. */
  readonly bundles?: Readonly<Record<string, readonly string[]>>
  /** The CA that the clients of what runs there must be signed by, PEM; none where only etcd does. */
  readonly authority: string
  /** What runs there; not told by readings of earlier versions. */
  readonly layout?: HostLayout
  /** Of each file that holds a certificate, a kubeconfig or a key: where it lies when links are followed, and whose it is. */
  readonly files?: Readonly<Record<string, FileFacts>>
  /** The administrator's kubeconfig, on a master that has one. */
  readonly adminKubeconfig?: string
}

/** A file as it lies there. */
export interface FileFacts {
  readonly real: string
  readonly mode: number
  /** `root:root`. */
  readonly owner: string
  readonly key?: 'private' | 'public'
  /** Subjects of the certificates that stand in it after the first. */
  readonly more?: readonly string[]
}

/**
 * Reads what runs on a machine, and its certificates.
 * @param folders to look in beside those that are usual, and those where something names files
 * @throws HostFailedError where nothing of a cluster runs there, or runs in a way that rekey does not know
 */
export async function readMachine(
  session: HostSession,
  controlPlane: boolean,
  folders: readonly string[] = [],
): Promise<MachineReading> {
  return readingFrom(await discover(session, folders), controlPlane)
}

/** A reading from what was found. */
export function readingFrom({ layout, hostName, files }: Discovery, controlPlane: boolean): MachineReading {
  const { host, components } = layout
  if (Object.keys(components).length === 0) {
    throw new HostFailedError(`${host} runs neither a kubelet nor etcd, nor anything else of a cluster`, {
      code: 'machine.no-components',
      host,
      hint: 'Is it a machine of the cluster? rekey finds components by their processes, units and manifests.',
    })
  }
  // Nodes may have a copy of it.
  const usual = adminKubeconfigOf(files)
  const adminKubeconfig = controlPlane ? usual : undefined
  const named = new Set(Object.values(components).flatMap(one => one?.files.map(({ path }) => path) ?? []))
  const own = [...files.values()].filter(({ path }) => named.has(path) || path === usual || !isInHome(path))
  const kubeconfigs = Object.fromEntries(own.flatMap(file => kubeconfigOf(file, host)))
  const certificates = Object.fromEntries(
    own.flatMap(file => {
      const [certificate] = kubeconfigs[file.path] ? [clientOf(file, host)] : file.certificates
      return certificate === undefined
        ? []
        : [[file.path, parseCertificates(certificate, `${host}:${file.path}`)[0]?.pem ?? '']]
    }),
  )
  return {
    host,
    nodeName: nodeNameOf(layout, hostName, certificates),
    controlPlane,
    certificates,
    kubeconfigs,
    bundles: bundlesIn(layout, files),
    authority: authorityOf(layout, files),
    layout,
    files: Object.fromEntries(
      own
        .filter(({ path, key, certificates: held }) => key || held.length > 0 || path in kubeconfigs)
        .map(({ path, real, mode, owner, key, certificates: [, ...others] }) => {
          const more = others.flatMap(pem => parseCertificates(pem, `${host}:${path}`).map(({ subject }) => subject))
          return [path, { real, mode, owner, ...(key && { key }), ...(more.length > 0 && { more }) }]
        }),
    ),
    ...(adminKubeconfig !== undefined && { adminKubeconfig }),
  }
}

function kubeconfigOf({ path, text }: FoundFile, host: string): (readonly [string, KubeconfigNames])[] {
  if (!/^[ \t]*"?(clusters|contexts)"?:|"clusters"\s*:/m.test(text)) return []
  const { ca, more, ...found } = kubeconfigFields(text, `${host}:${path}`)
  const { cluster, context, user, server, certificateFile, keyFile } = found
  if (context === undefined || server === undefined) return []
  const holdsAuthority = ca !== undefined
  return [[path, { cluster, context, user, server, certificateFile, keyFile, holdsAuthority, ...(more && { more }) }]]
}

const clientOf = ({ path, text }: FoundFile, host: string) => kubeconfigFields(text, `${host}:${path}`).certificate

/** By what the kubelet calls itself to the API; by what it is told, or what the machine calls itself, where that can't be read. */
function nodeNameOf(
  layout: HostLayout,
  hostName: string,
  certificates: Readonly<Record<string, string>>,
): string | undefined {
  const { kubelet } = layout.components
  if (!kubelet) return undefined
  const paths = [
    `${kubeletFolder(layout)}/kubelet-client-current.pem`,
    ...kubelet.files.filter(({ role }) => role === 'client' || role === 'kubeconfig').map(({ path }) => path),
  ]
  const pem = paths.map(path => certificates[path]).find(one => one !== undefined)
  if (pem === undefined) {
    throw new HostFailedError(`${layout.host} has no certificate that its kubelet presents to the API`, {
      code: 'machine.no-kubelet-certificate',
      host: layout.host,
      hint: `Looked for it in ${paths.join(', ')}.`,
    })
  }
  const { commonName } = parseCertificates(pem)[0] as CertificateFacts
  if (commonName.startsWith('system:node:')) return commonName.slice('system:node:'.length)
  return kubelet.flags['hostname-override']?.at(-1) ?? hostName
}

function bundlesIn(layout: HostLayout, files: Discovery['files']): Record<string, readonly string[]> {
  const places = new Set(authorityFilesOf(layout).map(({ real }) => real))
  return Object.fromEntries(
    [...files.values()]
      .filter(({ real, certificates }) => places.has(real) && certificates.length > 1)
      .map(({ path, certificates }) => [path, certificates]),
  )
}

function authorityOf({ components }: HostLayout, files: Discovery['files']): string {
  const file = (['kube-apiserver', 'kubelet'] as const)
    .flatMap(name => components[name]?.files ?? [])
    .find(({ role }) => role === 'client-ca')
  return file ? (files.get(file.path)?.certificates.join('') ?? '') : ''
}

/** A reading as the certificate plan takes it. */
export function machineFacts(reading: MachineReading, addresses: readonly string[]): MachineFacts {
  const certificates = Object.entries(reading.certificates).map(
    ([path, pem]) => [path, parseCertificates(pem, `${reading.host}:${path}`)[0] as CertificateFacts] as const,
  )
  return {
    name: reading.host,
    ...(reading.nodeName !== undefined && { nodeName: reading.nodeName }),
    controlPlane: reading.controlPlane,
    addresses,
    certificates: new Map(certificates),
    bundles: new Map(Object.entries(reading.bundles ?? {})),
    ...(reading.layout && { layout: reading.layout }),
    reals: new Map(Object.entries(reading.files ?? {}).map(([path, { real }]) => [path, real])),
  }
}
