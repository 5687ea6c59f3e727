// The layout `kubeadm`: made by kubeadm, as an operator would.
import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { kubernetesVersion } from '../../binaries.ts'
import { imageRepository, imageTags } from '../../images.ts'
import { exec } from '../../machines/machine.ts'
import { type Detail, type Report, timed } from '../../progress.ts'
import {
  endpointOf,
  has,
  hasPlugin,
  loadBalancer,
  type Machine,
  masters,
  members,
  nodes,
  type Shape,
} from '../../shape.ts'
import {
  encryptionConfiguration,
  encryptionFile,
  encryptionFlags,
  encryptionFolder,
  pluginFolder,
} from '../encryption.ts'
import type { Layout } from './layout.ts'

/** What joining needs, known before the cluster exists. Nothing of it is kept. */
interface Admission {
  readonly token: string
  readonly certificateKey: string
}

const admissionToken = () => `${randomBytes(3).toString('hex')}.${randomBytes(8).toString('hex')}`

/** What kubeadm can't find here: a kernel's configuration file, and the sysctls that are not a machine's to set. */
const ignored = [
  'SystemVerification',
  'Swap',
  'NumCPU',
  'Mem',
  'FileContent--proc-sys-net-bridge-bridge-nf-call-iptables',
]

/** Clusters as kubeadm makes them: everything a static pod, etcd on the masters, a kubelet by kubeadm's drop-in. */
export const kubeadm: Layout = {
  sources: ['kubeadm.ts'],
  adminKubeconfig: '/etc/kubernetes/admin.conf',
  groups: { masters: 'masters', nodes: 'nodes' },
  anonymousReadiness: true,
  units: () => ['/etc/systemd/system/kubelet.service'],
  make: (shape, report) =>
    makeByKubeadm(shape, report, {
      certificates: '/etc/kubernetes/pki',
      etcd: { local: { imageTag: imageTags.etcd } },
      kubeletArguments: ({ address }) => [{ name: 'node-ip', value: address }],
    }),
}

interface Argument {
  readonly name: string
  readonly value: string
}

/** Where clusters differ that kubeadm makes. */
export interface Manner {
  /** The folder of the certificates. */
  readonly certificates: string
  /** What kubeadm is told of etcd. */
  readonly etcd: object
  readonly kubeletArguments: (machine: Machine) => readonly Argument[]
  readonly apiServerArguments?: readonly Argument[]
  readonly controllerManagerArguments?: readonly Argument[]
}

