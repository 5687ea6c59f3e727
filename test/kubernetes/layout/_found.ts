// What find-layout.sh prints on hosts of layouts that are met, put together from what their own documents have: kubeadm, Kubespray,
// Kubernetes the hard way, kubeasz.

export interface Process {
  readonly pid: number
  readonly exe: string
  readonly cgroup: string
  readonly words?: readonly string[]
  readonly environment?: readonly string[]
  readonly cwd?: string
}

export interface File {
  readonly real?: string
  readonly stat?: string
  readonly key?: 'private' | 'public'
  readonly text?: string
}

export interface Machine {
  readonly processes?: readonly Process[]
  readonly units?: readonly Readonly<Record<string, string>>[]
  readonly environments?: Readonly<Record<string, readonly string[]>>
  readonly files?: Readonly<Record<string, File>>
}

const marked = (mark: string, lines: readonly string[]) => lines.map(line => `${mark}${line}`)

/** The text that the script would print. */
export function foundText({ processes = [], units = [], environments = {}, files = {} }: Machine): string {
  return [
    '== host machine',
    ...processes.flatMap(({ pid, exe, cgroup, words = [], environment = [], cwd = '/' }) => [
      ...[`== process ${pid}`, `exe ${exe}`, `cwd ${cwd}`, `cgroup 0::${cgroup}`],
      ...marked('a ', [exe, ...words]),
      ...marked('e ', environment),
    ]),
    '== units',
    ...units.flatMap(unit => [
      ...marked(
        'u ',
        Object.entries(unit).map(([name, value]) => `${name}=${value}`),
      ),
      'u ',
    ]),
    ...Object.entries(environments).flatMap(([path, lines]) => [`== env ${path}`, ...marked('|', lines)]),
    ...Object.entries(files).flatMap(([path, { real = path, stat = '644 root:root', key, text = '' }]) => [
      ...[`== file ${path}`, `real ${real}`, `stat ${stat}`, ...(key ? [`key ${key}`] : [])],
      ...marked('|', text === '' ? [] : text.trimEnd().split('\n')),
    ]),
    '.. end',
    '',
  ].join('\n')
}

export const inPod = (id: string) =>
  `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod${id}.slice/cri-containerd-${id}.scope`

/** A unit as systemctl shows it. */
export function unit(
  name: string,
  line: string,
  more: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const [program] = line.split(' ')
  return {
    Type: 'simple',
    ExecStart: `{ path=${program} ; argv[]=${line} ; ignore_errors=no ; start_time=[Sat 2026-11-28 10:00:00 UTC] ; stop_time=[n/a] ; pid=1 ; code=(null) ; status=0/0 }`,
    Id: name,
    LoadState: 'loaded',
    ActiveState: 'active',
    FragmentPath: `/etc/systemd/system/${name}`,
    DropInPaths: '',
    UnitFileState: 'enabled',
    NeedDaemonReload: 'no',
    ...more,
  }
}

/** A unit and its process, with the same flags. */
export function running(
  pid: number,
  name: string,
  program: string,
  words: readonly string[],
  more: Readonly<Record<string, string>> = {},
): { readonly unit: Readonly<Record<string, string>>; readonly process: Process } {
  return {
    unit: unit(name, [program, ...words].join(' '), more),
    process: { pid, exe: program, cgroup: `/system.slice/${name}`, words },
  }
}

export function manifest(
  component: string,
  words: readonly string[],
  mounts: Readonly<Record<string, string>>,
): string {
  const entries = Object.entries(mounts)
  return `apiVersion: v1
kind: Pod
metadata:
  name: ${component}
spec:
  containers:
  - command:
    - ${component}
${words.map(word => `    - ${word}`).join('\n')}
    name: ${component}
    volumeMounts:
${entries.map(([inside], index) => `    - mountPath: ${inside}\n      name: v${index}`).join('\n')}
  hostNetwork: true
  volumes:
${entries.map(([, outside], index) => `  - hostPath:\n      path: ${outside}\n    name: v${index}`).join('\n')}
`
}

