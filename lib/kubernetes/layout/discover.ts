// What runs on a host and which files it lives by: found there in one go, by processes, their units or manifests, and what those name.
import { readFileSync } from 'node:fs'
import { posix } from 'node:path'
import { HostFailedError } from '../../errors.ts'
import { ownFile } from '../../package.ts'
import type { HostSession } from '../../playbook/model.ts'
import { kubeconfigFields } from '../api/kubeconfig.ts'
import { flagsOfConfiguration, flagsOfEnvironment, flagsOfWords } from './flags.ts'
import { type FoundFile, type FoundText, readFoundText } from './found-text.ts'
import type { ComponentName, FoundComponent, HostLayout, NamedFile } from './host-layout.ts'
import { endpointsOf, type Flags, namedByFlags, type Places } from './named-files.ts'
import { type FoundRun, runsOf } from './runs.ts'

/** What was found on a host: its layout, and the files that this names or that lie beside those. */
export interface Discovery {
  readonly layout: HostLayout
  /** As the host calls itself. */
  readonly hostName: string
  readonly files: ReadonlyMap<string, FoundFile>
}

/** Where administrators put the CAs that a whole machine is to trust, on Debian, Red Hat, SUSE and their kin: Kubespray puts etcd's there. */
const anchorFolders = ['/usr/local/share/ca-certificates', '/etc/pki/ca-trust/source/anchors', '/etc/pki/trust/anchors']

/** Whether a machine trusts, in whatever it does, the CA in this file. */
export function isAnchor(path: string): boolean {
  return anchorFolders.some(folder => path.startsWith(`${folder}/`))
}

/** Where machines of a cluster keep certificates: those of kubeadm, of Kubespray, of kubeasz, and of clusters made by hand. */
export const usualFolders = [
  ...['/etc/kubernetes', '/var/lib/kubelet', '/var/lib/kubernetes', '/var/lib/kube-proxy'],
  ...['/etc/etcd', '/etc/ssl/etcd', '/etc/cni/net.d', '/etc/calico'],
  ...anchorFolders,
]

/** More than this is no cluster's configuration. */
const mostBytes = 32 * 1024 * 1024

/**
 * Looks at a host, in one script.
 * @param folders to look in for certificates beside the usual ones, and those where something names files
 * @throws HostFailedError where something runs there in a way that rekey does not know, or not everything could be read
 */
export async function discover(
  { $, host }: Pick<HostSession, '$' | 'host'>,
  folders: readonly string[] = [],
): Promise<Discovery> {
  const script = readFileSync(ownFile('lib/kubernetes/layout/find-layout.sh'), 'utf8')
  const { stdout } = await $({
    quiet: true,
  })`{ sh -c ${script} rekey ${[...usualFolders, ...folders]}; } | head -c ${mostBytes}`
  return discoveredFrom(stdout, host.name)
}

/** The same from what the script printed. */
export function discoveredFrom(text: string, host: string): Discovery {
  const found = readFoundText(text)
  if (!found.whole) {
    throw new HostFailedError(`${host}: what runs there was not read to its end`, {
      code: 'layout.incomplete',
      host,
      hint: 'Is there anything unusual in /etc/kubernetes? More than 32 MiB of configuration and certificates is not read.',
    })
  }
  const runs = runsOf(found, host)
  const components = Object.fromEntries([...runs].map(([name, run]) => [name, componentOf(name, run, found, host)]))
  return { layout: { host, components }, hostName: found.hostName, files: found.files }
}

function componentOf(component: ComponentName, run: FoundRun, found: FoundText, host: string): FoundComponent {
  const places = placesOf(run, found.files)
  const inPod = run.runs.kind === 'pod'
  const { flags, by } = inPod
    ? { flags: flagsOfWords(run.words.slice(1)), by: String }
    : allFlags(component, run, places, found, host)
  const named = inPod ? [] : namedByFlags(component, flags, by, places)
  return {
    component,
    runs: run.runs,
    processes: run.processes.map(({ pid }) => pid),
    flags,
    files: [
      ...named,
      ...(inPod ? [] : piecesOf(component, flags, places, found)).map(
        ({ path, real }): NamedFile => ({ role: 'config', by: '--config-dir', path, real }),
      ),
      ...ofEtcdctl(component, run, places),
      ...named.flatMap(file => inKubeconfig(file, found, host)),
    ],
    endpoints: endpointsOf(component, flags),
    drift: run.drift,
  }
}

