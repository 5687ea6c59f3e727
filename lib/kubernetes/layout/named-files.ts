// Which files a component names by its flags, and where it listens: what each flag of these components means.
import { posix } from 'node:path'
import type { ComponentName, FileRole, FoundComponent, NamedFile } from './host-layout.ts'

/** Flags by their names, without dashes. */
export type Flags = Readonly<Record<string, readonly string[]>>

/** A flag that names a file. */
interface Flag {
  readonly role: FileRole
  readonly flag: string
  /** The flag that names the key of the pair. */
  readonly key?: string
}

const flag = (role: FileRole, name: string, key?: string): Flag => ({ role, flag: name, ...(key && { key }) })

const serving = flag('serving', 'tls-cert-file', 'tls-private-key-file')
const delegated = [
  flag('client-ca', 'client-ca-file'),
  flag('front-proxy-ca', 'requestheader-client-ca-file'),
  flag('kubeconfig', 'kubeconfig'),
  flag('kubeconfig', 'authentication-kubeconfig'),
  flag('kubeconfig', 'authorization-kubeconfig'),
]
/** The flags that say with what a controller-manager signs: for all requests, and for those of one kind. */
export const signingFlags = [
  '',
  'kube-apiserver-client-',
  'kubelet-client-',
  'kubelet-serving-',
  'legacy-unknown-',
].map(kind => [`cluster-signing-${kind}cert-file`, `cluster-signing-${kind}key-file`] as const)

const flagsOf: Readonly<Record<ComponentName, readonly Flag[]>> = {
  'kube-apiserver': [
    serving,
    flag('client-ca', 'client-ca-file'),
    flag('etcd-ca', 'etcd-cafile'),
    flag('etcd-client', 'etcd-certfile', 'etcd-keyfile'),
    flag('kubelet-ca', 'kubelet-certificate-authority'),
    flag('kubelet-client', 'kubelet-client-certificate', 'kubelet-client-key'),
    flag('front-proxy-ca', 'requestheader-client-ca-file'),
    flag('front-proxy-client', 'proxy-client-cert-file', 'proxy-client-key-file'),
    flag('service-account-verify', 'service-account-key-file'),
    flag('service-account-sign', 'service-account-signing-key-file'),
    flag('encryption', 'encryption-provider-config'),
    flag('config', 'authentication-config'),
  ],
  'kube-controller-manager': [
    serving,
    ...delegated,
    flag('root-ca', 'root-ca-file'),
    ...signingFlags.map(([certificate, key]) => flag('signing', certificate, key)),
    flag('service-account-sign', 'service-account-private-key-file'),
  ],
  'kube-scheduler': [serving, ...delegated, flag('config', 'config')],
  kubelet: [serving, flag('client-ca', 'client-ca-file'), flag('kubeconfig', 'kubeconfig'), flag('config', 'config')],
  'kube-proxy': [flag('kubeconfig', 'kubeconfig'), flag('config', 'config')],
  etcd: [
    flag('serving', 'cert-file', 'key-file'),
    flag('client-ca', 'trusted-ca-file'),
    flag('peer', 'peer-cert-file', 'peer-key-file'),
    flag('peer-ca', 'peer-trusted-ca-file'),
    flag('etcd-client', 'client-cert-file', 'client-key-file'),
    flag('config', 'config-file'),
  ],
}

/** Flags whose values all count; of any other the last does. */
const takenTogether: ReadonlySet<string> = new Set(['service-account-key-file'])

/** Where a file of a component lies on its host, as it is named and when links are followed. */
export interface Places {
  /** A path as the component names it, as the host sees it. */
  hostPath(path: string): string
  real(path: string): string
  /** Whether it is there. */
  exists(path: string): boolean
}

/** The files that a component names by its flags. Those that etcd's environment names carry the variable's name. */
export function namedByFlags(component: ComponentName, flags: Flags, by: (flag: string) => string, places: Places) {
  const at = (path: string) => {
    const found = places.hostPath(path)
    return { path: found, real: places.real(found) }
  }
  const files = flagsOf[component].flatMap(({ role, flag, key }): NamedFile[] =>
    (flags[flag] ?? [])
      .slice(takenTogether.has(flag) ? 0 : -1)
      .filter(path => path !== '')
      .map(path => {
        const keyPath = key && flags[key]?.at(-1)
        return { role, by: by(flag), ...at(path), ...(keyPath && { key: at(keyPath) }) }
      }),
  )
  for (const value of flags['tls-sni-cert-key'] ?? []) {
    const [certificate = '', key = ''] = (value.split(':')[0] ?? '').split(',')
    if (certificate && key) files.push({ role: 'sni', by: '--tls-sni-cert-key', ...at(certificate), key: at(key) })
  }
  if (component === 'kubelet' && !flags['tls-cert-file']) files.push(...ofKubeletItself(flags, places, at))
  return files
}

/** What a kubelet presents that nobody told which: what it asked the cluster for, or what it signed for itself. */
function ofKubeletItself(
  flags: Flags,
  places: Places,
  at: (path: string) => { readonly path: string; readonly real: string },
): NamedFile[] {
  const folder = flags['cert-dir']?.at(-1) ?? '/var/lib/kubelet/pki'
  const requested = posix.join(folder, 'kubelet-server-current.pem')
  const own = [posix.join(folder, 'kubelet.crt'), posix.join(folder, 'kubelet.key')] as const
  if (flags['server-tls-bootstrap']?.at(-1) === 'true' || (places.exists(requested) && !places.exists(own[0]))) {
    return [{ role: 'serving', by: 'serverTLSBootstrap', ...at(requested), key: at(requested) }]
  }
  return [{ role: 'serving', by: '--cert-dir', ...at(own[0]), key: at(own[1]) }]
}

const local = '127.0.0.1'

/** Where a component listens with TLS. */
export function endpointsOf(component: ComponentName, flags: Flags): FoundComponent['endpoints'] {
  const last = (name: string) => flags[name]?.at(-1)
  const one = (port: string | undefined, standard: number, address: string | undefined) => {
    const number = Number(port ?? standard)
    return number > 0 ? [{ address: connectable(address), port: number, role: 'serving' as const }] : []
  }
  switch (component) {
    case 'kube-apiserver':
      return one(last('secure-port'), 6443, last('bind-address'))
    case 'kube-controller-manager':
      return one(last('secure-port'), 10_257, last('bind-address'))
    case 'kube-scheduler':
      return one(last('secure-port'), 10_259, last('bind-address'))
    case 'kubelet':
      return one(last('port'), 10_250, last('address'))
    case 'kube-proxy':
      return []
    case 'etcd':
      return [...listening(last('listen-client-urls'), 'serving'), ...listening(last('listen-peer-urls'), 'peer')]
  }
}

/** One of the addresses of each port: loopback, where it listens there. */
function listening(urls: string | undefined, role: FileRole): FoundComponent['endpoints'][number][] {
  const ports = new Map<number, string>()
  for (const text of (urls ?? '').split(',')) {
    const url = URL.canParse(text.trim()) ? new URL(text.trim()) : undefined
    if (url?.protocol !== 'https:') continue
    const [address, port] = [connectable(url.hostname.replace(/^\[(.*)\]$/, '$1')), Number(url.port || 443)]
    if (!ports.has(port) || address === local) ports.set(port, address)
  }
  return [...ports].map(([port, address]) => ({ address, port, role }))
}

/** An address as one that can be connected to on its host: one for all is that of loopback. */
export const reachable = (address = '') => (['', '0.0.0.0', '::', '[::]'].includes(address) ? local : address)

const connectable = (address: string | undefined) => (address === 'localhost' ? local : reachable(address))