export function kubeconfig(user: string, more = 'client-certificate-data: AA==\n    client-key-data: ""'): string {
  return `apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster:
    certificate-authority-data: AA==
    server: https://10.0.0.1:6443
contexts:
- name: default
  context:
    cluster: kubernetes
    user: ${user}
current-context: default
users:
- name: ${user}
  user:
    ${more}
`
}

const pki = '/etc/kubernetes/pki'

/** The flags of kubeadm's components, by where it keeps certificates. */
export function kubeadmWords(folder = pki) {
  return {
    etcd: [
      `--cert-file=${folder}/etcd/server.crt`,
      '--client-cert-auth=true',
      '--data-dir=/var/lib/etcd',
      `--key-file=${folder}/etcd/server.key`,
      '--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379',
      '--listen-metrics-urls=http://127.0.0.1:2381',
      '--listen-peer-urls=https://10.0.0.1:2380',
      `--peer-cert-file=${folder}/etcd/peer.crt`,
      `--peer-key-file=${folder}/etcd/peer.key`,
      `--peer-trusted-ca-file=${folder}/etcd/ca.crt`,
      `--trusted-ca-file=${folder}/etcd/ca.crt`,
    ],
    'kube-apiserver': [
      '--advertise-address=10.0.0.1',
      `--client-ca-file=${folder}/ca.crt`,
      `--etcd-cafile=${folder}/etcd/ca.crt`,
      `--etcd-certfile=${folder}/apiserver-etcd-client.crt`,
      `--etcd-keyfile=${folder}/apiserver-etcd-client.key`,
      '--etcd-servers=https://127.0.0.1:2379',
      `--kubelet-client-certificate=${folder}/apiserver-kubelet-client.crt`,
      `--kubelet-client-key=${folder}/apiserver-kubelet-client.key`,
      `--proxy-client-cert-file=${folder}/front-proxy-client.crt`,
      `--proxy-client-key-file=${folder}/front-proxy-client.key`,
      `--requestheader-client-ca-file=${folder}/front-proxy-ca.crt`,
      '--secure-port=6443',
      `--service-account-key-file=${folder}/sa.pub`,
      `--service-account-signing-key-file=${folder}/sa.key`,
      `--tls-cert-file=${folder}/apiserver.crt`,
      `--tls-private-key-file=${folder}/apiserver.key`,
    ],
    'kube-controller-manager': [
      '--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf',
      '--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf',
      '--bind-address=127.0.0.1',
      `--client-ca-file=${folder}/ca.crt`,
      `--cluster-signing-cert-file=${folder}/ca.crt`,
      `--cluster-signing-key-file=${folder}/ca.key`,
      '--kubeconfig=/etc/kubernetes/controller-manager.conf',
      `--requestheader-client-ca-file=${folder}/front-proxy-ca.crt`,
      `--root-ca-file=${folder}/ca.crt`,
      `--service-account-private-key-file=${folder}/sa.key`,
    ],
    'kube-scheduler': [
      '--authentication-kubeconfig=/etc/kubernetes/scheduler.conf',
      '--bind-address=127.0.0.1',
      '--kubeconfig=/etc/kubernetes/scheduler.conf',
    ],
  } as const
}

type StaticPod = keyof ReturnType<typeof kubeadmWords>

/** Static pods that run as their manifests say. */
export function staticPods(
  words: Partial<Record<StaticPod, readonly string[]>>,
  folder = pki,
): Required<Pick<Machine, 'processes' | 'files'>> {
  const mounts = {
    [folder]: folder,
    '/etc/kubernetes/controller-manager.conf': '/etc/kubernetes/controller-manager.conf',
  }
  const all = Object.entries(words)
  return {
    processes: all.map(([name, those], index) => ({
      pid: 100 + index,
      exe: `/usr/local/bin/${name}`,
      cgroup: inPod(`${index}`),
      words: those,
    })),
    files: Object.fromEntries(
      all.map(([name, those]) => [
        `/etc/kubernetes/manifests/${name}.yaml`,
        { stat: '600 root:root', text: manifest(name, those, mounts) },
      ]),
    ),
  }
}

