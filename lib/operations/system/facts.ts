// `facts`: what a host is, in one round trip: system, kernel, processors, memory, mounts, addresses, who manages services and packages. What it
// says is data, whatever it looks like: known names, numbers where numbers are meant.
import { raw } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession, StepContext, StepDefinition } from '../../playbook/model.ts'
import { distributionOf } from './distribution.ts'

/** A file system that lies on a device, or comes over the network. */
export interface MountFact {
  readonly mount: string
  readonly device: string
  readonly fstype: string
  readonly options: string
  /** Bytes. */
  readonly sizeTotal: number
  readonly sizeAvailable: number
}

/** The way out. */
export interface DefaultAddress {
  readonly address: string
  readonly interface: string
  readonly gateway?: string
}

/** An interface and its addresses, each with the length of its prefix. */
export interface InterfaceFact {
  readonly device: string
  readonly ipv4: readonly string[]
  readonly ipv6: readonly string[]
  readonly macaddress?: string
  readonly mtu?: number
  readonly active: boolean
}

/** What a host is. Names are those of Ansible's facts, without `ansible_`. */
export interface Facts {
  readonly system: string
  readonly kernel: string
  readonly kernelVersion: string
  readonly architecture: string
  readonly hostname: string
  readonly nodename: string
  readonly fqdn: string
  readonly domain: string
  readonly distribution: string
  readonly distributionVersion: string
  readonly distributionMajorVersion: string
  readonly distributionRelease: string
  readonly osFamily: string
  /** `systemd`, or the name of what is process 1. */
  readonly serviceMgr: string
  /** `apt`, `dnf`, `dnf5`, `yum`, `zypper`, `apk`, `pacman`, or `unknown`. */
  readonly pkgMgr: string
  /** Processors that the machine has, and those that a process may use. */
  readonly processorVcpus: number
  readonly processorNproc: number
  readonly memtotalMb: number
  readonly memfreeMb: number
  readonly memavailableMb: number
  readonly swaptotalMb: number
  readonly swapfreeMb: number
  readonly mounts: readonly MountFact[]
  readonly interfaces: readonly InterfaceFact[]
  readonly defaultIpv4?: DefaultAddress
  readonly defaultIpv6?: DefaultAddress
  readonly allIpv4Addresses: readonly string[]
  readonly allIpv6Addresses: readonly string[]
  readonly dns: { readonly nameservers: readonly string[]; readonly search: readonly string[] }
  readonly cmdline: string
  readonly machineId: string
  readonly bootId: string
  readonly uptimeSeconds: number
  /** Seconds since 1970, by the host's clock; and its zone. */
  readonly epoch: number
  readonly timezone: string
  readonly userId: string
  readonly userUid: number
  readonly userDir: string
  readonly userShell: string
  /** `enforcing`, `permissive`, or `disabled`. */
  readonly selinux: string
  readonly virtualization: string
}

/** `step('Look at the hosts', facts())` registers them; `await facts(ctx)` gives them at once. */
export function facts(): StepDefinition
export function facts(session: HostSession): Promise<Facts>
export function facts(session?: HostSession): StepDefinition | Promise<Facts> {
  if (session !== undefined) return gather(session)
  return { readOnly: true, run: (context: StepContext) => gather(context) }
}

