// The layout `systemd` in the shape `kubeasz`: units, configuration and files as the roles of kubeasz (github.com/easzlab/kubeasz, 3.7)
// put them on hosts, with its default values. What differs from its templates says why.
import { has, kubeletMachines, type Machine, masters, type Shape } from '../../../shape.ts'
import { encryptionConfiguration, encryptionFile, encryptionLines } from '../../encryption.ts'
import type { Layout } from '../layout.ts'
import { dnsAddress } from './coredns.ts'
import { kubeaszPki, kubeletOf } from './kubeasz-pki.ts'
import { kubeconfig } from './kubeconfig.ts'
import { kubeletInLab, proxyInLab } from './lab-machine.ts'
import { makeOfUnits, type PlacedFile, type UnitCluster } from './make.ts'
import type { Pki } from './openssl.ts'

const bin = '/opt/kube/bin'
const ssl = '/etc/kubernetes/ssl'
/** Its role `prepare` copies it to every host. */
const adminKubeconfig = '/root/.kube/config'

/** Clusters as kubeasz makes them: one CA, whose key signs tokens, too; masters are nodes that are cordoned; everybody asks a proxy of their own. */
export const kubeasz: Layout = {
  sources: [
    ...['kubeasz.ts', 'kubeasz-pki.ts', 'openssl.ts', 'make.ts', 'kubeconfig.ts', 'coredns.ts', 'lab-machine.ts'].map(
      file => `systemd/${file}`,
    ),
    '../manifests/coredns.yaml',
  ],
  adminKubeconfig,
  groups: { masters: 'kube_master', nodes: 'kube_node', etcd: 'etcd' },
  hostVariables: (_, { podSubnet, hostname }) => ({ ...(podSubnet && { k8s_nodename: hostname }) }),
  // Its API servers answer nobody without a certificate or a token.
  anonymousReadiness: false,
  units: () => [],
  make: (shape, report) => makeOfUnits(shape, report, prepare),
}

async function prepare(shape: Shape): Promise<UnitCluster> {
  const pki = await kubeaszPki(shape)
  const controllers = masters(shape)
  const nodes = kubeletMachines(shape)
  const encryption = encryptionConfiguration(shape)
  const kubectl = (words: string) => words.split(' ')
  return {
    programs: bin,
    files: machine => [
      ...(machine.role === 'master' ? masterFiles(shape, machine, pki, encryption) : []),
      ...nodeFiles(shape, machine, pki),
    ],
    units: [
      [...controllers.map(machine => ({ machine, units: ['etcd'] }))],
      nodes.map(machine => ({ machine, units: ['kube-lb'] })),
      controllers.map(machine => ({
        machine,
        units: ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
      })),
      nodes.map(machine => ({ machine, units: ['kubelet', ...(has(shape, 'kube-proxy') ? ['kube-proxy'] : [])] })),
    ],
    adminKubeconfig,
    manifests: [kubernetesUser],
    afterwards: [
      ...nodes.map(({ hostname, role }) =>
        kubectl(`label node ${hostname} kubernetes.io/role=${role === 'master' ? 'master' : 'node'} --overwrite`),
      ),
      ...controllers.map(({ hostname }) => kubectl(`cordon ${hostname}`)),
    ],
  }
}

/** Keys, too, are for everybody to read: its tasks copy them without a mode. */
const file = (path: string, content: string): PlacedFile => ({ path, content, mode: 0o644 })
const pair = (pki: Pki, name: string, as = name): PlacedFile[] => [
  file(`${ssl}/${as}.pem`, pki(`${name}.pem`)),
  file(`${ssl}/${as}-key.pem`, pki(`${name}-key.pem`)),
]
const unit = (name: string, text: string) => file(`/etc/systemd/system/${name}.service`, text)

/** Of a component, which asks the proxy on its own host. */
function kubeconfigFile(pki: Pki, component: string, user: string, name = component): PlacedFile {
  const [authority, certificate, key] = [pki('ca.pem'), pki(`${name}.pem`), pki(`${name}-key.pem`)]
  const server = 'https://127.0.0.1:6443'
  return file(
    `/etc/kubernetes/${component}.kubeconfig`,
    kubeconfig({ cluster: 'kubernetes', server, user, context: 'default', authority, certificate, key }),
  )
}

