// The layout `systemd` in the shape `hard-way`: units, configuration and files of Kubernetes the hard way
// (github.com/kelseyhightower/kubernetes-the-hard-way, release for v1.32), on several controllers. What differs from its documents says why.
import { has, kubeletMachines, type Machine, masters, type Shape } from '../../../shape.ts'
import { encryptionConfiguration, encryptionLines } from '../../encryption.ts'
import type { Layout } from '../layout.ts'
import { dnsAddress } from './coredns.ts'
import { hardWayPki } from './hard-way-pki.ts'
import { kubeconfig } from './kubeconfig.ts'
import { kubeletInLab, proxyInLab } from './lab-machine.ts'
import { makeOfUnits, type PlacedFile, type UnitCluster } from './make.ts'
import type { Pki } from './openssl.ts'

/** In the home of root: where its chapter 5 copies it. */
const adminKubeconfig = '/root/admin.kubeconfig'

/** Clusters as Kubernetes the hard way has them. Controllers have neither a kubelet nor a container runtime. */
export const hardWay: Layout = {
  sources: [
    ...['hard-way.ts', 'hard-way-pki.ts', 'openssl.ts', 'make.ts', 'kubeconfig.ts', 'coredns.ts', 'lab-machine.ts'].map(
      file => `systemd/${file}`,
    ),
    '../manifests/coredns.yaml',
  ],
  adminKubeconfig,
  // What its releases with several of them call them.
  groups: { masters: 'controllers', nodes: 'workers' },
  anonymousReadiness: true,
  // They are enabled once their files are there.
  units: () => [],
  make: (shape, report) => makeOfUnits(shape, report, prepare),
}

async function prepare(shape: Shape): Promise<UnitCluster> {
  const pki = await hardWayPki(shape)
  const controllers = masters(shape)
  const workers = kubeletMachines(shape)
  const encryption = encryptionConfiguration(encrypts(shape))!
  return {
    programs: '/usr/local/bin',
    files: machine =>
      machine.role === 'master' ? controllerFiles(shape, machine, pki, encryption) : workerFiles(shape, machine, pki),
    units: [
      controllers.map(machine => ({ machine, units: ['etcd'] })),
      controllers.map(machine => ({
        machine,
        units: ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
      })),
      workers.map(machine => ({ machine, units: ['kubelet', ...(has(shape, 'kube-proxy') ? ['kube-proxy'] : [])] })),
    ],
    adminKubeconfig,
    manifests: [apiserverToKubelet],
    afterwards: [],
  }
}

const file = (path: string, content: string, mode = 0o644): PlacedFile => ({ path, content, mode })
/** A pair as openssl leaves it: the key is for root alone. */
const pair = (pki: Pki, name: string, folder: string, as = name): PlacedFile[] => [
  file(`${folder}/${as}.crt`, pki(`${name}.crt`)),
  file(`${folder}/${as}.key`, pki(`${name}.key`), 0o600),
]

/** A kubeconfig of its chapter 5: kubectl makes them for their owner alone. */
function kubeconfigFile(path: string, pki: Pki, name: string, user: string, server: string): PlacedFile {
  const [authority, certificate, key] = [pki('ca.crt'), pki(`${name}.crt`), pki(`${name}.key`)]
  const cluster = 'kubernetes-the-hard-way'
  return file(path, kubeconfig({ cluster, server, user, context: 'default', authority, certificate, key }), 0o600)
}

const apiServer = 'https://server.kubernetes.local:6443'

function controllerFiles(shape: Shape, machine: Machine, pki: Pki, encryption: string): PlacedFile[] {
  const folder = '/var/lib/kubernetes'
  const client = (name: string) =>
    kubeconfigFile(`${folder}/${name}.kubeconfig`, pki, name, `system:${name}`, apiServer)
  return [
    ...pair(pki, 'ca', folder),
    ...pair(pki, 'kube-api-server', folder),
    ...pair(pki, 'service-accounts', folder),
    file(encryptionConfig, encryption),
    client('kube-controller-manager'),
    client('kube-scheduler'),
    kubeconfigFile(adminKubeconfig, pki, 'admin', 'admin', 'https://127.0.0.1:6443'),
    file('/etc/etcd/ca.crt', pki('ca.crt')),
    ...pair(pki, 'kube-api-server', '/etc/etcd'),
    file('/etc/kubernetes/config/kube-scheduler.yaml', schedulerConfig),
    unit('etcd', etcdUnit(shape, machine)),
    unit('kube-apiserver', apiserverUnit(shape)),
    unit('kube-controller-manager', controllerManagerUnit(shape)),
    unit('kube-scheduler', schedulerUnit),
  ]
}

