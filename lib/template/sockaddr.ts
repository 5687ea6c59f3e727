// go-sockaddr's language, as `sockaddr` has it: pipelines over the addresses of one machine's interfaces.
import { isIPv4, isIPv6 } from 'node:net'
import { parseTemplate } from './engine.ts'
import { regexMatches } from './regex.ts'
import { type GoFunction, type GoValue, isList, kindOf, Struct, toBytes, toText } from './values.ts'

/** One interface, with the words of `ip -json address`. */
export interface NetworkInterface {
  readonly name: string
  /** `UP`, `LOOPBACK`, … */
  readonly flags: readonly string[]
  /** `10.0.0.1/24`, … */
  readonly addresses: readonly string[]
}

/** What `sockaddr` knows of the machine. */
export interface MachineInterfaces {
  /** By their index, as the kernel lists them. */
  readonly interfaces: readonly NetworkInterface[]
  /** The one that the default route goes through. */
  readonly defaultInterface?: string
}

/**
 * Evaluate what stands between the braces of a go-sockaddr template.
 * Throws `RekeyError` for what is no expression of it, and Errors for selectors and attributes that don't exist.
 */
export function evaluateSockaddr(expression: string, machine: MachineInterfaces): string {
  const functions = sockaddrFunctions(machine)
  const name = `sockaddr "${toText(expression)}"`
  const parsed = parseTemplate(toText(`{{ ${expression} }}`), { name, functions: new Set(functions.keys()) })
  return parsed.execute(allInterfaces(machine), functions)
}

type Family = 'IPv4' | 'IPv6'

interface Address {
  readonly family: Family
  readonly value: bigint
  readonly bits: number
}

/** An address on an interface: go-sockaddr's IfAddr. */
class InterfaceAddress extends Struct {
  readonly address: Address
  readonly owner: NetworkInterface
  constructor(address: Address, owner: NetworkInterface) {
    super('network address', { Name: toBytes(owner.name) })
    this.address = address
    this.owner = owner
  }
}

const width = (family: Family) => (family === 'IPv4' ? 32 : 128)
const allOnes = (family: Family) => (1n << BigInt(width(family))) - 1n
const maskOf = (family: Family, bits: number) => allOnes(family) ^ ((1n << BigInt(width(family) - bits)) - 1n)
const networkOf = ({ family, value, bits }: Address) => value & maskOf(family, bits)
const lastOf = (address: Address) =>
  networkOf(address) | (allOnes(address.family) ^ maskOf(address.family, address.bits))

/** `10.0.0.1/24`, `10.0.0.1`, `fd00::1/64`. Throws for anything else. */
function parseAddress(text: string): Address {
  const [host = '', prefix] = text.split('/')
  const family = isIPv4(host) ? 'IPv4' : isIPv6(host) ? 'IPv6' : undefined
  const bits = prefix === undefined ? width(family ?? 'IPv4') : Number(prefix)
  if (!family || !Number.isInteger(bits) || bits < 0 || bits > width(family)) {
    throw new Error(`"${text}" is no IP address`)
  }
  return { family, value: family === 'IPv4' ? numberOfV4(host) : numberOfV6(host), bits }
}

const numberOfV4 = (host: string) => host.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n)

function numberOfV6(host: string): bigint {
  const [head = '', tail] = canonicalV6(host).split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const [before, after] = [groups(head), tail === undefined ? [] : groups(tail)]
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0')
  return [...before, ...zeros, ...after].reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n)
}

const canonicalV6 = (host: string) => new URL(`http://[${host}]`).hostname.slice(1, -1)

function hostText(family: Family, value: bigint): string {
  const dotted = (number: bigint) => [24n, 16n, 8n, 0n].map(shift => (number >> shift) & 255n).join('.')
  if (family === 'IPv4') return dotted(value)
  // As Go prints an IPv4 address within IPv6.
  if (value >> 32n === 0xffffn) return dotted(value & 0xffffffffn)
  const groups = Array.from({ length: 8 }, (_, index) => (value >> BigInt(112 - 16 * index)) & 0xffffn)
  return canonicalV6(groups.map(group => group.toString(16)).join(':'))
}

function addressText({ family, value, bits }: Address): string {
  const host = hostText(family, value)
  return bits === width(family) ? host : `${host}/${bits}`
}

