// What runs on one host and which files it lives by, as it was found there: by processes, their units or manifests, and what those name.
// Plain data: it is registered, and read again by a run that is gone on with.

export const componentNames = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'etcd',
  'kubelet',
  'kube-proxy',
] as const

export type ComponentName = (typeof componentNames)[number]

/** A pod that the kubelet runs from a manifest on its disk. */
export interface StaticPodRun {
  readonly kind: 'static-pod'
  readonly manifest: string
}

/** A unit of systemd. */
export interface UnitRun {
  readonly kind: 'unit'
  /** With its suffix: `kube-apiserver.service`. */
  readonly unit: string
  /** Where its definition lies: the unit's own file first, then its drop-ins. */
  readonly definition: readonly string[]
  /** The files that its environment is read from. */
  readonly environmentFiles: readonly string[]
  /** `Type=`: a unit that notifies is ready when its start returns. */
  readonly type: string
}

/** A pod that the API gave to the node, such as one of a DaemonSet: restarted through the API. */
export interface PodRun {
  readonly kind: 'pod'
}

/**
 * What a file is to the component that names it. `*-ca` is whom it trusts, a pair what it presents; one file may be named for several.
 */
export type FileRole =
  | 'client-ca' // whose clients it lets in
  | 'serving' // what it presents to its clients
  | 'sni' // the same for some names only
  | 'peer' // what members of etcd present to each other
  | 'peer-ca'
  | 'etcd-ca'
  | 'etcd-client'
  | 'kubelet-ca'
  | 'kubelet-client'
  | 'front-proxy-ca'
  | 'front-proxy-client'
  | 'root-ca' // what the controller-manager hands to every pod
  | 'signing' // what the controller-manager signs requests with
  | 'service-account-verify'
  | 'service-account-sign'
  | 'kubeconfig'
  | 'client' // what it presents to the API, where its kubeconfig names files
  | 'api-ca' // whom its kubeconfig trusts, where it names a file
  | 'config' // a configuration file of its own
  | 'encryption'

/** A file that a component names. */
export interface NamedFile {
  readonly role: FileRole
  /** The flag, variable or field that names it: `--client-ca-file`, `ETCD_TRUSTED_CA_FILE`, `authentication.x509.clientCAFile`. */
  readonly by: string
  /** As it is named, absolute, as the host sees it. */
  readonly path: string
  /** Where it lies when links are followed: what is one file has one of these. */
  readonly real: string
  /** The key of the pair, where the file is a certificate of one: the path as it is named, and without links. */
  readonly key?: { readonly path: string; readonly real: string }
}

/** A component on a host. */
export interface FoundComponent {
  readonly component: ComponentName
  readonly runs: StaticPodRun | UnitRun | PodRun
  readonly processes: readonly number[]
  /** As it runs: by name without dashes, from its command line, its environment (etcd's) and its configuration file, with that precedence. */
  readonly flags: Readonly<Record<string, readonly string[]>>
  readonly files: readonly NamedFile[]
  /** Where it listens with TLS, and the role of what it presents there. */
  readonly endpoints: readonly { readonly address: string; readonly port: number; readonly role: FileRole }[]
  /** What its unit or manifest says now and its process does not do, or the other way round; a sentence each. */
  readonly drift: readonly string[]
}

/** What was found on one host. */
export interface HostLayout {
  readonly host: string
  readonly components: Partial<Readonly<Record<ComponentName, FoundComponent>>>
}
