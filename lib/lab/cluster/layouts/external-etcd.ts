// The layout `external-etcd`: as Kubespray makes clusters. etcd is a unit of the hosts, kubeadm is told where, the certificates are in
// folders of Kubespray's, and kubelets run by its unit. What is written here, its roles write: etcd, kubernetes/node, kubernetes/control-plane.
import { exec, tryExec } from '../../machines/machine.ts'
import { type Report, timed } from '../../progress.ts'
import { etcdMachines, type Machine, masters, members, type Shape } from '../../shape.ts'
import { kubeletConfiguration, makeByKubeadm } from './kubeadm.ts'
import type { Layout } from './layout.ts'

/** Clusters as Kubespray makes them: kubeadm's static pods, and etcd as a unit of the masters or of hosts of its own. */
export const externalEtcd: Layout = {
  sources: ['external-etcd.ts', 'kubeadm.ts'],
  adminKubeconfig: '/etc/kubernetes/admin.conf',
  // Whoever makes the cluster enables its own.
  units: () => [],
  groups: { cluster: 'k8s_cluster', masters: 'kube_control_plane', nodes: 'kube_node', etcd: 'etcd' },
  anonymousReadiness: true,
  hostVariables: (shape, machine) => {
    const member = etcdMember(shape, machine)
    if (machine.role !== 'master' && machine.role !== 'node' && member === undefined) return {}
    return {
      ip: machine.address,
      access_ip: machine.address,
      ...(member !== undefined && { etcd_member_name: member }),
    }
  },
  make,
  examine,
}

/** What a machine is called as a member of etcd, by which nothing else knows it; undefined where it is none. */
function etcdMember(shape: Shape, machine: Machine): string | undefined {
  const index = etcdMachines(shape).findIndex(({ name }) => name === machine.name)
  return index < 0 ? undefined : `etcd${index + 1}`
}

const etcdFolder = '/etc/ssl/etcd/ssl'
const certificates = '/etc/kubernetes/ssl'

async function make(shape: Shape, report: Report): Promise<void> {
  const everybody = [...new Set([...etcdMachines(shape), ...members(shape)])]
  await timed(
    report,
    `Start etcd on ${etcdMachines(shape)
      .map(({ name }) => name)
      .join(', ')}`,
    async detail => {
      detail('users, folders, units')
      await Promise.all(everybody.map(machine => run(shape, machine, preparation(shape, machine))))
      detail('certificates')
      await makeEtcdCertificates(shape)
      await Promise.all(everybody.map(machine => run(shape, machine, trustEtcd)))
      detail('its members')
      await Promise.all(etcdMachines(shape).map(machine => run(shape, machine, 'systemctl enable --now etcd')))
      // From now on whoever is started has a cluster to join.
      for (const machine of etcdMachines(shape))
        await run(shape, machine, file('/etc/etcd.env', etcdEnvironment(shape, machine, 'existing'), 640))
    },
  )
  const [first] = masters(shape)
  await makeByKubeadm(shape, report, {
    certificates,
    etcd: {
      external: {
        endpoints: etcdMachines(shape).map(({ address }) => `https://${address}:2379`),
        caFile: `${etcdFolder}/ca.pem`,
        // The same on each master, as kubeadm has one configuration for all: each has a file of this name.
        certFile: `${etcdFolder}/node-${first!.name}.pem`,
        keyFile: `${etcdFolder}/node-${first!.name}-key.pem`,
      },
    },
    // They stand in kubelet.env.
    kubeletArguments: () => [],
    apiServerArguments: argumentsOf({
      'endpoint-reconciler-type': 'lease',
      'kubelet-preferred-address-types': 'InternalDNS,InternalIP,Hostname,ExternalDNS,ExternalIP',
      profiling: 'False',
      'request-timeout': '1m0s',
      'service-account-lookup': 'True',
      'storage-backend': 'etcd3',
      'event-ttl': '1h0m0s',
    }),
    controllerManagerArguments: argumentsOf({
      'node-monitor-grace-period': '40s',
      'node-monitor-period': '5s',
      profiling: 'False',
      'terminated-pod-gc-threshold': '12500',
    }),
  })
}

const argumentsOf = (values: Readonly<Record<string, string>>) =>
  Object.entries(values).map(([name, value]) => ({ name, value }))