/** Makes a cluster by kubeadm: the first master, then all others, then CoreDNS. */
export async function makeByKubeadm(shape: Shape, report: Report, manner: Manner): Promise<void> {
  const [first, ...others] = masters(shape)
  await placeEncryption(shape)
  const admission: Admission = { token: admissionToken(), certificateKey: randomBytes(32).toString('hex') }
  await timed(report, `Make a cluster on ${first!.name}`, async detail => {
    await runKubeadm(
      shape,
      first!,
      initConfiguration(shape, first!, admission, manner),
      // CoreDNS comes when there is more than one machine to spread it over.
      ['init', '--upload-certs', `--skip-phases=addon/coredns${has(shape, 'kube-proxy') ? '' : ',addon/kube-proxy'}`],
      detail,
    )
  })
  const ca = new X509Certificate(await exec(shape.name, first!.name, ['cat', `${manner.certificates}/ca.crt`]))
  const pin = createHash('sha256')
    .update(ca.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')
  const join = (machine: Machine) =>
    timed(report, `Join ${machine.name}`, detail =>
      runKubeadm(shape, machine, joinConfiguration(shape, machine, admission, pin, manner), ['join'], detail),
    )
  await Promise.all([
    // etcd takes one new member at a time.
    (async () => {
      for (const machine of others) await join(machine)
    })(),
    (async () => {
      for (const machine of nodes(shape)) await join(machine)
    })(),
  ])
  if (has(shape, 'coredns'))
    await timed(report, 'Deploy CoreDNS', () =>
      exec(shape.name, first!.name, ['kubeadm', 'init', 'phase', 'addon', 'coredns', '--config', configFile], {
        timeout: 120,
      }),
    )
  for (const machine of members(shape)) await exec(shape.name, machine.name, ['rm', '-f', configFile])
  if (!has(shape, 'front-proxy'))
    for (const machine of masters(shape))
      await exec(shape.name, machine.name, ['sh', '-c', `rm ${manner.certificates}/front-proxy-*`])
}

const configFile = '/root/kubeadm.yaml'

/** Gives each master the file that its API server encrypts by: it must be there before that is started. */
async function placeEncryption(shape: Shape): Promise<void> {
  const input = encryptionConfiguration(shape)
  if (input === undefined) return
  for (const { name } of masters(shape))
    await exec(shape.name, name, ['sh', '-euc', `umask 077; mkdir -p ${encryptionFolder}; cat >${encryptionFile}`], {
      input,
    })
}

/** Folders as a whole: a file that was mounted by itself would stay what it was. */
const mounted = (name: string, folder: string) => ({
  ...{ name, hostPath: folder, mountPath: folder, readOnly: true, pathType: 'Directory' },
})

async function runKubeadm(
  shape: Shape,
  machine: Machine,
  configuration: string,
  parameters: string[],
  detail: Detail,
): Promise<void> {
  const lab = shape.name
  await exec(lab, machine.name, ['sh', '-c', `umask 077; cat > ${configFile}`], { input: configuration })
  await exec(lab, machine.name, ['kubeadm', ...parameters, '--config', configFile], {
    timeout: 600,
    onLine: line => /^\[[\w-]+\] /.test(line) && detail(line.slice(0, 100)),
  })
}

const endpoint = (shape: Shape) => `${endpointOf(shape).host}:6443`

function registration(machine: Machine, { kubeletArguments }: Manner): object {
  return {
    name: machine.hostname,
    criSocket: 'unix:///run/containerd/containerd.sock',
    imagePullPolicy: 'Never',
    // A disk of its own has a folder lost+found.
    ignorePreflightErrors: [...ignored, 'DirAvailable--var-lib-etcd'],
    kubeletExtraArgs: kubeletArguments(machine),
  }
}

/** kubeadm always names them: without values, an API server knows no front proxy and is none. */
const withoutFrontProxy = ['requestheader-client-ca-file', 'proxy-client-cert-file', 'proxy-client-key-file'].map(
  name => ({ name, value: '' }),
)

const documents = (...parts: object[]) => parts.map(part => JSON.stringify(part)).join('\n---\n')

/** What every kubelet of the lab is told: what is the control machine's is not a machine's to judge. */
export const kubeletConfiguration = {
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  cgroupDriver: 'cgroupfs',
  failCgroupV1: false,
  failSwapOn: false,
  oomScoreAdj: 0,
  // The disk is the control machine's: how full it is says nothing about a machine of the lab.
  evictionHard: { 'memory.available': '50Mi', 'nodefs.available': '0%', 'imagefs.available': '0%' },
  imageGCHighThresholdPercent: 100,
  imageGCLowThresholdPercent: 99,
}

function initConfiguration(
  shape: Shape,
  machine: Machine,
  { token, certificateKey }: Admission,
  manner: Manner,
): string {
  const kubeadmApi = 'kubeadm.k8s.io/v1beta4'
  const balancer = loadBalancer(shape)
  return documents(
    {
      apiVersion: kubeadmApi,
      kind: 'InitConfiguration',
      bootstrapTokens: [{ token, ttl: '2h0m0s' }],
      certificateKey,
      localAPIEndpoint: { advertiseAddress: machine.address },
      nodeRegistration: registration(machine, manner),
    },
    {
      apiVersion: kubeadmApi,
      kind: 'ClusterConfiguration',
      kubernetesVersion,
      ...((balancer || shape.masters > 1) && { controlPlaneEndpoint: endpoint(shape) }),
      imageRepository,
      networking: { serviceSubnet: shape.serviceSubnet, dnsDomain: shape.clusterDomain },
      apiServer: {
        ...(balancer && { certSANs: [balancer.name, balancer.address] }),
        extraArgs: [
          ...(manner.apiServerArguments ?? []),
          ...encryptionFlags(shape),
          ...(has(shape, 'front-proxy') ? [] : withoutFrontProxy),
        ],
        ...(shape.encryption !== 'none' && {
          extraVolumes: [
            mounted('encryption', encryptionFolder),
            ...(hasPlugin(shape) ? [mounted('kms', pluginFolder)] : []),
          ],
        }),
      },
      controllerManager: {
        extraArgs: [
          ...(manner.controllerManagerArguments ?? []),
          ...(has(shape, 'front-proxy') ? [] : [{ name: 'requestheader-client-ca-file', value: '' }]),
        ],
      },
      dns: { imageTag: imageTags.coredns },
      certificatesDir: manner.certificates,
      etcd: manner.etcd,
    },
    kubeletConfiguration,
    ...(has(shape, 'kube-proxy') ? [proxyConfiguration(shape)] : []),
  )
}

function proxyConfiguration(shape: Shape): object {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'iptables',
    clusterCIDR: shape.podSubnet,
    oomScoreAdj: 0,
    // These limits are the control machine's: a machine of the lab can't set them.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  }
}

function joinConfiguration(
  shape: Shape,
  machine: Machine,
  { token, certificateKey }: Admission,
  pin: string,
  manner: Manner,
): string {
  return documents({
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'JoinConfiguration',
    caCertPath: `${manner.certificates}/ca.crt`,
    discovery: {
      bootstrapToken: { apiServerEndpoint: endpoint(shape), token, caCertHashes: [`sha256:${pin}`] },
    },
    nodeRegistration: registration(machine, manner),
    ...(machine.role === 'master' && {
      controlPlane: { localAPIEndpoint: { advertiseAddress: machine.address }, certificateKey },
    }),
  })
}