/** kubeadm's kubelet, by its unit and drop-in. */
export function kubeadmKubelet(): Required<Machine> {
  const words = [
    '--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf',
    '--kubeconfig=/etc/kubernetes/kubelet.conf',
    '--config=/var/lib/kubelet/config.yaml',
    '--node-ip=10.0.0.1',
  ]
  return {
    processes: [{ pid: 50, exe: '/usr/bin/kubelet', cgroup: '/system.slice/kubelet.service', words }],
    units: [
      unit(
        'kubelet.service',
        '/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS',
        {
          FragmentPath: '/lib/systemd/system/kubelet.service',
          DropInPaths: '/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf',
          Environment:
            '"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf" KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml',
          EnvironmentFiles:
            '/var/lib/kubelet/kubeadm-flags.env (ignore_errors=yes)\nu EnvironmentFiles=/etc/default/kubelet (ignore_errors=yes)',
        },
      ),
    ],
    environments: { '/var/lib/kubelet/kubeadm-flags.env': ['KUBELET_KUBEADM_ARGS="--node-ip=10.0.0.1"'] },
    files: {
      '/var/lib/kubelet/config.yaml': {
        text: `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
rotateCertificates: true
staticPodPath: /etc/kubernetes/manifests
healthzBindAddress: 127.0.0.1
healthzPort: 10248
`,
      },
      '/etc/kubernetes/kubelet.conf': {
        stat: '600 root:root',
        text: kubeconfig(
          'default-auth',
          'client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem',
        ),
      },
      '/var/lib/kubelet/pki/kubelet-client-current.pem': {
        real: '/var/lib/kubelet/pki/kubelet-client-2026-11-28-10-00-00.pem',
        key: 'private',
      },
      '/var/lib/kubelet/pki/kubelet.crt': {},
    },
  }
}

/** Several machines' findings as those of one. */
export function together(...machines: readonly Machine[]): Machine {
  return {
    processes: machines.flatMap(({ processes = [] }) => processes),
    units: machines.flatMap(({ units = [] }) => units),
    environments: Object.assign({}, ...machines.map(({ environments }) => environments ?? {})),
    files: Object.assign({}, ...machines.map(({ files }) => files ?? {})),
  }
}

/** A master of kubeadm with stacked etcd. */
export const kubeadmMaster = together(staticPods(kubeadmWords()), kubeadmKubelet(), {
  files: {
    '/etc/kubernetes/controller-manager.conf': { text: kubeconfig('system:kube-controller-manager') },
    '/etc/kubernetes/scheduler.conf': { text: kubeconfig('system:kube-scheduler') },
    '/etc/kubernetes/pki/ca.crt': {},
  },
})

const ssl = '/etc/ssl/etcd/ssl'

/** etcd as Kubespray runs it: all that it is told is in its environment. */
export const kubesprayEtcd: Machine = (() => {
  const environment = [
    'ETCD_DATA_DIR=/var/lib/etcd',
    'ETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:2379,https://127.0.0.1:2379',
    'ETCD_LISTEN_PEER_URLS=https://10.0.0.1:2380',
    `ETCD_TRUSTED_CA_FILE=${ssl}/ca.pem`,
    `ETCD_CERT_FILE=${ssl}/member-m1.pem`,
    `ETCD_KEY_FILE=${ssl}/member-m1-key.pem`,
    'ETCD_CLIENT_CERT_AUTH=true',
    `ETCD_PEER_TRUSTED_CA_FILE=${ssl}/ca.pem`,
    `ETCD_PEER_CERT_FILE=${ssl}/member-m1.pem`,
    `ETCD_PEER_KEY_FILE=${ssl}/member-m1-key.pem`,
    'ETCDCTL_ENDPOINTS=https://127.0.0.1:2379',
    `ETCDCTL_CACERT=${ssl}/ca.pem`,
    `ETCDCTL_KEY=${ssl}/admin-m1-key.pem`,
    `ETCDCTL_CERT=${ssl}/admin-m1.pem`,
  ]
  return {
    processes: [{ pid: 60, exe: '/usr/local/bin/etcd', cgroup: '/system.slice/etcd.service', environment }],
    units: [
      unit('etcd.service', '/usr/local/bin/etcd', {
        Type: 'notify',
        EnvironmentFiles: '/etc/etcd.env (ignore_errors=no)',
      }),
    ],
    environments: { '/etc/etcd.env': environment },
    files: Object.fromEntries(
      ['ca.pem', 'member-m1.pem', 'member-m1-key.pem', 'admin-m1.pem', 'admin-m1-key.pem', 'node-m1.pem'].map(name => [
        `${ssl}/${name}`,
        name.includes('-key') ? { stat: '700 etcd:root', key: 'private' as const } : { stat: '700 etcd:root' },
      ]),
    ),
  }
})()

