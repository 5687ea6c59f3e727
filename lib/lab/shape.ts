// What a lab consists of: its machines, their roles, names and addresses. Pure: nothing here touches the system.
import { createHash } from 'node:crypto'
import { RekeyError } from '../errors.ts'

export type Role = 'master' | 'node' | 'etcd' | 'loadbalancer' | 'vault'

/** One machine of a lab. */
export interface Machine {
  /** What the inventory calls it. */
  readonly name: string
  /** What it calls itself, as a host and as a node of the cluster. */
  readonly hostname: string
  readonly role: Role
  readonly address: string
  /** The range its pods' addresses come from: machines with a kubelet have one. */
  readonly podSubnet?: string
}

/** How the cluster is laid out: what its components run as, and where its files are. */
export const layouts = ['kubeadm', 'external-etcd', 'systemd'] as const
/** Whose documents a cluster of systemd units is made by. */
export const unitShapes = ['hard-way', 'kubeasz'] as const
/** How machines are entered. */
export const logins = ['root', 'sudo', 'sudo-password'] as const
/** Whether etcd has a disk of its own. */
export const diskLayouts = ['one', 'separate'] as const
/** Whether nodes are called what the inventory calls their machines. */
export const nodeNamings = ['inventory', 'other'] as const
/**
 * What API servers encrypt Secrets by, in a file of their own. `none`: what the layout's own documents have, which is nothing but for those of the
 * hard way. `identity`: a file by which nothing is encrypted. `kms-…`: a KMS plugin on each master, with its key in the lab's Vault, or in a token.
 */
export const encryptions = ['none', 'identity', 'aescbc', 'secretbox', 'kms-vault', 'kms-hsm'] as const
/** Whether API servers take up changes of that file by themselves. */
export const encryptionReloads = ['on', 'off'] as const
/** What a cluster can do without. etcdctl is not on the machines; the others are not in the cluster. */
export const dispensable = ['kube-proxy', 'coredns', 'front-proxy', 'load-balancer', 'etcdctl'] as const

export type Dispensable = (typeof dispensable)[number]
export type Encryption = (typeof encryptions)[number]

/** What makes a lab like clusters that others made. */
export interface Traits {
  readonly layout: (typeof layouts)[number]
  /** Machines that have etcd and are no nodes; with none of them, the masters have it. */
  readonly etcdHosts: number
  /** Of the layout `systemd` alone. */
  readonly unitShape: (typeof unitShapes)[number]
  readonly login: (typeof logins)[number]
  readonly disks: (typeof diskLayouts)[number]
  readonly nodeNames: (typeof nodeNamings)[number]
  readonly encryption: Encryption
  readonly encryptionReload: (typeof encryptionReloads)[number]
  /** Without repetition, in the order of `dispensable`. */
  readonly without: readonly Dispensable[]
}

/** What a lab has where nobody asks for anything else. */
export const usualTraits: Traits = {
  layout: 'kubeadm',
  etcdHosts: 0,
  unitShape: 'hard-way',
  login: 'root',
  disks: 'one',
  nodeNames: 'inventory',
  encryption: 'none',
  encryptionReload: 'on',
  without: [],
}

interface Size {
  readonly name: string
  readonly masters: number
  readonly nodes: number
}

/** What somebody asks for. */
export interface LabOptions extends Size, Partial<Traits> {}

/** A lab with everything derived from its name, its size, its traits and its subnet. */
export interface Shape extends Size, Traits {
  /** The machines' network, a /24. */
  readonly subnet: string
  /** The control machine's own address in it. */
  readonly gateway: string
  readonly machines: readonly Machine[]
  readonly podSubnet: string
  readonly serviceSubnet: string
  readonly clusterDomain: string
}

export const defaultOptions: LabOptions = { name: 'default', masters: 3, nodes: 2 }