function allInterfaces({ interfaces }: MachineInterfaces): InterfaceAddress[] {
  return interfaces.flatMap(owner => owner.addresses.map(text => new InterfaceAddress(parseAddress(text), owner)))
}

const contains = (net: Address, one: Address) =>
  net.family === one.family && networkOf(net) <= networkOf(one) && lastOf(net) >= lastOf(one)

/** The networks of each RFC that go-sockaddr knows; `forwarding` are those that no router forwards. */
const rfcNetworks: Readonly<Record<string, string>> = {
  919: '255.255.255.255/32',
  1112: '224.0.0.0/4',
  1122: '0.0.0.0/8 127.0.0.0/8',
  1918: '10.0.0.0/8 172.16.0.0/12 192.168.0.0/16',
  2544: '198.18.0.0/15',
  2765: '::ffff:0:0/96',
  2928: '2001::/16',
  3056: '2002::/16',
  3068: '192.88.99.0/24 2002:c058:6301::/120',
  3171: '224.0.0.0/4',
  3330:
    '0.0.0.0/8 10.0.0.0/8 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 ' +
    '198.18.0.0/15 224.0.0.0/4 240.0.0.0/4',
  3849: '2001:db8::/32',
  3927: '169.254.0.0/16',
  4038: '0:0:0:0:0:ffff::/96',
  4193: 'fc00::/7',
  4291: '::/128 ::1/128 ::/96 ::ffff:0:0/96 fe80::/10 fec0::/10 ff00::/8',
  4380: '2001::/32',
  4773: '2001::/23',
  4843: '2001:10::/28',
  5180: '2001:200::/48',
  5735: '192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 198.18.0.0/15',
  5737: '192.0.2.0/24 198.51.100.0/24 203.0.113.0/24',
  6052: '64:ff9b::/96',
  6333: '192.0.0.0/29',
  6598: '100.64.0.0/10',
  6666: '100::/64',
  6890:
    '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 ' +
    '192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 ::1/128 ::/128 ' +
    '64:ff9b::/96 ::ffff:0:0/96 100::/64 2001::/16 2002::/16 fc00::/7 fe80::/10',
  7335: '192.0.0.0/29',
  forwarding:
    '0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 192.0.0.0/24 192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 ' +
    '::1/128 ::/128 ::ffff:0:0/96 2001:db8::/32 2001:10::/28 fe80::/10',
}

function isOfRfc(number: string, address: Address): boolean {
  const networks = rfcNetworks[number]
  if (networks === undefined) throw new Error(`knows no RFC ${number}`)
  return networks.split(' ').some(network => contains(parseAddress(network), address))
}

/** What `attr` and `join` tell of an address. */
const attributes: Record<string, (one: InterfaceAddress) => string> = {
  name: ({ owner }) => owner.name,
  flags: ({ owner }) => goFlags(owner).join('|'),
  address: ({ address }) => hostText(address.family, address.value),
  binary: ({ address }) => address.value.toString(2).padStart(width(address.family), '0'),
  first_usable: ({ address }) => hostText(address.family, networkOf(address) + edge(address)),
  hex: ({ address }) => address.value.toString(16).padStart(width(address.family) / 4, '0'),
  host: ({ address }) => hostText(address.family, address.value),
  last_usable: ({ address }) => hostText(address.family, lastOf(address) - edge(address)),
  mask_bits: ({ address }) => String(address.bits),
  netmask: ({ address }) => hostText(address.family, maskOf(address.family, address.bits)),
  network: ({ address }) => hostText(address.family, networkOf(address)),
  octets: ({ address }) => octets(address).join(' '),
  port: () => '0',
  string: ({ address }) => addressText(address),
  type: ({ address }) => address.family,
  size: ({ address }) => String(1n << BigInt(width(address.family) - address.bits)),
  broadcast: ({ address }) => only(address, 'IPv4', hostText('IPv4', lastOf(address))),
  uint32: ({ address }) => only(address, 'IPv4', String(address.value)),
  uint128: ({ address }) => only(address, 'IPv6', String(address.value)),
}

/** The first and last addresses of an IPv4 network are its own; of two or one there is none to spare. */
const edge = ({ family, bits }: Address) => (family === 'IPv4' && bits < 31 ? 1n : 0n)

function octets({ family, value }: Address): bigint[] {
  const count = width(family) / 8
  return Array.from({ length: count }, (_, index) => (value >> BigInt(8 * (count - 1 - index))) & 255n)
}