function placesOf({ cwd, mounts }: FoundRun, files: FoundText['files']): Places {
  const byLength = mounts.toSorted(([a], [b]) => b.length - a.length)
  return {
    hostPath: path => {
      const absolute = posix.resolve(cwd, path)
      const [inside, outside] = byLength.find(([folder]) => isWithin(absolute, folder)) ?? []
      return inside === undefined || outside === undefined
        ? absolute
        : posix.join(outside, absolute.slice(inside.length))
    },
    real: path => files.get(path)?.real ?? path,
    exists: path => files.has(path),
  }
}

const isWithin = (path: string, folder: string) => path === folder || path.startsWith(`${folder.replace(/\/$/, '')}/`)

/** All flags, that of the command line first, and by what each was named. A configuration file of etcd counts alone. */
function allFlags(component: ComponentName, run: FoundRun, places: Places, found: FoundText, host: string) {
  const ofWords = flagsOfWords(run.words.slice(1))
  const ofEnvironment = component === 'etcd' ? flagsOfEnvironment(run.environment) : {}
  const configured = component === 'etcd' ? (ofWords['config-file'] ?? ofEnvironment['config-file']) : ofWords['config']
  const path = configured?.at(-1) && places.hostPath(configured.at(-1) ?? '')
  const file = path ? found.files.get(path) : undefined
  if (path && !file) {
    throw new HostFailedError(`${host} has no ${path}, which ${component} is configured by`, {
      code: 'layout.no-file',
      host,
    })
  }
  const read = [...(file ? [file] : []), ...piecesOf(component, ofWords, places, found)].map(one =>
    flagsOfConfiguration(component, one.text, `${host}:${one.path}`),
  )
  const ofFile: Flags = Object.assign({}, ...read.map(one => one.flags))
  const where: Record<string, string> = Object.assign({}, ...read.map(one => one.where))
  const alone = component === 'etcd' && file !== undefined
  const flags: Flags = alone
    ? { ...ofFile, 'config-file': configured ?? [] }
    : { ...ofFile, ...ofEnvironment, ...ofWords }
  const by = (flag: string) => {
    if (!alone && flag in ofWords) return `--${flag}`
    if (!alone && flag in ofEnvironment) return `ETCD_${flag.replaceAll('-', '_').toUpperCase()}`
    return where[flag] ?? `--${flag}`
  }
  return { flags, by }
}

/** The files that a kubelet goes by beside its configuration file, of which each later one has the last word: `*.conf` in the folder of `--config-dir`. */
function piecesOf(component: ComponentName, flags: Flags, places: Places, { files }: FoundText): FoundFile[] {
  const named = component === 'kubelet' ? flags['config-dir']?.at(-1) : undefined
  if (named === undefined) return []
  const folder = places.hostPath(named)
  return [...files.values()]
    .filter(({ path, text }) => path !== folder && isWithin(path, folder) && path.endsWith('.conf') && text !== '')
    .sort((one, other) => (one.path < other.path ? -1 : 1))
}

/** What etcdctl is told in the environment of etcd, as Kubespray does. */
function ofEtcdctl(component: ComponentName, { environment }: FoundRun, places: Places): NamedFile[] {
  if (component !== 'etcd') return []
  const at = (path: string) => ({ path, real: places.real(path) })
  const [ca, certificate, key] = ['ETCDCTL_CACERT', 'ETCDCTL_CERT', 'ETCDCTL_KEY'].map(name => environment[name])
  return [
    ...(ca ? [{ role: 'etcd-ca' as const, by: 'ETCDCTL_CACERT', ...at(ca) }] : []),
    ...(certificate && key
      ? [{ role: 'etcd-client' as const, by: 'ETCDCTL_CERT', ...at(certificate), key: at(key) }]
      : []),
  ]
}

/** The files that a kubeconfig names. */
function inKubeconfig({ role, path }: NamedFile, { files }: FoundText, host: string): NamedFile[] {
  const text = role === 'kubeconfig' ? files.get(path)?.text : undefined
  if (text === undefined) return []
  const { authorityFile, certificateFile, keyFile } = kubeconfigFields(text, `${host}:${path}`)
  const at = (named: string) => {
    const absolute = posix.resolve(posix.dirname(path), named)
    return { path: absolute, real: files.get(absolute)?.real ?? absolute }
  }
  return [
    ...(authorityFile ? [{ role: 'api-ca' as const, by: 'certificate-authority', ...at(authorityFile) }] : []),
    ...(certificateFile
      ? [
          {
            role: 'client' as const,
            by: 'client-certificate',
            ...at(certificateFile),
            key: at(keyFile ?? certificateFile),
          },
        ]
      : []),
  ]
}