/** Checks what somebody asked for. Throws a `RekeyError` (`lab.options`) that says what is possible. */
export function checkOptions({ name, masters, nodes, ...asked }: LabOptions): void {
  const wrong = (message: string, hint: string) => new RekeyError(message, { code: 'lab.options', hint })
  if (!/^[a-z][a-z0-9-]{0,29}$/.test(name) || name.endsWith('-'))
    throw wrong(
      `'${name}' can't be a lab's name`,
      'Use up to 30 lower-case letters, digits and dashes, a letter first.',
    )
  if (!Number.isInteger(masters) || masters < 1 || masters > 7 || masters % 2 === 0)
    throw wrong(`a lab can't have ${masters} masters`, 'Ask for 1, 3, 5 or 7: etcd needs an odd number for its quorum.')
  if (!Number.isInteger(nodes) || nodes < 0 || nodes > 40)
    throw wrong(`a lab can't have ${nodes} nodes`, 'Ask for a number from 0 to 40.')
  const { layout, etcdHosts, unitShape, encryption, encryptionReload } = traitsOf(asked)
  if (etcdHosts !== 0 && layout !== 'external-etcd')
    throw wrong(`etcd of a lab with --layout ${layout} can't have hosts of its own`, 'Ask for --layout external-etcd.')
  if (etcdHosts !== 0 && ![1, 3, 5, 7].includes(etcdHosts))
    throw wrong(
      `a lab can't have ${etcdHosts} hosts of etcd`,
      'Ask for 1, 3, 5 or 7, or for 0: then the masters have it.',
    )
  if (nodes === 0) throw wrong('a lab without nodes has nowhere to run its canaries', 'Ask for at least one node.')
  if (layout !== 'systemd' && unitShape !== usualTraits.unitShape)
    throw wrong(`the layout ${layout} has no shape '${unitShape}'`, 'Ask for --layout systemd, too.')
  if (encryption === 'none' && encryptionReload !== usualTraits.encryptionReload)
    throw wrong('API servers that are given no file can not be told how to read it', 'Ask for --encryption, too.')
}

/**
 * Chooses the subnet of a new lab: one that its name leads to, so that the same lab gets the same one again, or the
 * next that overlaps none of the networks in `taken` (CIDR). Throws a `RekeyError` (`lab.no-subnet`) if all are taken.
 */
export function chooseSubnet(name: string, taken: readonly string[]): string {
  const first = 200 * 256
  const count = 40 * 256
  const start = createHash('sha256').update(name).digest().readUInt32BE(0) % count
  for (let step = 0; step < count; step++) {
    const number = first + ((start + step) % count)
    const subnet = `10.${number >> 8}.${number & 255}.0/24`
    if (!taken.some(other => overlap(subnet, other))) return subnet
  }
  throw new RekeyError('every network from 10.200.0.0 to 10.239.255.255 overlaps a route of this machine', {
    code: 'lab.no-subnet',
    hint: `Free a /24 in that range ('ip route' lists the routes), or end another lab.`,
  })
}

/** Lays out a lab in a subnet. */
export function shapeOf({ name, masters, nodes, ...asked }: LabOptions, subnet: string): Shape {
  const traits = traitsOf(asked)
  const prefix = subnet.replace(/\.0\/24$/, '.')
  const machine = (role: Role, name: string, address: string, more: Partial<Machine> = {}): Machine => ({
    name,
    hostname: name,
    role,
    address,
    ...more,
  })
  const cluster = (role: Role, count: number, letter: string, firstAddress: number, firstPods: number): Machine[] =>
    Array.from({ length: count }, (_, index) => {
      const address = `${prefix}${firstAddress + index}`
      return machine(role, `${letter}${index + 1}`, address, {
        ...(hasKubelet(traits, role) && { podSubnet: `10.244.${firstPods + index}.0/24` }),
        ...(traits.nodeNames === 'other' && { hostname: `ip-${address.replaceAll('.', '-')}` }),
      })
    })
  return {
    name,
    masters,
    nodes,
    ...traits,
    subnet,
    gateway: `${prefix}1`,
    machines: [
      ...(traits.without.includes('load-balancer') ? [] : [machine('loadbalancer', 'lb1', `${prefix}10`)]),
      machine('vault', 'vault1', `${prefix}20`),
      ...Array.from({ length: traits.etcdHosts }, (_, index) =>
        machine('etcd', `e${index + 1}`, `${prefix}${121 + index}`),
      ),
      ...cluster('master', masters, 'm', 101, 1),
      ...cluster('node', nodes, 'n', 151, 51),
    ],
    // Every machine has a network of its own, so these may be the same in each lab: kubeadm's and flannel's usual ones.
    podSubnet: '10.244.0.0/16',
    serviceSubnet: '10.96.0.0/12',
    clusterDomain: 'cluster.local',
  }
}

/** All traits of a lab, of which some were asked for. */
export function traitsOf(asked: Partial<Traits>): Traits {
  const { layout, etcdHosts, unitShape, login, disks, nodeNames, encryption, encryptionReload, without } = usualTraits
  const absent = new Set(asked.without ?? without)
  return {
    layout: asked.layout ?? layout,
    unitShape: asked.unitShape ?? unitShape,
    etcdHosts: asked.etcdHosts ?? etcdHosts,
    login: asked.login ?? login,
    disks: asked.disks ?? disks,
    nodeNames: asked.nodeNames ?? nodeNames,
    encryption: asked.encryption ?? encryption,
    encryptionReload: asked.encryptionReload ?? encryptionReload,
    without: dispensable.filter(part => absent.has(part)),
  }
}