/** A master of Kubespray with etcd on it: kubeadm's static pods, certificates under ssl, to which pki is a link. */
export const kubesprayMaster = together(
  (() => {
    const { etcd: _, ...words } = kubeadmWords('/etc/kubernetes/ssl')
    const apiServer = words['kube-apiserver'].map(word =>
      word
        .replace('/etc/kubernetes/ssl/apiserver-etcd-client.crt', `${ssl}/node-m1.pem`)
        .replace('/etc/kubernetes/ssl/apiserver-etcd-client.key', `${ssl}/node-m1-key.pem`)
        .replace('/etc/kubernetes/ssl/etcd/ca.crt', `${ssl}/ca.pem`),
    )
    return staticPods({ ...words, 'kube-apiserver': apiServer }, '/etc/kubernetes/ssl')
  })(),
  kubeadmKubelet(),
  kubesprayEtcd,
  { files: { '/etc/kubernetes/pki/ca.crt': { real: '/etc/kubernetes/ssl/ca.crt' }, '/etc/kubernetes/ssl/ca.crt': {} } },
)

/** A server of Kubernetes the hard way: no kubelet, etcd over plain HTTP, one CA. */
export const hardWayServer: Machine = (() => {
  const pki = '/var/lib/kubernetes'
  const all = [
    running(
      1,
      'etcd.service',
      '/usr/local/bin/etcd',
      [
        ...['--name', 'controller', '--initial-advertise-peer-urls', 'http://127.0.0.1:2380'],
        ...['--listen-peer-urls', 'http://127.0.0.1:2380', '--listen-client-urls', 'http://127.0.0.1:2379'],
        '--data-dir=/var/lib/etcd',
      ],
      { Type: 'notify' },
    ),
    running(2, 'kube-apiserver.service', '/usr/local/bin/kube-apiserver', [
      `--client-ca-file=${pki}/ca.crt`,
      '--etcd-servers=http://127.0.0.1:2379',
      `--encryption-provider-config=${pki}/encryption-config.yaml`,
      `--kubelet-certificate-authority=${pki}/ca.crt`,
      `--kubelet-client-certificate=${pki}/kube-api-server.crt`,
      `--kubelet-client-key=${pki}/kube-api-server.key`,
      `--service-account-key-file=${pki}/service-accounts.crt`,
      `--service-account-signing-key-file=${pki}/service-accounts.key`,
      `--tls-cert-file=${pki}/kube-api-server.crt`,
      `--tls-private-key-file=${pki}/kube-api-server.key`,
    ]),
    running(3, 'kube-controller-manager.service', '/usr/local/bin/kube-controller-manager', [
      `--cluster-signing-cert-file=${pki}/ca.crt`,
      `--cluster-signing-key-file=${pki}/ca.key`,
      `--kubeconfig=${pki}/kube-controller-manager.kubeconfig`,
      `--root-ca-file=${pki}/ca.crt`,
      `--service-account-private-key-file=${pki}/service-accounts.key`,
    ]),
    running(4, 'kube-scheduler.service', '/usr/local/bin/kube-scheduler', [
      '--config=/etc/kubernetes/config/kube-scheduler.yaml',
    ]),
  ]
  return {
    processes: all.map(({ process }) => process),
    units: all.map(one => one.unit),
    files: {
      '/etc/kubernetes/config/kube-scheduler.yaml': {
        text: `apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nclientConnection:\n  kubeconfig: "${pki}/kube-scheduler.kubeconfig"\n`,
      },
      [`${pki}/kube-scheduler.kubeconfig`]: { text: kubeconfig('system:kube-scheduler') },
      [`${pki}/kube-controller-manager.kubeconfig`]: { text: kubeconfig('system:kube-controller-manager') },
      [`${pki}/ca.crt`]: {},
    },
  }
})()