/** Each part begins with a line that no file has: it is made of the run's own word. */
const factsScript = `s() { printf '\\n%s %s\\n' "$mark" "$1"; }
PATH=$PATH:/usr/sbin:/sbin; LC_ALL=C; export LC_ALL
s uname; uname -s; uname -r; uname -v; uname -m; uname -n
s fqdn; hostname -f 2>/dev/null
s release; cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null
s debian; cat /etc/debian_version 2>/dev/null
s init; cat /proc/1/comm; [ -d /run/systemd/system ] && echo systemd
s packages; for p in dnf5 dnf yum apt-get zypper apk pacman; do command -v $p; done
s cpus; grep -c '^processor' /proc/cpuinfo; nproc
s memory; cat /proc/meminfo
s mounts; cat /proc/mounts
s sizes; timeout 5 df -PTk 2>/dev/null
s links; ip -o link 2>/dev/null
s addresses; ip -o addr 2>/dev/null
s route4; ip -4 -o route get 8.8.8.8 2>/dev/null
s route6; ip -6 -o route get 2404:6800:400a:800::1012 2>/dev/null
s dns; cat /etc/resolv.conf 2>/dev/null
s cmdline; cat /proc/cmdline
s machine; cat /etc/machine-id 2>/dev/null
s boot; cat /proc/sys/kernel/random/boot_id; cut -d' ' -f1 /proc/uptime; date +%s; date +%Z
s user; id -un; id -u; getent passwd "$(id -u)"
s selinux; cat /sys/fs/selinux/enforce 2>/dev/null
s virt; systemd-detect-virt 2>/dev/null
s end`

async function gather({ $, host }: HostSession): Promise<Facts> {
  const mark = `== ${crypto.randomUUID()}`
  const { stdout, stderr } = await $({ quiet: true, nothrow: true })`mark=${mark}; ${raw(factsScript)}`
  if (stdout.includes(`\n${mark} end`)) return readFacts(stdout, mark)
  throw new HostFailedError(`${host.name} does not tell what it is: ${stderr.trim() || 'it says nothing'}`, {
    code: 'facts.failed',
    host: host.name,
  })
}

/** What the script printed, as facts. */
export function readFacts(text: string, mark: string): Facts {
  const parts = new Map(
    text.split(`\n${mark} `).map(part => {
      const end = part.indexOf('\n')
      return [part.slice(0, end), part.slice(end + 1)]
    }),
  )
  const lines = (part: string) => (parts.get(part) ?? '').split('\n').filter(line => line !== '')
  const first = (part: string) => lines(part)[0] ?? ''
  const [system = '', kernel = '', kernelVersion = '', architecture = '', nodename = ''] = lines('uname')
  const fqdn = first('fqdn') || nodename
  const memory = new Map(lines('memory').map(line => [line.split(':')[0], Number(/\d+/.exec(line)?.[0] ?? 0)]))
  const megabytes = (name: string) => Math.floor((memory.get(name) ?? 0) / 1024)
  const [cpus, nproc] = lines('cpus').map(Number)
  const [bootId = '', uptime, epoch, timezone = ''] = lines('boot')
  const [userId = '', uid, entry = ''] = lines('user')
  const interfaces = interfacesIn(lines('links'), lines('addresses'))
  const addresses = (list: readonly string[]) => list.map(one => one.split('/')[0]!)
  const outside = ({ device }: InterfaceFact) => device !== 'lo'
  const [inits, selinux] = [lines('init'), first('selinux')]
  const [defaultIpv4, defaultIpv6] = [routeIn(first('route4')), routeIn(first('route6'))]
  return {
    system,
    kernel,
    kernelVersion,
    architecture,
    hostname: nodename.split('.')[0]!,
    nodename,
    fqdn,
    domain: fqdn.split('.').slice(1).join('.'),
    ...distributionOf(lines('release'), first('debian')),
    serviceMgr: inits.includes('systemd') ? 'systemd' : (inits[0] ?? 'unknown'),
    pkgMgr: packageManager(lines('packages')),
    processorVcpus: cpus || nproc || 1,
    processorNproc: nproc || cpus || 1,
    memtotalMb: megabytes('MemTotal'),
    memfreeMb: megabytes('MemFree'),
    memavailableMb: megabytes('MemAvailable'),
    swaptotalMb: megabytes('SwapTotal'),
    swapfreeMb: megabytes('SwapFree'),
    mounts: mountsIn(lines('mounts'), lines('sizes')),
    interfaces,
    ...(defaultIpv4 ? { defaultIpv4 } : {}),
    ...(defaultIpv6 ? { defaultIpv6 } : {}),
    allIpv4Addresses: interfaces.filter(outside).flatMap(({ ipv4 }) => addresses(ipv4)),
    allIpv6Addresses: interfaces.filter(outside).flatMap(({ ipv6 }) => addresses(ipv6)),
    dns: dnsIn(lines('dns')),
    cmdline: first('cmdline'),
    machineId: first('machine'),
    bootId,
    uptimeSeconds: Math.floor(Number(uptime ?? 0)),
    epoch: Number(epoch ?? 0),
    timezone,
    userId,
    userUid: Number(uid ?? 0),
    userDir: entry.split(':')[5] ?? '',
    userShell: entry.split(':')[6] ?? '',
    selinux: selinux === '' ? 'disabled' : selinux === '1' ? 'enforcing' : 'permissive',
    virtualization: first('virt') || 'none',
  }
}