function masterFiles(shape: Shape, machine: Machine, pki: Pki, encryption: string | undefined): PlacedFile[] {
  return [
    ...pair(pki, 'ca'),
    ...pair(pki, 'etcd'),
    ...pair(pki, 'kubernetes'),
    ...(has(shape, 'front-proxy') ? pair(pki, 'aggregator-proxy') : []),
    kubeconfigFile(pki, 'kube-controller-manager', 'system:kube-controller-manager'),
    kubeconfigFile(pki, 'kube-scheduler', 'system:kube-scheduler'),
    unit('etcd', etcdUnit(shape, machine)),
    ...(encryption === undefined ? [] : [{ path: encryptionFile, content: encryption, mode: 0o600 }]),
    unit('kube-apiserver', apiserverUnit(shape, machine)),
    unit('kube-controller-manager', controllerManagerUnit(shape)),
    unit('kube-scheduler', schedulerUnit),
  ]
}

function nodeFiles(shape: Shape, machine: Machine, pki: Pki): PlacedFile[] {
  const [authority, certificate, key] = [pki('ca.pem'), pki('admin.pem'), pki('admin-key.pem')]
  const server = `https://${masters(shape)[0]!.address}:6443`
  const names = { cluster: 'cluster1', user: 'admin', context: 'context-cluster1' }
  const files = [
    file(adminKubeconfig, kubeconfig({ ...names, server, authority, certificate, key })),
    file(`${ssl}/ca.pem`, pki('ca.pem')),
    ...pair(pki, kubeletOf(machine), 'kubelet'),
    kubeconfigFile(pki, 'kubelet', `system:node:${machine.hostname}`, kubeletOf(machine)),
    file('/var/lib/kubelet/config.yaml', kubeletConfig(shape)),
    unit('kubelet', kubeletUnit(machine)),
    file('/etc/kube-lb/conf/kube-lb.conf', kubeLbConfig(shape)),
    unit('kube-lb', kubeLbUnit),
  ]
  if (!has(shape, 'kube-proxy')) return files
  return [
    ...files,
    kubeconfigFile(pki, 'kube-proxy', 'kube-proxy'),
    file('/var/lib/kube-proxy/kube-proxy-config.yaml', proxyConfig(shape, machine)),
    unit('kube-proxy', proxyUnit),
  ]
}

/** Without its OOMScoreAdjust: a machine of the lab may not lower it. */
const etcdUnit = (shape: Shape, { address }: Machine) => `[Unit]
Description=Etcd Server
After=network.target
After=network-online.target
Wants=network-online.target
Documentation=https://github.com/coreos

[Service]
Type=notify
WorkingDirectory=/var/lib/etcd
ExecStart=${bin}/etcd \\
  --name=etcd-${address} \\
  --cert-file=${ssl}/etcd.pem \\
  --key-file=${ssl}/etcd-key.pem \\
  --peer-cert-file=${ssl}/etcd.pem \\
  --peer-key-file=${ssl}/etcd-key.pem \\
  --trusted-ca-file=${ssl}/ca.pem \\
  --peer-trusted-ca-file=${ssl}/ca.pem \\
  --initial-advertise-peer-urls=https://${address}:2380 \\
  --listen-peer-urls=https://${address}:2380 \\
  --listen-client-urls=https://${address}:2379,http://127.0.0.1:2379 \\
  --advertise-client-urls=https://${address}:2379 \\
  --initial-cluster-token=etcd-cluster-0 \\
  --initial-cluster=${masters(shape)
    .map(one => `etcd-${one.address}=https://${one.address}:2380`)
    .join(',')} \\
  --initial-cluster-state=new \\
  --data-dir=/var/lib/etcd \\
  --wal-dir= \\
  --snapshot-count=50000 \\
  --auto-compaction-retention=1 \\
  --auto-compaction-mode=periodic \\
  --max-request-bytes=10485760 \\
  --quota-backend-bytes=8589934592
Restart=always
RestartSec=15
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`

const frontProxy = `  --requestheader-client-ca-file=${ssl}/ca.pem \\
  --requestheader-allowed-names="aggregator,system:aggregator:kube-apiserver" \\
  --requestheader-extra-headers-prefix=X-Remote-Extra- \\
  --requestheader-group-headers=X-Remote-Group \\
  --requestheader-username-headers=X-Remote-User \\
  --proxy-client-cert-file=${ssl}/aggregator-proxy.pem \\
  --proxy-client-key-file=${ssl}/aggregator-proxy-key.pem \\
  --enable-aggregator-routing=true \\