const run = (shape: Shape, machine: Machine, script: string) =>
  exec(shape.name, machine.name, ['sh', '-euc', script], { timeout: 120 })

/** A script that writes a file. */
const file = (path: string, content: string, mode: number) =>
  `mkdir -p "$(dirname ${path})"; cat >${path} <<'END_OF_FILE'\n${content.trimEnd()}\nEND_OF_FILE\nchmod ${mode} ${path}\n`

/** What is on a machine before there is a cluster. */
function preparation(shape: Shape, machine: Machine): string {
  const isEtcd = etcdMember(shape, machine) !== undefined
  const users = `groupadd --system kube-cert
useradd --system --user-group --no-create-home --shell /sbin/nologin --comment 'Etcd user' etcd
useradd --system --gid kube-cert --no-create-home --shell /sbin/nologin --comment 'Kubernetes user' kube
install -d -m 700 -o etcd -g root ${etcdFolder}
`
  const ofEtcd = `ln -sf kubernetes /usr/local/bin/etcd
${file('/etc/etcd.env', etcdEnvironment(shape, machine, 'new'), 640)}
${file('/etc/systemd/system/etcd.service', etcdUnit, 644)}`
  const ofMember = `install -d -m 755 -o kube -g root /etc/kubernetes /etc/kubernetes/manifests
install -d -m 755 ${certificates}
ln -s ${certificates} /etc/kubernetes/pki
ln -sf kubernetes /usr/local/bin/kubelet
rm -rf /etc/systemd/system/kubelet.service.d
${file('/etc/systemd/system/kubelet.service', kubeletUnit, 644)}
${file('/etc/kubernetes/kubelet.env', kubeletEnvironment(machine), 600)}
${file('/etc/kubernetes/kubelet-config.yaml', kubeletConfigurationOf(shape, machine), 640)}`
  return `${users}${isEtcd ? ofEtcd : ''}${machine.podSubnet ? ofMember : ''}
systemctl daemon-reload
${machine.podSubnet ? 'systemctl enable --quiet kubelet' : ''}`
}

const etcdUnit = `[Unit]
Description=etcd
After=network.target

[Service]
Type=notify
User=root
EnvironmentFile=/etc/etcd.env
ExecStart=/usr/local/bin/etcd
NotifyAccess=all
Restart=always
RestartSec=10s
LimitNOFILE=40000

[Install]
WantedBy=multi-user.target
`

function etcdEnvironment(shape: Shape, machine: Machine, state: 'new' | 'existing'): string {
  const member = (suffix = '') => `${etcdFolder}/member-${machine.name}${suffix}.pem`
  const admin = (suffix = '') => `${etcdFolder}/admin-${machine.name}${suffix}.pem`
  const cluster = etcdMachines(shape).map(one => `${etcdMember(shape, one)}=https://${one.address}:2380`)
  return `# Environment file for etcd
ETCD_DATA_DIR=/var/lib/etcd
ETCD_ADVERTISE_CLIENT_URLS=https://${machine.address}:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://${machine.address}:2380
ETCD_INITIAL_CLUSTER_STATE=${state}
ETCD_METRICS=basic
ETCD_LISTEN_CLIENT_URLS=https://${machine.address}:2379,https://127.0.0.1:2379
ETCD_ELECTION_TIMEOUT=5000
ETCD_HEARTBEAT_INTERVAL=250
ETCD_INITIAL_CLUSTER_TOKEN=k8s_etcd
ETCD_LISTEN_PEER_URLS=https://${machine.address}:2380
ETCD_NAME=${etcdMember(shape, machine)}
ETCD_PROXY=off
ETCD_INITIAL_CLUSTER=${cluster.join(',')}
ETCD_AUTO_COMPACTION_RETENTION=8
ETCD_SNAPSHOT_COUNT=100000
ETCD_QUOTA_BACKEND_BYTES=2147483648
ETCD_MAX_REQUEST_BYTES=1572864
ETCD_LOG_LEVEL=info
ETCD_MAX_SNAPSHOTS=5
ETCD_MAX_WALS=5

# TLS settings
ETCD_TRUSTED_CA_FILE=${etcdFolder}/ca.pem
ETCD_CERT_FILE=${member()}
ETCD_KEY_FILE=${member('-key')}
ETCD_CLIENT_CERT_AUTH=true

ETCD_PEER_TRUSTED_CA_FILE=${etcdFolder}/ca.pem
ETCD_PEER_CERT_FILE=${member()}
ETCD_PEER_KEY_FILE=${member('-key')}
ETCD_PEER_CLIENT_CERT_AUTH=True

# CLI settings
ETCDCTL_ENDPOINTS=https://127.0.0.1:2379
ETCDCTL_CACERT=${etcdFolder}/ca.pem
ETCDCTL_KEY=${admin('-key')}
ETCDCTL_CERT=${admin()}

ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK=True
ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL=5s
`
}