function workerFiles(shape: Shape, { hostname }: Machine, pki: Pki): PlacedFile[] {
  const files = [
    file('/var/lib/kubelet/ca.crt', pki('ca.crt')),
    ...pair(pki, hostname, '/var/lib/kubelet', 'kubelet'),
    kubeconfigFile('/var/lib/kubelet/kubeconfig', pki, hostname, `system:node:${hostname}`, apiServer),
    file('/var/lib/kubelet/kubelet-config.yaml', kubeletConfig(shape)),
    unit('kubelet', kubeletUnit),
  ]
  if (!has(shape, 'kube-proxy')) return files
  return [
    ...files,
    kubeconfigFile('/var/lib/kube-proxy/kubeconfig', pki, 'kube-proxy', 'system:kube-proxy', apiServer),
    file('/var/lib/kube-proxy/kube-proxy-config.yaml', proxyConfig(shape)),
    unit('kube-proxy', proxyUnit),
  ]
}

const unit = (name: string, text: string) => file(`/etc/systemd/system/${name}.service`, text)

/** With TLS and several members, as its releases before v1.25 had it: chapter 7 of today still copies the pair to /etc/etcd. */
const etcdUnit = (shape: Shape, { hostname, address }: Machine) => `[Unit]
Description=etcd
Documentation=https://github.com/etcd-io/etcd

[Service]
Type=notify
ExecStart=/usr/local/bin/etcd \\
  --name ${hostname} \\
  --cert-file=/etc/etcd/kube-api-server.crt \\
  --key-file=/etc/etcd/kube-api-server.key \\
  --peer-cert-file=/etc/etcd/kube-api-server.crt \\
  --peer-key-file=/etc/etcd/kube-api-server.key \\
  --trusted-ca-file=/etc/etcd/ca.crt \\
  --peer-trusted-ca-file=/etc/etcd/ca.crt \\
  --peer-client-cert-auth \\
  --client-cert-auth \\
  --initial-advertise-peer-urls https://${address}:2380 \\
  --listen-peer-urls https://${address}:2380 \\
  --listen-client-urls https://${address}:2379,https://127.0.0.1:2379 \\
  --advertise-client-urls https://${address}:2379 \\
  --initial-cluster-token etcd-cluster-0 \\
  --initial-cluster ${masters(shape)
    .map(one => `${one.hostname}=https://${one.address}:2380`)
    .join(',')} \\
  --initial-cluster-state new \\
  --data-dir=/var/lib/etcd
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`

/** Theirs leaves the range of Services to the API server; the lab's canaries know addresses in one of the lab's. */
const apiserverUnit = (shape: Shape) => `[Unit]
Description=Kubernetes API Server
Documentation=https://github.com/kubernetes/kubernetes

[Service]
ExecStart=/usr/local/bin/kube-apiserver \\
  --allow-privileged=true \\
  --audit-log-maxage=30 \\
  --audit-log-maxbackup=3 \\
  --audit-log-maxsize=100 \\
  --audit-log-path=/var/log/audit.log \\
  --authorization-mode=Node,RBAC \\
  --bind-address=0.0.0.0 \\
  --client-ca-file=/var/lib/kubernetes/ca.crt \\
  --enable-admission-plugins=NamespaceLifecycle,NodeRestriction,LimitRanger,ServiceAccount,DefaultStorageClass,ResourceQuota \\
  --etcd-cafile=/var/lib/kubernetes/ca.crt \\
  --etcd-certfile=/var/lib/kubernetes/kube-api-server.crt \\
  --etcd-keyfile=/var/lib/kubernetes/kube-api-server.key \\
  --etcd-servers=${masters(shape)
    .map(({ address }) => `https://${address}:2379`)
    .join(',')} \\
  --event-ttl=1h \\
${encryptionLines(encrypts(shape), encryptionConfig)}  --kubelet-certificate-authority=/var/lib/kubernetes/ca.crt \\
  --kubelet-client-certificate=/var/lib/kubernetes/kube-api-server.crt \\
  --kubelet-client-key=/var/lib/kubernetes/kube-api-server.key \\
  --runtime-config='api/all=true' \\
  --service-account-key-file=/var/lib/kubernetes/service-accounts.crt \\
  --service-account-signing-key-file=/var/lib/kubernetes/service-accounts.key \\
  --service-account-issuer=https://server.kubernetes.local:6443 \\
  --service-cluster-ip-range=${shape.serviceSubnet} \\
  --service-node-port-range=30000-32767 \\
  --tls-cert-file=/var/lib/kubernetes/kube-api-server.crt \\
  --tls-private-key-file=/var/lib/kubernetes/kube-api-server.key \\
  --v=2
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`

const controllerManagerUnit = (shape: Shape) => `[Unit]
Description=Kubernetes Controller Manager
Documentation=https://github.com/kubernetes/kubernetes