function only({ family }: Address, wanted: Family, text: string): string {
  if (family !== wanted) throw new Error(`an ${family} address does not have this attribute`)
  return text
}

function attribute(name: string, one: InterfaceAddress): string {
  const key = name.toLowerCase()
  const tell = Object.hasOwn(attributes, key) ? attributes[key] : undefined
  if (!tell) throw new Error(`knows no attribute "${name}": there is ${Object.keys(attributes).join(', ')}`)
  return tell(one)
}

/** The flags by Go's names, in Go's order. */
function goFlags({ flags }: NetworkInterface): string[] {
  const has = (flag: string) => flags.includes(flag)
  const found: [boolean, string][] = [
    [has('UP'), 'up'],
    [has('BROADCAST'), 'broadcast'],
    [has('LOOPBACK'), 'loopback'],
    [has('POINTOPOINT'), 'pointtopoint'],
    [has('MULTICAST'), 'multicast'],
    [has('UP') && !has('NO-CARRIER'), 'running'],
  ]
  return found.flatMap(([set, name]) => (set ? [name] : []))
}

type Split = [matched: InterfaceAddress[], others: InterfaceAddress[]]

function divide(list: readonly InterfaceAddress[], matches: (one: InterfaceAddress) => boolean): Split {
  return [list.filter(matches), list.filter(one => !matches(one))]
}

/** Once for each of several words: an address that matches one and not the other is on both sides, as in go-sockaddr. */
function divideByEach(
  words: string,
  list: readonly InterfaceAddress[],
  matches: (word: string, one: InterfaceAddress) => boolean,
): Split {
  const all = words.split('|').map(word => divide(list, one => matches(word, one)))
  return [all.flatMap(([matched]) => matched), all.flatMap(([, others]) => others)]
}

const isFound = (pattern: string, text: string) => regexMatches(toBytes(pattern), toBytes(text))

/** What `include` and `exclude` go by. */
const selectors: Record<string, (word: string, list: readonly InterfaceAddress[]) => Split> = {
  address: (pattern, list) => divide(list, ({ address }) => isFound(pattern, addressText(address))),
  flags: (words, list) => divide(list, one => hasFlags(words, one)),
  name: (pattern, list) => divide(list, ({ owner }) => isFound(pattern, owner.name)),
  network: (words, list) => divideByEach(words, list, (word, { address }) => contains(parseAddress(word), address)),
  port: (pattern, list) => divide(list, () => isFound(pattern, '0')),
  rfc: (words, list) => divideByEach(words, list, (word, { address }) => isOfRfc(word, address)),
  size: (word, list) => {
    if (!/^\d+$/.test(word)) throw new Error(`"${word}" is no size of a network`)
    return divide(list, ({ address }) => address.bits === Number(word))
  },
  type: (words, list) =>
    divideByEach(words.toLowerCase(), list, (word, { address }) => {
      if (!['ip', 'ipv4', 'ipv6', 'unix'].includes(word)) throw new Error(`knows no type "${word}"`)
      return word === 'ip' || word === address.family.toLowerCase()
    }),
}

function select(name: string, word: string, list: readonly InterfaceAddress[]): Split {
  const key = { flag: 'flags', rfcs: 'rfc' }[name.toLowerCase()] ?? name.toLowerCase()
  const choose = Object.hasOwn(selectors, key) ? selectors[key] : undefined
  if (!choose) throw new Error(`knows no selector "${name}": there is ${Object.keys(selectors).join(', ')}`)
  return choose(word, list)
}

/** Flags of the interface, all of which it must have; or kinds of addresses, of which one is enough. */
const interfaceFlags = ['broadcast', 'loopback', 'multicast', 'point-to-point', 'up', 'down']

const addressKinds: Record<string, (address: Address) => boolean> = {
  forwardable: address => !isOfRfc('forwarding', address),
  'global unicast': address =>
    !isWithin(address, '255.255.255.255 0.0.0.0 :: 127.0.0.0/8 ::1 224.0.0.0/4 ff00::/8 169.254.0.0/16 fe80::/10'),
  'interface-local multicast': ({ family, value }) => family === 'IPv6' && ((value >> 112n) & 0xff0fn) === 0xff01n,
  'link-local multicast': address =>
    isWithin(address, '224.0.0.0/24') || (address.family === 'IPv6' && ((address.value >> 112n) & 0xff0fn) === 0xff02n),
  'link-local unicast': address => isWithin(address, '169.254.0.0/16 fe80::/10'),
  loopback: address => isWithin(address, '127.0.0.0/8 ::1'),
  multicast: address => isWithin(address, '224.0.0.0/4 ff00::/8'),
  unspecified: address => isWithin(address, '0.0.0.0 ::'),
}