const kubeletUnit = `[Unit]
Description=Kubernetes Kubelet Server
Documentation=https://github.com/GoogleCloudPlatform/kubernetes
After=containerd.service
Wants=containerd.service

[Service]
EnvironmentFile=-/etc/kubernetes/kubelet.env
ExecStart=/usr/local/bin/kubelet \\
		$KUBE_LOGTOSTDERR \\
		$KUBE_LOG_LEVEL \\
		$KUBELET_API_SERVER \\
		$KUBELET_ADDRESS \\
		$KUBELET_PORT \\
		$KUBELET_HOSTNAME \\
		$KUBELET_ARGS \\
		$DOCKER_SOCKET \\
		$KUBELET_NETWORK_PLUGIN \\
		$KUBELET_VOLUME_PLUGIN \\
		$KUBELET_CLOUDPROVIDER
Restart=always
RestartSec=10s

[Install]
WantedBy=multi-user.target
`

const kubeletEnvironment = ({ address, hostname }: Machine) => `KUBE_LOG_LEVEL="--v=2"
KUBELET_ADDRESS="--node-ip=${address}"
KUBELET_HOSTNAME="--hostname-override=${hostname}"

KUBELET_ARGS="--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\
--config=/etc/kubernetes/kubelet-config.yaml \\
--kubeconfig=/etc/kubernetes/kubelet.conf \\
--runtime-cgroups=/system.slice/containerd.service \\
 "
KUBELET_CLOUDPROVIDER=""

PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
`

/** The file that these kubelets read; the one that kubeadm writes is there as well, and nobody reads it. */
function kubeletConfigurationOf(shape: Shape, { address }: Machine): string {
  // What kubeadm is told for a machine of a lab, Kubespray takes as eviction_hard and kubelet_config_extra_args.
  const { evictionHard, ...others } = kubeletConfiguration
  const lines = (values: object) => Object.entries(values).map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
  return `${lines(others).join('\n')}
nodeStatusUpdateFrequency: "10s"
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: True
  x509:
    clientCAFile: ${certificates}/ca.crt
authorization:
  mode: Webhook
staticPodPath: /etc/kubernetes/manifests
containerLogMaxFiles: 5
containerLogMaxSize: 10Mi
containerRuntimeEndpoint : unix:///run/containerd/containerd.sock
maxPods: 110
podPidsLimit: -1
address: "${address}"
readOnlyPort: 0
healthzPort: 10248
healthzBindAddress: 127.0.0.1
clusterDomain: ${shape.clusterDomain}
rotateCertificates: true
clusterDNS:
- ${shape.serviceSubnet.replace(/\d+\/\d+$/, '10')}
evictionHard:
  ${lines(evictionHard).join('\n  ')}
`
}

/** By openssl on the first of etcd's hosts, then carried to the others: each of etcd's hosts has everything, a node its own. */
async function makeEtcdCertificates(shape: Shape): Promise<void> {
  const [first, ...others] = etcdMachines(shape)
  const hosts = etcdMachines(shape).map(({ name }) => name)
  const clients = members(shape).map(({ name }) => name)
  await run(shape, first!, etcdCertificates(shape))
  const carried = (names: readonly string[]) =>
    run(shape, first!, `tar -C ${etcdFolder} -cz ${names.map(name => `${name}.pem`).join(' ')} | base64 -w0`)
  const put = async (machine: Machine, archive: string, more: string) =>
    exec(shape.name, machine.name, ['sh', '-euc', `base64 -d | tar -C ${etcdFolder} -xz; ${more}`], { input: archive })
  const pairs = (kind: string, names: readonly string[]) =>
    names.flatMap(name => [`${kind}-${name}`, `${kind}-${name}-key`])
  const all = ['ca', 'ca-key', ...pairs('member', hosts), ...pairs('admin', hosts), ...pairs('node', clients)]
  const whole = await carried(all)
  const own = `chown etcd:root ${etcdFolder}/*.pem; chmod 640 ${etcdFolder}/*.pem`
  const plain = members(shape).filter(machine => etcdMember(shape, machine) === undefined)
  await Promise.all([
    ...others.map(machine => put(machine, whole, own)),
    ...plain.map(async machine =>
      put(machine, await carried(['ca', ...pairs('node', [machine.name])]), links(shape, machine)),
    ),
  ])
}