`

const apiserverUnit = (shape: Shape, { address }: Machine) => `[Unit]
Description=Kubernetes API Server
Documentation=https://github.com/GoogleCloudPlatform/kubernetes
After=network.target

[Service]
ExecStart=${bin}/kube-apiserver \\
  --allow-privileged=true \\
  --anonymous-auth=false \\
  --api-audiences=api,istio-ca \\
  --authorization-mode=Node,RBAC \\
  --bind-address=${address} \\
  --client-ca-file=${ssl}/ca.pem \\
  --endpoint-reconciler-type=lease \\
  --etcd-cafile=${ssl}/ca.pem \\
  --etcd-certfile=${ssl}/kubernetes.pem \\
  --etcd-keyfile=${ssl}/kubernetes-key.pem \\
  --etcd-servers=${masters(shape)
    .map(one => `https://${one.address}:2379`)
    .join(',')} \\
  --kubelet-certificate-authority=${ssl}/ca.pem \\
  --kubelet-client-certificate=${ssl}/kubernetes.pem \\
  --kubelet-client-key=${ssl}/kubernetes-key.pem \\
  --secure-port=6443 \\
  --service-account-issuer=https://kubernetes.default.svc \\
  --service-account-signing-key-file=${ssl}/ca-key.pem \\
  --service-account-key-file=${ssl}/ca.pem \\
  --service-cluster-ip-range=${shape.serviceSubnet} \\
  --service-node-port-range=30000-32767 \\
  --tls-cert-file=${ssl}/kubernetes.pem \\
  --tls-private-key-file=${ssl}/kubernetes-key.pem \\
${has(shape, 'front-proxy') ? frontProxy : ''}${encryptionLines(shape)}  --v=2
Restart=always
RestartSec=5
Type=notify
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`

const controllerManagerUnit = (shape: Shape) => `[Unit]
Description=Kubernetes Controller Manager
Documentation=https://github.com/GoogleCloudPlatform/kubernetes

[Service]
ExecStart=${bin}/kube-controller-manager \\
  --allocate-node-cidrs=true \\
  --authentication-kubeconfig=/etc/kubernetes/kube-controller-manager.kubeconfig \\
  --authorization-kubeconfig=/etc/kubernetes/kube-controller-manager.kubeconfig \\
  --bind-address=0.0.0.0 \\
  --cluster-cidr=${shape.podSubnet} \\
  --cluster-name=kubernetes \\
  --cluster-signing-cert-file=${ssl}/ca.pem \\
  --cluster-signing-key-file=${ssl}/ca-key.pem \\
  --kubeconfig=/etc/kubernetes/kube-controller-manager.kubeconfig \\
  --leader-elect=true \\
  --node-cidr-mask-size=24 \\
  --root-ca-file=${ssl}/ca.pem \\
  --service-account-private-key-file=${ssl}/ca-key.pem \\
  --service-cluster-ip-range=${shape.serviceSubnet} \\
  --use-service-account-credentials=true \\
  --v=2
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
`

const schedulerUnit = `[Unit]
Description=Kubernetes Scheduler
Documentation=https://github.com/GoogleCloudPlatform/kubernetes

[Service]
ExecStart=${bin}/kube-scheduler \\
  --authentication-kubeconfig=/etc/kubernetes/kube-scheduler.kubeconfig \\
  --authorization-kubeconfig=/etc/kubernetes/kube-scheduler.kubeconfig \\
  --bind-address=0.0.0.0 \\
  --kubeconfig=/etc/kubernetes/kube-scheduler.kubeconfig \\
  --leader-elect=true \\
  --v=2
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
`

/** Without its remounting of /sys/fs/cgroup: a unit of the lab's base does that for all of them. */
const kubeletUnit = ({ hostname }: Machine) => `[Unit]
Description=Kubernetes Kubelet
Documentation=https://github.com/GoogleCloudPlatform/kubernetes