[Service]
ExecStart=/usr/local/bin/kube-controller-manager \\
  --bind-address=0.0.0.0 \\
  --cluster-cidr=${shape.podSubnet} \\
  --cluster-name=kubernetes \\
  --cluster-signing-cert-file=/var/lib/kubernetes/ca.crt \\
  --cluster-signing-key-file=/var/lib/kubernetes/ca.key \\
  --kubeconfig=/var/lib/kubernetes/kube-controller-manager.kubeconfig \\
  --root-ca-file=/var/lib/kubernetes/ca.crt \\
  --service-account-private-key-file=/var/lib/kubernetes/service-accounts.key \\
  --service-cluster-ip-range=${shape.serviceSubnet} \\
  --use-service-account-credentials=true \\
  --v=2
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`

const schedulerUnit = `[Unit]
Description=Kubernetes Scheduler
Documentation=https://github.com/kubernetes/kubernetes

[Service]
ExecStart=/usr/local/bin/kube-scheduler \\
  --config=/etc/kubernetes/config/kube-scheduler.yaml \\
  --v=2
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`

const kubeletUnit = `[Unit]
Description=Kubernetes Kubelet
Documentation=https://github.com/kubernetes/kubernetes
After=containerd.service
Requires=containerd.service

[Service]
ExecStart=/usr/local/bin/kubelet \\
  --config=/var/lib/kubelet/kubelet-config.yaml \\
  --kubeconfig=/var/lib/kubelet/kubeconfig \\
  --v=2
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`

const proxyUnit = `[Unit]
Description=Kubernetes Kube Proxy
Documentation=https://github.com/kubernetes/kubernetes

[Service]
ExecStart=/usr/local/bin/kube-proxy \\
  --config=/var/lib/kube-proxy/kube-proxy-config.yaml
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
`

const schedulerConfig = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  kubeconfig: "/var/lib/kubernetes/kube-scheduler.kubeconfig"
leaderElection:
  leaderElect: true
`

/** With the DNS of the cluster, which they left away with v1.32. */
const kubeletConfig = (shape: Shape) => `kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
address: "0.0.0.0"
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: true
  x509:
    clientCAFile: "/var/lib/kubelet/ca.crt"
authorization:
  mode: Webhook
clusterDomain: "${shape.clusterDomain}"
clusterDNS:
  - "${dnsAddress(shape)}"
containerRuntimeEndpoint: "unix:///var/run/containerd/containerd.sock"
enableServer: true
failSwapOn: false
maxPods: 16
memorySwap:
  swapBehavior: NoSwap
port: 10250
resolvConf: "/etc/resolv.conf"
registerNode: true
runtimeRequestTimeout: "15m"
tlsCertFile: "/var/lib/kubelet/kubelet.crt"
tlsPrivateKeyFile: "/var/lib/kubelet/kubelet.key"
${kubeletInLab}`

const proxyConfig = (shape: Shape) => `kind: KubeProxyConfiguration
apiVersion: kubeproxy.config.k8s.io/v1alpha1
clientConnection:
  kubeconfig: "/var/lib/kube-proxy/kubeconfig"
mode: "iptables"
clusterCIDR: "${shape.podSubnet}"
${proxyInLab}`

const encryptionConfig = '/var/lib/kubernetes/encryption-config.yaml'
/** Where nothing else is asked for, as its documents have it: by aescbc, and changes are taken up at the next start. */
const encrypts = (shape: Shape): Pick<Shape, 'encryption' | 'encryptionReload'> =>
  shape.encryption === 'none' ? { encryption: 'aescbc', encryptionReload: 'off' } : shape

/** The certificate that API servers show to kubelets is their serving one, whose user is in no group: it is given the right by name. */
const apiserverToKubelet = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  annotations:
    rbac.authorization.kubernetes.io/autoupdate: "true"
  labels:
    kubernetes.io/bootstrapping: rbac-defaults
  name: system:kube-apiserver-to-kubelet
rules:
  - apiGroups:
      - ""
    resources:
      - nodes/proxy
      - nodes/stats
      - nodes/log
      - nodes/spec
      - nodes/metrics
    verbs:
      - "*"
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: system:kube-apiserver
  namespace: ""
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: system:kube-apiserver-to-kubelet
subjects:
  - apiGroup: rbac.authorization.k8s.io
    kind: User
    name: kubernetes
`