/** The first that is there in this order, as they come. */
function packageManager(found: readonly string[]): string {
  const name = found[0]?.split('/').at(-1) ?? 'unknown'
  return name === 'apt-get' ? 'apt' : name
}

/** A blank in the name of a device or folder is written as \040. */
const unescaped = (text: string) =>
  text.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)))

const isFigure = (word: string | undefined) => word !== undefined && /^\d+$/.test(word)

function mountsIn(mounts: readonly string[], sizes: readonly string[]): MountFact[] {
  const bySize = new Map(
    sizes.slice(1).flatMap(line => {
      const words = line.split(/\s+/)
      // Three figures in a row come behind device and file system, either of which may have blanks in its name.
      const at = words.findIndex((_, index) => index > 1 && words.slice(index, index + 3).every(isFigure))
      const mount = words.slice(at + 4).join(' ')
      if (at === -1 || mount === '') return []
      return [[mount, [Number(words[at]) * 1024, Number(words[at + 2]) * 1024]] as const]
    }),
  )
  return mounts.flatMap(line => {
    const [device = '', mount = '', fstype = '', options = ''] = line.split(' ').map(unescaped)
    if (!device.startsWith('/') && !device.includes(':/')) return []
    const [sizeTotal = 0, sizeAvailable = 0] = bySize.get(mount) ?? []
    return [{ mount, device, fstype, options, sizeTotal, sizeAvailable }]
  })
}

function interfacesIn(links: readonly string[], addresses: readonly string[]): InterfaceFact[] {
  const of = (device: string, family: string) =>
    addresses.flatMap(line => {
      const [, name, kind, address] = /^\d+:\s+(\S+)\s+(inet6?)\s+(\S+)/.exec(line) ?? []
      return name === device && kind === family ? [address!] : []
    })
  return links.flatMap(line => {
    const [, device, flags = ''] = /^\d+:\s+([^:@\s]+)(?:@\S+)?:\s+<([^>]*)>/.exec(line) ?? []
    if (device === undefined) return []
    const [mac, mtu] = [/link\/ether (\S+)/.exec(line)?.[1], /\bmtu (\d+)/.exec(line)?.[1]]
    return [
      {
        device,
        ipv4: of(device, 'inet'),
        ipv6: of(device, 'inet6'),
        ...(mac ? { macaddress: mac } : {}),
        ...(mtu ? { mtu: Number(mtu) } : {}),
        active: flags.split(',').includes('UP'),
      },
    ]
  })
}

function routeIn(line: string): DefaultAddress | undefined {
  const word = (name: string) => new RegExp(`\\b${name} (\\S+)`).exec(line)?.[1]
  const [address, device, gateway] = [word('src'), word('dev'), word('via')]
  if (address === undefined || device === undefined) return undefined
  return { address, interface: device, ...(gateway ? { gateway } : {}) }
}

function dnsIn(lines: readonly string[]): Facts['dns'] {
  const after = (name: string) =>
    lines.filter(line => new RegExp(`^${name}\\s`).test(line)).map(line => line.trim().split(/\s+/).slice(1))
  return { nameservers: after('nameserver').flat(), search: after('search').at(-1) ?? [] }
}
