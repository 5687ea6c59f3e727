// What a rotation must know of one machine: its certificates and kubeconfigs. Private keys stay where they are.
import { HostFailedError } from '../../errors.ts'
import { type CertificateFacts, parseCertificates } from '../../pki/certificates/certificate.ts'
import type { HostSession } from '../../playbook/model.ts'
import { readKubeconfig } from '../api/kubeconfig.ts'
import type { HostLayout } from '../layout/host-layout.ts'
import * as kubeadm from '../layout/kubeadm/index.ts'
import type { MachineFacts } from '../layout/layout.ts'

/** The names in a kubeconfig, which the one that replaces it keeps. */
export interface KubeconfigNames {
  readonly cluster: string
  readonly context: string
  readonly user: string
  readonly server: string
}

/** What was read from one machine. Plain data: it is registered, and read again by a resumed run. */
export interface MachineReading {
  readonly host: string
  readonly nodeName: string
  readonly controlPlane: boolean
  /** The first certificate of each file, PEM, by path; of a kubeconfig, its client certificate. */
  readonly certificates: Readonly<Record<string, string>>
  readonly kubeconfigs: Readonly<Record<string, KubeconfigNames>>
  /** The CA that the kubelet's clients must be signed by, PEM. */
  readonly authority: string
  /** What runs there; not told by readings of earlier versions. */
  readonly layout?: HostLayout
}

// Prints `== path`, then the certificates of the file; of kubeconfigs everything but the keys.
const readScript = `find ${kubeadm.certificateFolders.join(' ')} ! -path '*/.rekey*' ! -path ${kubeadm.manifestDirectory}/'*' \\( -name '*.crt' -o -name '*.pem' -o -name '*.crt.*' -o -name '*.pem.*' -o -name '*.conf' \\) 2>/dev/null | sort | while IFS= read -r f; do
  [ -f "$f" ] || continue
  printf '== %s\\n' "$f"
  case $f in
  *.conf) sed 's/client-key-data:.*/client-key-data: ""/' "$f" ;;
  *) sed -n '/-BEGIN CERTIFICATE-/,/-END CERTIFICATE-/p' "$f" ;;
  esac
done; true`

/** Reads the certificates of a machine. Throws `HostFailedError` where it is no node of a kubeadm cluster. */
export async function readMachine({ $, files, host }: HostSession, controlPlane: boolean): Promise<MachineReading> {
  const { stdout } = await $({ quiet: true })`sh -c ${readScript}`
  const certificates: Record<string, string> = {}
  const kubeconfigs: Record<string, KubeconfigNames> = {}
  for (const section of stdout.split(/^== /m).slice(1)) {
    const [path = '', ...lines] = section.split('\n')
    const text = lines.join('\n')
    if (!path.endsWith('.conf')) {
      if (text.includes('BEGIN CERTIFICATE'))
        certificates[path] = parseCertificates(text, `${host.name}:${path}`)[0]?.pem ?? ''
      continue
    }
    if (!text.includes('kind: Config')) continue
    const { cluster, context, user, server, certificate } = readKubeconfig(text, `${host.name}:${path}`)
    kubeconfigs[path] = { cluster, context, user, server }
    if (certificate) certificates[path] = certificate
  }
  const identity = certificates[kubeadm.kubelet.client]
  if (identity === undefined) {
    throw new HostFailedError(`${host.name} has no ${kubeadm.kubelet.client}`, {
      code: 'machine.no-kubelet-certificate',
      host: host.name,
      hint: 'Is it a node of a kubeadm cluster? rekey knows their layout.',
    })
  }
  const { commonName } = parseCertificates(identity)[0] as CertificateFacts
  return {
    host: host.name,
    nodeName: commonName.replace(/^system:node:/, ''),
    controlPlane,
    certificates,
    kubeconfigs,
    authority: await files.readText(kubeadm.authorities.kubernetes.certificate),
  }
}

/** A reading as the certificate plan takes it. */
export function machineFacts(reading: MachineReading, addresses: readonly string[]): MachineFacts {
  const certificates = Object.entries(reading.certificates).map(
    ([path, pem]) => [path, parseCertificates(pem, `${reading.host}:${path}`)[0] as CertificateFacts] as const,
  )
  return {
    name: reading.host,
    nodeName: reading.nodeName,
    controlPlane: reading.controlPlane,
    addresses,
    certificates: new Map(certificates),
  }
}