const isWithin = ({ family, value }: Address, networks: string) =>
  networks.split(' ').some(network => contains(parseAddress(network), { family, value, bits: width(family) }))

function hasFlags(words: string, { address, owner }: InterfaceAddress): boolean {
  const names = words.toLowerCase().split('|')
  const unknown = names.find(name => !interfaceFlags.includes(name) && !Object.hasOwn(addressKinds, name))
  if (unknown !== undefined) throw new Error(`knows no flag "${unknown}"`)
  const asked = names.filter(name => interfaceFlags.includes(name))
  const present = goFlags(owner)
  // "down" asks for nothing in go-sockaddr, so that every interface has it.
  const hasAll = asked.every(name => name === 'down' || present.includes(name.replaceAll('-', '')))
  return (asked.length > 0 && hasAll) || names.some(name => addressKinds[name]?.(address))
}

type Order = (a: InterfaceAddress, b: InterfaceAddress) => number

const sign = (difference: number | bigint) => (difference < 0 ? -1 : difference > 0 ? 1 : 0)
const sameFamily = (a: InterfaceAddress, b: InterfaceAddress) => a.address.family === b.address.family

function orders({ defaultInterface }: MachineInterfaces): Record<string, Order> {
  return {
    address: (a, b) => (sameFamily(a, b) ? sign(a.address.value - b.address.value) : 0),
    default: (a, b) => Number(b.owner.name === defaultInterface) - Number(a.owner.name === defaultInterface),
    name: (a, b) => (a.owner.name < b.owner.name ? -1 : a.owner.name > b.owner.name ? 1 : 0),
    port: () => 0,
    private: (a, b) => {
      const [one, two] = [isOfRfc('6890', a.address), isOfRfc('6890', b.address)]
      if (!sameFamily(a, b)) return one ? -1 : 0
      return Number(two) - Number(one)
    },
    size: (a, b) => (sameFamily(a, b) ? sign(a.address.bits - b.address.bits) : 0),
    type: (a, b) => width(a.address.family) - width(b.address.family),
  }
}

function sorted(clauses: string, list: readonly InterfaceAddress[], machine: MachineInterfaces): InterfaceAddress[] {
  const known = orders(machine)
  const chain = clauses.split(',').map(clause => {
    const [, direction, name = ''] = /^([+-]?)(.*)$/s.exec(clause.trim().toLowerCase())!
    const order = Object.hasOwn(known, name) ? known[name] : undefined
    if (!order) throw new Error(`can't sort by "${clause}": there is ${Object.keys(known).join(', ')}`)
    return direction === '-' ? (a: InterfaceAddress, b: InterfaceAddress) => -order(a, b) : order
  })
  return list.toSorted((a, b) => chain.map(order => order(a, b)).find(found => found !== 0) ?? 0)
}

/** `math`: moves the address, picks one of its network by number, or masks it. */
function calculate(operation: string, word: string, one: InterfaceAddress): InterfaceAddress {
  const { family, value, bits } = one.address
  const moved = (to: bigint, size = bits) =>
    new InterfaceAddress({ family, value: to & allOnes(family), bits: size }, one.owner)
  if (operation === 'mask') {
    const size = /^\d+$/.test(word) ? Number(word) : Number.NaN
    if (!(size <= width(family))) throw new Error(`"${word}" is no size of an ${family} network`)
    return moved(value & maskOf(family, size), Math.min(size, bits))
  }
  if (operation !== 'address' && operation !== 'network') throw new Error(`knows no operation "${operation}"`)
  if (!/^[+-]\d+$/.test(word)) throw new Error(`"${word}" must be a number with its sign, e.g. "+1"`)
  const offset = BigInt(word)
  if (operation === 'address') return moved(value + offset)
  const hostPart = allOnes(family) ^ maskOf(family, bits)
  if (family === 'IPv6' && offset <= 0n) return moved(lastOf(one.address) - ((-offset - 1n) & hostPart))
  return moved(networkOf(one.address) + ((offset >= 0n ? offset : 1n + offset + hostPart) & hostPart))
}