[Service]
WorkingDirectory=/var/lib/kubelet
ExecStart=${bin}/kubelet \\
  --config=/var/lib/kubelet/config.yaml \\
  --hostname-override=${hostname} \\
  --kubeconfig=/etc/kubernetes/kubelet.kubeconfig \\
  --root-dir=/var/lib/kubelet \\
  --v=2
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
`

const proxyUnit = `[Unit]
Description=Kubernetes Kube-Proxy Server
Documentation=https://github.com/GoogleCloudPlatform/kubernetes
After=network.target

[Service]
WorkingDirectory=/var/lib/kube-proxy
ExecStart=${bin}/kube-proxy \\
  --config=/var/lib/kube-proxy/kube-proxy-config.yaml
Restart=always
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`

/** Without its cache of names on each node, and without the reserves and limits of a host of its own. */
const kubeletConfig = (shape: Shape) => `kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
address: 0.0.0.0
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 2m0s
    enabled: true
  x509:
    clientCAFile: ${ssl}/ca.pem
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 5m0s
    cacheUnauthorizedTTL: 30s
cgroupsPerQOS: true
clusterDNS:
- ${dnsAddress(shape)}
clusterDomain: ${shape.clusterDomain}
configMapAndSecretChangeDetectionStrategy: Watch
containerLogMaxFiles: 3
containerLogMaxSize: 10Mi
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
enforceNodeAllocatable:
- pods
eventBurst: 10
eventRecordQPS: 5
evictionPressureTransitionPeriod: 5m0s
failSwapOn: false
fileCheckFrequency: 40s
hairpinMode: hairpin-veth
healthzBindAddress: 0.0.0.0
healthzPort: 10248
httpCheckFrequency: 40s
imageMinimumGCAge: 2m0s
kubeAPIBurst: 100
kubeAPIQPS: 50
makeIPTablesUtilChains: true
maxOpenFiles: 1000000
maxParallelImagePulls: 5
maxPods: 110
nodeLeaseDurationSeconds: 40
nodeStatusReportFrequency: 1m0s
nodeStatusUpdateFrequency: 10s
podPidsLimit: -1
port: 10250
readOnlyPort: 0
resolvConf: /etc/resolv.conf
runtimeRequestTimeout: 2m0s
serializeImagePulls: false
streamingConnectionIdleTimeout: 4h0m0s
syncFrequency: 1m0s
tlsCertFile: ${ssl}/kubelet.pem
tlsPrivateKeyFile: ${ssl}/kubelet-key.pem
${kubeletInLab}`

/** By iptables, the other of the two ways that its inventory names: that is what the lab's other clusters have. */
const proxyConfig = (shape: Shape, { hostname }: Machine) => `kind: KubeProxyConfiguration
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
clientConnection:
  kubeconfig: "/etc/kubernetes/kube-proxy.kubeconfig"
clusterCIDR: "${shape.podSubnet}"
healthzBindAddress: 0.0.0.0:10256
hostnameOverride: "${hostname}"
metricsBindAddress: 0.0.0.0:10249
mode: "iptables"
${proxyInLab}`

/** Its proxy is an nginx of its own that passes TCP on and leaves out who refused twice within 3 s; this one is Debian's haproxy. */
const kubeLbConfig = (shape: Shape) => `global
  maxconn 3000

defaults
  mode tcp
  timeout connect 1s
  timeout client 10m
  timeout server 10m
  timeout check 1s
  retries 3
  option redispatch 1

listen kube-apiserver
  bind 127.0.0.1:6443
  balance roundrobin
  default-server check inter 1500ms fall 2 rise 1
${masters(shape)
  .map(({ name, address }) => `  server ${name} ${address}:6443`)
  .join('\n')}
`

const kubeLbUnit = `[Unit]
Description=l4 proxy for kube-apiservers
After=network.target
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStartPre=/usr/sbin/haproxy -f /etc/kube-lb/conf/kube-lb.conf -c -q
ExecStart=/usr/sbin/haproxy -Ws -f /etc/kube-lb/conf/kube-lb.conf -p /run/kube-lb.pid
PrivateTmp=true
Restart=always
RestartSec=15
StartLimitInterval=0
LimitNOFILE=65536
KillMode=mixed

[Install]
WantedBy=multi-user.target
`

/** Its `kubectl create clusterrolebinding kubernetes-crb`: API servers come to kubelets with their serving certificate. */
const kubernetesUser = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: kubernetes-crb
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: system:kubelet-api-admin
subjects:
  - apiGroup: rbac.authorization.k8s.io
    kind: User
    name: kubernetes
`