/** kubeadm has one path for all masters: on each that has no etcd, the others' names lead to its own certificate. */
export function links(shape: Shape, machine: Machine): string {
  if (machine.role !== 'master') return ''
  return masters(shape)
    .filter(({ name }) => name !== machine.name)
    .flatMap(({ name }) =>
      ['', '-key'].map(
        suffix => `ln -s ${etcdFolder}/node-${machine.name}${suffix}.pem ${etcdFolder}/node-${name}${suffix}.pem`,
      ),
    )
    .join('; ')
}

/** The script that makes etcd's certificates, with the names, subjects and extensions of Kubespray's own. */
export function etcdCertificates(shape: Shape): string {
  const etcd = etcdMachines(shape).map(({ name }) => name)
  const clients = members(shape).map(({ name }) => name)
  const domain = `svc.${shape.clusterDomain}`
  const names = ['localhost', ...etcd, `etcd.kube-system.${domain}`, 'etcd.kube-system.svc', 'etcd.kube-system', 'etcd']
  // Each address twice: access_ip and ip.
  const addresses = [...etcdMachines(shape).flatMap(({ address }) => [address, address]), '127.0.0.1', '::1']
  const configuration = `[req]
req_extensions = v3_req
distinguished_name = req_distinguished_name

[req_distinguished_name]

[ v3_req ]
basicConstraints = CA:FALSE
keyUsage = nonRepudiation, digitalSignature, keyEncipherment
subjectAltName = @alt_names

[ ssl_client ]
extendedKeyUsage = clientAuth, serverAuth
basicConstraints = CA:FALSE
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid,issuer
subjectAltName = @alt_names

[alt_names]
${names.map((name, index) => `DNS.${index + 1} = ${name}`).join('\n')}
${addresses.map((address, index) => `IP.${index + 1} = ${address}`).join('\n')}
`
  const leaf = (kind: string, name: string) => `leaf ${kind} ${name}`
  return `${file('/etc/ssl/etcd/openssl.conf', configuration, 640)}
days=36500
cd ${etcdFolder}
openssl genrsa -out ca-key.pem 2048
openssl req -x509 -new -nodes -key ca-key.pem -days $days -out ca.pem -subj /CN=etcd-ca
leaf() {
  openssl genrsa -out $1-$2-key.pem 2048
  openssl req -new -key $1-$2-key.pem -out $1-$2.csr -subj /CN=etcd-$1-$2 -config /etc/ssl/etcd/openssl.conf
  openssl x509 -req -in $1-$2.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out $1-$2.pem -days $days \\
    -extensions ssl_client -extfile /etc/ssl/etcd/openssl.conf
}
${[...etcd.flatMap(name => [leaf('member', name), leaf('admin', name)]), ...clients.map(name => leaf('node', name))].join('\n')}
rm -f *.csr *.srl`
}

/** Kubespray has the hosts themselves trust etcd's CA. */
const trustEtcd = `install -m 640 ${etcdFolder}/ca.pem /usr/local/share/ca-certificates/etcd-ca.crt
update-ca-certificates >/dev/null 2>&1`

/** Whether each member says that it is healthy: the API answers while one is down. */
async function examine(shape: Shape): Promise<string[]> {
  const answers = await Promise.all(
    etcdMachines(shape).map(async ({ name }) => {
      const pair = ['--cert', `${etcdFolder}/admin-${name}.pem`, '--key', `${etcdFolder}/admin-${name}-key.pem`]
      const { stdout } = await tryExec(shape.name, name, [
        ...['curl', '-s', '--max-time', '4', '--cacert', `${etcdFolder}/ca.pem`, ...pair],
        'https://127.0.0.1:2379/health',
      ])
      return /"health":"true"/.test(stdout) ? [] : [name]
    }),
  )
  const unwell = answers.flat()
  return unwell.length > 0 ? [`etcd not healthy on ${unwell.join(', ')}`] : []
}