function sockaddrFunctions(machine: MachineInterfaces): Map<string, GoFunction> {
  const all = () => allInterfaces(machine)
  const routed = () =>
    sorted('default,type,size', select('flags', 'up', select('flags', 'forwardable', all())[0])[0], machine)
  const bySize = (list: readonly InterfaceAddress[]) => sorted('type,size', list, machine)
  const ofRfc = (number: string, list: readonly InterfaceAddress[]) =>
    divide(list, ({ address }) => isOfRfc(number, address))
  const first = (list: readonly InterfaceAddress[]) => toBytes(list[0] ? attribute('address', list[0]) : '')
  const every = (list: readonly InterfaceAddress[]) => toBytes(list.map(one => attribute('address', one)).join(' '))
  const named = (pattern: GoValue | undefined) => select('name', text(pattern), all())[0]
  return new Map<string, GoFunction>([
    ['GetAllInterfaces', all],
    ['GetDefaultInterfaces', () => all().filter(onDefaultOf(machine))],
    ['GetPrivateInterfaces', () => ofRfc('6890', routed())[0]],
    ['GetPublicInterfaces', () => ofRfc('6890', routed())[1]],
    ['GetPrivateIP', () => first(ofRfc('6890', routed())[0])],
    ['GetPublicIP', () => first(ofRfc('6890', routed())[1])],
    ['GetPrivateIPs', () => every(ofRfc('forwarding', ofRfc('6890', bySize(all()))[0])[1])],
    ['GetPublicIPs', () => every(ofRfc('6890', bySize(all()))[1])],
    ['GetInterfaceIP', pattern => first(bySize(select('flags', 'forwardable', named(pattern))[0]))],
    ['GetInterfaceIPs', pattern => every(bySize(named(pattern)))],
    ['sort', (clauses, list) => sorted(text(clauses), addresses(list), machine)],
    ['include', (name, word, list) => select(text(name), text(word), addresses(list))[0]],
    ['exclude', (name, word, list) => select(text(name), text(word), addresses(list))[1]],
    [
      'attr',
      (name, of) => {
        const [one] = of instanceof InterfaceAddress ? [of] : addresses(of)
        return one ? toBytes(attribute(text(name), one)) : ''
      },
    ],
    [
      'join',
      (name, between, list) =>
        toBytes(
          addresses(list)
            .map(one => attribute(text(name), one))
            .join(text(between)),
        ),
    ],
    ['limit', (count, list) => addresses(list).slice(0, whole(count, 0))],
    [
      'offset',
      (count, list) => {
        const [from, found] = [whole(count), addresses(list)]
        if (Math.abs(from) > found.length) throw new Error(`there are ${found.length} addresses, and not ${from}`)
        return found.slice(from)
      },
    ],
    ['unique', (name, list) => unique(text(name), addresses(list))],
    [
      'math',
      (operation, word, list) => addresses(list).map(one => calculate(text(operation).toLowerCase(), text(word), one)),
    ],
  ])
}

function onDefaultOf({ defaultInterface }: MachineInterfaces): (one: InterfaceAddress) => boolean {
  if (defaultInterface === undefined) throw new Error('there is no default route')
  return ({ owner }) => owner.name === defaultInterface
}

/** Of neighbours that are alike the first. */
function unique(name: string, list: readonly InterfaceAddress[]): InterfaceAddress[] {
  const key = { address: 'string', name: 'name' }[name.toLowerCase()]
  if (!key) throw new Error(`is by address or by name, not by "${name}"`)
  return list.filter((one, index) => index === 0 || attribute(key, list[index - 1]!) !== attribute(key, one))
}

function text(value: GoValue | undefined): string {
  if (typeof value !== 'string')
    throw new Error(`needs a string, and got ${value === undefined ? 'less' : kindOf(value)}`)
  return toText(value)
}

function whole(value: GoValue | undefined, least = Number.MIN_SAFE_INTEGER): number {
  if (typeof value !== 'bigint' || value < least) throw new Error('needs an integer')
  return Number(value)
}

function addresses(value: GoValue | undefined): InterfaceAddress[] {
  if (value !== undefined && isList(value) && value.every(one => one instanceof InterfaceAddress)) return [...value]
  throw new Error('works on the addresses of interfaces')
}
