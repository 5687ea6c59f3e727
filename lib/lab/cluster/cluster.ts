// The cluster on the machines: made by kubeadm, as an operator would, and watched until it is well.
import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { RekeyError } from '../../errors.ts'
import { kubernetesVersion } from '../binaries.ts'
import { waitFor } from '../command.ts'
import { imageRepository, imageTags } from '../images.ts'
import { bootTimeOf, exec, tryExec } from '../machines/machine.ts'
import { type Detail, type Report, timed } from '../progress.ts'
import { endpointOf, has, loadBalancer, type Machine, masters, members, nodes, type Shape } from '../shape.ts'
import { type CanaryResult, canaryManifest, canaryResultsOf, canaryWorkloads, routesManifest } from './canaries.ts'
import { isOfStates } from './states.ts'

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

/** Makes the cluster on machines that have booted for the first time. */
export async function createCluster(shape: Shape, report: Report): Promise<void> {
  const [first, ...others] = masters(shape)
  const admission: Admission = { token: admissionToken(), certificateKey: randomBytes(32).toString('hex') }
  await timed(report, `Make a cluster on ${first!.name}`, async detail => {
    await kubeadm(
      shape,
      first!,
      initConfiguration(shape, first!, admission),
      // CoreDNS comes when there is more than one machine to spread it over.
      ['init', '--upload-certs', `--skip-phases=addon/coredns${has(shape, 'kube-proxy') ? '' : ',addon/kube-proxy'}`],
      detail,
    )
  })
  const ca = new X509Certificate(await exec(shape.name, first!.name, ['cat', '/etc/kubernetes/pki/ca.crt']))
  const pin = createHash('sha256')
    .update(ca.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')
  const join = (machine: Machine) =>
    timed(report, `Join ${machine.name}`, detail =>
      kubeadm(shape, machine, joinConfiguration(shape, machine, admission, pin), ['join'], detail),
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
  await timed(report, 'Deploy what runs on it', async () => {
    if (has(shape, 'coredns'))
      await exec(shape.name, first!.name, ['kubeadm', 'init', 'phase', 'addon', 'coredns', '--config', configFile], {
        timeout: 120,
      })
    if (!has(shape, 'kube-proxy')) await kubectl(shape, ['apply', '-f', '-'], { input: routesManifest(shape) })
    await kubectl(shape, ['apply', '-f', '-'], { input: canaryManifest(shape) })
    for (const machine of members(shape)) await exec(shape.name, machine.name, ['rm', '-f', configFile])
    if (!has(shape, 'front-proxy'))
      for (const machine of masters(shape))
        await exec(shape.name, machine.name, ['sh', '-c', 'rm /etc/kubernetes/pki/front-proxy-*'])
  })
}

const configFile = '/root/kubeadm.yaml'

async function kubeadm(
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

function registration(machine: Machine): object {
  return {
    name: machine.hostname,
    criSocket: 'unix:///run/containerd/containerd.sock',
    imagePullPolicy: 'Never',
    // A disk of its own has a folder lost+found.
    ignorePreflightErrors: [...ignored, 'DirAvailable--var-lib-etcd'],
    kubeletExtraArgs: [{ name: 'node-ip', value: machine.address }],
  }
}

/** kubeadm always names them: without values, an API server knows no front proxy and is none. */
const withoutFrontProxy = ['requestheader-client-ca-file', 'proxy-client-cert-file', 'proxy-client-key-file'].map(
  name => ({ name, value: '' }),
)

const documents = (...parts: object[]) => parts.map(part => JSON.stringify(part)).join('\n---\n')

function initConfiguration(shape: Shape, machine: Machine, { token, certificateKey }: Admission): string {
  const kubeadmApi = 'kubeadm.k8s.io/v1beta4'
  const balancer = loadBalancer(shape)
  return documents(
    {
      apiVersion: kubeadmApi,
      kind: 'InitConfiguration',
      bootstrapTokens: [{ token, ttl: '2h0m0s' }],
      certificateKey,
      localAPIEndpoint: { advertiseAddress: machine.address },
      nodeRegistration: registration(machine),
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
        ...(!has(shape, 'front-proxy') && { extraArgs: withoutFrontProxy }),
      },
      ...(!has(shape, 'front-proxy') && {
        controllerManager: { extraArgs: [{ name: 'requestheader-client-ca-file', value: '' }] },
      }),
      dns: { imageTag: imageTags.coredns },
      etcd: { local: { imageTag: imageTags.etcd } },
    },
    {
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
    },
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

function joinConfiguration(shape: Shape, machine: Machine, { token, certificateKey }: Admission, pin: string): string {
  return documents({
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'JoinConfiguration',
    discovery: {
      bootstrapToken: { apiServerEndpoint: endpoint(shape), token, caCertHashes: [`sha256:${pin}`] },
    },
    nodeRegistration: registration(machine),
    ...(machine.role === 'master' && {
      controlPlane: { localAPIEndpoint: { advertiseAddress: machine.address }, certificateKey },
    }),
  })
}

/** Runs kubectl as the cluster's admin, on the first master that runs. Returns its standard output. */
export async function kubectl(
  shape: Shape,
  parameters: readonly string[],
  { input, timeout = 60 }: { input?: string; timeout?: number } = {},
): Promise<string> {
  const argv = ['kubectl', '--kubeconfig=/etc/kubernetes/admin.conf', '--request-timeout=10s', ...parameters]
  return exec(shape.name, masters(shape)[0]!.name, argv, { input, timeout })
}

interface KubernetesList<Item> {
  readonly items: readonly Item[]
}

interface NodeObject {
  readonly metadata: { readonly name: string }
  readonly status: {
    readonly conditions?: readonly { type: string; status: string; lastHeartbeatTime: string }[]
  }
}

interface PodObject {
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly deletionTimestamp?: string
    readonly labels?: Readonly<Record<string, string>>
  }
  readonly spec: { readonly nodeName?: string }
  readonly status: {
    readonly phase: string
    readonly conditions?: readonly { type: string; status: string }[]
    readonly containerStatuses?: readonly {
      readonly ready: boolean
      readonly state: { readonly running?: { readonly startedAt: string } }
    }[]
  }
}

/** What is not well yet in a cluster, in a few words each; nothing when all is well. */
export type Complaints = string[]

/** Looks at the whole cluster once: nodes, pods, canaries. */
export async function examineCluster(shape: Shape): Promise<Complaints> {
  const first = masters(shape)[0]!
  const answer = await tryExec(
    shape.name,
    first.name,
    [
      ...['kubectl', '--kubeconfig=/etc/kubernetes/admin.conf', '--request-timeout=4s'],
      ...['get', 'nodes,pods', '--all-namespaces', '-o', 'json'],
    ],
    { timeout: 15 },
  ).catch((error: RekeyError) => {
    // Where each of its requests ends only after 4 s, kubectl makes some more.
    if (error.code !== 'lab.command-timeout') throw error
    return undefined
  })
  if (answer?.code !== 0) return ['the API does not answer']
  const { items } = JSON.parse(answer.stdout) as KubernetesList<(NodeObject | PodObject) & { kind: string }>
  return judgeCluster(
    shape,
    items.filter(item => item.kind === 'Node') as NodeObject[],
    items.filter(item => item.kind === 'Pod') as PodObject[],
    new Map(members(shape).map(({ name, hostname }) => [hostname, bootTimeOf(shape.name, name)])),
  )
}

/**
 * What `examineCluster` finds, from what the API said and from when each machine booted (undefined: it is down).
 * What was said before that is stale: the API repeats it until the machine's kubelet says otherwise.
 */
export function judgeCluster(
  shape: Shape,
  nodeList: readonly NodeObject[],
  podList: readonly PodObject[],
  bootTimes: ReadonlyMap<string, number | undefined>,
): Complaints {
  // The API keeps whole seconds.
  const fresh = (time: string | undefined, machine: string | undefined) =>
    time !== undefined && Date.parse(time) >= (bootTimes.get(machine ?? '') ?? Number.POSITIVE_INFINITY) - 1000
  const complaints: Complaints = []
  const notReady = members(shape).filter(({ hostname }) => {
    const node = nodeList.find(({ metadata }) => metadata.name === hostname)
    const ready = node?.status.conditions?.find(({ type }) => type === 'Ready')
    return ready?.status !== 'True' || !fresh(ready.lastHeartbeatTime, hostname)
  })
  if (notReady.length) complaints.push(`${notReady.map(({ name }) => name).join(', ')} not Ready`)
  const pods = podList.filter(
    ({ metadata, status }) =>
      !metadata.deletionTimestamp && status.phase !== 'Succeeded' && !isOfStates(metadata.namespace),
  )
  const unwell = pods.filter(
    ({ spec, status }) =>
      !status.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') ||
      !status.containerStatuses?.every(({ ready, state }) => ready && fresh(state.running?.startedAt, spec.nodeName)),
  )
  if (unwell.length) {
    const names = unwell.slice(0, 3).map(({ metadata, spec }) => `${metadata.name} on ${spec.nodeName ?? 'no machine'}`)
    complaints.push(
      `${unwell.length} of ${pods.length} pods not ready: ${names.join(', ')}${unwell.length > 3 ? ' …' : ''}`,
    )
  }
  const expected = canaryWorkloads.filter(
    ({ namespace, name }) =>
      !pods.some(({ metadata }) => metadata.namespace === namespace && metadata.labels?.app === name),
  )
  if (expected.length) complaints.push(`no pod of ${expected.map(({ name }) => name).join(', ')}`)
  return complaints
}

/** Waits until nodes, pods and canaries are well and the callers' calls succeed. */
export async function waitUntilWell(shape: Shape, detail: Detail, seconds = 300): Promise<void> {
  let complaints: Complaints = []
  await waitFor(
    'the cluster to be well',
    seconds,
    async () => {
      complaints = await examineCluster(shape)
      detail(complaints.join('; '))
      return complaints.length === 0 || undefined
    },
    { every: 1000, hint: () => complaints.join('; ') },
  )
  let before = liveCallers(shape)
  let failing: string[] = []
  await waitFor(
    'the canaries to call without failures',
    90,
    async () => {
      await new Promise(resolve => setTimeout(resolve, 1000))
      const after = liveCallers(shape)
      failing = [...after.values()].flatMap(({ pod, node, calls, failures, lastError }) => {
        const earlier = before.get(pod)
        if (earlier && earlier.failures === failures && earlier.calls < calls) return []
        return `${pod} on ${node}: ${lastError || 'no calls yet'}`
      })
      const missing = members(shape).length + 2 - after.size
      if (missing > 0) failing.push(`${missing} not started`)
      before = after
      detail(failing.length ? `canaries: ${failing.join('; ')}` : '')
      return failing.length === 0 || undefined
    },
    { hint: () => failing.join('\n') },
  )
  await Promise.all(members(shape).map(({ name }) => forgetUnanswered(shape, name)))
}

/**
 * Has a machine's kernel forget the connections that nobody answered. While a cluster comes up, some are led to pods of before, by their
 * address of then, and for two minutes the kernel would lead there whoever gets the same port again: a call of a canary would fail
 * that has nothing to do with what is rehearsed.
 */
async function forgetUnanswered(shape: Shape, machine: string): Promise<void> {
  const { code, stderr } = await tryExec(shape.name, machine, ['conntrack', '-D', '-p', 'tcp', '--state', 'SYN_SENT'])
  // 1 says that there were none.
  if (code > 1)
    throw new RekeyError(`${machine}: conntrack -D: exit code ${code}: ${stderr.trim()}`, {
      code: 'lab.command-failed',
      host: machine,
    })
}

/** Lets the callers count from zero: what they saw while a cluster came up is no one's concern. */
export async function resetCanaries(shape: Shape): Promise<void> {
  await Promise.all(
    members(shape).map(({ name }) =>
      exec(shape.name, name, ['sh', '-c', 'rm -f /var/lib/rekey-canary/*.json; touch /var/lib/rekey-canary/reset']),
    ),
  )
  await waitFor(
    'the canaries to count from zero',
    20,
    () => liveCallers(shape).size >= members(shape).length + 2 || undefined,
  )
}

/** The callers that have written their results in the last seconds. */
function liveCallers(shape: Shape): Map<string, CanaryResult> {
  return new Map(
    canaryResultsOf(shape)
      .filter(({ updated }) => Date.now() - Date.parse(updated) < 3000)
      .map(result => [result.pod, result]),
  )
}