/** A node of Kubernetes the hard way: the kubelet's certificate a plain file, kube-proxy a unit. */
export const hardWayNode: Machine = (() => {
  const all = [
    running(5, 'kubelet.service', '/usr/local/bin/kubelet', [
      '--config=/var/lib/kubelet/kubelet-config.yaml',
      '--kubeconfig=/var/lib/kubelet/kubeconfig',
      '--v=2',
    ]),
    running(6, 'kube-proxy.service', '/usr/local/bin/kube-proxy', [
      '--config=/var/lib/kube-proxy/kube-proxy-config.yaml',
    ]),
  ]
  return {
    processes: all.map(({ process }) => process),
    units: all.map(one => one.unit),
    files: {
      '/var/lib/kubelet/kubelet-config.yaml': {
        text: `kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  x509:
    clientCAFile: "/var/lib/kubelet/ca.crt"
tlsCertFile: "/var/lib/kubelet/kubelet.crt"
tlsPrivateKeyFile: "/var/lib/kubelet/kubelet.key"
port: 10250
`,
      },
      '/var/lib/kubelet/kubeconfig': { text: kubeconfig('system:node:node-0') },
      '/var/lib/kube-proxy/kube-proxy-config.yaml': {
        text: 'kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nclientConnection:\n  kubeconfig: "/var/lib/kube-proxy/kubeconfig"\n',
      },
      '/var/lib/kube-proxy/kubeconfig': {
        text: kubeconfig('system:kube-proxy', 'client-certificate: kube-proxy.crt\n    client-key: kube-proxy.key'),
      },
      '/var/lib/kube-proxy/kube-proxy.crt': {},
    },
  }
})()

/** A master of kubeasz: one CA, whose key signs the tokens of service accounts, too. */
export const kubeaszMaster: Machine = (() => {
  const pki = '/etc/kubernetes/ssl'
  const all = [
    running(
      2,
      'kube-apiserver.service',
      '/opt/kube/bin/kube-apiserver',
      [
        ...[`--client-ca-file=${pki}/ca.pem`, `--etcd-cafile=${pki}/ca.pem`, `--etcd-certfile=${pki}/kubernetes.pem`],
        ...[`--etcd-keyfile=${pki}/kubernetes-key.pem`, '--etcd-servers=https://10.0.0.1:2379'],
        ...[`--kubelet-certificate-authority=${pki}/ca.pem`, `--kubelet-client-certificate=${pki}/kubernetes.pem`],
        ...[`--kubelet-client-key=${pki}/kubernetes-key.pem`, `--requestheader-client-ca-file=${pki}/ca.pem`],
        ...[
          `--proxy-client-cert-file=${pki}/aggregator-proxy.pem`,
          `--proxy-client-key-file=${pki}/aggregator-proxy-key.pem`,
        ],
        ...[`--service-account-signing-key-file=${pki}/ca-key.pem`, `--service-account-key-file=${pki}/ca.pem`],
        ...[`--tls-cert-file=${pki}/kubernetes.pem`, `--tls-private-key-file=${pki}/kubernetes-key.pem`],
      ],
      { Type: 'notify' },
    ),
    running(
      3,
      'etcd.service',
      '/opt/kube/bin/etcd',
      [
        ...[`--cert-file=${pki}/etcd.pem`, `--key-file=${pki}/etcd-key.pem`, `--peer-cert-file=${pki}/etcd.pem`],
        ...[
          `--peer-key-file=${pki}/etcd-key.pem`,
          `--trusted-ca-file=${pki}/ca.pem`,
          `--peer-trusted-ca-file=${pki}/ca.pem`,
        ],
        ...[
          '--listen-peer-urls=https://10.0.0.1:2380',
          '--listen-client-urls=https://10.0.0.1:2379,http://127.0.0.1:2379',
        ],
      ],
      { Type: 'notify' },
    ),
  ]
  return {
    processes: all.map(({ process }) => process),
    units: all.map(one => one.unit),
    files: { [`${pki}/ca.pem`]: {}, [`${pki}/ca-key.pem`]: { key: 'private' } },
  }
})()