/** Where a lab that is there is not what is asked for, as messages say both. Empty where it is. */
export function differences(there: LabOptions, asked: LabOptions): { there: string; asked: string }[] {
  const wanted = saidOf(asked)
  return saidOf(there).flatMap((one, index) => (one === wanted[index] ? [] : [{ there: one, asked: wanted[index]! }]))
}

/** What is not as usual about a lab, as it was asked for. */
export function unusual(traits: Traits): string[] {
  const size = { name: '', masters: 0, nodes: 0 }
  return differences({ ...size, ...traits }, size).map(({ there }) => there)
}

function saidOf({ masters, nodes, ...asked }: LabOptions): string[] {
  const { layout, etcdHosts, unitShape, login, disks, nodeNames, encryption, encryptionReload, without } =
    traitsOf(asked)
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`
  return [
    count(masters, 'master'),
    count(nodes, 'node'),
    layout === 'systemd' ? `--layout systemd --shape ${unitShape}` : `--layout ${layout}`,
    etcdHosts === 0 ? 'etcd on the masters' : `--etcd-hosts ${etcdHosts}`,
    `--login ${login}`,
    `--disks ${disks}`,
    `--node-names ${nodeNames}`,
    `--encryption ${encryption}`,
    `--encryption-reload ${encryptionReload}`,
    without.length === 0 ? 'nothing left out' : `--without ${without.join(',')}`,
  ]
}

export const masters = (shape: Shape): Machine[] => shape.machines.filter(({ role }) => role === 'master')
export const nodes = (shape: Shape): Machine[] => shape.machines.filter(({ role }) => role === 'node')
/** Masters and nodes: the machines of the cluster. */
export const members = (shape: Shape): Machine[] => [...masters(shape), ...nodes(shape)]
/** The machines with a kubelet: what is a node to the API. */
export const kubeletMachines = (shape: Shape): Machine[] => members(shape).filter(({ podSubnet }) => podSubnet)

/** Controllers made the hard way run no pods; all other members of a cluster do. */
const hasKubelet = (traits: Traits, role: Role): boolean => role === 'node' || !isHardWay(traits)
const isHardWay = ({ layout, unitShape }: Traits): boolean => layout === 'systemd' && unitShape === 'hard-way'

/** The machines that etcd runs on. */
export const etcdMachines = (shape: Shape): Machine[] =>
  shape.etcdHosts === 0 ? masters(shape) : shape.machines.filter(({ role }) => role === 'etcd')

/** The machine with the lab's Vault. */
export const vaultMachine = (shape: Shape): Machine => shape.machines.find(({ role }) => role === 'vault')!

/** The load balancer in front of the API servers, where the lab has one. */
export const loadBalancer = (shape: Shape): Machine | undefined =>
  shape.machines.find(({ role }) => role === 'loadbalancer')

/** Whether API servers of a lab encrypt by a KMS plugin. */
export const hasPlugin = ({ encryption }: Partial<Pick<Traits, 'encryption'>>): boolean =>
  encryption === 'kms-vault' || encryption === 'kms-hsm'

/** Whether the lab has something that others may lack. */
export const has = ({ without }: Traits, part: Dispensable): boolean => !without.includes(part)

/**
 * Where members of the cluster ask for the API. Without a load balancer several masters share a name that each machine knows from its
 * /etc/hosts, as kubeadm's documents have it, and a single one is asked at its address. The hard way, it is always such a name.
 */
export function endpointOf(shape: Shape): { readonly host: string; readonly name?: string; readonly address: string } {
  const balancer = loadBalancer(shape)
  const [first] = masters(shape)
  const address = (balancer ?? first!).address
  const name = isHardWay(shape)
    ? 'server.kubernetes.local'
    : !balancer && shape.masters > 1
      ? 'cluster-endpoint'
      : undefined
  return { host: name ?? address, name, address }
}

/** Whether two IPv4 networks in CIDR notation share an address; one without a length is a single address. */
export function overlap(one: string, other: string): boolean {
  const [a, b] = [range(one), range(other)]
  return a.first <= b.last && b.first <= a.last
}

function range(cidr: string): { first: number; last: number } {
  const [address = '', length = '32'] = cidr.split('/')
  const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const size = 2 ** (32 - Number(length))
  const first = Math.floor(value / size) * size
  return { first, last: first + size - 1 }
}

/** The name of something outside the machines (a network namespace, a cgroup) that belongs to this lab. */
export const hostName = (lab: string, part: string): string => `rekey-${lab}-${part}`

/** The control machine's interface into the lab: the kernel allows 15 characters. */
export function interfaceName(lab: string): string {
  const plain = `rekey-${lab}`
  return plain.length <= 15 ? plain : `rekey-${createHash('sha256').update(lab).digest('hex').slice(0, 9)}`
}
